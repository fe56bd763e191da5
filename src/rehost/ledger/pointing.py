"""Held copies whose rows do not point at them.

Rows that were cleared, that were written under another URL prefix, or that a run which was killed between its two steps
(where the ledger is another database) has left pointing at the copy before this one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    exists,
    false,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from rehost.db import Connection, Database, LinkRows, Session, blank, drop_temporary, make_temporary
from rehost.ledger.schema import changes, links
from rehost.ledger.sync import at_hand, same_place
from rehost.model import Copy, Link, State

GROUP = 1000  # rows

_unpointed = Table(
    "rehost_unpointed",
    MetaData(),
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
    Column("row_key", String),
    Column("position", Integer),
    Column("url", String),
    Column("page_url", String),
    Column("local_url", String),
    Column("key", String),
    Column("digest", String),
    Column("size", BigInteger),
    Column("known_url", String),
    Column("former_key", String),
    Column("is_left", Boolean),
    prefixes=["TEMPORARY"],
)


async def unpointed(
    database: Database, source: str, rows: LinkRows, url: Callable[[str], str]
) -> AsyncIterator[Sequence[tuple[Link, Copy]]]:
    """Yield held links to point rows at anew, in groups; the link has what its row holds now."""
    last = 0

    async def groups(session: Session) -> AsyncGenerator[Sequence[tuple[Link, Copy]], None]:
        nonlocal last  # after an outage what was yielded is not found again, or comes again by itself
        async with session.begin(writing=False) as connection:
            await database.expect_much(connection)
            await make_temporary(connection, _unpointed)
            async with at_hand(connection, database, rows) as offered:
                await _find(connection, source, offered, url(""), is_joint=rows.database is database)
        while True:
            async with session.begin(writing=False) as connection:
                found = await _group(connection, last)
            if not found:
                break
            last = found[-1].entry
            if group := [_pair(source, row) for row in found if _is_to_be_pointed(row, url)]:
                yield group
        async with session.begin(writing=False) as connection:
            await drop_temporary(connection, _unpointed)

    async with aclosing(database.walk(groups)) as going:
        async for group in going:
            yield group


async def lock_held(
    connection: Connection, database: Database, pairs: Sequence[tuple[Link, Copy]]
) -> Sequence[tuple[Link, Copy]]:
    """Lock the entries that still hold these copies of these links, to the transaction's end; return those."""
    given = database.given(
        {"source": Text(), "row_key": Text(), "position": Integer(), "url": Text(), "key": Text()},
        [(link.source, link.row_key, link.position, link.url, copy.key) for link, copy in pairs],
    )
    query = (
        select(given.c.number)
        .join_from(given, links, and_(same_place(given, pairs[0][0].source), *_same_copy(given)))
        .order_by(links.c.entry)
        .with_for_update(of=links)
    )
    numbers = set(await connection.scalars(query))
    return [pair for number, pair in enumerate(pairs, 1) if number in numbers]


async def remember(
    connection: Connection, database: Database, pairs: Sequence[tuple[Link, Copy]], url: Callable[[str], str]
) -> None:
    """Remember what these rows hold now, so that it is known as ours when the prefix changes again."""
    given = database.given(
        {"source": Text(), "row_key": Text(), "position": Integer(), "url": Text(), "key": Text(), "local_url": Text()},
        [(link.source, link.row_key, link.position, link.url, copy.key, url(copy.key)) for link, copy in pairs],
    )
    await connection.execute(
        update(links)
        .values(local_url=given.c.local_url)
        .where(same_place(given, pairs[0][0].source), *_same_copy(given))
    )


def _same_copy(given: FromClause) -> list[Any]:
    return [links.c.url == given.c.url, links.c.key == given.c.key, links.c.state == State.HELD.value, links.c.present]


async def _find(connection: Connection, source: str, offered: FromClause, prefix: str, *, is_joint: bool) -> None:
    """Collect rows that point at nothing, that may hold what we wrote of old, or that were left unwritten.

    They are more than needed, as where a key is written differently in a URL: `_is_to_be_pointed` sorts them out.
    """
    begins = func.substr(links.c.local_url, 1, len(prefix)) == prefix
    as_now = and_(begins, func.length(links.c.local_url) == len(prefix) + func.length(links.c.key))
    ours_of_old = and_(offered.c.local_url == links.c.local_url, not_(as_now))
    at_former = and_(links.c.former_key.is_not(None), offered.c.local_url != links.c.local_url)
    unremembered = and_(offered.c.local_url != links.c.local_url, not_(as_now))
    is_left = false() if is_joint else offered.c.local_url.is_distinct_from(links.c.local_url) & _is_left(offered)
    query = (
        select(
            links.c.entry,
            links.c.row_key,
            links.c.position,
            links.c.url,
            links.c.page_url,
            offered.c.local_url,
            links.c.key,
            links.c.digest,
            links.c.size,
            links.c.local_url,
            links.c.former_key,
            is_left,
        )
        .select_from(offered)
        .join(links, same_place(offered, source))
        .where(
            links.c.state == State.HELD.value,
            links.c.present,
            links.c.key.is_not(None),
            links.c.url == offered.c.url,
            or_(blank(offered.c.local_url), ours_of_old, at_former, unremembered, is_left),
        )
    )
    await connection.execute(insert(_unpointed).from_select([column.name for column in _unpointed.columns], query))


def _is_left(offered: FromClause) -> ColumnElement[bool]:
    """Return the condition that a row is as it was before it was to be written last: a kill came between.

    Only of two databases: in one of them nothing comes between, and somebody else has put that value back.
    """
    later = changes.alias("later")
    is_its = [changes.c[name] == links.c[name] for name in ("source", "row_key", "position", "url")]
    is_laters = [later.c[name] == changes.c[name] for name in ("source", "row_key", "position")]
    return exists().where(
        *is_its,
        changes.c.before_url == offered.c.local_url,
        changes.c.after_url == links.c.local_url,
        ~exists().where(*is_laters, later.c.change > changes.c.change),
    )


async def _group(connection: Connection, last: int) -> Sequence[Any]:
    columns = _unpointed.c
    query = select(_unpointed).where(columns.entry > last).order_by(columns.entry).limit(GROUP)
    return (await connection.execute(query)).all()


def _pair(source: str, row: Any) -> tuple[Link, Copy]:  # noqa: ANN401 - a row of _unpointed
    link = Link(source, row.row_key, row.position, row.url, row.page_url, row.local_url)
    return link, Copy(row.key, row.digest, row.size)


def _is_to_be_pointed(row: Any, url: Callable[[str], str]) -> bool:  # noqa: ANN401 - a row of _unpointed
    """Tell whether the row holds nothing, what it held or we wrote before, or what leads to the copy before this one.

    What leads to its copy already counts too where the ledger does not know that yet.
    """
    if row.local_url == url(row.key):
        return bool(row.known_url != row.local_url)
    if not (row.local_url or "").strip(" ") or row.local_url == row.known_url or row.is_left:
        return True
    return row.former_key is not None and leads_to(row.local_url, row.former_key, url)


def leads_to(local_url: str, key: str, url: Callable[[str], str]) -> bool:
    """Tell whether a local URL is that of a key, under whatever prefix."""
    return local_url.endswith("/" + url(key).removeprefix(url("")))
