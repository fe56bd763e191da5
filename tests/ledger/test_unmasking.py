"""Bytes under several links, and what becomes of copies that prove to be decoys."""

from __future__ import annotations

from tests.databases import add_cases, execute, stored

from rehost.catalogue.table import Clearing
from rehost.hotlink.repository import OriginRepository
from rehost.ledger import Queries
from rehost.model import Reason, State
from rehost.run.undo import Undone, undo

NOTICE = "e" * 64
LINKS = ["https://a.example/1", "https://a.example/2", "https://a.example/3", "https://b.example/4"]


async def hold(desk, run: int) -> None:
    await add_cases(desk.database, LINKS)
    await desk.note()
    tasks = await desk.lease_all()
    digests = {"1": NOTICE, "2": NOTICE, "3": "f" * 64, "4": NOTICE}
    await desk.record(run, [stored(task, digests[task.link.row_key]) for task in tasks])


async def unmask(desk, run: int):
    async def work(transaction):
        found = await desk.ledger.results.refuse_decoys(
            transaction, run, "cases", "a.example", NOTICE, evidence="given for anything", wait_seconds=9e5
        )
        cleared = await desk.catalogue.clear([Clearing(link, copy.key) for link, copy in found], transaction)
        await desk.ledger.history.add_changes(
            transaction, run, [(link, before, None) for link, before in cleared.items()]
        )
        return found

    return await desk.ledger.transact(work)


async def test_bytes_under_several_links_of_one_host_are_told(desk):
    await hold(desk, 1)

    found = await desk.ledger.results.shared_digests("cases", [NOTICE, "f" * 64, "0" * 64])

    assert {place: [link.row_key for link in links] for place, links in found.items()} == {
        ("a.example", NOTICE): ["1", "2"]
    }


async def test_an_unmasked_decoy_is_refused_on_its_host_and_its_rows_cleared(desk):
    await hold(desk, 1)

    found = await unmask(desk, 2)

    assert [(link.row_key, copy.key) for link, copy in found] == [("1", "1/main_image.png"), ("2", "2/main_image.png")]
    assert await unmask(desk, 2) == []
    first = await Queries(desk.database).link("cases", "1")
    assert first is not None
    assert (first.state, first.reason, first.key) == (State.REFUSED, Reason.DECOY, None)
    assert await desk.locals() == {
        1: None,
        2: None,
        3: "/static/images/3/main_image.png",
        4: "/static/images/4/main_image.png",
    }
    assert await desk.stale_rows() == []


async def test_a_decoy_of_the_link_before_goes_and_the_link_waits_on_unless_a_worker_is_at_it(desk):
    await hold(desk, 1)
    await execute(desk.database, "UPDATE ad_cases SET main_image = main_image || '?new' WHERE case_id = 1")
    await execute(desk.database, "UPDATE ad_cases SET main_image = 'https://c.example/5' WHERE case_id = 2")
    await desk.note()
    [task] = await desk.ledger.leases.lease("cases", "c.example", 1)
    locked = await unmask(desk, 2)
    await desk.ledger.leases.release([task])

    found = await unmask(desk, 2)

    assert [link.row_key for link, _ in locked] == ["1"]
    assert [link.row_key for link, _ in found] == ["2"]
    standings = [await Queries(desk.database).link("cases", key) for key in ("1", "2")]
    assert [(each.state, each.reason, each.key) for each in standings if each] == [(State.WANTED, None, None)] * 2
    assert list((await desk.locals()).values())[:2] == [None, None]


async def test_the_clearing_is_not_undone(desk):
    runs = desk.ledger.runs
    await hold(desk, await runs.begin("cases"))
    run = await runs.begin("cases")
    await unmask(desk, run)

    assert await undo(runs, run, desk.catalogue) == Undone(restored=0, left=0)
    assert (await desk.locals())[1] is None
    latest, _ = await Queries(desk.database).history("cases", "1")
    assert (latest.run, latest.after_url) == (run, None)


async def test_held_links_of_a_host_are_witnesses_one_for_each_picture(desk):
    await hold(desk, 1)
    await add_cases(desk.database, ["https://a.example/5"], first=5)
    await desk.note()
    origins = OriginRepository(desk.database, worker="one", lease_seconds=60.0)

    found = await origins.good_links("a.example")

    assert {each.digest for each in found} == {NOTICE, "f" * 64}
    assert {each.url for each in found} <= set(LINKS[:3])
    assert [each.url for each in await origins.good_links("b.example")] == [LINKS[3]]
    assert await origins.good_links("c.example") == []
