"""Held copies whose rows do not point at them: rows that were cleared, or written under another URL prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from rehost.database import Connection, Database, LinkRows, blank
from rehost.ledger.noting import at_hand, same_place
from rehost.ledger.schema import links
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
    prefixes=["TEMPORARY"],
)


async def unpointed(
    database: Database, source: str, rows: LinkRows, url: Callable[[str], str]
) -> AsyncIterator[Sequence[tuple[Link, Copy]]]:
    """Yield held links to point rows at anew, in groups; a group counts as mended when the next one is asked for."""
    async with database.session() as session:
        async with session.begin(writing=False) as connection:
            await database.expect_much(connection)
            await database.make_temporary(connection, _unpointed)
            async with at_hand(connection, database, rows) as offered:
                await _find(connection, source, offered, url(""))
        last = 0
        while True:
            async with session.begin(writing=False) as connection:
                found = await _group(connection, last)
            if not found:
                break
            last = found[-1].entry
            group = [row for row in found if row.local_url != url(row.key)]
            if group:
                yield [_pair(source, row) for row in group]
                await _remember(database, group, url)
        async with session.begin(writing=False) as connection:
            await database.drop_temporary(connection, _unpointed)


async def _find(connection: Connection, source: str, offered: FromClause, prefix: str) -> None:
    """Collect rows that point at nothing, and those that hold what we wrote and may have another prefix.

    The latter are more than needed where a key is written differently in a URL: `unpointed` sorts them out.
    """
    begins = func.substr(links.c.local_url, 1, len(prefix)) == prefix
    as_now = and_(begins, func.length(links.c.local_url) == len(prefix) + func.length(links.c.key))
    ours_of_old = and_(offered.c.local_url == links.c.local_url, not_(as_now))
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
        )
        .select_from(offered)
        .join(links, same_place(offered, source))
        .where(
            links.c.state == State.HELD.value,
            links.c.present,
            links.c.key.is_not(None),
            links.c.url == offered.c.url,
            or_(blank(offered.c.local_url), ours_of_old),
        )
    )
    await connection.execute(insert(_unpointed).from_select([column.name for column in _unpointed.columns], query))


async def _group(connection: Connection, last: int) -> Sequence[Any]:
    columns = _unpointed.c
    query = select(_unpointed).where(columns.entry > last).order_by(columns.entry).limit(GROUP)
    return (await connection.execute(query)).all()


def _pair(source: str, row: Any) -> tuple[Link, Copy]:  # noqa: ANN401 - a row of _unpointed
    link = Link(source, row.row_key, row.position, row.url, row.page_url, row.local_url)
    return link, Copy(row.key, row.digest, row.size)


async def _remember(database: Database, group: Sequence[Any], url: Callable[[str], str]) -> None:
    """Remember what was written into these rows, so that it is known as ours when the prefix changes again."""
    given = database.given({"entry": BigInteger(), "local_url": Text()}, [(row.entry, url(row.key)) for row in group])
    same: ColumnElement[bool] = links.c.entry == given.c.entry
    await database.transact(
        lambda connection: connection.execute(
            update(links)
            .values(local_url=given.c.local_url)
            .where(same, links.c.local_url.is_distinct_from(given.c.local_url))
        )
    )
