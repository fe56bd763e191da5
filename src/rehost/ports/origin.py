"""Towards an origin: the request, the proof, and what we learned of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rehost.model import Download, Image, NotModified, Request, Rule
from rehost.ports.facts import KnownGoodLink, Spending


class Fetcher(Protocol):
    """One GET, politely and safely."""

    async def fetch(self, request: Request) -> Download | NotModified:
        """Return a complete body in `request.spool`, or that nothing has changed.

        Never connects to an address that the guard refuses, never takes longer than one attempt may, never writes more
        than the caps allow. On an error the spool is removed, unless the error carries it as its `partial`; where a
        redirect led to another host, the error says so by its `host`.

        Raises:
            VisitError: whatever the origin did; Transient where a second try may cure it.
            StoreError: the spool cannot be written.
        """
        ...


class Inspector(Protocol):
    """Proof that bytes are a whole picture."""

    async def inspect(self, path: Path) -> Image:
        """Return what the bytes at `path` proved to be; the file is only read.

        Raises:
            VisitError: Permanent for bytes that are no picture, Transient(TRUNCATED) for a picture that is cut short.
        """
        ...


class Origins(Protocol):
    """What we learned of each origin, shared by all workers."""

    async def rule(self, origin: str) -> Rule | None:
        """Return the Referer rule of an origin (scheme://host[:port]), if one is learned."""
        ...

    async def learned(self, rule: Rule) -> None:
        """Remember a rule, in place of an older one."""
        ...

    async def forget_rule(self, origin: str, referer: str) -> bool:
        """Drop a rule that no longer holds: it is learned anew, with a fresh budget.

        Return whether it was there; if not, another worker has found the same out before.
        """
        ...

    async def spend(self, origin: str, most: int, believed: str | None) -> Spending:
        """Take one extra request if fewer than `most` were taken since the origin's learning began, over all workers.

        Who has taken one has the origin to itself (for a lease at most), until it says `learning_ended`. Nobody gets
        one who does not know the rule as it is now: `believed` is what `rule` told last.
        """
        ...

    async def learning_ended(self, origin: str) -> None:
        """Let the other workers learn this origin again."""
        ...

    async def refresh_budget(self, origin: str, seconds: float) -> None:
        """Have learning begin anew in so many seconds: from then on no extra request counts that was taken before."""
        ...

    async def witnesses(self, host: str) -> Sequence[KnownGoodLink]:
        """Return a few held links of a host, as the rows have them: of different bytes, the last held first."""
        ...

    async def decoys(self, origin: str) -> frozenset[str]:
        """Return the digests known to be decoys of this origin."""
        ...

    async def add_decoy(self, origin: str, digest: str, evidence: str) -> None:
        """Remember a digest as a decoy of this origin."""
        ...
