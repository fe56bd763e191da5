"""The operator's links as a selectable: the ledger takes them in set-wise, or, from another database, as a stream."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Table, Text, cast, literal_column, null, select

from rehost.catalogue.source import Source
from rehost.database import blank, host_of


def links_of(table: Table, source: Source) -> Select[*tuple[Any, ...]]:
    """Return a query for every cell that holds a link; a blank one holds none, any other text does."""
    url = table.c[source.link]
    page = table.c[source.page] if source.page else null()
    return select(
        cast(table.c[source.key], Text).label("row_key"),
        literal_column("0").label("position"),
        cast(url, Text).label("url"),
        cast(page, Text).label("page_url"),
        cast(table.c[source.local], Text).label("local_url"),
        host_of(cast(url, Text)).label("host"),
    ).where(~blank(url), table.c[source.key].is_not(None))
