from tests.databases import add_cases, database, database_url, execute

from rehost.catalogue import Source, Titles

__all__ = ["database", "database_url"]


async def test_titles_are_returned_by_key(database):
    await add_cases(database, ["https://a.example/1.png", None])
    titles = await Titles.open(database, Source())

    assert await titles.of(["1", "2", "9"]) == {"1": "title", "2": "title"}
    assert await titles.of([]) == {}


async def test_rows_are_found_by_their_titles(database):
    await add_cases(database, [None, None, None])
    await execute(database, "UPDATE ad_cases SET title = '100% Käse' WHERE case_id = 2")
    titles = await Titles.open(database, Source())

    assert await titles.matching("100% k") == ["2"]
    assert await titles.matching("%") == ["2"]
    assert sorted(await titles.matching("TITLE")) == ["1", "3"]


async def test_table_without_a_title_column_has_no_titles(database):
    titles = await Titles.open(database, Source(title="nothing_of_the_kind"))

    assert await titles.of(["1"]) == {}
    assert await titles.matching("a") == []
