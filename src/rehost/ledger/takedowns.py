"""What was taken down: which URLs, origins and bytes must not come back, and what was removed because of that.

A takedown is recorded with its tombstones before anything is removed. `copies` are what it has yet to remove, so that
one that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Row,
    Text,
    Update,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from rehost.db import NEVER, OTHER_HOST, Connection, Database, Moment, host_of, now
from rehost.ledger.schema import NO_COPY, TAKEN_DOWN, changes, links, takedowns, tombstones
from rehost.model import Copy, Link, Mark, Reason, State, Tombstone

GROUP = 500
MOST_LISTED = 10_000
"""Rows and files that a receipt names, each; of more it has the number."""

_FAILED = (State.DEFERRED.value, State.REFUSED.value)


@dataclass(frozen=True, slots=True)
class KnownLink:
    """A link in the ledger, and its copy."""

    entry: int
    link: Link
    held_url: str | None
    final_url: str | None
    copy: Copy | None


@dataclass(slots=True)
class Receipt:
    """What a takedown has removed where; the lists name MOST_LISTED at most."""

    rows: int = 0  # cleared
    files: int = 0
    size: int = 0  # bytes, of the files
    links: int = 0  # refused from now on, without having had a copy
    runs: list[int] = field(default_factory=list)  # under which the rows were cleared
    cleared: list[dict[str, Any]] = field(default_factory=list)  # source, key
    removed: list[dict[str, Any]] = field(default_factory=list)  # key, digest, size
    trash: list[dict[str, Any]] = field(default_factory=list)  # digest, size
    quarantine: list[dict[str, Any]] = field(default_factory=list)  # key, digest, size
    left: list[dict[str, Any]] = field(
        default_factory=list
    )  # rows that could not be cleared: source, key, file, evidence
    hook: str = ""  # why the hook failed last

    def add_file(self, key: str, digest: str, size: int) -> None:
        """Add a file that was removed."""
        self.files += 1
        self.size += size
        if self.files <= MOST_LISTED:
            self.removed.append({"key": key, "digest": digest, "size": size})


@dataclass(frozen=True, slots=True)
class Takedown:
    """A takedown, as the ledger has it."""

    takedown: int
    what: str
    legal: bool
    os_user: str
    began_at: datetime
    ended_at: datetime | None
    allowed_at: datetime | None
    receipt: Receipt

    @property
    def status(self) -> int:
        """Return what servers answer (RFC 9110, section 15.5.11; RFC 7725)."""
        return 451 if self.legal else 410


@dataclass(frozen=True, slots=True)
class TakedownRecords:
    """Reads and writes takedowns and tombstones."""

    database: Database

    async def begin(self, what: str, named: Collection[Tombstone], os_user: str, *, legal: bool) -> Takedown:
        """Record that a takedown begins, and what it names: from now on, no run brings that back."""
        values = {"what": what, "legal": legal, "os_user": os_user, "began_at": now()}

        async def work(connection: Connection) -> int:
            adding = insert(takedowns).values(values).returning(takedowns.c.takedown)
            number = int((await connection.execute(adding)).scalar_one())
            await self._add(connection, number, named, is_named=True)
            return number

        return await self.of(await self.database.transact(work))

    async def of(self, number: int) -> Takedown:
        """Return the takedown of a number that there is."""
        [found] = await self.read(takedowns.c.takedown == number)
        return found

    async def set_legal(self, number: int, *, legal: bool) -> Takedown:
        """Change whether a takedown is for legal reasons; return it as it is now."""
        await self.database.execute(update(takedowns).values(legal=legal).where(takedowns.c.takedown == number))
        return await self.of(number)

    async def read(self, *conditions: ColumnElement[bool]) -> Sequence[Takedown]:
        """Return takedowns in the order in which they began."""
        rows = await self.database.fetch_all(select(takedowns).where(*conditions).order_by(takedowns.c.takedown))
        return [
            Takedown(
                **{name: getattr(row, name) for name in ("takedown", "what", "legal", "os_user")},
                **{name: getattr(row, name) for name in ("began_at", "ended_at", "allowed_at")},
                receipt=Receipt(**json.loads(row.receipt)) if row.receipt else Receipt(),
            )
            for row in rows
        ]

    async def unfinished(self) -> Sequence[Takedown]:
        """Return the takedowns that have something to remove: they were interrupted, or a copy came back since."""
        came_back = exists().where(
            tombstones.c.takedown == takedowns.c.takedown,
            tombstones.c.kind == Mark.DIGEST.value,
            links.c.digest == tombstones.c.value,
            links.c.key.is_not(None),
        )
        return await self.read(takedowns.c.allowed_at.is_(None), or_(takedowns.c.ended_at.is_(None), came_back))

    async def covering(self, named: Collection[Tombstone]) -> Sequence[Takedown]:
        """Return the takedowns that have one of these tombstones and were not taken back."""
        given = self.database.given({"kind": Text(), "value": Text()}, sorted(named))
        is_named = and_(tombstones.c.kind == given.c.kind, tombstones.c.value == given.c.value)
        numbers = select(tombstones.c.takedown).join_from(given, tombstones, is_named)
        return await self.read(takedowns.c.allowed_at.is_(None), takedowns.c.takedown.in_(numbers))

    async def named(self, number: int) -> set[Tombstone]:
        """Return what the operator named."""
        query = select(tombstones.c.kind, tombstones.c.value)
        rows = await self.database.fetch_all(query.where(tombstones.c.takedown == number, tombstones.c.named))
        return {(Mark(row.kind), row.value) for row in rows}

    async def values(self, number: int, kind: Mark) -> AsyncIterator[Sequence[str]]:
        """Yield the values of a takedown's tombstones of a kind, in groups."""
        last = ""
        query = select(tombstones.c.value).where(tombstones.c.takedown == number, tombstones.c.kind == kind.value)
        query = query.order_by(tombstones.c.value).limit(GROUP)
        while rows := await self.database.fetch_all(query.where(tombstones.c.value > last)):
            yield [row.value for row in rows]
            last = rows[-1].value

    async def add(self, number: int, found: Collection[Tombstone], receipt: Receipt | None = None) -> None:
        """Add tombstones of what was found, with the receipt so far: both are there before anything is removed."""

        async def work(connection: Connection) -> None:
            await self._add(connection, number, found, is_named=False)
            if receipt is not None:
                await connection.execute(_with_receipt(number, receipt))

        await self.database.transact(work)

    async def _add(self, connection: Connection, number: int, found: Collection[Tombstone], *, is_named: bool) -> None:
        if not found:
            return
        given = self.database.given({"kind": Text(), "value": Text()}, sorted(found))
        query = select(given.c.kind, given.c.value, literal(number, BigInteger), literal(is_named, Boolean))
        names = ["kind", "value", "takedown", "named"]
        adding = self.database.insert(tombstones).from_select(names, query.where(given.c.number > 0))
        await connection.execute(adding.on_conflict_do_nothing())

    async def end(self, number: int, receipt: Receipt) -> None:
        """Record that everything was removed."""
        await self.database.execute(_with_receipt(number, receipt).values(ended_at=now()))

    async def save(self, number: int, receipt: Receipt) -> None:
        """Record what was removed so far, and what could not be."""
        await self.database.execute(_with_receipt(number, receipt))

    async def cleared(self, numbers: Collection[int]) -> tuple[int, list[dict[str, Any]]]:
        """Return how many rows these runs have cleared, and the first MOST_LISTED of them."""
        query = select(changes.c.source, changes.c.row_key).where(changes.c.run.in_(numbers)).distinct()
        total = await self.database.fetch_all(select(func.count()).select_from(query.subquery()))
        rows = await self.database.fetch_all(query.order_by(changes.c.source, changes.c.row_key).limit(MOST_LISTED))
        return total[0][0], [{"source": row.source, "key": row.row_key} for row in rows]

    # --- links and copies

    async def of_hosts(self, hosts: Collection[str]) -> AsyncIterator[Sequence[KnownLink]]:
        """Yield, in groups, links that may lead to one of these hosts, or whose copies may have come from there."""
        names = [*hosts, OTHER_HOST]
        of_copy = [host_of(column).in_(names) for column in (links.c.held_url, links.c.final_url)]
        is_theirs = or_(links.c.host.in_(names), and_(links.c.key.is_not(None), or_(*of_copy)))
        last = 0
        while hosts and (group := await self._links(is_theirs, last)):
            yield group
            last = group[-1].entry

    async def copies(self, number: int, after: int = 0) -> Sequence[KnownLink]:
        """Return up to GROUP links after this entry that have a copy which this takedown is to remove."""
        digests = select(tombstones.c.value).where(
            tombstones.c.takedown == number, tombstones.c.kind == Mark.DIGEST.value
        )
        return await self._links(and_(links.c.digest.in_(digests), links.c.key.is_not(None)), after)

    async def with_digests(self, digests: Collection[str]) -> AsyncIterator[Sequence[KnownLink]]:
        """Yield, in groups, links that have a copy with one of these digests."""
        given = self.database.given({"digest": Text()}, [[digest] for digest in sorted(digests)])
        last = 0
        is_theirs = and_(links.c.digest.in_(select(given.c.digest)), links.c.key.is_not(None))
        while digests and (group := await self._links(is_theirs, last)):
            yield group
            last = group[-1].entry

    async def at_key(self, key: str) -> Sequence[KnownLink]:
        """Return links whose copy has this key in the store."""
        return await self._links(links.c.key == key, 0)

    async def of_row(self, source: str, row_key: str) -> Sequence[KnownLink]:
        """Return the links of a row."""
        return await self._links(and_(links.c.source == source, links.c.row_key == row_key), 0)

    async def _links(self, condition: ColumnElement[bool], after: int) -> Sequence[KnownLink]:
        query = select(links).where(condition, links.c.entry > after).order_by(links.c.entry).limit(GROUP)
        return [_known(row) for row in await self.database.fetch_all(query, slow=True)]

    async def former_digests(self, entries: Collection[int]) -> set[str]:
        """Return the digests of copies that these links had before, of the URLs that they have now."""
        given = self.database.given({"entry": BigInteger()}, [[entry] for entry in entries])
        is_theirs = [changes.c[name] == links.c[name] for name in ("source", "row_key", "position", "url")]
        query = select(changes.c.before_digest).join_from(changes, links, and_(*is_theirs)).distinct()
        is_former = changes.c.before_digest.is_not(None)
        query = query.where(links.c.entry.in_(select(given.c.entry)), is_former)
        return {row.before_digest for row in await self.database.fetch_all(query)} if entries else set()

    async def lock(self, connection: Connection, copies: Sequence[KnownLink]) -> Sequence[KnownLink]:
        """Lock the entries of these links that still have these copies until the transaction ends; return those."""
        given = self._given(copies)
        locking = select(links.c.entry).join(given, _same_copy(given)).order_by(links.c.entry).with_for_update(of=links)
        entries = set(await connection.scalars(locking))
        return [each for each in copies if each.entry in entries]

    async def refuse(self, connection: Connection, number: int, refused: Sequence[int]) -> int:
        """Refuse these links from now on, and end their leases; return how many were not refused so already.

        A copy that a link has stays in the ledger until `forget` follows.
        """
        if not refused:
            return 0
        given = self.database.given({"entry": BigInteger()}, [[entry] for entry in refused])
        words = f"{TAKEN_DOWN}{number}"
        is_new = or_(links.c.state != State.REFUSED.value, links.c.evidence.is_distinct_from(words))
        refusing = update(links).values(
            state=State.REFUSED.value,
            reason=Reason.TAKEN_DOWN.value,
            evidence=words,
            due_at=literal(NEVER, Moment),
            fence=links.c.fence + 1,
            waits_for=null(),
            deaths=0,
        )
        is_theirs = links.c.entry.in_(select(given.c.entry))
        return len((await connection.execute(refusing.where(is_theirs, is_new).returning(links.c.entry))).all())

    async def detach(self, connection: Connection, copies: Sequence[KnownLink]) -> None:
        """Remember that no row points at these copies, and that they are of no link; the other links go on.

        A link whose URL was not taken down is wanted again, or waits as before, under a lease of its own.
        """
        given = self._given(copies)
        is_failed = links.c.state.in_(_FAILED)
        detaching = update(links).values(
            local_url=null(),
            held_url=null(),
            fence=links.c.fence + 1,
            state=case((is_failed, links.c.state), else_=State.WANTED.value),
            due_at=case((is_failed, links.c.due_at), else_=now()),
        )
        await connection.execute(detaching.where(_same_copy(given)))

    async def forget(self, copies: Sequence[KnownLink]) -> None:
        """Forget these copies, whose files are removed."""
        if copies:
            forgetting = update(links).values(NO_COPY | {"former_key": null()})
            await self.database.execute(forgetting.where(_same_copy(self._given(copies))))

    def _given(self, copies: Sequence[KnownLink]) -> FromClause:
        rows = [(each.entry, each.copy.key, each.copy.digest) for each in copies if each.copy is not None]
        return self.database.given({"entry": BigInteger(), "key": Text(), "digest": Text()}, rows)

    # --- taking back

    async def allow(self, number: int) -> int:
        """Take a takedown back: its tombstones go, and its links are due now; return how many links."""
        words = f"{TAKEN_DOWN}{number}"
        is_theirs = and_(links.c.state == State.REFUSED.value, links.c.reason == Reason.TAKEN_DOWN.value)
        wanting = update(links).values(
            state=State.WANTED.value, reason=null(), evidence=null(), due_at=now(), attempts=0, fence=links.c.fence + 1
        )

        async def work(connection: Connection) -> int:
            await connection.execute(delete(tombstones).where(tombstones.c.takedown == number))
            taking_back = update(takedowns).values(
                allowed_at=now(), ended_at=func.coalesce(takedowns.c.ended_at, now())
            )
            await connection.execute(taking_back.where(takedowns.c.takedown == number))
            return (await connection.execute(wanting.where(is_theirs, links.c.evidence == words))).rowcount

        return await self.database.transact(work, slow=True)


def _with_receipt(number: int, receipt: Receipt) -> Update:
    return update(takedowns).values(receipt=json.dumps(asdict(receipt))).where(takedowns.c.takedown == number)


def _same_copy(given: FromClause) -> ColumnElement[bool]:
    is_copy = [links.c[name].is_not_distinct_from(given.c[name]) for name in ("key", "digest")]  # `results._is_digest`
    return and_(links.c.entry == given.c.entry, *is_copy)


def _known(row: Row[*tuple[Any, ...]]) -> KnownLink:
    link = Link(row.source, row.row_key, row.position, row.url, row.page_url, row.local_url)
    copy = Copy(row.key, row.digest, row.size or 0) if row.key is not None and row.digest else None
    return KnownLink(row.entry, link, row.held_url, row.final_url, copy)
