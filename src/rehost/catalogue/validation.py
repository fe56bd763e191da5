"""Whether a table is fit to be worked on; asked before the first request, so that nothing is fetched in vain."""

from __future__ import annotations

from sqlalchemy import Table, false, func, null, select, text, update

from rehost.catalogue.links import links_of
from rehost.catalogue.table import Source, regclass
from rehost.db import Connection, Database
from rehost.errors import CatalogueError


async def check(database: Database, source: Source, table: Table) -> None:
    """Make sure that each key names one row, and that the column for the local URL can be written.

    Raises:
        CatalogueError: it is not so; the sentence says what is in the way.
    """
    await database.read(lambda connection: _check(connection, database, source, table), error=CatalogueError, much=True)


async def _check(connection: Connection, database: Database, source: Source, table: Table) -> None:
    await _try_writing(connection, source, table)
    if await _is_declared_unique(connection, database, source):
        return
    links = links_of(table, source).subquery()
    twice = select(links.c.row_key).group_by(links.c.row_key).having(func.count() > 1).limit(1)
    if (key := await connection.scalar(twice)) is not None:
        raise CatalogueError(
            f"Several rows of {source.table} have {source.key} {key}, and one copy cannot be all of theirs: "
            "name a column, or make a view with one, that no two rows share."
        )


async def _try_writing(connection: Connection, source: Source, table: Table) -> None:
    """Let the database plan a write, without one: it refuses what it would refuse later (a view, a privilege)."""
    writing = update(table).values({source.local: null()}).where(false())
    await connection.exec_driver_sql(f"EXPLAIN {writing.compile(dialect=connection.dialect)}")


async def _is_declared_unique(connection: Connection, database: Database, source: Source) -> bool:
    """Tell whether an index holds the key column unique, which spares reading the whole table."""
    if database.is_sqlite:
        schema, _, name = source.table.rpartition(".")
        query = text(
            "SELECT :key = (SELECT CASE count(*) WHEN 1 THEN max(name) END"
            " FROM pragma_table_info(:name, :schema) WHERE pk > 0)"
            " OR EXISTS (SELECT 1 FROM pragma_index_list(:name, :schema) AS list"
            ' WHERE list."unique" AND NOT partial AND :key ='
            " (SELECT CASE count(*) WHEN 1 THEN max(name) END FROM pragma_index_info(list.name, :schema)))"
        ).bindparams(name=name, schema=schema or "main", key=source.key)
    else:
        query = text(
            "SELECT EXISTS (SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
            " WHERE indrelid = to_regclass(:name) AND attname = :key"
            " AND indisunique AND indisvalid AND indnkeyatts = 1 AND indpred IS NULL)"
        ).bindparams(name=regclass(source), key=source.key)
    return bool(await connection.scalar(query))
