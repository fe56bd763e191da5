"""SQL functions that return the same on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Text, select

from rehost.db import OTHER_HOST, Database, after, blank, host_of, now, seconds_until, today

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
