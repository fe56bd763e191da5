"""The library of cases: each method runs one or a few statements and returns typed results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from app.cases import statements
from app.cases.model import Case, Group, Option, Options, OptionsRequest, Page, Search, Stats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncpg import Record
    from pydantic import JsonValue

    from app.cases.statements import Statement
    from app.database import Database

LARGEST_CASE_ID = 2**31 - 1  # INTEGER


class Library:
    """The cases of one database. Every method raises what `Database.fetch` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, search: Search) -> Page:
        """Return one page of a search; an empty one past the end."""
        total: int = (await self._rows(statements.count(search)))[0]["total"]
        offset = (search.page - 1) * search.page_size
        rows = await self._rows(statements.page(search)) if offset < total else []
        return Page(
            total=total,
            page=search.page,
            page_size=search.page_size,
            total_pages=-(-total // search.page_size),
            results=[_case(row) for row in rows],
        )

    async def case(self, case_id: int) -> Case | None:
        """Return one case, or None if it does not exist."""
        if not 0 < case_id <= LARGEST_CASE_ID:
            return None
        rows = await self._rows(statements.case(case_id))
        return _case(rows[0]) if rows else None

    async def options(self, request: OptionsRequest) -> Options:
        """Return the values of a facet, the most frequent first."""
        rows = await self._rows(statements.options(request))
        return Options(field=request.field, options=[Option(value=row["value"], count=row["count"]) for row in rows])

    async def stats(self) -> Stats:
        """Return counts of the whole library."""
        totals = (await self._rows(statements.TOTALS))[0]
        return Stats(
            total_cases=totals["total"],
            industries=[_group(row) for row in await self._rows(statements.INDUSTRIES)],
            tags=[_group(row) for row in await self._rows(statements.TAGS)],
            latest_case_date=totals["latest"],
            oldest_case_date=totals["oldest"],
        )

    async def _rows(self, statement: Statement) -> list[Record]:
        return await self._database.fetch(statement.sql, statement.arguments)


def _case(row: Mapping[str, object]) -> Case:
    return Case.model_validate({**row, "images": _array(row["images"]), "tags": _array(row["tags"])})


def _group(row: Mapping[str, object]) -> Group:
    return Group.model_validate(dict(row))


def _array(value: object) -> list[JsonValue]:
    """Return a JSON cell as a list; an empty one if the cell is NULL or no array."""
    parsed = json.loads(value) if isinstance(value, str) else None
    return parsed if isinstance(parsed, list) else []
