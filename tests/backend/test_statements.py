"""The cost of the statements: PostgreSQL's plans, and the columns of other programs."""

from __future__ import annotations

import asyncpg
import pytest
from tests.postgres import Postgres

from app.cases import statements
from app.cases.model import Search, SortBy

ROWS = """
INSERT INTO ad_cases (case_id, title, source_url, publish_time, tags)
SELECT n, 'case ' || n, '', date '2000-01-01' + n / 4, jsonb_build_array('tag ' || n % 5000)
FROM generate_series(1, 20000) AS n
"""


@pytest.fixture
async def connection(postgres: Postgres, cases_database: str):
    postgres.run(ROWS, cases_database)
    postgres.run("ANALYZE ad_cases", cases_database)
    connection = await asyncpg.connect(postgres.url(cases_database))
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (statements.case(5), "ad_cases_case_id_key"),
        (statements.page(Search(tags=["tag 7"])), "idx_ad_cases_tags"),
        (statements.page(Search(sort_by=SortBy.TIME)), "idx_ad_cases_publish_time"),
    ],
)
async def test_search_uses_an_index(connection, statement: statements.Statement, index: str) -> None:
    plan = await connection.fetch(f"EXPLAIN {statement.sql}", *statement.arguments)

    assert index in "\n".join(row[0] for row in plan)


async def test_statements_read_only_the_columns_that_they_name(connection) -> None:
    await connection.execute("ALTER TABLE ad_cases ADD COLUMN title_vector float4[]")

    rows = await connection.fetch(*_flat(statements.page(Search(page_size=1))))

    assert "title_vector" not in rows[0].keys()  # noqa: SIM118  a Record's `in` asks for values


def _flat(statement: statements.Statement) -> tuple[object, ...]:
    return statement.sql, *statement.arguments
