"""A table that cannot be used is refused before the first request."""

from __future__ import annotations

from dataclasses import replace

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


@pytest.mark.parametrize(
    ("key_type", "skus", "example"),
    [
        ("REAL", (0.5, 0.1 + 0.2), "'0.3'"),
        ("REAL", (1.0, 0.25), None),
        ("BLOB", (b"ab",), "'ab'"),
        ("", (1, "2"), None),
        ("ANY", ("a", 2.5), None),
    ],
)
async def test_a_row_that_its_key_as_text_does_not_find_again_is_refused(tmp_path, key_type, skus, example):
    async with open_database(f"sqlite:///{tmp_path}/t.db") as database:
        await execute(database, f"CREATE TABLE goods (sku {key_type} PRIMARY KEY, photo TEXT, copy TEXT)")
        for sku in skus:
            await execute(database, "INSERT INTO goods VALUES (:sku, 'https://a.example/1.png', NULL)", sku=sku)

        if example is None:
            await TableCatalogue.open(database, GOODS)
            return
        with pytest.raises(
            CatalogueError, match=f"A row of goods is not found again by its sku as text, {example}: name"
        ):
            await TableCatalogue.open(database, GOODS)


async def test_keys_of_sqlite_that_differ_in_type_only_name_one_row_together(tmp_path):
    async with open_database(f"sqlite:///{tmp_path}/t.db") as database:
        await execute(database, "CREATE TABLE goods (sku PRIMARY KEY, photo TEXT, copy TEXT)")
        await execute(database, "INSERT INTO goods VALUES (1, 'https://a/1', NULL), ('1', 'https://a/2', NULL)")

        with pytest.raises(CatalogueError, match="Several rows of goods have sku '1'"):
            await TableCatalogue.open(database, GOODS)


async def test_numbers_that_the_server_rounds_in_text_are_refused_as_keys(postgres, postgres_database):
    url = f"{postgres.url(postgres_database)}?options=-c%20extra_float_digits%3D0"
    async with open_database(url) as database:
        await execute(database, "CREATE TABLE goods (sku float8 PRIMARY KEY, photo text, copy text)")
        await execute(database, "INSERT INTO goods VALUES (0.1::float8 + 0.2::float8, 'https://a.example/1.png')")

        with pytest.raises(CatalogueError, match=r"not found again by its sku as text, '0\.3'"):
            await TableCatalogue.open(database, GOODS)


async def test_a_view_over_an_outer_join_is_refused(postgres, postgres_database):
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, "CREATE TABLE base (sku integer PRIMARY KEY, photo text)")
        await execute(database, "CREATE TABLE copies (sku integer PRIMARY KEY, copy text)")
        await execute(database, "CREATE VIEW goods AS SELECT sku, photo, copy FROM base LEFT JOIN copies USING (sku)")
        await execute(database, "CREATE FUNCTION put() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
        await execute(database, "CREATE TRIGGER put INSTEAD OF UPDATE ON goods FOR EACH ROW EXECUTE FUNCTION put()")

        with pytest.raises(CatalogueError, match=r"Rows of goods cannot be locked and written.*outer join"):
            await TableCatalogue.open(database, GOODS)


async def test_a_column_that_does_not_exist_is_answered_with_those_that_do(database):
    await make(database, "sku INTEGER, foto TEXT, photo TEXT, copy TEXT")

    with pytest.raises(CatalogueError) as raised:
        await TableCatalogue.open(database, replace(GOODS, link="poto"))

    assert str(raised.value) == (
        "The table goods has no column poto: choose one of copy, foto, photo, sku in [source.goods] of rehost.toml."
    )
