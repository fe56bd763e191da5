"""What is due and what waits, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.databases import add_cases, another_peer, execute, stored

from rehost.hosts.shares import OPERATORS_PAUSE, HostShares, Resumed
from rehost.ledger import leases
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

    assert await peer.ledger.deferrals.forget_waits("cases", "gone") == 1
    assert [task.entry for task in await peer.lease_all()] == [first.entry]
    assert await peer.ledger.deferrals.forget_waits("cases") == 1


async def test_the_wait_of_one_link_is_forgotten(peer):
    await add_cases(peer.database, [A, A + "?2", A + "?3"])
    await peer.note()
    held, deferred, refused = await peer.lease_all()
    await peer.record(1, [
        stored(held),
        Deferred(deferred, Reason.THROTTLED, "429", 3600.0),
        Refused(refused, Reason.GONE, "404", 7200.0),
    ])  # fmt: skip

    assert await peer.ledger.deferrals.forget_wait("cases", refused.link.row_key) == 1
    assert await peer.ledger.deferrals.forget_wait("cases", held.link.row_key) == 0
    assert await peer.ledger.deferrals.forget_wait("cases", "99") == 0

    assert [task.entry for task in await peer.lease_all()] == [refused.entry]


async def test_all_links_of_a_host_are_deferred_unvisited(peer):
    await add_cases(peer.database, [A, A + "?2", B])
    await peer.note()

    deferred = await peer.ledger.deferrals.defer_host("cases", "a.example", Reason.THROTTLED, "429", 3600.0)

    assert deferred == 2
    assert await peer.ledger.leases.hosts("cases") == ["b.example"]


@pytest.mark.parametrize("how", ["by host", "by origin"])
async def test_a_lease_that_ended_without_an_outcome_is_no_visit_to_a_link_that_is_deferred(peer, database_url, how):
    await add_cases(peer.database, [A, "https://a.example:8443/2.png"])
    await peer.note()
    async with another_peer(database_url, "killed", lease_seconds=-1.0) as killed:
        tasks = await killed.lease_all()

    if how == "by host":
        deferred = await peer.ledger.deferrals.defer_host("cases", "a.example", Reason.THROTTLED, "429", 3600.0)
    else:
        deferred = await peer.ledger.deferrals.defer_origin(tasks[:1], Reason.THROTTLED, "429", 3600.0)

    rows = await execute(peer.database, "SELECT state, attempts FROM rehost_links WHERE state = 'deferred'")
    assert rows == [("deferred", 0)] * deferred
    assert deferred == (2 if how == "by host" else 1)


def shares_of(peer) -> HostShares:
    return HostShares(peer.database, worker="operator", concurrency=4, lease_seconds=60.0)


async def standing(peer):
    """Return the state, the reason and the evidence of each link."""
    rows = await execute(peer.database, "SELECT state, reason, evidence FROM rehost_links ORDER BY entry")
    return [tuple(row) for row in rows]


async def pause(peer, host: str = "a.example", seconds: float = 86400.0) -> int:
    """Pause a host as the operator, and let its due links wait as a run does."""
    await shares_of(peer).pause(host, seconds, OPERATORS_PAUSE)
    return await peer.ledger.deferrals.defer_host("cases", host, Reason.THROTTLED, OPERATORS_PAUSE, seconds)


async def test_a_retry_during_a_pause_changes_no_reason_and_no_evidence(peer):
    await add_cases(peer.database, [A, A + "?2", A + "?3"])
    await peer.note()
    tasks = {task.link.row_key: task for task in await peer.lease_all()}
    await peer.record(1, [
        Refused(tasks["1"], Reason.GONE, "status 404", 9e5),
        Deferred(tasks["2"], Reason.TIMED_OUT, "30 s", 3600.0),
    ])  # fmt: skip
    await peer.ledger.leases.release([tasks["3"]])

    for _ in range(2):
        await peer.ledger.deferrals.forget_waits("cases")
        await peer.ledger.leases.release(await peer.lease_all())  # the run learns of the pause, and gives them back
        assert await pause(peer) == 3

    assert [each[1:] for each in await standing(peer)] == [
        ("gone", "status 404"),
        ("timed-out", "30 s"),
        ("throttled", OPERATORS_PAUSE),
    ]


async def test_links_that_were_refused_stay_so_while_their_host_is_paused(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.record(1, [Refused(task, Reason.GONE, "status 404", 9e5) for task in await peer.lease_all()])
    await peer.ledger.deferrals.forget_waits("cases")

    assert await pause(peer) == 1

    assert await standing(peer) == [("refused", "gone", "status 404")]


async def test_a_pause_that_ends_soon_can_be_left_out(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    for host, seconds in (("a.example", 600.0), ("b.example", 7200.0)):
        await pause(peer, host, seconds)

    assert await peer.ledger.due.paused("cases", 3600.0) == {"b.example": 1}


async def test_links_that_wait_for_a_pause_are_due_when_it_is_ended_and_no_others(peer):
    await add_cases(peer.database, [A, A + "?2", B, "http://[::1]/1.png"])
    await peer.note()
    [visited] = await peer.ledger.leases.lease("cases", "a.example", 1)
    await peer.record(1, [Deferred(visited, Reason.TIMED_OUT, "30 s", 3600.0)])
    for host in ("a.example", "b.example", "::1"):
        await pause(peer, host)
    assert await peer.ledger.due.paused("cases") == {"::1": 1, "a.example": 1, "b.example": 1}

    resumed = [await shares_of(peer).resume(host) for host in ("a.example", "::1", "a.example")]

    assert resumed == [Resumed(True, 1), Resumed(True, 1), Resumed(False, 0)]
    assert await peer.ledger.leases.hosts("cases") == ["::1", "a.example"]
    assert await peer.ledger.due.paused("cases") == {"b.example": 1}
    assert len(await peer.ledger.leases.lease("cases", "a.example", 9)) == 1


async def test_a_link_that_was_visited_since_no_longer_waits_for_the_pause(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await pause(peer, seconds=-1.0)
    await peer.record(1, [Deferred(task, Reason.TIMED_OUT, "30 s", 3600.0) for task in await peer.lease_all()])

    assert await shares_of(peer).resume("a.example") == Resumed(False, 0)
    assert await peer.ledger.leases.hosts("cases") == []


async def test_pauses_of_a_hosts_origins_end_with_it(peer):
    shares = shares_of(peer)
    for name in ("http://[::1]:8080", "http://a.example", "https://b.example"):
        await shares.pause(name, 60.0, "no connection")

    assert [(await shares.resume(host)).was_paused for host in ("::1", "a.example", "c.example")] == [True, True, False]
    assert await shares.paused() == {"https://b.example"}


async def test_a_host_is_known_by_its_links_or_by_what_was_found_out(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    shares = shares_of(peer)
    await shares.allow("c.example", 3)

    assert [await shares.is_known(host) for host in ("a.example", "c.example", "b.example")] == [True, True, False]


async def test_a_link_without_a_scheme_is_deferred_with_the_origin_of_its_page(peer):
    await add_cases(peer.database, ["//a.example/1.png", "//a.example/2.png", "https://a.example/3.png"])
    await execute(peer.database, "UPDATE ad_cases SET source_url = 'http://www.a.example/' WHERE case_id < 3")
    await peer.note()
    tasks = await peer.lease_all()
    await peer.ledger.leases.release(tasks)
    met = [task for task in tasks if task.origin == "http://a.example"][:1]

    assert await peer.ledger.deferrals.defer_origin(met, Reason.UNREACHABLE, "port 80 is closed", 60.0) == 2

    [left] = await peer.lease_all()
    assert left.link.url == "https://a.example/3.png"


async def test_due_links_of_a_folder_are_deferred_and_no_others_of_the_host(peer):
    api, spelled = "https://a.example/api/", "https://A.example/x/../api/"
    links = [f"{api}1", f"{api}2?u=3", f"{spelled}4", f"{api}deeper/5", "https://a.example/6", f"{api}7", B]
    await add_cases(peer.database, links)
    await peer.note()
    tasks = {task.link.url: task for task in await peer.lease_all()}
    await peer.ledger.leases.release([task for url, task in tasks.items() if url != f"{api}7"])

    deferred = await peer.ledger.deferrals.defer_folder(
        [tasks[links[0]], tasks[links[2]]], Reason.THROTTLED, "status 429", 3600.0
    )

    assert deferred == 3
    assert {task.link.url for task in await peer.lease_all()} == {f"{api}deeper/5", "https://a.example/6", B}
    waiting = await execute(
        peer.database, "SELECT waits_for, count(*) FROM rehost_links GROUP BY 1 HAVING count(*) = 3"
    )
    assert (api, 3) in waiting


async def test_a_folder_that_has_all_due_links_of_its_host_is_left_to_the_host(peer):
    await add_cases(peer.database, ["https://a.example/api/1", "https://a.example/api/2", B])
    await peer.note()
    tasks = await peer.ledger.leases.lease("cases", "a.example", 1)
    await peer.ledger.leases.release(tasks)

    assert await peer.ledger.deferrals.defer_folder(tasks, Reason.THROTTLED, "status 429", 3600.0) is None
    assert await peer.ledger.leases.hosts("cases") == ["a.example", "b.example"]


async def look_again(peer, *, with_suspects: bool = False) -> list[str]:
    return list(await peer.ledger.leases.hosts("cases", with_suspects=with_suspects, again=True))


async def test_hosts_are_found_again_when_their_links_are_due_again_and_new_hosts_within_a_minute(peer, monkeypatch):
    monkeypatch.setattr(leases, "SWEEP", timedelta(hours=1))  # however busy the machine is
    await add_cases(peer.database, [A, B])
    await peer.note()
    assert await look_again(peer) == ["a.example", "b.example"]

    tasks = await peer.ledger.leases.lease("cases", "a.example", 5)
    assert await look_again(peer) == ["b.example"]
    await peer.ledger.leases.release(tasks)
    assert await look_again(peer) == ["a.example", "b.example"]

    await add_cases(peer.database, ["https://c.example/3.png"], 3)
    await peer.note()
    assert "a.example" in await look_again(peer)
    monkeypatch.setattr(leases, "SWEEP", timedelta(0))
    assert await look_again(peer) == ["a.example", "b.example", "c.example"]


async def test_suspects_are_found_again_where_they_count(peer, database_url, monkeypatch):
    monkeypatch.setattr(leases, "SWEEP", timedelta(hours=1))
    await add_cases(peer.database, [A])
    await peer.note()
    async with another_peer(database_url, "killed") as killed:
        await killed.lease_all()
        assert [await look_again(peer, with_suspects=each) for each in (False, True)] == [[], []]
        await peer.ledger.leases.release_dead_workers(lambda name: name == "killed")

    assert [await look_again(peer, with_suspects=each) for each in (False, True)] == [[], ["a.example"]]


async def test_a_link_that_is_due_before_all_that_was_leased_is_found_by_the_last_look_of_a_run(peer, monkeypatch):
    monkeypatch.setattr(leases, "SWEEP", timedelta(hours=1))
    await add_cases(peer.database, [A, A + "?2"])
    await peer.note()
    await look_again(peer)
    assert len(await peer.ledger.leases.lease("cases", "a.example", 2)) == 2
    await look_again(peer)
    await execute(peer.database, "UPDATE rehost_links SET state = 'wanted', due_at = noted_at WHERE entry = 1")
    assert await look_again(peer) == (["a.example"] if peer.database.is_sqlite else [])

    assert await peer.ledger.leases.hosts("cases", with_suspects=True) == ["a.example"]
    assert await look_again(peer) == ["a.example"]
