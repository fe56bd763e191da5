"""Leases: one link, one worker; what dead workers leased is freed. On both databases."""

from __future__ import annotations

import asyncio

import pytest
from tests.databases import add_cases, another_peer, execute, stored

from rehost.hosts.shares import HostShares
from rehost.ledger import leases
from rehost.model import Deferred, Reason, State, Unchanged

A = "https://a.example/1.png"
B = "https://b.example:8443/2.png"
HOST = "a.example"


async def test_a_task_has_the_link_exactly_as_its_row_has_it(peer):
    await add_cases(peer.database, ["HTTPS://A.Example:443/ä.png "])
    await peer.note()

    [task] = await peer.ledger.leases.lease("cases", "a.example", 5)

    assert task.link.url == "HTTPS://A.Example:443/ä.png "
    assert task.link.row_key == "1"
    assert task.link.page_url == "https://www.example.com/1"
    assert (task.attempt, task.copy, task.found, task.validator) == (1, None, None, None)


async def test_the_task_of_a_changed_link_has_the_held_copy_and_no_validator(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await peer.note()

    [task] = await peer.lease_all()

    assert task.copy is not None
    assert task.copy.key == "1/main_image.png"
    assert task.validator is None


async def test_an_announced_digest_is_handed_out_after_its_run_died(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await peer.note()
    [task] = await peer.lease_all()
    await peer.ledger.results.announce_replacements([stored(task, "e" * 64)])
    await peer.ledger.leases.release([task])

    [again] = await peer.lease_all()

    assert (again.found, again.pending) == ("1/main_image.png", "e" * 64)


async def test_a_leased_link_is_not_leased_again(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.lease_all()

    again = await peer.ledger.leases.lease("cases", "a.example", 5)

    assert again == []
    assert (await peer.ledger.due.counts("cases")).leased == 1


async def test_a_released_link_is_due_and_not_counted_as_visited(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.ledger.leases.release(await peer.lease_all())

    [task] = await peer.lease_all()

    assert task.attempt == 1


async def test_invariant_4_any_worker_may_take_an_ended_lease_and_a_late_outcome_is_refused(peer, database_url):
    await add_cases(peer.database, [A])
    await peer.note()
    async with another_peer(database_url, "slow", lease_seconds=-1.0) as slow:
        late = await slow.lease_all()
        [taken] = await peer.lease_all()

        ours = await slow.record(1, [stored(task, "e" * 64) for task in late])

    assert ours == set()
    assert taken.fence > late[0].fence
    assert await peer.locals() == {1: None}
    assert await peer.record(1, [stored(taken)]) == {taken.entry}


async def test_an_outcome_is_recorded_after_its_lease_ended_if_no_other_worker_took_it(database_url, peer):
    await add_cases(peer.database, [A])
    await peer.note()
    async with another_peer(database_url, "slow", lease_seconds=-1.0) as slow:
        [task] = await slow.lease_all()

        assert await slow.record(1, [stored(task)]) == {task.entry}


async def test_a_renewed_lease_does_not_end(database_url, peer):
    await add_cases(peer.database, [A])
    await peer.note()
    async with another_peer(database_url, "slow", lease_seconds=-1.0) as slow:
        tasks = await slow.lease_all()
        await peer.ledger.leases.renew(tasks)

        assert await peer.lease_all() == []


async def test_invariant_4_four_workers_never_lease_the_same_link(database_url, peer):
    await add_cases(peer.database, [f"https://a.example/{number}.png" for number in range(300)])
    await peer.note()

    async def claim(name: str) -> list[int]:
        mine: list[int] = []
        async with another_peer(database_url, name) as worker:
            while tasks := await worker.ledger.leases.lease("cases", "a.example", 7):
                mine += [task.entry for task in tasks]
        return mine

    claimed = await asyncio.gather(*(claim(f"worker {number}") for number in range(4)))

    everything = [entry for each in claimed for entry in each]
    assert len(everything) == 300
    assert len(set(everything)) == 300


async def test_one_link_is_leased_and_no_other_worker_gets_it(database_url, peer):
    await add_cases(peer.database, [A, A + "?2"])
    await peer.note()

    task = await peer.ledger.leases.lease_one("cases", "2", 0)

    assert (task.link.row_key, task.attempt) == ("2", 1)
    async with another_peer(database_url, "other") as other:
        assert await other.ledger.leases.lease_one("cases", "2", 0) is None
        assert [each.link.row_key for each in await other.lease_all()] == ["1"]
    entry = await peer.ledger.due.entry("cases", "2", 0)
    assert (entry.state, entry.is_due) == (State.LEASED, False)


async def test_a_waiting_link_is_not_leased(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    [task] = await peer.lease_all()
    await peer.record(1, [Deferred(task, Reason.THROTTLED, "429", 600.0)])

    await peer.ledger.sync.take_in_row("cases", "1", peer.catalogue.row("1"))
    entry = await peer.ledger.due.entry("cases", "1", 0)

    assert (entry.state, entry.reason, entry.is_due) == (State.DEFERRED, Reason.THROTTLED, False)
    assert 500 < entry.wait_seconds <= 600
    assert await peer.ledger.leases.lease_one("cases", "1", 0) is None


# --- dead workers


async def test_the_leases_of_a_dead_worker_are_due_at_once(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    [task] = await peer.ledger.leases.lease("cases", HOST, 5)
    dead = HostShares(peer.database, worker="worker", concurrency=5, lease_seconds=600)
    await dead.take({HOST: 5}, {})

    freed = await peer.ledger.leases.release_dead_workers(lambda name: name == "worker")

    assert freed == 1
    [again] = await peer.lease_all()
    assert again.fence > task.fence


async def test_the_leases_of_a_worker_that_died_before_its_first_heartbeat_are_due_at_once(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.ledger.leases.lease("cases", HOST, 5)

    freed = await peer.ledger.leases.release_dead_workers(lambda _name: True)

    assert freed == 1
    assert len(await peer.lease_all()) == 1


async def die(peer, database_url, name: str, lease) -> list[int]:
    """Let another worker lease and die; return which entries it had, by their numbers."""
    async with another_peer(database_url, name) as worker:
        tasks = await lease(worker)
    await peer.ledger.leases.release_dead_workers(lambda each: each == name)
    return [task.entry for task in tasks]


async def deaths_of(peer) -> dict[int, tuple[int, str, int]]:
    rows = await execute(peer.database, "SELECT entry, deaths, state, attempts FROM rehost_links WHERE deaths > 0")
    return {row[0]: row[1:] for row in rows}


def suspects(worker):
    return worker.ledger.leases.lease_suspects("cases")


async def test_links_of_a_dead_worker_are_leased_apart_and_not_counted_as_visited(peer, database_url):
    await add_cases(peer.database, [A, B, A + "?3"])
    await peer.note()
    had = await die(peer, database_url, "one", lambda worker: worker.ledger.leases.lease("cases", HOST, 5))

    others = [
        *await peer.ledger.leases.lease("cases", HOST, 5),
        *await peer.ledger.leases.lease("cases", "b.example", 5),
    ]
    apart = await suspects(peer)

    assert [task.link.url for task in others] == [B]
    assert [task.entry for task in apart] == had
    assert {task.attempt for task in apart} == {1}
    assert await peer.ledger.due.hosts("cases") == []


async def test_a_link_that_killed_four_workers_is_deferred_and_no_other_one(peer, database_url):
    await add_cases(peer.database, [f"https://a.example/{number}.png" for number in range(30)])
    await peer.note()

    all_of_them = await die(peer, database_url, "one", lambda worker: worker.lease_all())
    few = await die(peer, database_url, "two", suspects)
    assert len(few) == leases.SUSPECTS < len(all_of_them) == 30
    rest = await suspects(peer)  # those with one death come first
    assert len(rest) == 10
    await peer.record(1, [stored(task) for task in rest])
    [culprit] = await die(peer, database_url, "three", suspects)

    assert (await deaths_of(peer))[culprit] == (3, "wanted", 0)
    for _ in range(leases.SUSPECTS - 1):  # those with fewer deaths come first
        [alone] = await suspects(peer)
        await peer.record(1, [stored(alone)])
    assert await die(peer, database_url, "four", suspects) == [culprit]

    assert (await deaths_of(peer))[culprit] == (4, "deferred", 1)
    entry = await peer.ledger.due.entry("cases", str(culprit), 0)
    assert (entry.reason, entry.is_due) == (Reason.WORKER_DIED, False)
    assert 80_000 < entry.wait_seconds <= 86_400
    assert await suspects(peer) == []
    assert list(await deaths_of(peer)) == [culprit]


async def test_a_link_that_kills_again_after_its_day_waits_for_two(peer, database_url):
    await add_cases(peer.database, [A])
    await peer.note()
    for name in ("one", "two", "three", "four"):
        await die(peer, database_url, name, lambda worker: worker.lease_all())
    await peer.ledger.due.forget_waits("cases")

    assert await peer.ledger.leases.lease("cases", HOST, 5) == []
    assert await die(peer, database_url, "five", suspects) == [1]

    entry = await peer.ledger.due.entry("cases", "1", 0)
    assert 2 * 80_000 < entry.wait_seconds <= 2 * 86_400


async def test_an_ended_lease_counts_as_a_death(peer, database_url):
    await add_cases(peer.database, [A, A + "?2"])
    await peer.note()
    async with another_peer(database_url, "slow", lease_seconds=-1.0) as slow:
        for _ in range(3):
            await slow.lease_all()

    left = await peer.lease_all()

    deaths = await deaths_of(peer)
    assert sorted(each[0] for each in deaths.values()) == [2, 3]
    assert [deaths[task.entry][0] for task in left] == [2]


@pytest.mark.parametrize("outcome", ["stored", "unchanged", "deferred", "given back"])
async def test_an_outcome_ends_the_suspicion(peer, database_url, outcome):
    await add_cases(peer.database, [A])
    await peer.note()
    await die(peer, database_url, "one", lambda worker: worker.lease_all())
    [task] = await suspects(peer)

    match outcome:
        case "stored":
            await peer.record(1, [stored(task)])
        case "unchanged":
            await peer.record(1, [Unchanged(task)])
        case "deferred":
            await peer.record(1, [Deferred(task, Reason.TIMED_OUT, "", 60.0)])
        case _:
            await peer.ledger.leases.release([task])

    assert bool(await deaths_of(peer)) == (outcome == "given back")


async def test_a_changed_link_is_no_suspect(peer, database_url):
    await add_cases(peer.database, [A])
    await peer.note()
    await die(peer, database_url, "one", lambda worker: worker.lease_all())
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)

    await peer.note()

    assert await deaths_of(peer) == {}


async def test_the_shares_of_a_dead_worker_are_free(peer):
    one = HostShares(peer.database, worker="one", concurrency=5, lease_seconds=600)
    two = HostShares(peer.database, worker="two", concurrency=5, lease_seconds=600)
    await one.take({HOST: 5}, {})

    await peer.ledger.leases.release_dead_workers(lambda name: name == "one")

    assert (await two.take({HOST: 5}, {}))[HOST].slots == 1


async def test_a_worker_that_ends_gives_its_shares_back(peer):
    one = HostShares(peer.database, worker="one", concurrency=5, lease_seconds=600)
    two = HostShares(peer.database, worker="two", concurrency=5, lease_seconds=600)
    await one.take({HOST: 5}, {})

    await one.leave()

    assert (await two.take({HOST: 5}, {}))[HOST].slots == 1


async def test_living_workers_keep_their_shares(peer):
    one = HostShares(peer.database, worker="one", concurrency=5, lease_seconds=600)
    two = HostShares(peer.database, worker="two", concurrency=5, lease_seconds=600)
    await one.take({HOST: 5}, {})

    assert await peer.ledger.leases.release_dead_workers(lambda _name: False) == 0
    assert (await two.take({HOST: 5}, {}))[HOST].slots == 0
