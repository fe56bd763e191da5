"""Moves of all copies from one store to another: which are at the new place already, and whose keys name it.

A move goes through phases:

    COPYING    copies are made at the new place; keys, rows and all other work stay as they were
    SWITCHING  the new store is in use; no command leases or plans; keys and rows change, in groups
    ENDED      every key names a copy at the new place; what is at the former one is no longer needed
    ABANDONED   another move took this one's place

`rehost_moved` has the bytes that the new place has for each link, so nothing is copied twice, and a copy that a run has
replaced meanwhile is known by its digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    not_,
    null,
    or_,
    select,
    update,
)

from rehost.db import Columns, Connection, Database, now
from rehost.ledger.leases import lease_ended
from rehost.ledger.schema import links, moved, moves, runs, stores
from rehost.model import Copy, KnownStore, Link, State

GROUP = 100  # copies that are made at once
SWITCHED = 500  # rows that change in one transaction
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOVED: Columns = {"entry": BigInteger(), "key": Text(), "digest": Text(), "evidence": Text()}
_SWITCHED: Columns = {"entry": BigInteger(), "key": Text(), "digest": Text(), "to_key": Text(), "to_url": Text()}


class Phase(StrEnum):
    """How far a move is."""

    COPYING = "copying"
    SWITCHING = "switching"
    ENDED = "ended"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Move:
    """A move of all copies."""

    move: int
    from_place: str
    from_store: str
    to_place: str
    to_store: str
    phase: Phase
    emptied_at: datetime | None  # when the copies at the former place were deleted

    @property
    def is_going(self) -> bool:
        """Return whether it is to be completed."""
        return self.phase in {Phase.COPYING, Phase.SWITCHING}


@dataclass(frozen=True, slots=True)
class Moving:
    """A link's copy that is to be moved."""

    entry: int
    link: Link
    copy: Copy  # as the ledger has it
    to_key: str = ""  # at the new place, if it is there


@dataclass(frozen=True, slots=True)
class Missing:
    """A copy that the former place has not, or not with these bytes."""

    entry: int
    digest: str
    evidence: str
    source: str = ""
    row_key: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class MoveCounts:
    """How far a move is, in copies."""

    copies: int  # in the ledger
    size: int  # their bytes
    there: int  # of these: at the new place
    missing: int  # of these: that the former place has not


