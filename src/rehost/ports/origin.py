"""Towards an origin: when it may be asked, the asking, the proof, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rehost.errors import VisitError
from rehost.model import Download, Image, NotModified, Reason, Request, Rule
from rehost.ports.facts import Draw, Drawn, KnownGoodLink, News, Pause, Share, Spending


class Politeness(Protocol):
    """Which host may be asked now, by this worker. No I/O; hosts are named in lower case."""

    def next_host(self, waiting: Collection[str]) -> str | None:
        """Return the host of `waiting` that should be asked next and may be asked now; None if none may."""
        ...

    def next_time(self) -> float | None:
        """Return the monotonic time at which a host that is held back now may be asked again, if one is."""
        ...

    def pause_seconds(self, host: str) -> float:
        """Return for how long this host is still to be left alone; 0 if it is not."""
        ...

    def lacks_share(self, host: str) -> bool:
        """Return whether this worker has no part of what the host bears, though the host is not to be left alone."""
        ...

    def cause(self, host: str) -> tuple[Reason, str]:
        """Return why this host is left alone, with the evidence."""
        ...

    def started(self, host: str) -> bool:
        """Count a request to this host as in flight; return whether a new part of its daily budget is needed soon."""
        ...

    def passes(self, host: str) -> bool:
        """Count a request that is no turn, a hop or a robots.txt, against the host's daily budget, if it has one.

        Return whether it may be sent now; False until more of the budget is drawn.

        Raises:
            Withheld: the host is left alone.
        """
        ...

    def passed(self, host: str, error: VisitError | None) -> News | None:
        """Learn from how a request ended that was no turn, and return what others should know of it."""
        ...

    def finished(self, host: str, error: VisitError | None) -> News | None:
        """Count the request as ended, learn from how it ended, and return what others should know of it."""
        ...

    def abandoned(self, host: str) -> None:
        """Count the request as never sent."""
        ...

    def heed(self, pause: Pause) -> None:
        """Leave this host alone from now on; a pause that lasts longer already stays as it is."""
        ...

    def wanted(self) -> Mapping[str, int]:
        """Return how many requests at once each host of late could use here, for `Origins.shares`."""
        ...

    def in_flight(self) -> Mapping[str, int]:
        """Return how many requests each host is answering now, for `Origins.shares`."""
        ...

    def apply(self, shares: Mapping[str, Share]) -> None:
        """Take what the ledger lets this worker have of each host."""
        ...

    def draws(self, *, leaving: bool = False) -> Mapping[str, Draw]:
        """Return what is wanted of daily budgets, for `Origins.draw`; what is given back counts as given from now on.

        Nothing of hosts without a budget. Who is leaving gives back all it has.
        """
        ...

    def fill(self, drawn: Mapping[str, Drawn]) -> None:
        """Take the parts of daily budgets; leave alone until the day ends whom there is no budget left for."""
        ...


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

    async def shares(
        self, wanted: Mapping[str, int], in_flight: Mapping[str, int] | None = None
    ) -> Mapping[str, Share]:
        """Tell that we live and how many requests each host could use here; return what we may have of each.

        Over all living workers the slots of a host never exceed its allowance; a host that has proven nothing yet has
        an allowance of one. To be called every second or two; a worker that stays away longer than a lease is dead.
        A worker that is to have fewer slots than before is told at once, the others get them when its requests
        `in_flight` (None: as many as it had slots and wants) have ended. Without wishes, all slots are given back.
        """
        ...

    async def draw(self, draws: Mapping[str, Draw]) -> Mapping[str, Drawn]:
        """Take parts of hosts' daily budgets, or give back what is left of them; return what was taken, by host.

        Over all workers and runs no more than the budget is ever taken in a day; a part that is not given back, by a
        worker that died, is lost. A part is for the day that it was drawn on.
        """
        ...

    async def leave(self) -> None:
        """Give all shares back: this worker ends."""
        ...

    async def pause(self, host: str, seconds: float, evidence: str) -> None:
        """Let nobody ask this host for `seconds` from now (by the database's clock); never shortens a pause."""
        ...

    async def allow(self, host: str, allowance: int, *, proven: bool = False) -> None:
        """Remember how many requests at once this host bears, over all workers."""
        ...
