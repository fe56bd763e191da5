"""What PostgreSQL reads for the statements of a run: counted in buffers, which no load of the machine changes."""

from __future__ import annotations

from hashlib import sha256

import pytest
from tests.databases import counted_buffers, execute, make_ledger, open_database, open_transaction, stored

from rehost.ledger import migrate

HOST = "a.example"
GROUP = 100
READ = "SELECT count(*) FROM rehost_links"  # what takes the snapshot


@pytest.fixture
def postgres_url(postgres, postgres_database) -> str:
    return postgres.url(postgres_database)


@pytest.fixture
async def ledger(postgres_url):
    """A ledger on PostgreSQL that no autovacuum looks at."""
    async with open_database(postgres_url) as database:
        await migrate(database)
        await execute(database, "ALTER TABLE rehost_links SET (autovacuum_enabled = off)")
        yield make_ledger(database)


async def add_links(ledger, first: int, last: int, *, host: str = HOST) -> None:
    await execute(
        ledger.database,
        "INSERT INTO rehost_links (source, row_key, position, url, host, state, due_at, noted_at)"
        " SELECT 'cases', n::text, 0, 'https://' || CAST(:host AS text) || '/' || n, :host, 'wanted', now(), now()"
        f" FROM generate_series({first}, {last}) AS numbers(n)",
        host=host,
    )


async def hold_up_to(ledger, last: int) -> None:
    await execute(
        ledger.database,
        "UPDATE rehost_links SET state = 'held', key = row_key || '/main_image.png', held_url = url, size = 5,"
        f" digest = md5(row_key) || md5(url) WHERE entry <= {last} AND state = 'wanted'",
    )


async def settle_group(ledger, tasks) -> list[int]:
    """Ask what a run asks of the ledger for each group of pictures; return the buffers read for each statement."""
    outcomes = [stored(task, sha256(task.link.url.encode()).hexdigest()) for task in tasks]
    pairs = [(each.task.link, each.copy) for each in outcomes]
    with counted_buffers() as counted:
        await ledger.database.transact(lambda each: ledger.results.already_recorded(each, outcomes))
        await ledger.results.shared_digests("cases", [each.copy.digest for each in outcomes])
        await ledger.database.transact(lambda each: ledger.reconcile.lock_held(each, pairs))
    return counted


async def test_settling_reads_a_few_buffers_a_picture_however_many_are_held_since_the_last_statistics(ledger):
    await add_links(ledger, 1, 21_000)
    await execute(ledger.database, "ANALYZE rehost_links")  # nothing is held
    await hold_up_to(ledger, 20_000)
    tasks = await ledger.leases.lease("cases", HOST, GROUP)

    counted = await settle_group(ledger, tasks)

    assert len(counted) == 3
    assert max(counted) <= 10 * GROUP, counted


async def lease_counted(ledger) -> int:
    with counted_buffers() as counted:
        assert len(await ledger.leases.lease("cases", HOST, 20)) == 20
    return sum(counted)


async def test_leases_beside_an_old_snapshot_read_no_more_the_more_were_leased_since(ledger, postgres_url):
    await add_links(ledger, 1, 12_000)
    await execute(ledger.database, "ANALYZE rehost_links")
    async with open_transaction(postgres_url, READ, isolation="REPEATABLE READ"):
        first = await lease_counted(ledger)
        await ledger.leases.lease("cases", HOST, 10_000)
        for _ in range(48):
            await ledger.leases.lease("cases", HOST, 20)

        last = await lease_counted(ledger)

    assert last <= 2 * first


async def look_counted(ledger, *, with_suspects: bool, hosts=(HOST,)) -> int:
    with counted_buffers() as counted:
        assert await ledger.leases.hosts("cases", with_suspects=with_suspects, again=True) == list(hosts)
    return sum(counted)


@pytest.mark.parametrize("with_suspects", [False, True])
async def test_looks_for_due_links_beside_an_old_snapshot_read_no_more_the_more_were_leased_since(
    ledger, postgres_url, with_suspects
):
    await add_links(ledger, 1, 4_000)
    await add_links(ledger, 4_001, 4_020, host="z.example")
    await execute(ledger.database, "ANALYZE rehost_links")
    both, other = (HOST, "z.example"), make_ledger(ledger.database, "other")
    async with open_transaction(postgres_url, READ, isolation="REPEATABLE READ"):
        first = await look_counted(ledger, with_suspects=with_suspects, hosts=both)
        assert len(await other.leases.lease("cases", HOST, 3_000)) == 3_000
        await look_counted(ledger, with_suspects=with_suspects, hosts=both)  # reads what others leased, once

        some = await look_counted(ledger, with_suspects=with_suspects, hosts=both)
        await ledger.leases.lease("cases", HOST, 1_000)
        assert await ledger.leases.lease("cases", HOST, 20) == []
        await look_counted(ledger, with_suspects=with_suspects, hosts=both[1:])
        none = await look_counted(ledger, with_suspects=with_suspects, hosts=both[1:])

    assert max(some, none) <= 2 * first, (first, some, none)
