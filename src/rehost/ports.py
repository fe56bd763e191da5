"""What each part must do. The pipeline knows these and nothing else of the parts; assembly.py chooses who does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType, Protocol, TypeVar

from rehost.errors import VisitError
from rehost.events import RunEnded
from rehost.model import Copy, Download, Image, Link, NotModified, Outcome, Reason, Request, Rule, Stored, Task

LinkQuery = NewType("LinkQuery", object)
"""The operator's links as a selectable: columns row_key, position, url, page_url, local_url, host. Made by the
catalogue, used by the ledger, opaque to everybody between them."""

T = TypeVar("T")

Transaction = Any
"""An open transaction, of whoever's `begin` made it; opaque here, passed on as it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the store that lies where a link's copy belongs."""

    row_key: str
    position: int
    key: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What the ledger found the catalogue to be, in links."""

    present: int  # links that the catalogue has now
    new: int
    changed: int
    vanished: int  # links whose row or cell is no more
    redo: bool = False  # the column is cleared in every row of a held copy: the operator wants all anew


@dataclass(frozen=True, slots=True)
class Compared:
    """What the ledger found the store to be, in copies."""

    lost: int  # held in the ledger, not in the store: wanted again
    found: int  # in the store, unknown to the ledger: to be proven and adopted
    redo: bool = False  # every held copy is gone: the operator has deleted the folder


@dataclass(frozen=True, slots=True)
class Tally:
    """Where a source stands now, in links that the catalogue has."""

    present: int
    held: int
    due: int  # wanted, or deferred and refused whose time has come, or leased by a worker that is no more
    later: int  # deferred or refused, due at a later time
    leased: int = 0  # some worker is at them
    next_due_seconds: float | None = None  # until the first of the later ones


@dataclass(frozen=True, slots=True)
class Placement:
    """A proven, synced spool and the key that it is to have."""

    spool: Path
    key: str


@dataclass(frozen=True, slots=True)
class WriteBack:
    """A row's cell that is to point at a copy (or, local_url None, at nothing any more)."""

    link: Link
    local_url: str | None


@dataclass(frozen=True, slots=True)
class Restore:
    """A row's cell that is to be again as it was before a run wrote it."""

    row_key: str
    url: str  # the link that the row held then
    before: str | None  # the local URL that is to come back
    after: str | None  # the one that the run wrote


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker may do to one host just now."""

    slots: int  # requests in flight; 0 while paused, or while the other workers have them all
    allowance: int = 0  # what the host bears over all workers together; 0 if nobody has said
    pause_seconds: float = 0.0  # what is left of its pause, by the database's clock
    proven: bool = False  # the host has given a proven picture at least once, ever


@dataclass(frozen=True, slots=True)
class Pause:
    """This host should be left alone by all workers."""

    host: str
    seconds: float
    evidence: str
    reason: Reason = Reason.THROTTLED  # what its links are deferred for, should the pause be long


@dataclass(frozen=True, slots=True)
class Allowance:
    """This host bears so many requests at once, over all workers."""

    host: str
    slots: int
    proven: bool = False  # it has given a proven picture


Change = Pause | Allowance
"""What one worker's politeness found out and all workers should know."""


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

    def cause(self, host: str) -> tuple[Reason, str]:
        """Return why this host is left alone, with the evidence."""
        ...

    def started(self, host: str) -> None:
        """Count a request to this host as in flight."""
        ...

    def finished(self, host: str, error: VisitError | None) -> Change | None:
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


class Fetcher(Protocol):
    """One GET, politely and safely."""

    async def fetch(self, request: Request) -> Download | NotModified:
        """Return a complete body in `request.spool`, or that nothing has changed.

        Never connects to an address that the guard refuses, never takes longer than one attempt may, never writes more
        than the caps allow. On an error the spool is removed, unless the error carries it as its `partial`.

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


class Store(Protocol):
    """Copies at rest. A name is complete or absent. Every method may raise StoreError."""

    def spool(self) -> Path:
        """Return a fresh path for an untrusted body, on the store's own file system."""
        ...

    async def spool_of(self, key: str) -> Path:
        """Return a spool with the bytes of a copy; the copy stays as it is."""
        ...

    def path(self, key: str) -> Path:
        """Return where the copy of that key lies (it need not exist)."""
        ...

    def keys(self) -> AsyncIterator[Sequence[str]]:
        """Yield all keys, in groups, without a stat per file; spools, quarantine and dotfiles are no keys."""
        ...

    async def sync(self, spools: Sequence[Path]) -> None:
        """Return when these files' bytes are durable."""
        ...

    async def place(self, placements: Sequence[Placement]) -> None:
        """Give synced spools their names and make the names durable; what had a name before is kept aside."""
        ...

    async def keep(self, keys: Sequence[str]) -> None:
        """Let go of what `place` kept aside for these keys: the new bytes stay."""
        ...

    async def undo(self, keys: Sequence[str]) -> None:
        """Put back what `place` kept aside for these keys; remove what had nothing before it."""
        ...

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove copies (and folders that are empty then); a key that is not there is no error."""
        ...

    async def quarantine(self, keys: Sequence[str]) -> None:
        """Move copies aside, where they are never served; a key that is not there is no error."""
        ...

    async def resolve(self, held: Callable[[Collection[str]], Awaitable[Mapping[str, str]]]) -> None:
        """Settle what killed processes had kept aside, by the digests that are held; before anything is placed."""
        ...

    async def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        ...


class Catalogue(Protocol):
    """One source: the operator's table, of which we read links and write one column."""

    name: str

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """As Ledger.transact, in the operator's database."""
        ...

    def links(self) -> LinkQuery:
        """Return the operator's links as a selectable."""
        ...

    async def write_back(self, transaction: Transaction, changes: Sequence[WriteBack]) -> dict[Link, str | None]:
        """Set the local URL of every row that still holds its link's URL; return those links, with the value before.

        The one comparison is on the link's URL (invariant 2); rows that hold the value already count as written.
        """
        ...

    async def restore(self, transaction: Transaction, changes: Sequence[Restore]) -> int:
        """Put the local URL back where nobody has changed the row since; return how many rows that were."""
        ...


