"""What becomes of the leases and shares of workers that are known to be gone, on both databases."""

from __future__ import annotations

from tests.databases import add_cases

from rehost.hosts.shares import HostShares

A = "https://a.example/1.png"
HOST = "a.example"


async def test_leases_of_a_worker_that_is_gone_are_due_at_once(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    [task] = await desk.ledger.leases.lease("cases", HOST, 5)
    dead = HostShares(desk.database, worker="worker", concurrency=5, lease_seconds=600)
    await dead.take({HOST: 5}, {})

    freed = await desk.ledger.leases.release_dead_workers(lambda name: name == "worker")

    assert freed == 1
    [again] = await desk.ledger.leases.lease("cases", HOST, 5)
    assert again.fence > task.fence


async def test_leases_of_a_worker_that_died_before_its_first_sign_of_life_are_due_at_once(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.ledger.leases.lease("cases", HOST, 5)

    freed = await desk.ledger.leases.release_dead_workers(lambda _name: True)

    assert freed == 1
    assert len(await desk.ledger.leases.lease("cases", HOST, 5)) == 1


async def test_shares_of_a_worker_that_is_gone_are_free(desk):
    one = HostShares(desk.database, worker="one", concurrency=5, lease_seconds=600)
    two = HostShares(desk.database, worker="two", concurrency=5, lease_seconds=600)
    await one.take({HOST: 5}, {})

    await desk.ledger.leases.release_dead_workers(lambda name: name == "one")

    assert (await two.take({HOST: 5}, {}))[HOST].slots == 1


async def test_a_worker_that_ends_gives_its_shares_back(desk):
    one = HostShares(desk.database, worker="one", concurrency=5, lease_seconds=600)
    two = HostShares(desk.database, worker="two", concurrency=5, lease_seconds=600)
    await one.take({HOST: 5}, {})

    await one.leave()

    assert (await two.take({HOST: 5}, {}))[HOST].slots == 1


async def test_the_living_keep_what_they_hold(desk):
    one = HostShares(desk.database, worker="one", concurrency=5, lease_seconds=600)
    two = HostShares(desk.database, worker="two", concurrency=5, lease_seconds=600)
    await one.take({HOST: 5}, {})

    assert await desk.ledger.leases.release_dead_workers(lambda _name: False) == 0
    assert (await two.take({HOST: 5}, {}))[HOST].slots == 0
