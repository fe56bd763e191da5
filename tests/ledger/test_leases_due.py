"""What is due and what waits, on both databases."""

from __future__ import annotations

import pytest
from tests.databases import add_cases, another_peer, execute, stored

from rehost.model import Deferred, Reason, Refused

A = "https://a.example/1.png"
B = "https://b.example:8443/2.png"


async def test_a_deferred_link_waits_and_comes_back(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    first, second = await peer.lease_all()

    await peer.record(1, [
        Deferred(first, Reason.THROTTLED, "429", 3600.0),
        Deferred(second, Reason.TIMED_OUT, "30 s", -1.0),
    ])  # fmt: skip

    tally = await peer.ledger.due.counts("cases")
    assert (tally.due, tally.later) == (1, 1)
    assert tally.next_due_seconds == pytest.approx(3600, abs=60)
    [again] = await peer.lease_all()
    assert (again.entry, again.attempt) == (second.entry, 2)


async def test_waits_are_forgotten_by_reason(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    first, second = await peer.lease_all()
    await peer.record(1, [Refused(first, Reason.GONE, "404", 9e5), Deferred(second, Reason.THROTTLED, "429", 3600.0)])

    assert await peer.ledger.due.forget_waits("cases", "gone") == 1
    assert [task.entry for task in await peer.lease_all()] == [first.entry]
    assert await peer.ledger.due.forget_waits("cases") == 1


async def test_the_wait_of_one_link_is_forgotten(peer):
    await add_cases(peer.database, [A, A + "?2", A + "?3"])
    await peer.note()
    held, deferred, refused = await peer.lease_all()
    await peer.record(1, [
        stored(held),
        Deferred(deferred, Reason.THROTTLED, "429", 3600.0),
        Refused(refused, Reason.GONE, "404", 7200.0),
    ])  # fmt: skip

    assert await peer.ledger.due.forget_wait("cases", refused.link.row_key) == 1
    assert await peer.ledger.due.forget_wait("cases", held.link.row_key) == 0
    assert await peer.ledger.due.forget_wait("cases", "99") == 0

    assert [task.entry for task in await peer.lease_all()] == [refused.entry]


async def test_all_links_of_a_host_are_deferred_unvisited(peer):
    await add_cases(peer.database, [A, A + "?2", B])
    await peer.note()

    deferred = await peer.ledger.due.defer_host("cases", "a.example", Reason.THROTTLED, "429", 3600.0)

    assert deferred == 2
    assert await peer.ledger.due.hosts("cases") == ["b.example"]


@pytest.mark.parametrize("how", ["by host", "by origin"])
async def test_a_lease_that_ended_without_an_outcome_is_no_visit_to_a_link_that_is_deferred(peer, database_url, how):
    await add_cases(peer.database, [A, "https://a.example:8443/2.png"])
    await peer.note()
    async with another_peer(database_url, "killed", lease_seconds=-1.0) as killed:
        tasks = await killed.lease_all()

    if how == "by host":
        deferred = await peer.ledger.due.defer_host("cases", "a.example", Reason.THROTTLED, "429", 3600.0)
    else:
        deferred = await peer.ledger.due.defer_origin(tasks[:1], Reason.THROTTLED, "429", 3600.0)

    rows = await execute(peer.database, "SELECT state, attempts FROM rehost_links WHERE state = 'deferred'")
    assert rows == [("deferred", 0)] * deferred
    assert deferred == (2 if how == "by host" else 1)
