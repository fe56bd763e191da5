"""A table that cannot be used is refused before the first request."""

from __future__ import annotations

import pytest
from tests.databases import execute, open_database

from rehost.catalogue import Source, TableCatalogue
from rehost.errors import CatalogueError

GOODS = Source("goods", "goods", "sku", "photo", None, "copy", "{key}")


async def make(database, definition: str, *skus: int | None) -> None:
    await execute(database, f"CREATE TABLE goods ({definition})")
    for number, sku in enumerate(skus):
        await execute(
            database,
            "INSERT INTO goods (sku, photo) VALUES (CAST(:sku AS INTEGER), CAST(:link AS TEXT))",
            sku=sku,
            link=f"https://a.example/{number}.png",
        )


@pytest.mark.parametrize(
    "definition",
    [
        "sku INTEGER, photo TEXT, copy TEXT",
        "sku INTEGER, part INTEGER DEFAULT (0), photo TEXT, copy TEXT, UNIQUE (sku, photo)",
    ],
)
async def test_a_key_that_several_rows_share_is_refused(database, definition):
    await make(database, definition, 1, 2, 2)

    with pytest.raises(CatalogueError, match="Several rows of goods have sku '2'"):
        await TableCatalogue.open(database, GOODS)


@pytest.mark.parametrize(
    "definition",
    [
        "sku INTEGER PRIMARY KEY, photo TEXT, copy TEXT",
        "sku INTEGER UNIQUE, photo TEXT, copy TEXT",
        "sku INTEGER, photo TEXT, copy TEXT",
    ],
)
async def test_unique_keys_without_a_unique_index_are_enough(database, definition):
    await make(database, definition, 1, 2)

    await TableCatalogue.open(database, GOODS)


async def test_rows_without_a_key_or_a_link_do_not_count_as_duplicates(database):
    await make(database, "sku INTEGER, photo TEXT, copy TEXT", 1, None, None)
    await execute(database, "INSERT INTO goods (sku) VALUES (1)")

    await TableCatalogue.open(database, GOODS)


async def test_a_view_that_cannot_be_written_is_refused(database):
    await execute(database, "CREATE TABLE base (sku INTEGER, photo TEXT, copy TEXT)")
    await execute(
        database, "CREATE VIEW goods AS SELECT sku, max(photo) AS photo, max(copy) AS copy FROM base GROUP BY 1"
    )

    with pytest.raises(CatalogueError, match="goods"):
        await TableCatalogue.open(database, GOODS)


async def test_view_that_can_be_written_is_accepted(postgres, postgres_database):
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, "CREATE TABLE base (a integer, b integer, photo text, copy text, PRIMARY KEY (a, b))")
        await execute(database, "INSERT INTO base VALUES (1, 1, 'https://a.example/'), (1, 2, 'https://a.example/')")
        await execute(database, "CREATE VIEW goods AS SELECT a || '-' || b AS sku, photo, copy FROM base")

        await TableCatalogue.open(database, GOODS)
