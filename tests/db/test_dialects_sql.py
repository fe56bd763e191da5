"""SQL functions that return the same on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Text, select
from tests.databases import open_database

from rehost.db import OTHER_HOST, Database, after, blank, host_of, now, root_of, seconds_until, today
from rehost.http.url import read_origin, with_scheme_of

HOSTS = [
    ("https://oss.adquan.com/upload/1.png", "oss.adquan.com"),
    ("HTTP://EXAMPLE.com:8080/x?y#z", "example.com"),
    ("http://User:p%40ss@EXAMPLE.com:8080/x?y#z", OTHER_HOST),
    ("//cdn.example/x.png", "cdn.example"),
    ("  https://a.example", "a.example"),
    ("https:\\\\a.example\\x", "a.example"),
    ("https://xn--fiqs8s.a_b.example", "xn--fiqs8s.a_b.example"),
    ("http://[2001:DB8::1]:80/x", OTHER_HOST),
    ("http://127.1/x", OTHER_HOST),
    ("http://0x7f.1/x", OTHER_HOST),
    ("https://a.example./x", OTHER_HOST),
    ("https://%61.example/x", OTHER_HOST),
    ("https://a@b@c.example/@d", OTHER_HOST),
    ("https:///a.example/x", OTHER_HOST),
    ("file:", OTHER_HOST),
    ("javascript:alert(1)", OTHER_HOST),
    ("a text", OTHER_HOST),
    ("https://图片.example/x", OTHER_HOST),
    (f"https://{'a' * 300}/x", "a" * 255),
]


async def scalar(database: Database, query):
    return await database.read(lambda connection: connection.scalar(query))


@pytest.mark.parametrize(("url", "host"), HOSTS)
async def test_host_of_a_url_is_the_same_on_both_databases(database, url, host):
    given = database.given({"url": Text()}, [(url,)])

    assert await scalar(database, select(host_of(given.c.url))) == host


async def test_hosts_are_read_alike_by_a_server_to_which_backslashes_are_escapes(postgres):
    url = f"{postgres.url()}?options=-c%20standard_conforming_strings%3Doff"
    async with open_database(url) as database:
        given = database.given({"url": Text()}, [(each,) for each, _ in HOSTS])
        rows = await database.fetch_all(select(host_of(given.c.url)).order_by(given.c.number))

    assert [row[0] for row in rows] == [host for _, host in HOSTS]


async def test_time_is_the_databases_and_aware(database):
    async def work(connection):
        return (await connection.execute(select(now(), after(3600), seconds_until(after(60)), today()))).one()

    there, later, left, day = await database.read(work)

    assert there.tzinfo is not None
    assert (later - there).total_seconds() == pytest.approx(3600, abs=5)
    assert left == pytest.approx(60, abs=5)
    assert day in {int(there.timestamp() // 86400), int(later.timestamp() // 86400)}


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("", True), ("  ", True), ("x", False)])
async def test_null_and_spaces_are_blank(database, value, expected):
    given = database.given({"a": Text()}, [(value,)])

    assert bool(await scalar(database, select(blank(given.c.a)))) is expected


ROOTS = {
    "https://a.example/1.jpg": "https://a.example",
    "HTTP://a.example:8080?x/y": "HTTP://a.example:8080",
    "https:/a.example/up/7.jpg": "https:/a.example",
    "https:a.example/7.jpg": "https:a.example",
    "http:\\\\a.example\\7.jpg": "http:\\\\a.example",
    " //a.example/1.jpg": "https://a.example",
    "/uploads/7.jpg": "/uploads",
    "uploads/7.jpg": "uploads",
}


async def test_the_beginning_of_a_url_is_the_same_on_both_databases_and_has_its_origin(database):
    given = database.given({"url": Text(), "page": Text()}, [[url, None] for url in ROOTS])
    query = select(given.c.url, root_of(given.c.url, given.c.page))

    assert {row[0]: row[1] for row in await database.fetch_all(query)} == ROOTS
    assert [read_origin(url) for url in ROOTS] == [read_origin(root) for root in ROOTS.values()]


async def test_a_url_without_a_scheme_begins_with_that_of_its_page(database):
    pages = ["http://www.a.example/", " HTTP://www.a.example/", "https://www.a.example/", "x", None]
    given = database.given({"url": Text(), "page": Text()}, [["//a.example/1.jpg", page] for page in pages])
    query = select(given.c.page, root_of(given.c.url, given.c.page))

    roots = {row[0]: row[1] for row in await database.fetch_all(query)}

    assert roots == {page: with_scheme_of("//a.example", page) for page in pages}
