"""Which held links a refresh asks for, and what is kept of an origin that froze; on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.databases import add_cases, execute

from rehost.ledger import freezes as module
from rehost.ledger.freezes import Decision, Example, Freeze, Freezes, Picture, RefreshFilter
from rehost.model import Reason, Unchanged

MONTH = RefreshFilter(30 * 86_400.0)
EXAMPLE = Example(
    *("cases", "4711", 0, "https://a.example/图.png"),
    held=Picture(900, "a" * 64, 40, 30),
    came=Picture(90, "b" * 64),
    kind="smaller",
)
GONE = Example("cases", "8", 1, "https://a.example/8.png", Picture(900, "a" * 64), None, "gone", "status 404")


def freeze(origin: str = "https://a.example") -> Freeze:
    return Freeze(origin, 7, "smaller 3, gone 1", 40, 4, [EXAMPLE, GONE])


async def hold(peer, *urls: str) -> Freezes:
    """Hold links, of which each was asked for a minute later than the one before, a hundred days ago."""
    await add_cases(peer.database, urls)
    await peer.note()
    await peer.hold_all()
    await ask_before(peer, 100)
    return Freezes(peer.database)


async def ask_before(peer, days: int) -> None:
    instant = (
        f"visited_at - {days} * 86400.0 + entry * 60"
        if peer.database.is_sqlite
        else f"visited_at - {days} * interval '1 day' + entry * interval '1 minute'"
    )
    await execute(peer.database, f"UPDATE rehost_links SET visited_at = {instant}")


async def rows_due(freezes: Freezes, which: RefreshFilter = MONTH) -> list[str]:
    """Return the keys of the rows that are due, in their order; as many as are counted."""
    standing = await freezes.standing()
    entries = [entry async for group in freezes.due("cases", which, standing) for entry in group]
    rows = dict(await execute(freezes.database, "SELECT entry, row_key FROM rehost_links"))
    assert len(entries) == sum((await freezes.count("cases", which, standing)).values())
    return [rows[entry] for entry in entries]


async def test_links_are_due_that_were_not_asked_for_so_long_the_longest_first(peer):
    freezes = await hold(peer, *(f"https://a.example/{number}.png" for number in range(4)))
    newer = "86400.0" if peer.database.is_sqlite else "interval '1 day'"
    await execute(peer.database, f"UPDATE rehost_links SET visited_at = visited_at - {newer} WHERE row_key = '3'")

    assert await rows_due(freezes) == ["3", "1", "2", "4"]
    assert await rows_due(freezes, RefreshFilter(101 * 86_400.0)) == []
    assert await rows_due(freezes, RefreshFilter(0.0, keys=["2", "9"])) == ["2"]
    assert await rows_due(freezes, RefreshFilter(0.0, hosts=["b.example"])) == []


async def test_groups_of_links_that_were_asked_for_at_once_neither_repeat_nor_omit_any(peer, monkeypatch):
    monkeypatch.setattr(module, "GROUP", 2)
    freezes = await hold(peer, *(f"https://a.example/{number}.png" for number in range(7)))
    await execute(peer.database, "UPDATE rehost_links SET visited_at = (SELECT min(visited_at) FROM rehost_links)")

    assert await rows_due(freezes) == list("1234567")


async def test_links_whose_copies_are_of_a_former_link_are_left_to_a_run(peer):
    freezes = await hold(peer, "https://a.example/1.png", "https://a.example/2.png")
    await execute(peer.database, "UPDATE rehost_links SET held_url = 'https://a.example/0.png' WHERE row_key = '1'")

    assert await rows_due(freezes) == ["2"]


async def test_a_frozen_origin_is_not_asked_however_its_links_spell_it(peer):
    freezes = await hold(
        peer, "https://a.example/1.png", "HTTPS://A.example:443/2.png", "http://a.example/3.png", "https://b.example/4"
    )

    await freezes.add(freeze())

    assert await rows_due(freezes) == ["3", "4"]
    await freezes.decide(["https://a.example"], Decision.KEEP)
    assert await rows_due(freezes) == ["3", "4"]


async def test_links_of_an_accepted_origin_are_due_at_once_if_they_were_asked_for_before(peer):
    freezes = await hold(peer, "https://a.example/1.png", "https://a.example/2.png")
    await ask_before(peer, -99)
    assert await rows_due(freezes) == []
    await freezes.add(freeze())

    await freezes.decide(["https://a.example"], Decision.ACCEPT)

    standing = await freezes.standing()
    assert (standing.frozen, list(standing.accepted)) == (set(), ["https://a.example"])
    decided_at = standing.accepted["https://a.example"]
    assert standing.is_accepted("https://a.example", decided_at - timedelta(seconds=1))
    assert not standing.is_accepted("https://a.example", decided_at)
    assert await rows_due(freezes) == ["1", "2"]
    await freezes.end_accepted()
    assert len(await freezes.all()) == 1
    await ask_before(peer, -2)
    assert await rows_due(freezes) == []
    await freezes.end_accepted()
    assert await freezes.all() == []


async def test_a_freeze_is_read_as_it_was_written_and_a_new_one_takes_its_place(peer):
    freezes = Freezes(peer.database)
    await freezes.add(freeze())
    [read] = await freezes.all()

    assert (read.evidence, read.answers, read.bad, read.examples) == ("smaller 3, gone 1", 40, 4, [EXAMPLE, GONE])
    assert (read.host, read.is_open, read.decided_at) == ("a.example", True, None)
    await freezes.decide(["https://a.example"], Decision.KEEP)
    [read] = await freezes.all()
    assert (read.is_open, read.decision, read.decided_at is None) == (False, Decision.KEEP, False)
    await freezes.add(freeze())
    [read] = await freezes.all()
    assert (read.is_open, read.decided_at) == (True, None)


async def test_what_is_known_of_a_copy_says_how_the_visit_before_ended(peer):
    freezes = await hold(peer, "https://a.example/1.png")
    [task] = await peer.ledger.leases.lease_held([1])
    before = await freezes.former(task.entry)
    await peer.record(2, [Unchanged(task, reason=Reason.GONE, evidence="status 404")])

    after = await freezes.former(task.entry)

    assert (before.width, before.height, before.reason, before.is_rescued) == (4, 3, None, False)
    assert after.reason == "gone"
    assert after.asked_at > before.asked_at


@pytest.mark.parametrize("only_changes", [True, False])
async def test_a_held_link_is_leased_with_its_validator_where_only_changes_are_wanted(peer, only_changes):
    await hold(peer, "https://a.example/1.png")
    await execute(peer.database, """UPDATE rehost_links SET etag = '"x"'""")

    [task] = await peer.ledger.leases.lease_held([1], only_changes=only_changes)

    assert (task.validator is not None, task.has_own_copy) == (only_changes, True)


async def test_answers_of_several_refreshes_add_up_until_they_are_old_or_their_origin_freezes(peer):
    freezes = Freezes(peer.database)
    await freezes.add_answers([("https://a.example", 10, 1), ("https://b.example", 7, 0)])
    await freezes.add_answers([("https://a.example", 5, 2)])

    assert await freezes.answers_before("https://a.example") == (15, 3)
    assert await freezes.answers_before("https://b.example") == (7, 0)
    assert await freezes.answers_before("https://c.example") == (0, 0)
    await freezes.add(freeze())
    assert await freezes.answers_before("https://a.example") == (0, 0)
    month = f"{31 * 86_400.0}" if peer.database.is_sqlite else "interval '31 days'"
    await execute(peer.database, f"UPDATE rehost_answers SET since = since - {month}")
    assert await freezes.answers_before("https://b.example") == (0, 0)
    await freezes.add_answers([("https://b.example", 1, 1)])
    assert await freezes.answers_before("https://b.example") == (1, 1)
