"""One row, one link: what `noting`, `comparing` and `waiting` do for all at once, for whoever asks for one picture."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row, Text, select, update

from rehost.db import Columns, Connection, Database, LinkRows, now, seconds_until
from rehost.errors import CatalogueError
from rehost.ledger.due import is_place
from rehost.ledger.reconcile import NO_COPY
from rehost.ledger.schema import REASONS, links
from rehost.ledger.sync import DIFFERING, differing_links, take_in
from rehost.model import Copy, State
from rehost.ports import Entry

_OFFERED: Columns = {name: kind for name, kind in DIFFERING.items() if name != "entry"} | {"local_url": Text()}


async def note_row(database: Database, source: str, row_key: str, rows: LinkRows) -> None:
    """Take in the links of one row."""

    async def look(connection: Connection) -> Sequence[Row[tuple[object, ...]]]:
        return (await connection.execute(rows.select)).all()

    found = [[row._mapping[name] for name in _OFFERED] for row in await rows.database.read(look, error=CatalogueError)]  # noqa: SLF001 - public by its documentation
    await database.transact(lambda connection: _note(connection, database, source, row_key, found))


async def _note(
    connection: Connection, database: Database, source: str, row_key: str, found: Sequence[Sequence[object]]
) -> None:
    offered = database.given(_OFFERED, found)
    if differing := [tuple(row) for row in await connection.execute(differing_links(source, offered))]:
        await take_in(connection, database, source, database.given(DIFFERING, differing))
    positions = [row[list(_OFFERED).index("position")] for row in found]
    theirs = update(links).where(links.c.source == source, links.c.row_key == row_key)
    await connection.execute(theirs.values(present=False).where(links.c.present, links.c.position.not_in(positions)))
    # what was overtaken waits for this noting
    waits = (links.c.state == State.WANTED.value) & (links.c.due_at > now())
    await connection.execute(theirs.values(due_at=now()).where(waits))


async def entry(connection: Connection, source: str, row_key: str, position: int) -> Entry | None:
    """Return how one link stands; None if the catalogue did not have it when it was noted last."""
    query = select(links, seconds_until(links.c.due_at).label("wait"))
    row = (await connection.execute(query.where(is_place(source, row_key, position), links.c.present))).one_or_none()
    if row is None:
        return None
    is_its_own = row.key is not None and row.held_url == row.url
    return Entry(
        State(row.state),
        row.host,
        Copy(row.key, row.digest, row.size) if is_its_own else None,
        REASONS.get(row.reason),
        max(0.0, row.wait),
    )


async def lose(connection: Connection, source: str, row_key: str, position: int, key: str) -> None:
    """Want the link again whose copy at this key is not there; one that waits for another reason only forgets it."""
    is_lost = is_place(source, row_key, position) & (links.c.key == key)
    wanting = update(links).values(state=State.WANTED.value, due_at=now(), attempts=0, fence=links.c.fence + 1)
    await connection.execute(wanting.where(is_lost, links.c.state == State.HELD.value))
    await connection.execute(update(links).values(NO_COPY).where(is_lost))
