"""Builds what verifies and repairs copies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import SystemRandom

from rehost.events import Listener
from rehost.ledger.copies import Copies
from rehost.model import Bucket
from rehost.settings import Settings
from rehost.upkeep.inspection import Inspector
from rehost.upkeep.journal import Journal
from rehost.upkeep.repair import Repair
from rehost.upkeep.rescue import Rescuer
from rehost.upkeep.served import ServedCopies, base_of, exposed
from rehost.upkeep.verify import Verification, VerifiedSource, VerifyOptions, VerifyReport
from rehost.wiring.upkeep import open_upkeep


@asynccontextmanager
async def open_verification(
    settings: Settings,
    options: VerifyOptions,
    stop: asyncio.Event,
    *,
    served: str | None = None,
    tell: Callable[[VerifyReport], None] = lambda _report: None,
    listen: Listener = lambda _event: None,
) -> AsyncIterator[Verification]:
    """Open what verifies and repairs copies.

    Args:
        settings: all of them.
        options: what to verify; its sources are those to open.
        stop: ends it early, cleanly.
        served: the server that serves the copies, to be asked too; an empty text for that of the settings.
        tell: is called with the report so far.
        listen: is called with the events of visits.

    Raises:
        OperatorError: a setting, the database, a table or the store cannot be used.
    """
    async with open_upkeep(settings, options.sources, listen) as upkeep:
        copies, journal = Copies(upkeep.ledger.database), Journal(upkeep.ledger.runs, "verify")
        sources = []
        for parts in upkeep.sources:
            catalogue, layout = parts.recorder.catalogue, parts.recorder.layout
            inspector = Inspector(parts.store, layout, parts.visitor.verifier)
            repair = Repair(
                parts,
                catalogue,
                layout,
                copies,
                inspector,
                journal,
                upkeep.limits,
                upkeep.clock,
                listen,
                stop,
                Rescuer(parts, upkeep.archive).rescue,
            )
            sources.append(VerifiedSource(inspector, repair))
        asked = None
        if served is not None:
            layouts = {each.name: each.repair.layout for each in sources}
            is_redirected = isinstance(settings.storage_dir, Bucket) and settings.bucket_serving == "redirect"
            asked = ServedCopies(base_of(settings.static_url_prefix, served), layouts.__getitem__, is_redirected)
        open_at = ""
        if served is not None or isinstance(settings.storage_dir, Bucket):
            identity = await upkeep.sources[0].store.identity()
            open_at = await exposed(settings.static_url_prefix, served or "", identity)
        yield Verification(
            sources,
            options,
            upkeep.clock,
            SystemRandom(),
            stop=stop,
            journal=journal,
            served=asked,
            exposed=open_at,
            tell=tell,
        )
