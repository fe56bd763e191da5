"""Held copies that may be decoys: found after each group of outcomes, and examined folder by folder (invariant 5).

Two signs are followed: bytes that are held under several links of one host, which are examined; and digests that became
known as decoys of an origin, which may be held, whichever run wrote them. A stranger may cause either, so neither is
enough: the bytes have to be a decoy in the folder of the copy's own link. Then that link is visited again, and
run/visitor.py decides: a picture replaces the copy, and only a second control, a while later, has it removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from rehost.attempt import VisitLog
from rehost.catalogue.table import TableCatalogue
from rehost.errors import VisitError
from rehost.events import CopiesSuspected
from rehost.hosts.scheduler import HostPaused
from rehost.hotlink.learner import Learner
from rehost.hotlink.repository import Evidence
from rehost.ledger import Ledger
from rehost.model import Link, Outcome, Stored

MOST_FOLDERS = 5
"""To examine after one group of outcomes, for each host and digest: each may cost a few controls."""


@dataclass(frozen=True, slots=True)
class SuspectedCopies:
    """Finds copies of one source that may be decoys, after each group of outcomes that was recorded."""

    ledger: Ledger
    catalogue: TableCatalogue
    learner: Learner

    async def find(self, outcomes: Sequence[Outcome]) -> tuple[CopiesSuspected, ...]:
        """Make the links of copies that may be decoys due again; return how many. The copies stay where they are."""
        found = []
        for host, digest in sorted(await self._decoys(outcomes)):
            with suppress(HostPaused):  # the next such group asks again
                if copies := await self._suspect(host, digest):
                    found.append(CopiesSuspected(self.catalogue.name, host, digest, copies))
        return tuple(found)

    async def _decoys(self, outcomes: Sequence[Outcome]) -> set[tuple[str, str]]:
        """Return hosts and digests of decoys that may be held."""
        found = set()
        for outcome in outcomes:
            copies = [outcome.task.copy, outcome.copy if isinstance(outcome, Stored) else None]
            digests = {copy.digest for copy in copies if copy is not None}
            decoys = self.learner.new_decoys(outcome.task.link, digests)
            found |= {(outcome.task.host, digest) for digest in decoys}
        digests = {outcome.copy.digest for outcome in outcomes if isinstance(outcome, Stored)}
        shared = await self.ledger.results.shared_digests(self.catalogue.name, sorted(digests)) if digests else {}
        for (host, digest), links in shared.items():
            with suppress(VisitError, HostPaused):  # the origin cannot be asked: the next such group asks again
                if await self.learner.examine(links, digest, host):
                    found.add((host, digest))
        return found

    async def _suspect(self, host: str, digest: str) -> int:
        """Suspect the copies with these bytes in folders where those are a decoy; return how many."""
        copies = await self.ledger.results.copies_to_examine(self.catalogue.name, host, digest)
        folders: dict[str, list[int]] = {}
        for entry, link in copies.items():
            folders.setdefault(link.url.partition("?")[0].rpartition("/")[0], []).append(entry)
        suspects: list[int] = []
        others: list[int] = []
        for entries in islice(folders.values(), MOST_FOLDERS):
            is_suspect = await self._is_decoy_beside(copies[entries[0]], digest, host)
            (suspects if is_suspect else others).extend(entries)
        return await self.ledger.results.suspect(digest, suspects, others)

    async def _is_decoy_beside(self, link: Link, digest: str, host: str) -> bool:
        evidence = await self.learner.examine_copy(link, digest, VisitLog(host), again=False)
        return evidence is not Evidence.NONE
