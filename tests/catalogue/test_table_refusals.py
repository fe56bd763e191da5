"""Rows that the database refuses to write: the others of their group are written, and each refusal has its words."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.databases import add_cases, execute, open_database

from rehost.catalogue import Source, TableCatalogue, table
from rehost.catalogue.table import Clearing, Restore, WriteBack
from rehost.errors import CatalogueError
from rehost.model import Link
from rehost.retry import LOCKED_ROW_WAIT, ROW_WAIT

A = "https://a.example/1.png"


def link(number: int, url: str = A) -> Link:
    return Link("cases", str(number), 0, url, None, None)


def write_backs(numbers) -> list[WriteBack]:
    return [WriteBack(link(number), f"/static/images/{number}.png") for number in numbers]


def keys(mapping) -> list[int]:
    return sorted(int(each.row_key) for each in mapping)


RAISING = {
    "postgresql": (
        (
            "CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.case_id % 17 = 3 THEN RAISE EXCEPTION 'case % is archived', NEW.case_id; END IF;"
            " RETURN NEW; END $$"
        ),
        "CREATE TRIGGER judge BEFORE UPDATE ON ad_cases FOR EACH ROW EXECUTE FUNCTION judge()",
    ),
    "sqlite": (
        (
            "CREATE TRIGGER judge BEFORE UPDATE ON ad_cases WHEN NEW.case_id % 17 = 3"
            " BEGIN SELECT RAISE(ABORT, 'this case is archived'); END"
        ),
    ),
}
SILENT = {
    "postgresql": (
        (
            "CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.case_id = 3 THEN RETURN NULL; END IF;"
            " IF NEW.case_id = 20 THEN NEW.main_image_local := '/cdn' || NEW.main_image_local; END IF;"
            " RETURN NEW; END $$"
        ),
        "CREATE TRIGGER judge BEFORE UPDATE ON ad_cases FOR EACH ROW EXECUTE FUNCTION judge()",
    ),
    "sqlite": (
        "CREATE TRIGGER ignore BEFORE UPDATE ON ad_cases WHEN NEW.case_id = 3 BEGIN SELECT RAISE(IGNORE); END",
        (
            "CREATE TRIGGER change AFTER UPDATE ON ad_cases WHEN NEW.case_id = 20 BEGIN UPDATE ad_cases"
            " SET main_image_local = '/cdn' || NEW.main_image_local WHERE case_id = 20; END"
        ),
    ),
}


async def open_with(database, triggers, rows: int = 40) -> TableCatalogue:
    await add_cases(database, [A] * rows)
    for statement in triggers["sqlite" if database.is_sqlite else "postgresql"]:
        await execute(database, statement)
    return await TableCatalogue.open(database, Source())


async def locals_of(database) -> dict[int, str | None]:
    return dict(await execute(database, "SELECT case_id, main_image_local FROM ad_cases"))


async def test_rows_that_a_trigger_refuses_are_named_and_all_others_of_the_group_are_written(database):
    catalogue = await open_with(database, RAISING)

    written = await catalogue.write_back(write_backs(range(1, 41)))

    assert keys(written.refused) == [3, 20, 37]
    assert {value is None for number, value in (await locals_of(database)).items() if number in {3, 20, 37}} == {True}
    assert keys(written.before) == [number for number, value in (await locals_of(database)).items() if value]
    assert len(written.before) == 37
    refusal = written.refused[link(3)]
    assert "is archived (" in refusal.evidence
    assert (refusal.local_url, refusal.wait_seconds) == (None, ROW_WAIT)


async def test_a_write_that_did_nothing_or_something_else_is_not_believed(database):
    catalogue = await open_with(database, SILENT, rows=21)

    written = await catalogue.write_back(write_backs(range(1, 22)))

    assert keys(written.refused) == [3, 20]
    assert len(written.before) == 19
    assert "holds None" in written.refused[link(3)].evidence
    assert written.refused[link(20)].local_url == "/cdn/static/images/20.png"


async def test_rows_that_refuse_to_be_cleared_or_restored_are_named_too(database):
    catalogue = await open_with(database, {"sqlite": (), "postgresql": ()}, rows=4)
    await catalogue.write_back(write_backs([2, 3, 4]))
    for statement in RAISING["sqlite" if database.is_sqlite else "postgresql"]:
        await execute(database, statement)

    cleared = await catalogue.clear([Clearing(link(number), f"{number}.png") for number in (2, 3)])
    restored = await catalogue.restore([Restore(str(n), A, None, f"/static/images/{n}.png") for n in (3, 4)])

    assert (keys(cleared.before), keys(cleared.refused)) == ([2], [3])
    assert (keys(restored.before), keys(restored.refused)) == ([4], [3])
    assert await locals_of(database) == {1: None, 2: None, 3: "/static/images/3.png", 4: None}


async def test_a_table_that_cannot_be_written_at_all_is_no_matter_of_its_rows(postgres, postgres_database):
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, "CREATE TABLE ad_cases (case_id integer, source_url text, main_image text)")
        await execute(database, "ALTER TABLE ad_cases ADD COLUMN main_image_local text")
        await execute(database, f"INSERT INTO ad_cases (case_id, main_image) VALUES (1, '{A}')")
        catalogue = await TableCatalogue.open(database, Source())
        await execute(
            database,
            "CREATE FUNCTION closed() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'closed for stocktaking'; END $$",
        )
        await execute(
            database, "CREATE TRIGGER closed BEFORE UPDATE ON ad_cases FOR EACH STATEMENT EXECUTE FUNCTION closed()"
        )

        with pytest.raises(CatalogueError, match="closed for stocktaking"):
            await catalogue.write_back(write_backs([1]))


# Row 3 is refused by each of these, in a table of its own; the words are the database's.
_TAKEN = "INSERT INTO {0} VALUES (9, NULL, '/static/images/3.png')"
_TRIGGER = "CREATE FUNCTION {0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.sku = 3 THEN"
REFUSALS = {
    "by_check": ("copy text CHECK (sku <> 3 OR copy IS NULL)", [], "violates check constraint"),
    "by_domain": ("copy shelf", [], "value for domain shelf violates check constraint"),
    "by_length": ("copy varchar(20)", [], "value too long"),
    "by_uniqueness": ("copy text UNIQUE", [_TAKEN], "duplicate key"),
    "at_commit": ("copy text UNIQUE DEFERRABLE INITIALLY DEFERRED", [_TAKEN], "duplicate key"),
    "by_late_trigger": (
        "copy text",
        [
            f"{_TRIGGER} RAISE 'too late'; END IF; RETURN NULL; END $$",
            (
                "CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON {0} DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION {0}()"
            ),
        ],
        "too late",
    ),
    "by_faulty_trigger": (
        "copy text",
        [
            f"{_TRIGGER} PERFORM 1 FROM nowhere; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER faulty BEFORE UPDATE ON {0} FOR EACH ROW EXECUTE FUNCTION {0}()",
        ],
        'relation "nowhere" does not exist',
    ),
}
GOODS = Source("goods", "goods", "sku", "photo", None, "copy", "{key}")


async def test_whatever_refuses_one_row_of_postgresql_refuses_no_other(postgres, postgres_database):
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, "CREATE DOMAIN shelf AS text CHECK (VALUE NOT LIKE '%/3.png%')")
        for name, (column, statements, words) in REFUSALS.items():
            await execute(database, f"CREATE TABLE {name} (sku integer PRIMARY KEY, photo text, {column})")
            await execute(database, f"INSERT INTO {name} SELECT n, '{A}', NULL FROM generate_series(1, 5) AS n")
            for statement in statements:
                await execute(database, statement.format(name))
            catalogue = await TableCatalogue.open(database, replace(GOODS, table=name))
            long = "?long" if name == "by_length" else ""
            changes = [WriteBack(link(n), f"/static/images/{n}.png{long if n == 3 else ''}") for n in range(1, 6)]

            written = await catalogue.write_back(changes)

            assert (name, keys(written.before), keys(written.refused)) == (name, [1, 2, 4, 5], [3])
            assert words in written.refused[link(3)].evidence


async def test_a_row_that_is_locked_is_left_to_a_later_run_and_a_hidden_one_is_named(
    postgres, postgres_database, monkeypatch
):
    monkeypatch.setattr(table, "LOCK_SECONDS", 0.2)
    async with open_database(postgres.url(postgres_database)) as owner:
        await execute(owner, "CREATE TABLE goods (sku integer PRIMARY KEY, photo text, copy text)")
        await execute(owner, f"INSERT INTO goods SELECT n, '{A}', NULL FROM generate_series(1, 4) AS n")
        catalogue = await TableCatalogue.open(owner, GOODS)
        locked, over = asyncio.Event(), asyncio.Event()

        async def hold(connection):
            await connection.exec_driver_sql("SELECT 1 FROM goods WHERE sku = 3 FOR UPDATE")
            locked.set()
            await over.wait()

        async with open_database(postgres.url(postgres_database)) as other, asyncio.TaskGroup() as group:
            group.create_task(other.transact(hold))
            await locked.wait()
            written = await catalogue.write_back([WriteBack(link(n), f"/{n}.png") for n in range(1, 5)])
            over.set()

    assert (keys(written.before), keys(written.refused)) == ([1, 2, 4], [3])
    assert written.refused[link(3)].wait_seconds == LOCKED_ROW_WAIT
    assert "another transaction has locked the row" in written.refused[link(3)].evidence


async def test_a_row_that_a_policy_lets_rehost_read_but_not_change_is_named(postgres, postgres_database):
    postgres.run(
        "CREATE TABLE goods (sku integer PRIMARY KEY, photo text, copy text);"
        f" INSERT INTO goods SELECT n, '{A}', NULL FROM generate_series(1, 4) AS n;"
        " ALTER TABLE goods ENABLE ROW LEVEL SECURITY; CREATE ROLE buyer LOGIN; GRANT SELECT, UPDATE ON goods TO buyer;"
        " CREATE POLICY see ON goods FOR SELECT USING (true);"
        " CREATE POLICY change ON goods FOR UPDATE USING (sku <> 3) WITH CHECK (sku <> 4)",
        postgres_database,
    )
    try:
        async with open_database(postgres.url(postgres_database).replace("postgres@", "buyer@")) as database:
            catalogue = await TableCatalogue.open(database, GOODS)

            written = await catalogue.write_back([WriteBack(link(n), f"/{n}.png") for n in range(1, 5)])
    finally:
        postgres.run("DROP OWNED BY buyer; DROP ROLE buyer", postgres_database)

    assert (keys(written.before), keys(written.refused)) == ([1, 2], [3, 4])
    assert "row security" in written.refused[link(3)].evidence
    assert "violates row-level security policy" in written.refused[link(4)].evidence
