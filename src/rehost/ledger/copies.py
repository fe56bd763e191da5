"""Walks over the copies that the ledger holds, in groups by entry, and how far the last walk came.

Nothing here takes a lease: what a walk finds is to be read again under one before it is changed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    and_,
    case,
    exists,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from rehost.db import (
    Columns,
    Connection,
    Database,
    LinkRows,
    Session,
    after,
    blank,
    drop_temporary,
    make_temporary,
    now,
    temporary_table,
)
from rehost.ledger.schema import NO_COPY, links, passes, tombstones
from rehost.ledger.sync import offered_links, same_place
from rehost.model import Copy, Format, Image, Link, Mark, State, Validator

GROUP = 500  # copies, or rows
_FORMATS = {str(each): each for each in Format}

_PLACE: Columns = {"source": Text(), "row_key": Text(), "position": Integer(), "key": Text()}
_ROW: Columns = {
    "entry": BigInteger(),
    "row_key": Text(),
    "position": Integer(),
    "url": Text(),
    "page_url": Text(),
    "local_url": Text(),
    "known_url": Text(),
}
_pointing = temporary_table("rehost_pointing", _ROW, key="entry")

Place = tuple[str, str, int, str]
"""Where a file of the store belongs: source, row key, position, and the file's key."""


@dataclass(frozen=True, slots=True)
class KnownCopy:
    """A copy as the ledger knows it; the link's local URL is what we wrote into the row."""

    entry: int
    link: Link
    copy: Copy
    image: Image | None  # None if the ledger does not know the format
    former_key: str | None = None
    final_url: str | None = None
    rescued: str | None = None
    validator: Validator | None = None
    verified_at: datetime | None = None  # when its bytes were read last, and were right
    held_at: datetime | None = None

    @property
    def place(self) -> Place:
        """Return where its file belongs."""
        return self.link.source, self.link.row_key, self.link.position, self.copy.key


@dataclass(frozen=True, slots=True)
class Selection:
    """Which held copies a walk is about."""

    sources: Collection[str]
    older_seconds: float | None = None  # only those whose bytes were not read for so long
    row_key: str | None = None

    def condition(self) -> ColumnElement[bool]:
        """Return it as a condition on `links`."""
        conditions = [is_held(), links.c.source.in_(self.sources)]
        if self.older_seconds is not None:
            conditions.append(or_(links.c.verified_at.is_(None), links.c.verified_at < after(-self.older_seconds)))
        if self.row_key is not None:
            conditions.append(links.c.row_key == self.row_key)
        return and_(*conditions)


@dataclass(slots=True)
class Pass:
    """A walk through all copies, perhaps in several calls."""

    name: str
    began_at: datetime
    cursor: int = 0  # the last entry that was done
    copies: int = 0  # examined so far
    size: int = 0  # bytes read
    found: int = 0  # faults


@dataclass(frozen=True, slots=True)
class RowOfNoCopy:
    """A row with a local URL whose link has no copy."""

    entry: int
    link: Link  # its local URL is what the row holds
    known_url: str | None  # what the ledger knows that we wrote


