"""Walks over held copies: in groups, past what is leased or gone, with a cursor that lasts."""

from __future__ import annotations

import pytest
from tests.databases import add_cases, execute, url_of

from rehost.ledger.copies import Copies, Selection

ALL = Selection(["cases"])


@pytest.fixture
async def held(peer):
    """Five links with copies in the ledger and in their rows."""
    await add_cases(peer.database, [f"https://a.example/{number}.png" for number in range(1, 6)])
    await peer.note()
    await peer.hold_all()
    return peer


def keys(group):
    return [each.link.row_key for each in group]


async def test_the_walk_yields_held_copies_in_groups_after_the_cursor(held):
    copies = Copies(held.database)
    [task] = await held.ledger.leases.lease_held([2])

    first = await copies.group(ALL, 0, 2)
    second = await copies.group(ALL, first[-1].entry, 2)

    assert task.entry == 2
    assert (keys(first), keys(second)) == (["1", "3"], ["4", "5"])
    assert await copies.group(ALL, second[-1].entry) == []
    assert (await copies.count(ALL), await copies.count(ALL, 3)) == (4, 2)
    assert list(await copies.again([1, 2])) == [1]


async def test_copies_are_chosen_by_row_and_by_when_they_were_read(held):
    copies = Copies(held.database)
    week = "7 * 86400" if held.database.is_sqlite else "interval '7 days'"
    await execute(held.database, f"UPDATE rehost_links SET verified_at = verified_at - {week} WHERE row_key = '3'")
    old = Selection(["cases"], older_seconds=86_400.0)

    found = await copies.group(old, 0)
    await copies.save(None, found)

    assert keys(found) == ["3"]
    assert await copies.group(old, 0) == []
    assert keys(await copies.group(Selection(["cases"], row_key="4"), 0)) == ["4"]


async def test_a_pass_goes_on_with_its_cursor_and_begins_anew_after_its_end(held):
    copies = Copies(held.database)
    going = await copies.resume("verify")
    going.cursor, going.copies = 3, 3
    await copies.save(going, [])
    again = await copies.resume("verify")
    other = await copies.resume("verify --quick")
    await copies.save(again, [], ended=True)

    anew = await copies.resume("verify")

    assert (again.cursor, again.copies, other.cursor) == (3, 3, 0)
    assert (anew.cursor, anew.copies) == (0, 0)


async def test_copies_whose_rows_are_gone_and_files_of_no_copy_are_found(held):
    copies = Copies(held.database)
    await execute(held.database, "DELETE FROM ad_cases WHERE case_id = 2")
    await add_cases(held.database, ["https://a.example/9.png"], 9)
    await held.note()
    files = [("cases", key, 0, f"{key}/main_image.png") for key in ("1", "2", "9", "77")]
    other_name = ("cases", "1", 0, "1/main_image.jpg")

    assert keys(await copies.without_rows(["cases"], 0)) == ["2"]
    assert await copies.strays([*files, other_name]) == {"77/main_image.png", "1/main_image.jpg"}


async def test_rows_that_hold_a_local_url_without_a_copy_are_found(either):
    await add_cases(either.database, ["https://a.example/1.png", "https://a.example/2.png"])
    await execute(either.database, f"UPDATE ad_cases SET main_image_local = '{url_of('2/x.png')}' WHERE case_id = 2")
    await either.note()
    copies = Copies(either.ledger.database)

    found = [row async for group in copies.rows_without_copy("cases", either.catalogue.links()) for row in group]

    assert [(row.link.row_key, row.link.local_url, row.known_url) for row in found] == [("2", url_of("2/x.png"), None)]
