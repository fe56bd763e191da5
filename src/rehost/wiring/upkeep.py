"""Builds what upkeep needs: the parts of a run over each source, without planning one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rehost.clock import Clock
from rehost.events import Listener
from rehost.ledger import Ledger
from rehost.run.limits import Limits
from rehost.run.run import Components
from rehost.settings import Settings
from rehost.wiring.databases import sources_of
from rehost.wiring.run import limits_of, open_parts


@dataclass(frozen=True, slots=True)
class UpkeepParts:
    """What the verbs of upkeep work with."""

    sources: Sequence[Components]
    limits: Limits
    clock: Clock
    listen: Listener

    @property
    def ledger(self) -> Ledger:
        """Return the ledger, which all sources share."""
        return self.sources[0].ledger


@asynccontextmanager
async def open_upkeep(
    settings: Settings, sources: Collection[str] = (), listen: Listener = lambda _event: None
) -> AsyncIterator[UpkeepParts]:
    """Open everything that upkeep of these sources, or of all, needs.

    Raises:
        OperatorError: a setting, the database, a table or the store cannot be used.
    """
    clock, limits = Clock(), limits_of(settings, settings.concurrency)
    async with open_parts(settings, sources_of(settings, sources), clock, limits, listen) as parts:
        yield UpkeepParts(parts, limits, clock, listen)