@dataclass(frozen=True, slots=True)
class Copies:
    """Reads held copies, and remembers which were read from the store, and were right."""

    database: Database

    async def group(self, chosen: Selection, cursor: int, most: int = GROUP) -> Sequence[KnownCopy]:
        """Return the next held copies after this entry."""
        query = select(links).where(chosen.condition(), links.c.entry > cursor).order_by(links.c.entry).limit(most)
        return [_copy(row) for row in await self.database.fetch_all(query, slow=True)]

    async def count(self, chosen: Selection, cursor: int = 0) -> int:
        """Return how many held copies come after this entry."""
        query = select(func.count()).select_from(links).where(chosen.condition(), links.c.entry > cursor)
        return int((await self.database.fetch_all(query, slow=True))[0][0])

    async def again(self, entries: Collection[int]) -> dict[int, KnownCopy]:
        """Return the copies of those of these links that are held now, by entry."""
        given = self.database.given({"entry": BigInteger()}, [[entry] for entry in entries])
        query = select(links).where(links.c.entry.in_(select(given.c.entry)), is_held())
        return {row.entry: _copy(row) for row in await self.database.fetch_all(query)} if entries else {}

    async def at(self, places: Sequence[Place]) -> Sequence[KnownCopy]:
        """Return the held copies that have these keys at these places."""
        given = self.database.given(_PLACE, places)
        is_there = and_(*(links.c[name] == given.c[name] for name in _PLACE))
        query = select(links).join(given, is_there).where(is_held()).order_by(links.c.entry)
        return [_copy(row) for row in await self.database.fetch_all(query)] if places else []

    async def keys_with(self, digest: str, without: int) -> Sequence[str]:
        """Return the keys of a few other links' copies with these bytes."""
        query = select(links.c.key).where(links.c.digest == digest, links.c.entry != without, links.c.key.is_not(None))
        return [row.key for row in await self.database.fetch_all(query.order_by(links.c.entry).limit(10))]

    # --- copies and files without a row

    async def without_rows(self, sources: Collection[str], cursor: int) -> Sequence[KnownCopy]:
        """Return the next copies, after this entry, whose rows are gone."""
        is_gone = and_(~links.c.present, links.c.key.is_not(None), links.c.state != State.LEASED.value)
        query = select(links).where(is_gone, links.c.source.in_(sources), links.c.entry > cursor)
        rows = await self.database.fetch_all(query.order_by(links.c.entry).limit(GROUP), slow=True)
        return [_copy(row) for row in rows]

    async def strays(self, files: Sequence[Place]) -> set[str]:
        """Return the keys of those of these files that are no link's copy, and that no run is about to examine."""
        given = self.database.given({"key": Text()}, [[key] for key in sorted({file[-1] for file in files})])
        known = select(links.c.key).where(links.c.key.in_(select(given.c.key)))
        unknown = {file[-1] for file in files} - {row.key for row in await self.database.fetch_all(known)}
        if not (left := [file for file in files if file[-1] in unknown]):
            return set()
        given = self.database.given(_PLACE, left)
        is_there = and_(*(links.c[name] == given.c[name] for name in ("source", "row_key", "position")))
        is_open = and_(links.c.present, or_(links.c.key.is_(None), links.c.state == State.LEASED.value))
        query = select(given.c.key).join(links, is_there).where(is_open)
        return unknown - {row.key for row in await self.database.fetch_all(query)}

    async def count_all(self) -> int:
        """Return how many copies the ledger has, whether or not their rows are there."""
        query = select(func.count()).select_from(links).where(links.c.key.is_not(None))
        return int((await self.database.fetch_all(query, slow=True))[0][0])

    async def forget(self, connection: Connection, copies: Sequence[KnownCopy]) -> set[int]:
        """Forget those of these copies whose rows are still gone; return their entries.

        Their files are still there: `former_key` remembers them until they are known to be removed.
        """
        given = self.database.given(
            {"entry": BigInteger(), "key": Text(), "digest": Text()},
            [[each.entry, each.copy.key, each.copy.digest] for each in copies],
        )
        is_same = and_(*(links.c[name] == given.c[name] for name in ("entry", "key", "digest")))
        is_gone = and_(~links.c.present, links.c.state != State.LEASED.value)
        state = case((links.c.state == State.HELD.value, State.WANTED.value), else_=links.c.state)
        values = NO_COPY | {"state": state, "local_url": None, "found": None, "fence": links.c.fence + 1}
        values |= {"former_key": links.c.key}
        forgetting = update(links).values(values).where(is_same, is_gone).returning(links.c.entry)
        return set(await connection.scalars(forgetting)) if copies else set()

    async def while_unused(
        self, places: Mapping[str, Collection[Place]], work: Callable[[Collection[str]], Awaitable[None]]
    ) -> None:
        """Call `work` with those keys that are no link's copy and that no worker may be about to record; keep that so.

        A key is in use if a link holds it, or if a worker has leased a link at whose place it is: that worker may have
        stored it. A link's former copy that was taken down is not: no worker records it again.
        Until `work` has ended, the other entries are locked, and no new link is taken in where a key has no entry yet.
        `work` is called again if the database was away meanwhile.

        Args:
            places: key -> the cells of which the file with this key could be the copy.
            work: what may only be done to files that are not in use.
        """
        given = self.database.given(_PLACE, [list(place) for found in places.values() for place in found])
        is_place = and_(*(links.c[name] == given.c[name] for name in ("source", "row_key", "position")))
        is_held = or_(links.c.held_url.is_not(None), links.c.local_url.is_not(None))
        is_its = func.coalesce(links.c.key == given.c.key, false())
        is_taken_down = exists().where(tombstones.c.kind == Mark.DIGEST.value, tombstones.c.value == links.c.digest)
        is_visited = and_(links.c.state == State.LEASED.value, ~and_(is_its, is_taken_down))
        is_used = or_(and_(is_its, is_held), is_visited)
        of_places = select(given.c.key, links.c.entry).join_from(given, links, is_place)
        locking = of_places.where(~is_used).order_by(links.c.entry).with_for_update(of=links)
        keys = self.database.given({"key": Text()}, [[key] for key in sorted(places)])
        holding = select(links.c.key).where(links.c.key.in_(select(keys.c.key)), is_held)  # whatever its place

        async def locked(connection: Connection) -> None:
            known = {row.key for row in await connection.execute(of_places)}
            for source in sorted({place[0] for key in places.keys() - known for place in places[key]}):
                await self.database.lock(connection, f"plan {source}")  # as `CatalogueSync.take_in`
            free = {tuple(row) for row in await connection.execute(locking)}
            used = {row.key for row in await connection.execute(of_places) if tuple(row) not in free}
            await work(places.keys() - used - set(await connection.scalars(holding)))

        await self.database.transact(locked, slow=True)

    async def forgotten(self, keys: Collection[str]) -> set[str]:
        """Return those of these keys whose copies `forget` forgot, and whose files are not known to be removed."""
        given = self.database.given({"key": Text()}, [[key] for key in sorted(keys)])
        query = select(links.c.former_key).where(links.c.former_key.in_(select(given.c.key)), ~links.c.present)
        return {row.former_key for row in await self.database.fetch_all(query)} if keys else set()

    # --- rows without a copy

    async def rows_without_copy(self, source: str, rows: LinkRows) -> AsyncIterator[Sequence[RowOfNoCopy]]:
        """Yield, in groups, rows that hold a local URL though their link has no copy, nor a worker that fetches one."""
        last = 0

        async def groups(session: Session) -> AsyncGenerator[Sequence[RowOfNoCopy], None]:
            nonlocal last  # after an outage the walk begins again, and must not yield a row twice
            async with session.begin(writing=False) as connection:
                await self.database.allow_large_joins(connection)
                await make_temporary(connection, _pointing)
                async with offered_links(connection, self.database, rows) as offered:
                    names = ("row_key", "position", "url", "page_url", "local_url")
                    query = select(links.c.entry, *(offered.c[name] for name in names), links.c.local_url)
                    query = query.join_from(offered, links, same_place(offered, source))
                    has_none = and_(links.c.key.is_(None), links.c.state != State.LEASED.value)
                    query = query.where(has_none, links.c.url == offered.c.url, ~blank(offered.c.local_url))
                    await connection.execute(insert(_pointing).from_select(list(_ROW), query))
            further = select(_pointing).order_by(_pointing.c.entry).limit(GROUP)
            while True:
                async with session.begin(writing=False) as connection:
                    found = (await connection.execute(further.where(_pointing.c.entry > last))).all()
                if not found:
                    break
                last = found[-1].entry
                yield [RowOfNoCopy(row.entry, _link(source, row), row.known_url) for row in found]
            async with session.begin(writing=False) as connection:
                await drop_temporary(connection, _pointing)

        async with aclosing(self.database.walk(groups)) as walk:
            async for group in walk:
                yield group

    async def lock_rows_without_copy(self, connection: Connection, rows: Sequence[RowOfNoCopy]) -> set[int]:
        """Lock these entries until the transaction ends; return those that still have no copy, and no worker."""
        given = self.database.given({"entry": BigInteger()}, [[row.entry] for row in rows])
        has_none = and_(links.c.key.is_(None), links.c.state != State.LEASED.value)
        locking = select(links.c.entry).where(links.c.entry.in_(select(given.c.entry)), has_none)
        return set(await connection.scalars(locking.order_by(links.c.entry).with_for_update()))

    # --- passes

    async def resume(self, name: str) -> Pass:
        """Return the pass of this name that is under way, or begin a new one."""
        query = select(passes).where(passes.c.name == name, passes.c.ended_at.is_(None))
        beginning = self.database.insert(passes).values(
            name=name, cursor=0, began_at=now(), ended_at=None, copies=0, size=0, found=0
        )
        anew = {
            each: beginning.excluded[each] for each in ("cursor", "began_at", "ended_at", "copies", "size", "found")
        }
        beginning = beginning.on_conflict_do_update(index_elements=[passes.c.name], set_=anew)

        async def work(connection: Connection) -> Pass:
            row = (await connection.execute(query)).first()
            if row is None:
                await connection.execute(beginning)
                row = (await connection.execute(query)).one()
            return Pass(name, row.began_at, row.cursor, row.copies, row.size, row.found)

        return await self.database.transact(work)

    async def save(self, going: Pass | None, right: Sequence[KnownCopy], *, ended: bool = False) -> None:
        """Remember how far a pass is, and that these copies were read, and were right."""
        rows = [(each.entry, each.copy.key, each.copy.digest) for each in right]
        given = self.database.given({"entry": BigInteger(), "key": Text(), "digest": Text()}, rows)
        is_same = and_(*(links.c[name] == given.c[name] for name in ("entry", "key", "digest")))

        async def work(connection: Connection) -> None:
            if right:
                await connection.execute(update(links).values(verified_at=now()).where(is_same))
            if going is not None:
                values = {name: getattr(going, name) for name in ("cursor", "copies", "size", "found")}
                saving = update(passes).values(values | ({"ended_at": now()} if ended else {}))
                await connection.execute(saving.where(passes.c.name == going.name))

        await self.database.transact(work)


def is_held() -> ColumnElement[bool]:
    """Return the condition that a link is in the catalogue and held, with a copy."""
    return and_(links.c.state == State.HELD.value, links.c.present, links.c.key.is_not(None))


def _link(source: str, row: Any) -> Link:  # noqa: ANN401 - a row
    return Link(source, row.row_key, row.position, row.url, row.page_url, row.local_url)


def _copy(row: Any) -> KnownCopy:  # noqa: ANN401 - a row of `links`
    image = row.format and Image(_FORMATS[row.format], row.width, row.height, row.frames, row.damage)
    return KnownCopy(
        row.entry,
        _link(row.source, row),
        Copy(row.key, row.digest, row.size),
        image,
        row.former_key,
        row.final_url,
        row.rescued,
        Validator(row.etag, row.last_modified),
        row.verified_at,
        row.held_at,
    )
