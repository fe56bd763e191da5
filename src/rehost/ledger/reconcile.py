"""Compares store and rows with the ledger: missing copies, unknown files, rows that do not point at their copy.

A copy whose file is missing is forgotten at once; `former_key` remembers it until its row is cleared.

A row does not point at its held copy if it was cleared, if it was written under another URL prefix, or if a run was
killed between its two steps (the ledger in another database than the rows) and left it pointing at the copy before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    Text,
    and_,
    case,
    exists,
    func,
    insert,
    null,
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
    drop_temporary,
    load,
    make_temporary,
    now,
    temporary,
    temporary_table,
)
from rehost.ledger.history import check_in_use, store_in_use
from rehost.ledger.leases import is_open, is_place
from rehost.ledger.results import REFUSAL, row_refused
from rehost.ledger.schema import NO_COPY, links, stores
from rehost.ledger.sync import is_left, may_lead_elsewhere, offered_links, same_place
from rehost.model import Copy, Link, RowRefusal, State

GROUP = 1000  # rows
_CLOCK_JUMPED = timedelta(days=1)  # no run takes so long
_LOST = {**NO_COPY, "former_key": links.c.key}  # values of an entry whose copy's file is missing

_PLACE: Columns = {"row_key": Text(), "position": Integer()}
_listed = temporary_table("rehost_listed", {**_PLACE, "key": Text()})
_gone = temporary_table("rehost_gone", {"entry": BigInteger()})
_STALE: Columns = {
    "entry": BigInteger(),
    **_PLACE,
    "url": Text(),
    "page_url": Text(),
    "local_url": Text(),
    "key": Text(),
    "digest": Text(),
    "size": BigInteger(),
    "known_url": Text(),
    "former_key": Text(),
    "is_left": Boolean(),
}
_stale = temporary_table("rehost_unpointed", _STALE, key="entry")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file in the store that lies where a link's copy belongs."""

    row_key: str
    position: int
    key: str


@dataclass(frozen=True, slots=True)
class LostCopy:
    """A copy whose file is missing."""

    entry: int
    link: Link  # its local URL is what we wrote into the row
    key: str


