"""The operator's links as a selectable: the ledger takes them in set-wise, or, from another database, as a stream."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, Table, Text, cast, func, literal_column, null, select

from rehost.catalogue.table import Source
from rehost.db import blank, host_of
from rehost.model import MAX_LINK_CHARACTERS


def links_of(table: Table, source: Source) -> Select[*tuple[Any, ...]]:
    """Return a query for every cell that holds a link; a blank one holds none, any other text does."""
    url = _begin_of(table.c[source.link])
    page = _begin_of(table.c[source.page]) if source.page else null()
    return select(
        cast(table.c[source.key], Text).label("row_key"),
        literal_column("0").label("position"),
        url.label("url"),
        cast(page, Text).label("page_url"),
        cast(table.c[source.local], Text).label("local_url"),
        host_of(url).label("host"),
    ).where(~blank(table.c[source.link]), table.c[source.key].is_not(None))


def _begin_of(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return as much of a column as any link has, and one character more where it holds more: that is no link."""
    return func.substr(cast(column, Text), 1, MAX_LINK_CHARACTERS + 1)