@dataclass(frozen=True, slots=True)
class Moves:
    """Reads and writes moves."""

    database: Database

    async def last(self) -> Move | None:
        """Return the move that is under way, or the last one."""
        is_one = moves.c.phase != Phase.ABANDONED.value
        query = select(moves).where(is_one).order_by(moves.c.move.desc()).limit(1)
        for row in await self.database.fetch_all(query):
            places = (row.from_place, row.from_store, row.to_place, row.to_store)
            return Move(row.move, *places, Phase(row.phase), row.emptied_at)
        return None

    async def knows(self, store: str) -> bool:
        """Return whether copies were moved from or to the store with this id, or were to be."""
        query = select(moves.c.move).where(or_(moves.c.from_store == store, moves.c.to_store == store)).limit(1)
        return bool(await self.database.fetch_all(query))

    async def begin(self, origin: KnownStore, target: KnownStore, *, switching: bool) -> None:
        """Begin a move in place of one that is under way; if it is SWITCHING already, so is this one."""

        async def work(connection: Connection) -> None:
            await self.database.lock(connection, "store")
            await connection.execute(delete(moved))
            is_going = moves.c.phase.in_((Phase.COPYING.value, Phase.SWITCHING.value))
            await connection.execute(update(moves).values(phase=Phase.ABANDONED.value).where(is_going))
            places = {"from_place": origin.folder, "from_store": origin.store}
            places |= {"to_place": target.folder, "to_store": target.store}
            phase = Phase.SWITCHING if switching else Phase.COPYING
            await connection.execute(insert(moves).values(**places, phase=phase.value, began_at=now()))
            if switching:
                await self._use(connection, target)

        await self.database.transact(work, slow=True)

    async def give_up(self) -> None:
        """Have a move that is COPYING not be one any more."""
        giving_up = update(moves).values(phase=Phase.ABANDONED.value, ended_at=now())
        await self.database.execute(giving_up.where(moves.c.phase == Phase.COPYING.value))
        await self.database.execute(delete(moved), slow=True)

    async def switch(self, target: KnownStore) -> None:
        """Have the new store be the one in use, with all copies, and ask all runs to end."""

        async def work(connection: Connection) -> None:
            await self.database.lock(connection, "store")
            copying = moves.c.phase == Phase.COPYING.value
            switching = update(moves).values(phase=Phase.SWITCHING.value).where(copying)
            if (await connection.execute(switching)).rowcount:
                await self._use(connection, target)
                is_going = and_(runs.c.ended_at.is_(None), runs.c.stop_at.is_(None))
                await connection.execute(update(runs).values(stop_at=now()).where(is_going))

        await self.database.transact(work, slow=True)

    async def end(self) -> None:
        """Have the move be done."""

        async def work(connection: Connection) -> None:
            switching = moves.c.phase == Phase.SWITCHING.value
            await connection.execute(update(moves).values(phase=Phase.ENDED.value, ended_at=now()).where(switching))
            await connection.execute(delete(moved))

        await self.database.transact(work, slow=True)

    async def mark_emptied(self, move: int) -> None:
        """Remember that the copies at the former place are deleted."""
        await self.database.execute(update(moves).values(emptied_at=now()).where(moves.c.move == move))

    @staticmethod
    async def _use(connection: Connection, store: KnownStore) -> None:
        """Have this store be in use. Copies of earlier times count as its own too, as what is switched is there."""
        values = {"store": store.store, "folder": store.folder, "machine": store.machine, "since": _EPOCH}
        await connection.execute(insert(stores).values(values))

    # --- copying

    async def lacking(self, after: int) -> Sequence[Moving]:
        """Return the next copies, after this entry, that are not known to be at the new place, nor to be missing."""
        is_known = exists().where(moved.c.entry == links.c.entry, moved.c.digest == links.c.digest)
        query = select(links).where(links.c.key.is_not(None), links.c.entry > after, not_(is_known))
        query = query.order_by(links.c.entry).limit(GROUP)
        return [_moving(row) for row in await self.database.fetch_all(query, slow=True)]

    async def unchanged(self, group: Sequence[Moving]) -> set[int]:
        """Return the entries of those links that have the same copies still, and that no worker has leased."""
        given = self.database.given(_MOVED, [(each.entry, each.copy.key, each.copy.digest, None) for each in group])
        query = select(links.c.entry).join(given, _is_same(given))
        return {row.entry for row in await self.database.fetch_all(query)} if group else set()

    async def save(self, there: Sequence[Moving], missing: Sequence[Missing]) -> None:
        """Remember which copies the new place has, and which the former one has not."""
        rows: list[tuple[object, ...]] = [(each.entry, each.to_key, each.copy.digest, None) for each in there]
        rows += [(each.entry, None, each.digest, each.evidence) for each in missing]
        given = self.database.given(_MOVED, rows)
        adding = self.database.insert(moved).from_select(
            list(_MOVED), select(*(given.c[name] for name in _MOVED)).where(given.c.number > 0)
        )  # SQLite, "Upsert", 2.1: a SELECT needs a WHERE before ON CONFLICT
        anew = {name: adding.excluded[name] for name in ("key", "digest", "evidence")}
        if rows:
            await self.database.execute(adding.on_conflict_do_update(index_elements=[moved.c.entry], set_=anew))

    async def forget_missing(self) -> None:
        """Look again for what was missing."""
        await self.database.execute(delete(moved).where(moved.c.key.is_(None)))

    async def missing(self, most: int) -> Sequence[Missing]:
        """Return up to so many copies that the former place has not."""
        is_it = and_(moved.c.entry == links.c.entry, moved.c.digest == links.c.digest, moved.c.key.is_(None))
        query = select(links.c.entry, links.c.digest, moved.c.evidence, links.c.source, links.c.row_key, links.c.key)
        query = query.join(moved, is_it).where(links.c.key.is_not(None)).order_by(links.c.entry).limit(most)
        return [Missing(*row) for row in await self.database.fetch_all(query, slow=True)]

    async def counts(self) -> MoveCounts:
        """Return how far the move is."""
        is_it = and_(moved.c.entry == links.c.entry, moved.c.digest == links.c.digest)
        is_missing = and_(moved.c.entry.is_not(None), moved.c.key.is_(None))
        query = select(
            func.count(),
            func.coalesce(func.sum(links.c.size), 0),
            func.count(moved.c.key),
            func.count(case((is_missing, 1))),
        )
        query = query.select_from(links).join(moved, is_it, isouter=True).where(links.c.key.is_not(None))
        ((copies, size, there, missing),) = await self.database.fetch_all(query, slow=True)
        return MoveCounts(copies, int(size), there, missing)

    async def sources(self) -> set[str]:
        """Return the sources that have copies."""
        query = select(links.c.source).where(links.c.key.is_not(None)).distinct()
        return {row.source for row in await self.database.fetch_all(query, slow=True)}

    # --- switching

    async def end_expired(self) -> None:
        """End the leases that have run out, as if another worker had taken them over."""
        is_over = (links.c.state == State.LEASED.value) & (links.c.due_at <= now())
        await self.database.execute(update(links).where(is_over).values(lease_ended()), slow=True)

    async def leased(self) -> int:
        """Return how many links are being visited."""
        query = select(func.count()).select_from(links).where(links.c.state == State.LEASED.value)
        return int((await self.database.fetch_all(query, slow=True))[0][0])

    async def copied(self, after: int) -> Sequence[Moving]:
        """Return the next copies, after this entry, that are at the new place and whose keys do not say so yet."""
        is_it = and_(moved.c.entry == links.c.entry, moved.c.digest == links.c.digest)
        query = select(links, moved.c.key.label("to_key")).join(moved, is_it)
        query = query.where(links.c.entry > after, links.c.key != moved.c.key, links.c.state != State.LEASED.value)
        query = query.order_by(links.c.entry).limit(SWITCHED)
        return [_moving(row, row.to_key) for row in await self.database.fetch_all(query, slow=True)]

    async def rename(self, connection: Connection, group: Sequence[tuple[Moving, str]]) -> Sequence[Moving]:
        """Give links of one source the keys of their copies at the new place, where nothing has changed since.

        Their entries stay locked until the transaction ends, in which their rows are to be written.

        Args:
            connection: with an open transaction.
            group: the copies, with their new local URLs.

        Returns:
            those whose keys changed.
        """
        await self.database.lock(connection, f"plan {group[0][0].link.source}")  # that compares keys with files
        rows = [(each.entry, each.copy.key, each.copy.digest, each.to_key, url) for each, url in group]
        given = self.database.given(_SWITCHED, rows)
        locking = select(links.c.entry).join(given, _is_same(given)).order_by(links.c.entry)
        entries = set(await connection.scalars(locking.with_for_update(of=links)))
        given = self.database.given(_SWITCHED, [row for row in rows if row[0] in entries])
        values = {
            "key": given.c.to_key,
            "local_url": case((links.c.local_url.is_(None), null()), else_=given.c.to_url),
            "found": case((links.c.found == links.c.key, given.c.to_key), else_=links.c.found),
        }
        if entries:
            await connection.execute(update(links).values(values).where(links.c.entry == given.c.entry))
        return [each for each, _ in group if each.entry in entries]


def _is_same(given: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a table of values
    is_copy = and_(links.c.key == given.c.key, links.c.digest.is_not_distinct_from(given.c.digest))
    return and_(links.c.entry == given.c.entry, is_copy, links.c.state != State.LEASED.value)


def _moving(row: Any, to_key: str = "") -> Moving:  # noqa: ANN401 - a row of `links`
    link = Link(row.source, row.row_key, row.position, row.url, row.page_url, row.local_url)
    return Moving(row.entry, link, Copy(row.key, row.digest, row.size), to_key)