@dataclass(frozen=True, slots=True)
class StoreComparison:
    """How the store differed from the ledger, in copies."""

    lost: int  # held in the ledger, missing in the store: wanted again
    found: int  # in the store, unknown to the ledger: to be verified and adopted
    redo: bool = False  # every held copy is missing: the operator has deleted the folder


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Compares the ledger with the store's files and with the operator's rows."""

    database: Database
    url: Callable[[str, str], str]  # of a key and its digest
    store: str = ""  # as in LeaseManager

    # --- files

    async def compare(
        self,
        source: str,
        listing: Callable[[], AsyncIterator[Sequence[FoundFile]]],
        check: Callable[[int, int], None] = lambda _lost, _held: None,
    ) -> StoreComparison:
        """Compare the store's listing with the ledger, set-wise and in bounded memory.

        A held copy that is not listed is wanted again, unless it was recorded after the listing began. A listed file of
        a link that has no copy and has not changed since it was taken in is handed out as `Task.found`. After an outage
        of the database the store is listed anew.

        Args:
            source: whose copies.
            listing: yields the store's files.
            check: called with the numbers of lost and of held copies; if it raises, nothing has changed.
        """

        async def groups() -> AsyncGenerator[Iterable[tuple[str, int, str]], None]:
            async for group in listing():
                yield [(found.row_key, found.position, found.key) for found in group]

        async def work(session: Session) -> StoreComparison:
            async with session.begin(writing=False) as connection:
                started = await connection.scalar(select(now()))
                assert started is not None
                await make_temporary(connection, _listed)
                await load(connection, _listed, groups())
            async with session.begin(writing=True) as connection:
                await self.database.lock(connection, f"plan {source}")
                check_in_use(self.store, await connection.scalar(store_in_use()))
                await self.database.allow_large_joins(connection)
                async with temporary(connection, _gone):
                    lost, held = await _want_lost(connection, source, started)
                check(lost, held)
                redo = 0 < lost == held
                await _doubt_copies_of_other_stores(connection, source)
                found = await _hand_out_found(connection, source)
                await drop_temporary(connection, _listed)
            return StoreComparison(lost, found, redo)

        return await self.database.hold(work)

    async def mark_missing(self, source: str, row_key: str, position: int, key: str) -> None:
        """Forget the copy at this key, whose file is missing; its link is wanted again unless it waits already."""
        is_lost = is_place(source, row_key, position) & (links.c.key == key)
        wanting = update(links).values(state=State.WANTED.value, due_at=now(), attempts=0, fence=links.c.fence + 1)

        async def work(connection: Connection) -> None:
            await connection.execute(wanting.where(is_lost, links.c.state == State.HELD.value))
            await connection.execute(update(links).values(_LOST).where(is_lost))

        await self.database.transact(work)

    async def lost_copies(self, source: str, after: int = 0) -> Sequence[LostCopy]:
        """Return up to GROUP lost copies to which rows may still point, after this entry.

        Copies whose files are there again are left out.
        """
        may_point = and_(links.c.source == source, links.c.entry > after, *_is_lost(), links.c.local_url.is_not(None))
        rows = await self.database.fetch_all(select(links).where(may_point).order_by(links.c.entry).limit(GROUP))
        return [
            LostCopy(row.entry, Link(source, row.row_key, row.position, row.url, row.page_url, row.local_url), key)
            for row in rows
            for key in [row.former_key]
        ]

    async def lock_lost(self, connection: Connection, lost: Sequence[LostCopy]) -> Sequence[LostCopy]:
        """Lock the entries of the copies that are still lost until the transaction ends; return those."""
        given = self._given_lost(lost)
        locking = select(links.c.entry).join(given, links.c.entry == given.c.entry).order_by(links.c.entry)
        locking = locking.where(links.c.former_key == given.c.key, *_is_lost()).with_for_update(of=links)
        entries = set(await connection.scalars(locking))
        return [each for each in lost if each.entry in entries]

    async def forget_local_urls(self, connection: Connection, cleared: Sequence[LostCopy]) -> None:
        """Remember that no row points at these lost copies any more."""
        if cleared:
            given = self._given_lost(cleared)
            is_cleared = links.c.entry.in_(select(given.c.entry))
            await connection.execute(update(links).values(local_url=null()).where(is_cleared))

    def _given_lost(self, lost: Sequence[LostCopy]) -> FromClause:
        return self.database.given({"entry": BigInteger(), "key": Text()}, [(each.entry, each.key) for each in lost])

    async def held_digests(self, keys: Collection[str]) -> Mapping[str, str | None]:
        """Return the digests that the ledger holds for these keys; keys of which it holds nothing are left out.

        None stands for a key whose link is leased: its digest may change any moment.
        """
        given = self.database.given({"key": Text()}, [[key] for key in sorted(set(keys))])
        query = (
            select(links.c.key, links.c.digest, links.c.state)
            .join(given, given.c.key == links.c.key)
            .where(links.c.digest.is_not(None))
        )
        rows = await self.database.fetch_all(query)
        return {row.key: None if row.state == State.LEASED.value else row.digest for row in rows}

    async def leftovers(self, source: str, rows: LinkRows) -> Sequence[str]:
        """Return the former keys of held links whose files are not known to be removed.

        Keys that rows still point at are left out (invariant 1): a run was killed between its two steps, or undone.
        """
        is_left = and_(
            links.c.source == source,
            links.c.former_key.is_not(None),
            links.c.former_key != links.c.key,
            links.c.state == State.HELD.value,
        )

        async def work(connection: Connection) -> Sequence[str]:
            if await connection.scalar(select(links.c.entry).where(is_left).limit(1)) is None:
                return []
            async with offered_links(connection, self.database, rows) as offered:
                query = select(links.c.former_key, offered.c.local_url).where(is_left)
                joined = query.join_from(links, offered, same_place(offered, source), isouter=True)
                found = await connection.execute(joined)
                return [row[0] for row in found if row[1] is None or not self._leads_to(row[1], row[0])]

        return await self.database.read(work, slow=True)

    async def forget_leftovers(self, source: str, keys: Sequence[str]) -> None:
        """Remember that these files are removed."""
        given = self.database.given({"key": Text()}, [[key] for key in sorted(set(keys))])
        forgetting = (
            update(links)
            .where(links.c.source == source, links.c.former_key.in_(select(given.c.key)))
            .values(former_key=null())
        )
        await self.database.execute(forgetting)

    # --- rows

    async def stale_rows(self, source: str, rows: LinkRows) -> AsyncIterator[Sequence[tuple[Link, Copy]]]:
        """Yield, in groups, held links whose row is empty or holds what we wrote before, with the copies they have.

        The link's local URL is what its row holds now. A local URL that others wrote is left alone.
        """
        last = 0

        async def groups(session: Session) -> AsyncGenerator[Sequence[tuple[Link, Copy]], None]:
            nonlocal last  # after an outage the walk begins again and must not yield a row twice
            is_held = and_(links.c.source == source, links.c.present, links.c.state == State.HELD.value)
            async with session.begin(writing=False) as connection:
                if not await connection.scalar(select(exists().where(is_held))):
                    return  # no need to read the operator's rows
                await self.database.allow_large_joins(connection)
                await make_temporary(connection, _stale)
                async with offered_links(connection, self.database, rows) as offered:
                    is_joint = rows.database is self.database
                    await _find_stale(connection, source, offered, self.url, is_joint=is_joint)
            further = select(_stale).order_by(_stale.c.entry).limit(GROUP)
            while True:
                async with session.begin(writing=False) as connection:
                    found = (await connection.execute(further.where(_stale.c.entry > last))).all()
                if not found:
                    break
                last = found[-1].entry
                if group := [_pair(source, row) for row in found if self._is_stale(row)]:
                    yield group
            async with session.begin(writing=False) as connection:
                await drop_temporary(connection, _stale)

        async with aclosing(self.database.walk(groups)) as walk:
            async for group in walk:
                yield group

    async def lock_held(
        self, connection: Connection, pairs: Sequence[tuple[Link, Copy]]
    ) -> Sequence[tuple[Link, Copy]]:
        """Lock the entries that still hold these copies of these links until the transaction ends; return those."""
        given = self._given(pairs)
        query = (
            select(given.c.number)
            .join_from(given, links, and_(same_place(given, pairs[0][0].source), *_same_copy(given)))
            .order_by(links.c.entry)
            .with_for_update(of=links)
        )
        numbers = set(await connection.scalars(query))
        return [pair for number, pair in enumerate(pairs, 1) if number in numbers]

    async def mark_pointed(self, connection: Connection, pairs: Sequence[tuple[Link, Copy]]) -> None:
        """Remember that the rows of these links point at these copies: they count as ours if the prefix changes."""
        given = self._given(pairs)
        is_theirs = and_(same_place(given, pairs[0][0].source), *_same_copy(given))
        await connection.execute(update(links).values(local_url=given.c.local_url).where(is_theirs))

    async def mark_refused(self, connection: Connection, refused: Sequence[tuple[Link, Copy, RowRefusal]]) -> None:
        """Remember which of these rows the database refuses to write; they wait, with their copies."""
        rows = [
            (link.row_key, link.position, link.url, copy.key, refusal.local_url, refusal.evidence, refusal.wait_seconds)
            for link, copy, refusal in refused
        ]
        given = self.database.given({**_PLACE, "url": Text(), "key": Text(), **REFUSAL}, rows)
        is_theirs = and_(same_place(given, refused[0][0].source), *_same_copy(given))
        values = row_refused(given) | {"fence": links.c.fence + 1}
        await connection.execute(update(links).values(values).where(is_theirs))

    def _given(self, pairs: Sequence[tuple[Link, Copy]]) -> FromClause:
        return self.database.given(
            {**_PLACE, "url": Text(), "key": Text(), "local_url": Text()},
            [
                (link.row_key, link.position, link.url, copy.key, self.url(copy.key, copy.digest))
                for link, copy in pairs
            ],
        )

    def _is_stale(self, row: Any) -> bool:  # noqa: ANN401 - a row of _stale
        """Return whether the row is empty, unchanged since we wrote it, or leads to the copy before this one.

        A row that leads to its copy already is stale too if the ledger does not know that yet.
        """
        if row.local_url == self.url(row.key, row.digest):
            return bool(row.known_url != row.local_url)
        if not (row.local_url or "").strip(" ") or row.local_url == row.known_url or row.is_left:
            return True
        return row.former_key is not None and self._leads_to(row.local_url, row.former_key)

    def _leads_to(self, local_url: str, key: str) -> bool:
        """Return whether a local URL is that of a key, under any prefix and with any version."""
        return local_url.partition("?")[0].endswith("/" + self.url(key, "").removeprefix(self.url("", "")))


async def _want_lost(connection: Connection, source: str, started: datetime) -> tuple[int, int]:
    """Make links of missing copies wanted again; forget missing copies of links that wait already or have vanished.

    A copy that was recorded since it was found missing is left alone; so is one that was recorded since the listing
    began, unless by a clock that has jumped since.

    Returns:
        how many of these links were held, and how many of all; of all 0 if no copy is missing.
    """
    is_older = or_(links.c.held_at < started, links.c.held_at > started + _CLOCK_JUMPED)
    missing = (
        select(links.c.entry)
        .join(_listed, _listed.c.key == links.c.key, isouter=True)
        .where(links.c.source == source, links.c.key.is_not(None), is_older, _listed.c.key.is_(None))
    )
    if not (await connection.execute(insert(_gone).from_select([_gone.c.entry], missing))).rowcount:
        return 0, 0
    is_held = and_(links.c.source == source, links.c.state == State.HELD.value)
    held = await connection.scalar(select(func.count()).select_from(links).where(is_held, links.c.present))
    is_gone = links.c.entry.in_(select(_gone.c.entry)) & is_older & links.c.key.is_not(None)
    forgetting = update(links).values(_LOST).where(is_gone)
    wanting = forgetting.values(state=State.WANTED.value, due_at=now(), attempts=0, fence=links.c.fence + 1)
    lost = (await connection.execute(wanting.where(is_held, links.c.present))).rowcount
    await connection.execute(wanting.where(is_held))
    await connection.execute(forgetting)
    return lost, held or 0


async def _doubt_copies_of_other_stores(connection: Connection, source: str) -> None:
    """Have the held copies verified again that were recorded while another store was in use.

    The file at such a key counts as the copy only if it has the copy's digest (`Task.pending`).
    """
    if await connection.scalar(select(func.count(stores.c.store.distinct()))) == 1:
        return
    then = store_in_use().where(stores.c.since <= links.c.held_at)
    # Another store may come into use any moment: the statement that changes entries reads both.
    await connection.execute(
        update(links)
        .values(
            state=State.WANTED.value,
            due_at=now(),
            attempts=0,
            fence=links.c.fence + 1,
            pending_digest=links.c.digest,
            pending_url=links.c.url,
            held_url=null(),
        )
        .where(
            links.c.source == source,
            links.c.present,
            links.c.state == State.HELD.value,
            then.correlate(links).scalar_subquery() != store_in_use().scalar_subquery(),
        )
    )


async def _hand_out_found(connection: Connection, source: str) -> int:
    """Remember files at the places of links without a copy, to be verified at the next visit; return how many.

    A link that waits for its next visit is due at once, but only once for each file: it keeps the key of one that was
    no picture. A link that has changed since it was taken in is left out: such a file may be another link's picture.
    """
    is_found = and_(links.c.source == source, is_open(links), links.c.found.is_not(None))
    is_missing = and_(links.c.key.is_(None), links.c.changed_at.is_(None))
    beside = select(func.count()).select_from(links).join(_listed, same_place(_listed, source), isouter=True)
    beside = beside.where(links.c.source == source, is_open(links))
    if not await connection.scalar(beside.where(links.c.found.is_not(None) | _listed.c.key.is_not(None) & is_missing)):
        return 0
    unlisted = select(links.c.entry).join(_listed, _listed.c.key == links.c.found, isouter=True)
    unlisted = unlisted.where(is_found, links.c.state != State.LEASED.value, _listed.c.key.is_(None))
    await connection.execute(update(links).values(found=null()).where(links.c.entry.in_(unlisted)))
    waits = links.c.state.in_((State.DEFERRED.value, State.REFUSED.value))
    handing_out = update(links).values(
        found=_listed.c.key,
        state=case((waits, State.WANTED.value), else_=links.c.state),
        due_at=case((waits, now()), else_=links.c.due_at),
    )
    is_new = links.c.found.is_distinct_from(_listed.c.key)
    await connection.execute(handing_out.where(same_place(_listed, source), is_open(links), is_missing, is_new))
    is_wanted = links.c.state == State.WANTED.value
    return await connection.scalar(select(func.count()).select_from(links).where(is_found, is_wanted)) or 0


def _is_lost() -> list[ColumnElement[bool]]:
    """Return the conditions that a link's copy is lost, and that no file at its place has yet to be examined."""
    is_examined = or_(links.c.found.is_(None), links.c.state.in_((State.DEFERRED.value, State.REFUSED.value)))
    return [links.c.key.is_(None), links.c.former_key.is_not(None), is_examined]


