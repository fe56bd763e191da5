"""Copies that turn out to be decoys: rows cleared, files to quarantine (invariant 5: the only clearing there is).

Two signs are followed after each group of outcomes: bytes that are held under several links of one host, which are
examined; and digests that became known as decoys of an origin, which may be held, whichever run wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rehost.errors import VisitError
from rehost.hosts.scheduler import HostPaused
from rehost.model import Copy, Link, Outcome, Stored
from rehost.ports import Ledger, Transaction
from rehost.run.rows import Rows
from rehost.run.visitor import Prove
from rehost.store.base import FileIds, Store


class Examiner(Protocol):
    """Who can tell a decoy from a shared picture (learn.py)."""

    async def examine(self, links: Sequence[Link], digest: str, prove: Prove) -> bool:
        """Return whether these bytes, which at least two links of one origin gave, are a decoy of that origin."""
        ...

    def take_unmasked(self, link: Link, digest: str | None) -> set[str]:
        """Return the decoys of the link's origin that may be held: those that became known since, and this digest."""
        ...


class Provers(Protocol):
    """Who fetches and proves outside of a visit (visit.py)."""

    def prover(self, host: str) -> Prove:
        """Return what fetches and proves at this host."""
        ...


@dataclass(frozen=True, slots=True)
class DecoyCleaner:
    """Looks after what was just recorded."""

    ledger: Ledger
    store: Store
    rows: Rows
    examiner: Examiner
    provers: Provers

    async def look(self, run: int, outcomes: Sequence[Outcome]) -> int:
        """Return how many held copies turned out to be decoys; their rows are cleared, they will be asked for again."""
        unveiled = 0
        for host, digest in await self._proven(outcomes):
            unveiled += await self._unveil(run, host, digest)
        return unveiled

    async def _proven(self, outcomes: Sequence[Outcome]) -> set[tuple[str, str]]:
        """Return the hosts and digests of decoys that may be held."""
        found = set()
        for outcome in outcomes:
            copy = outcome.copy if isinstance(outcome, Stored) else outcome.task.copy  # of the link before it changed
            decoys = self.examiner.take_unmasked(outcome.task.link, copy.digest if copy else None)
            found |= {(outcome.task.host, digest) for digest in decoys}
        for (host, digest), links in (await self._shared(outcomes)).items():
            if await self._is_decoy(host, digest, links):
                found.add((host, digest))
        return found

    async def _shared(self, outcomes: Sequence[Outcome]) -> Mapping[tuple[str, str], Sequence[Link]]:
        digests = [outcome.copy.digest for outcome in outcomes if isinstance(outcome, Stored)]
        return await self.ledger.shared(self.rows.catalogue.name, digests) if digests else {}

    async def _is_decoy(self, host: str, digest: str, links: Sequence[Link]) -> bool:
        try:
            return await self.examiner.examine(links, digest, self.provers.prover(host))
        except (VisitError, HostPaused):
            return False  # the origin cannot be asked now; the next group that shares these bytes asks again

    async def _unveil(self, run: int, host: str, digest: str) -> int:
        """Refuse what is held of these bytes, a group at a time."""
        unveiled = 0
        while (cleared := await self._clear(run, host, digest))[0]:
            group, file_ids = cleared
            await self.store.quarantine(file_ids)
            unveiled += len(group)
        return unveiled

    async def _clear(self, run: int, host: str, digest: str) -> tuple[Sequence[tuple[Link, Copy]], FileIds]:
        """Refuse a group, and clear its rows; return it, and its files as they are while nobody can replace them.

        Where the rows are in another database the ledger's step comes first: what a kill between them leaves is asked
        for again, and found at its place. The other way round the next plan would point the rows at the decoy again.
        """

        async def work(transaction: Transaction) -> tuple[Sequence[tuple[Link, Copy]], FileIds]:
            evidence = "the bytes proved to be a decoy after they were held"
            name = self.rows.catalogue.name
            # At once: what unmasked the decoy may have been the rule under which these links give their pictures.
            group = await self.ledger.unmask(transaction, run, name, host, digest, evidence=evidence, wait_seconds=0.0)
            if self.rows.joint:
                await self._journal(transaction, run, await self.rows.clear(_keys(group), transaction))
            return group, await self.store.file_ids({copy.key for _, copy in group})

        group, file_ids = await self.ledger.transact(work)
        if group and not self.rows.joint:
            cleared = await self.rows.clear(_keys(group))
            await self.ledger.transact(lambda transaction: self._journal(transaction, run, cleared))
        return group, file_ids

    async def _journal(self, transaction: Transaction, run: int, cleared: Mapping[Link, str | None]) -> None:
        await self.ledger.journal(transaction, run, [(link, before, None) for link, before in cleared.items()])


def _keys(group: Sequence[tuple[Link, Copy]]) -> list[tuple[Link, str]]:
    return [(link, copy.key) for link, copy in group]