class Ledger(Protocol):
    """What we remember of every link. Every state change of a link is one of these methods."""

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in one transaction of the ledger's database and return its result.

        After a short outage of the database it is run again from its start, so it must bear that: a commit whose
        answer was lost may have happened.

        Raises:
            LedgerError: the database stayed away for longer than is waited.
        """
        ...

    async def note(self, source: str, links: LinkQuery) -> Noted:
        """Take in the catalogue's links, set-wise: new ones are wanted, changed ones are wanted anew and at once."""
        ...

    async def compare(self, source: str, listing: AsyncIterator[Sequence[Found]]) -> Compared:
        """Hold the store's listing against the ledger, set-wise and in bounded memory.

        A held copy that is not listed is wanted again. A listed file of a link that was noted but never leased is
        handed out as `Task.found`.
        """
        ...

    def unpointed(self, source: str, links: LinkQuery) -> AsyncIterator[Sequence[tuple[Link, Copy]]]:
        """Yield, in groups, held links whose row points at nothing, or at what we wrote under another prefix.

        A local URL that somebody else wrote is left alone.
        """
        ...

    async def forget_waits(self, source: str, reason: str | None = None) -> int:
        """Make deferred and refused links (of one reason, or all) due now; return how many."""
        ...

    async def held(self, keys: Collection[str]) -> Mapping[str, str]:
        """Return the digests that the ledger holds for these keys, without those of which it holds nothing."""
        ...

    async def leftovers(self, source: str) -> Sequence[str]:
        """Return keys of files that a commit has put out of use and that are to be removed."""
        ...

    async def forget_leftovers(self, source: str, keys: Sequence[str]) -> None:
        """Take it that these files are removed."""
        ...

    async def tally(self, source: str) -> Tally:
        """Return where the source stands now."""
        ...

    async def defer_host(self, source: str, host: str, reason: Reason, evidence: str, wait_seconds: float) -> int:
        """Defer all due links of one host, unvisited, set-wise; return how many."""
        ...

    async def begin_run(self, source: str) -> int:
        """Record that a run starts, with who and where; return its number."""
        ...

    async def end_run(self, run: int, ended: RunEnded) -> None:
        """Record how a run ended."""
        ...

    async def hosts(self, source: str) -> Sequence[str]:
        """Return the hosts that have links due now."""
        ...

    async def bury(self, is_gone: Callable[[str], bool]) -> int:
        """Free at once what workers held that are known to be gone; return how many links are due again for it."""
        ...

    async def lease(self, source: str, host: str, limit: int) -> Sequence[Task]:
        """Lease up to `limit` due links of one host; those whose lease has ended are due too."""
        ...

    async def renew(self, tasks: Sequence[Task]) -> None:
        """Move the end of these leases on, where they are still ours."""
        ...

    async def release(self, tasks: Sequence[Task]) -> None:
        """Give these leases back unvisited, where they are still ours."""
        ...

    async def confirm(self, transaction: Transaction, tasks: Sequence[Task]) -> set[int]:
        """Lock these entries to the transaction's end; return the numbers of those whose lease is still ours."""
        ...

    async def settled(self, transaction: Transaction, stored: Sequence[Stored]) -> set[int]:
        """Return the entries held with the very digests of these outcomes: a commit whose answer was lost."""
        ...

    async def pend(self, transaction: Transaction, stored: Sequence[Stored]) -> None:
        """Remember the digests that are about to take the place of held copies at the same keys."""
        ...

    async def settle(
        self, transaction: Transaction, run: int, outcomes: Sequence[Outcome], written: Mapping[Link, str | None]
    ) -> None:
        """Record confirmed outcomes; a Stored whose link is not in `written` becomes wanted: its row changed meanwhile.

        `written` maps links to the local URL that the row had before, for `undo`.
        """
        ...

    async def shared(self, source: str, digests: Sequence[str]) -> Mapping[str, Sequence[Link]]:
        """Return two links for each of these digests that is held under several links of one host."""
        ...

    async def unmask(
        self,
        transaction: Transaction,
        run: int,
        source: str,
        host: str,
        digest: str,
        *,
        evidence: str,
        wait_seconds: float,
    ) -> Sequence[tuple[Link, Copy]]:
        """Refuse, as decoys, held links of a host with this digest, a group at a time; return what was held.

        To be called until nothing is returned. The rows of what is returned are to be cleared in the same transaction,
        its copies go to quarantine after the commit.
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

    async def forget_rule(self, origin: str, evidence: str) -> None:
        """Drop a rule that no longer holds; it is learned anew with a fresh budget."""
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

    async def leave(self) -> None:
        """Give all shares back: this worker ends."""
        ...

    async def pause(self, host: str, seconds: float, evidence: str) -> None:
        """Let nobody ask this host for `seconds` from now (by the database's clock); never shortens a pause."""
        ...

    async def allow(self, host: str, allowance: int, *, proven: bool = False) -> None:
        """Remember how many requests at once this host bears, over all workers."""
        ...


__all__ = [
    "Catalogue",
    "Compared",
    "Copy",
    "Fetcher",
    "Found",
    "Image",
    "Inspector",
    "Ledger",
    "LinkQuery",
    "Noted",
    "Origins",
    "Placement",
    "Restore",
    "Share",
    "Store",
    "Transaction",
    "WriteBack",
]