def _same_copy(given: FromClause) -> list[Any]:
    is_key = links.c.key.is_not_distinct_from(given.c.key)  # by no index, as in `results._is_digest`
    return [links.c.url == given.c.url, is_key, links.c.state == State.HELD.value, links.c.present]


async def _find_stale(
    connection: Connection, source: str, offered: FromClause, url: Callable[[str, str], str], *, is_joint: bool
) -> None:
    """Collect rows that are empty, that may hold what we wrote before, or that a kill left unwritten.

    That is a superset: `_is_stale` decides.
    """
    left = is_left(offered, is_joint=is_joint)
    query = (
        select(
            *(links.c[name] for name in ("entry", "row_key", "position", "url", "page_url")),
            offered.c.local_url,
            *(links.c[name] for name in ("key", "digest", "size", "local_url", "former_key")),
            left,
        )
        .select_from(offered)
        .join(links, same_place(offered, source))
        .where(
            links.c.state == State.HELD.value,
            links.c.present,
            links.c.key.is_not(None),
            links.c.url == offered.c.url,
            or_(may_lead_elsewhere(offered, url), left),
        )
    )
    await connection.execute(insert(_stale).from_select(list(_STALE), query))


def _pair(source: str, row: Any) -> tuple[Link, Copy]:  # noqa: ANN401 - a row of _stale
    link = Link(source, row.row_key, row.position, row.url, row.page_url, row.local_url)
    return link, Copy(row.key, row.digest, row.size)
