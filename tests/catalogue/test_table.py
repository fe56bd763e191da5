"""The operator's table: links read, one column written, nothing else touched; on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3

import pytest
from tests.databases import CASES, add_cases, execute, open_database

from rehost.catalogue import Source, TableCatalogue, Titles
from rehost.catalogue.table import Clearing, Restore, WriteBack
from rehost.errors import CatalogueError
from rehost.model import MAX_LINK_CHARACTERS, Link

A = "https://a.example/1.png"


def link(row_key: str, url: str = A) -> Link:
    return Link("cases", row_key, 0, url, None, None)


async def write(catalogue, *changes):
    written = await catalogue.write_back(changes)
    assert written.refused == {}
    return written.before


@pytest.fixture
async def catalogue(database) -> TableCatalogue:
    return await TableCatalogue.open(database, Source())


async def test_write_back_sets_the_rows_and_returns_the_values_before(database, catalogue):
    await add_cases(database, [A, A])
    await execute(database, "UPDATE ad_cases SET main_image_local = '/old' WHERE case_id = 2")

    written = await write(catalogue, WriteBack(link("1"), "/new1"), WriteBack(link("2"), "/new2"))

    assert written == {link("1"): None, link("2"): "/old"}
    assert await execute(database, "SELECT main_image_local FROM ad_cases ORDER BY case_id") == [("/new1",), ("/new2",)]


async def test_invariant_2_a_row_whose_link_has_changed_is_not_written(database, catalogue):
    await add_cases(database, ["https://b.example/"])

    assert await write(catalogue, WriteBack(link("1"), "/new")) == {}
    assert await execute(database, "SELECT main_image_local FROM ad_cases") == [(None,)]


async def test_a_row_that_is_gone_is_not_written(catalogue):
    assert await write(catalogue, WriteBack(link("7"), "/new")) == {}


async def test_a_row_that_already_has_the_value_counts_as_written(database, catalogue):
    await add_cases(database, [A])
    await write(catalogue, WriteBack(link("1"), "/new"))

    assert await write(catalogue, WriteBack(link("1"), "/new")) == {link("1"): "/new"}


async def test_clear_matches_the_end_of_the_local_url_whatever_the_link_and_the_prefix(database, catalogue):
    values = {1: "/static/1/x.png", 2: "https://cdn.example/2/x.png", 3: "/static/3/x.jpg", 4: "x.png", 5: "/55/x.png"}
    values[6] = "/static/6/x.png?v=0123456789abcdef"
    await add_cases(database, [A, A + "?changed", A, A, A, A])
    for number, value in values.items():
        await execute(database, "UPDATE ad_cases SET main_image_local = :v WHERE case_id = :n", v=value, n=number)
    changes = [Clearing(link(str(number)), f"{number}/x.png") for number in range(1, 8)]

    cleared = await catalogue.clear(changes)

    assert cleared.before == {link("1"): values[1], link("2"): values[2], link("6"): values[6]}
    assert await execute(database, "SELECT main_image_local FROM ad_cases ORDER BY case_id") == [
        (None,), (None,), (values[3],), (values[4],), (values[5],), (None,)
    ]  # fmt: skip


async def test_only_one_character_more_than_a_link_may_have_is_read_from_a_long_cell(database, catalogue):
    await add_cases(database, [f"data:image/png;base64,{'A' * 100_000}", A])
    await execute(database, "UPDATE ad_cases SET source_url = main_image")

    async def work(connection):
        rows = await connection.execute(catalogue.links().select)
        return [(len(row.url), len(row.page_url)) for row in rows.all()]

    assert sorted(await database.read(work)) == [(len(A),) * 2, (MAX_LINK_CHARACTERS + 1,) * 2]


async def test_restore_leaves_rows_that_were_changed_since(database, catalogue):
    await add_cases(database, [A, A, A])
    await execute(database, "UPDATE ad_cases SET main_image_local = '/ours'")
    await execute(database, "UPDATE ad_cases SET main_image_local = '/theirs' WHERE case_id = 2")
    changes = [Restore(str(number), A, None, "/ours") for number in (1, 2)] + [Restore("3", "https://b", None, "/ours")]

    restored = await catalogue.restore(changes)

    assert [each.row_key for each in restored.before] == ["1"]
    assert await execute(database, "SELECT main_image_local FROM ad_cases ORDER BY case_id") == [
        (None,),
        ("/theirs",),
        ("/ours",),
    ]


async def test_writers_of_the_same_rows_in_opposite_order_do_not_deadlock(database, catalogue):
    await add_cases(database, [A] * 60)

    async def rewrite(order: range, url: str):
        for _ in range(5):
            await write(catalogue, *(WriteBack(link(str(number)), url) for number in order))

    await asyncio.wait_for(asyncio.gather(rewrite(range(1, 61), "/a"), rewrite(range(60, 0, -1), "/b")), 60)


async def test_table_in_a_schema_with_text_keys_is_written(postgres, postgres_database):
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, "CREATE SCHEMA shop")
        await execute(
            database, 'CREATE TABLE shop."Goods" (sku varchar(20) PRIMARY KEY, "Picture" varchar(99), copy text)'
        )
        await execute(database, "INSERT INTO shop.\"Goods\" VALUES ('ä/1', 'https://a.example/1.png', NULL)")
        source = Source("goods", "shop.Goods", "sku", "Picture", None, "copy", "{key}/picture")
        catalogue = await TableCatalogue.open(database, source)

        written = await write(catalogue, WriteBack(link("ä/1"), "/x"))

        assert written == {link("ä/1"): None}


async def test_rows_whose_keys_no_index_takes_are_left_out_and_counted(database, peer):
    keys = [random.Random(1).randbytes(6000).decode("latin-1").replace("\0", "x"), "广" * 700, "k" * 2000, "short"]
    await execute(database, "CREATE TABLE goods (sku TEXT, photo TEXT, copy TEXT)")
    for key in keys:
        await execute(database, "INSERT INTO goods VALUES (:key, :link, NULL)", key=key, link=A)
    catalogue = await TableCatalogue.open(database, Source("goods", "goods", "sku", "photo", None, "copy", "{key}"))

    await peer.ledger.sync.take_in("goods", catalogue.links())

    assert {row[0] for row in await execute(database, "SELECT row_key FROM rehost_links")} == {"k" * 2000, "short"}
    [(_, number, first)] = await catalogue.rows_left_out()
    assert (number, len(first)) == (2, 40)


async def test_rows_with_a_cell_that_is_no_text_are_left_out_and_counted(tmp_path):
    async with open_database(f"sqlite:///{tmp_path}/t.db") as database:
        await execute(database, CASES)
        await add_cases(database, [A] * 6)
        await execute(database, "UPDATE ad_cases SET main_image = CAST(x'ff41' AS TEXT) WHERE case_id = 2")
        await execute(database, "UPDATE ad_cases SET source_url = CAST(x'c328' AS TEXT) WHERE case_id = 3")
        await execute(database, "UPDATE ad_cases SET main_image_local = CAST(x'80' AS TEXT) WHERE case_id = 4")
        await execute(database, "UPDATE ad_cases SET main_image = main_image || char(0) WHERE case_id = 5")
        await execute(database, "UPDATE ad_cases SET title = CAST(x'ff' AS TEXT) WHERE case_id = 6")
        catalogue = await TableCatalogue.open(database, Source())

        assert await keys_of(database, catalogue) == ["1", "6"]
        [(cause, number, first)] = await catalogue.rows_left_out()
        assert (cause[:19], number, first) == ("a cell is no text (", 4, "2")
        titles = await Titles.open(database, Source())
        assert await titles.of(["1", "6"]) == {"1": "title"}


async def test_a_key_that_is_no_text_is_shown_as_bytes(tmp_path):
    async with open_database(f"sqlite:///{tmp_path}/t.db") as database:
        await execute(database, "CREATE TABLE goods (sku TEXT PRIMARY KEY, photo TEXT, copy TEXT)")
        await execute(database, f"INSERT INTO goods VALUES (CAST(x'ff41' AS TEXT), '{A}', NULL), ('b', '{A}', NULL)")
        catalogue = await TableCatalogue.open(database, Source("goods", "goods", "sku", "photo", None, "copy", "{key}"))

        assert await keys_of(database, catalogue) == ["b"]
        assert [row[1:] for row in await catalogue.rows_left_out()] == [(1, "X'FF41'")]


async def test_a_database_of_utf_16_loses_no_row(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "t.db")) as connection, connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute(CASES)
        connection.execute("INSERT INTO ad_cases VALUES (1, '', '', 'https://a.example/广告.png', NULL)")
    async with open_database(f"sqlite:///{tmp_path}/t.db") as database:
        catalogue = await TableCatalogue.open(database, Source())

        assert (await keys_of(database, catalogue), await catalogue.rows_left_out()) == (["1"], [])


# What PostgreSQL refuses to do under a collation that ignores case it refuses under this one; without ICU, which the
# wheel lacks, there is no better one.
LOOSE = (
    "CREATE COLLATION loose (provider = libc, locale = 'C.UTF-8')",
    "UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose'",
)


async def test_a_collation_that_ignores_case_makes_no_two_links_the_same(database):
    loose = "COLLATE NOCASE"
    if not database.is_sqlite:
        loose = "COLLATE loose"
        for statement in LOOSE:
            await execute(database, statement)
    columns = ", ".join(f"{name} TEXT {loose}" for name in ("photo", "page", "copy", "name"))
    await execute(database, f"CREATE TABLE goods (sku TEXT {loose} PRIMARY KEY, {columns})")
    await execute(
        database, f"INSERT INTO goods VALUES ('a', '{A}', NULL, '/X.png', 'Tea'), ('b', '{A}', NULL, NULL, '')"
    )
    source = Source("goods", "goods", "sku", "photo", "page", "copy", "{key}", title="name")
    catalogue = await TableCatalogue.open(database, source)

    written = await write(
        catalogue,
        WriteBack(link("a"), "/x.png"),  # only its case differs
        WriteBack(link("b", A.upper()), "/b.png"),
        WriteBack(link("B"), "/b.png"),
    )

    assert await keys_of(database, catalogue) == ["a", "b"]
    assert written == {link("a"): "/X.png"}
    assert await execute(database, "SELECT copy FROM goods ORDER BY sku") == [("/x.png",), (None,)]
    assert await keys_of_rows(database, catalogue.row("b")) == ["b"]
    assert await keys_of_rows(database, catalogue.row("B")) == []
    titles = await Titles.open(database, source)
    assert await titles.matching("te") == ["a"]


async def one_row(database, key_type: str, key: str, link_type: str = "TEXT") -> TableCatalogue:
    await execute(database, f"CREATE TABLE goods (sku {key_type} PRIMARY KEY, photo {link_type}, copy TEXT)")
    await execute(database, f"INSERT INTO goods VALUES ({key}, '{A}', NULL)")
    return await TableCatalogue.open(database, Source("goods", "goods", "sku", "photo", None, "copy", "{key}"))


async def keys_of(database, catalogue) -> list[str]:
    return await keys_of_rows(database, catalogue.links())


async def keys_of_rows(database, rows) -> list[str]:
    return sorted(row.row_key for row in await database.fetch_all(rows.select))


@pytest.mark.parametrize(
    ("key_type", "key"),
    [
        ("BIGINT", "9223372036854775807"),
        ("SMALLINT", "-7"),
        ("NUMERIC(9, 2)", "1.50"),
        ("CHAR(8)", "'ab'"),
        ("VARCHAR(8)", "'007'"),
        ("DATE", "'2020-06-28'"),
        ("TEXT", "'a ''\"b'"),
    ],
)
async def test_a_row_is_found_again_by_a_key_of_any_type(database, key_type, key):
    catalogue = await one_row(database, key_type, key)
    [row_key] = await keys_of(database, catalogue)

    assert await write(catalogue, WriteBack(link(row_key), "/x")) == {link(row_key): None}


@pytest.mark.parametrize("key_type", ["uuid", "timestamptz", "bytea", "interval"])
async def test_a_row_is_found_again_by_a_key_of_a_type_of_postgresql(postgres, postgres_database, key_type):
    keys = {"uuid": "gen_random_uuid()", "timestamptz": "now()", "bytea": r"'\x00ff'", "interval": "'1 day'"}
    async with open_database(postgres.url(postgres_database)) as database:
        catalogue = await one_row(database, key_type, keys[key_type], link_type="CHAR(60)")
        [row_key] = await keys_of(database, catalogue)

        assert await write(catalogue, WriteBack(link(row_key), "/x")) == {link(row_key): None}


async def test_names_may_hold_spaces_quotes_and_reserved_words(database):
    await execute(database, 'CREATE TABLE "Or""der" ("Sku Nr" TEXT PRIMARY KEY, "select" TEXT, "lo""cal" TEXT)')
    await execute(database, f"INSERT INTO \"Or\"\"der\" VALUES ('a', '{A}', NULL)")
    source = Source("goods", 'Or"der', "Sku Nr", "select", None, 'lo"cal', "{key}")
    catalogue = await TableCatalogue.open(database, source)

    assert await write(catalogue, WriteBack(link("a"), "/x")) == {link("a"): None}


@pytest.mark.parametrize("kind", ["jsonb", "text[]", "integer"])
async def test_link_column_of_another_type_than_text_is_refused_by_name(postgres, postgres_database, kind):
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, f"CREATE TABLE goods (sku integer PRIMARY KEY, photo {kind}, copy text)")

        with pytest.raises(CatalogueError, match="The column photo of goods is of the type"):
            await TableCatalogue.open(database, Source("goods", "goods", "sku", "photo", None, "copy", "{key}"))


async def test_name_of_three_parts_is_refused(database):
    with pytest.raises(CatalogueError, match=r"has no table a\.b\.c|unknown database"):
        await TableCatalogue.open(database, Source(table="a.b.c"))


async def test_columns_of_unknown_types_do_no_harm(postgres, postgres_database):
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, CASES.replace("title TEXT NOT NULL", "title TEXT, words TSVECTOR, place POINT"))
        await execute(database, f"INSERT INTO ad_cases (case_id, source_url, main_image) VALUES (1, '', '{A}')")

        catalogue = await TableCatalogue.open(database, Source())

        assert await write(catalogue, WriteBack(link("1"), "/x")) == {link("1"): None}


async def test_a_missing_table_is_named(database):
    with pytest.raises(CatalogueError, match="has no table nowhere"):
        await TableCatalogue.open(database, Source(table="nowhere"))


async def test_a_missing_column_names_the_migration(database):
    await execute(database, "ALTER TABLE ad_cases DROP COLUMN main_image_local")

    with pytest.raises(CatalogueError, match=r"main_image_local: run database/migrations/006_add_main_image_local"):
        await TableCatalogue.open(database, Source())


async def test_missing_privilege_is_reported_as_the_tables(postgres, postgres_database):
    postgres.run(f"{CASES}; CREATE ROLE reader LOGIN; GRANT SELECT ON ad_cases TO reader", postgres_database)
    try:
        async with open_database(postgres.url(postgres_database).replace("postgres@", "reader@")) as database:
            with pytest.raises(CatalogueError, match=r"permission denied for table ad_cases.*GRANT.*user reader"):
                await TableCatalogue.open(database, Source())
    finally:
        postgres.run("DROP OWNED BY reader; DROP ROLE reader", postgres_database)
