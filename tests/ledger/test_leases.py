"""Leases: one link, one worker; what dead workers leased is freed. On both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.databases import (
    CASES,
    add_cases,
    another_peer,
    execute,
    open_database,
    open_peer,
    open_transaction,
    stored,
)

from rehost.hosts.shares import HostShares
from rehost.ledger import leases, migrate
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
    assert await peer.ledger.due.leased("cases") == 1


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

        assert await peer.ledger.leases.renew(tasks) == []
        assert await peer.lease_all() == []


async def test_renewing_returns_the_leases_that_another_worker_has_now(database_url, peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    async with another_peer(database_url, "slow", lease_seconds=-1.0) as slow:
        tasks = await slow.lease_all()
        assert await peer.ledger.leases.lease("cases", "a.example", 1) == []  # its lease has ended: it is a suspect now
        [taken] = await peer.ledger.leases.lease_suspects("cases")

        assert [task.entry for task in await slow.ledger.leases.renew(tasks)] == [taken.entry]


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


# --- marks: links that are due longer than those that were leased last


@pytest.fixture
async def many(peer, monkeypatch):
    """A worker that has leased the links 10 and 11 of 20 last; those before are due no more."""
    monkeypatch.setattr(leases, "SWEEP", timedelta(hours=1))  # however busy the machine is
    await add_cases(peer.database, [f"https://a.example/{number}.png" for number in range(1, 21)])
    await peer.note()
    assert await lease_entries(peer, 9) == list(range(1, 10))
    assert await lease_entries(peer, 2) == [10, 11]
    return peer


async def lease_entries(peer, limit: int = 2) -> list[int]:
    return sorted(task.entry for task in await peer.ledger.leases.lease("cases", HOST, limit))


async def put_first(database, entry: int) -> None:
    """Let a link be due longer than all others, as after a transaction that commits late."""
    ago = "86400" if database.is_sqlite else "interval '1 day'"
    sql = f"UPDATE rehost_links SET state = 'wanted', due_at = noted_at - {ago} WHERE entry = {entry}"
    await execute(database, sql)


async def test_leases_begin_behind_the_last_ones_even_if_an_earlier_link_is_due_meanwhile(many):
    await put_first(many.database, 3)

    assert await lease_entries(many) == ([3, 12] if many.database.is_sqlite else [12, 13])


async def test_an_earlier_link_is_leased_once_nothing_is_due_behind_the_last_ones(many):
    await put_first(many.database, 3)

    leased = [entry for _ in range(3) for entry in await lease_entries(many, 20)]

    assert sorted(leased) == [3, *range(12, 21)]
    assert await lease_entries(many) == []


async def test_an_earlier_link_is_leased_after_a_minute_though_others_are_due(many, monkeypatch):
    await put_first(many.database, 3)
    monkeypatch.setattr(leases, "SWEEP", timedelta(0))  # the minute is over

    leased = [*await lease_entries(many), *await lease_entries(many)]

    assert 3 in leased


@pytest.fixture
async def two(postgres, postgres_database):
    """A worker on PostgreSQL with six due links, and the URL for other programs."""
    url = postgres.url(postgres_database)
    async with open_database(url) as database:
        await execute(database, CASES)
        await migrate(database)
        peer = await open_peer(database)
        await add_cases(database, [f"https://a.example/{number}.png" for number in range(1, 7)])
        await peer.note()
        yield peer, url


async def test_links_whose_lease_another_worker_rolls_back_are_leased_in_the_end(two):
    peer, url = two
    taking = "UPDATE rehost_links SET state = 'leased', due_at = now() + interval '2 minutes' WHERE entry < 4"
    async with open_transaction(url, taking, commits=False):
        assert await lease_entries(peer) == [4, 5]

    assert [await lease_entries(peer) for _ in range(4)] == [[6], [1, 2], [3], []]


async def test_links_that_are_committed_later_than_they_are_due_are_leased_in_the_end(two):
    peer, url = two
    adding = (
        "INSERT INTO rehost_links (source, row_key, position, url, host, state, due_at, noted_at)"
        f" SELECT 'cases', n::text, 0, '{A}', '{HOST}', 'wanted', now() - interval '1 hour', now()"
        " FROM generate_series(101, 103) AS numbers(n)"
    )
    async with open_transaction(url, adding):
        assert await lease_entries(peer, 5) == [1, 2, 3, 4, 5]

    assert [await lease_entries(peer) for _ in range(4)] == [[6], [7, 8], [9], []]


async def test_marks_are_of_no_consequence_once_the_clock_of_the_database_is_put_back(two):
    peer, url = two
    await execute(peer.database, "CREATE TABLE ahead AS SELECT interval '400 days' AS by")
    await execute(
        peer.database,
        "CREATE FUNCTION statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql"
        " AS 'SELECT pg_catalog.statement_timestamp() + by FROM ahead'",
    )
    name = peer.database.place.database
    await execute(peer.database, f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    async with another_peer(url, "other") as other:
        await execute(other.database, "UPDATE rehost_links SET due_at = statement_timestamp()")
        assert await lease_entries(other, 2) == [1, 2]
        await execute(other.database, "UPDATE ahead SET by = '0'")
        await other.note()

        assert [await lease_entries(other, 3) for _ in range(3)] == [[3], [4, 5, 6], []]  # 1 and 2 are suspects


@pytest.mark.parametrize("how", ["--retry", "given back", "taken in late"])
async def test_a_link_that_comes_to_be_due_again_is_leased(many, database_url, how):
    first = await many.ledger.leases.lease("cases", HOST, 1)
    match how:
        case "--retry":
            await many.record(1, [Deferred(task, Reason.TIMED_OUT, "30 s", 3600.0) for task in first])
            await many.ledger.deferrals.forget_waits("cases")
        case "given back":
            await many.ledger.leases.release(first)
        case _:
            await execute(many.database, "UPDATE ad_cases SET main_image = main_image || '?2' WHERE case_id = 12")
            async with another_peer(database_url, "other") as other:
                await other.note()

    leased = [entry for _ in range(10) for entry in await lease_entries(many)]

    assert sorted(leased) == list(range(12, 21))


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
    assert await peer.ledger.leases.hosts("cases") == []


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
    await peer.ledger.deferrals.forget_waits("cases")

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
