"""Copies that turn out to be decoys: rows cleared, files to quarantine (invariant 5: the only clearing there is).

Two signs are followed after each group of outcomes: bytes that are held under several links of one host, which are
examined; and digests that became known as decoys of an origin, which may be held, whichever run wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rehost.catalogue.table import Clearing, TableCatalogue
from rehost.db import Connection
from rehost.errors import VisitError
from rehost.hosts.scheduler import HostPaused
from rehost.hotlink.learner import Learner
from rehost.ledger import Ledger
from rehost.model import Copy, Link, Outcome, Stored
from rehost.store.base import FileIds, Store
from rehost.store.layout import Layout


@dataclass(frozen=True, slots=True)
class DecoyCleaner:
    """Finds decoys among the copies of one source, after each group of outcomes that was recorded."""

    ledger: Ledger
    store: Store
    catalogue: TableCatalogue
    layout: Layout
    learner: Learner

    async def clean(self, run: int, outcomes: Sequence[Outcome]) -> int:
        """Return how many held copies turned out to be decoys; their rows are cleared, and their links due again."""
        removed = 0
        for host, digest in await self._decoys(outcomes):
            while cleared := await self._clear(run, host, digest):
                removed += cleared
        return removed

    async def _decoys(self, outcomes: Sequence[Outcome]) -> set[tuple[str, str]]:
        """Return hosts and digests of decoys that may be held."""
        found = set()
        for outcome in outcomes:
            copy = outcome.copy if isinstance(outcome, Stored) else outcome.task.copy  # of the link before it changed
            decoys = self.learner.new_decoys(outcome.task.link, copy.digest if copy else None)
            found |= {(outcome.task.host, digest) for digest in decoys}
        digests = [outcome.copy.digest for outcome in outcomes if isinstance(outcome, Stored)]
        shared = await self.ledger.results.shared_digests(self.catalogue.name, digests) if digests else {}
        for (host, digest), links in shared.items():
            with suppress(VisitError, HostPaused):  # the origin cannot be asked: the next such group asks again
                if await self.learner.examine(links, digest, host):
                    found.add((host, digest))
        return found

    async def _clear(self, run: int, host: str, digest: str) -> int:
        """Refuse a group of held links with these bytes, clear their rows, quarantine the files; return how many.

        Where the rows are in another database the ledger's step comes first: what a kill between the two leaves is
        asked for again, and found at its place. The other way round the next plan would point the rows at the decoy.
        """

        async def work(transaction: Connection) -> tuple[Sequence[tuple[Link, Copy]], FileIds]:
            evidence = "the bytes proved to be a decoy after they were held"
            # Due at once: the decoy may have been proven by the rule under which these links give their images.
            group = await self.ledger.results.refuse_decoys(
                transaction, run, self.catalogue.name, host, digest, evidence=evidence, wait_seconds=0.0
            )
            if self.catalogue.is_joint:
                cleared = await self.catalogue.clear(self._clearings(group), transaction)
                await self._journal(transaction, run, cleared)
            # Identified while the entries are locked, so that no other worker can have replaced the files.
            return group, await self.store.file_ids({copy.key for _, copy in group})

        group, file_ids = await self.ledger.database.transact(work)
        if group and not self.catalogue.is_joint:
            cleared = await self.catalogue.clear(self._clearings(group))
            await self.ledger.database.transact(lambda transaction: self._journal(transaction, run, cleared))
        if group:
            await self.store.quarantine(file_ids)
        return len(group)

    async def _journal(self, transaction: Connection, run: int, cleared: Mapping[Link, str | None]) -> None:
        changes = [(link, before, None) for link, before in cleared.items()]
        await self.ledger.history.add_changes(transaction, run, changes)

    def _clearings(self, group: Sequence[tuple[Link, Copy]]) -> list[Clearing]:
        return [Clearing(link, self.layout.url_path(copy.key)) for link, copy in group]
