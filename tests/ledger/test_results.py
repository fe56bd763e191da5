"""Outcomes are recorded, and held copies that may be decoys are made due; on both databases."""

from __future__ import annotations

from tests.databases import add_cases, execute, execute_in_ledger, hold_apart, stored

from rehost.ledger.reports import Queries
from rehost.model import Link, State, Task, Unchanged, Validator

A = "https://a.example/1.png"
B = "https://b.example:8443/2.png"
NOTICE = "e" * 64
LINKS = ["https://a.example/1", "https://a.example/2", "https://a.example/3", "https://b.example/4"]


async def test_a_stored_link_is_held_and_its_row_is_written(peer):
    await add_cases(peer.database, [A])
    await peer.note()

    await peer.hold_all()

    tally = await peer.ledger.due.counts("cases")
    assert (tally.present, tally.held, tally.due, tally.later) == (1, 1, 0, 0)
    assert await peer.locals() == {1: "/static/images/1/main_image.png"}
    assert await peer.ledger.leases.hosts("cases") == []


async def test_a_link_that_changes_while_it_is_leased_does_not_get_the_old_image(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    [task] = await peer.lease_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await peer.note()

    assert await peer.record(1, [stored(task)]) == set()
    assert await peer.locals() == {1: None}


async def test_invariant_2_an_overtaken_link_waits_for_the_next_sync(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    [task] = await peer.lease_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)

    await peer.record(1, [stored(task)])

    assert await peer.locals() == {1: None}
    assert await peer.lease_all() == []
    await peer.note()
    [again] = await peer.lease_all()
    assert again.link.url == B


DUE = "UPDATE rehost_links SET state = 'wanted', due_at = noted_at"


async def test_an_unchanged_link_keeps_its_copy_and_the_new_validator(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    await execute(peer.database, DUE)
    [task] = await peer.lease_all()

    await peer.record(1, [Unchanged(task, Validator('"x"', None))])

    [row] = await execute(peer.database, "SELECT state, etag FROM rehost_links")
    assert row == ("held", '"x"')


async def test_a_link_whose_copy_is_lost_while_it_is_found_unchanged_is_wanted_again(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    await execute(peer.database, DUE)
    [task] = await peer.lease_all()
    await peer.compare([])

    await peer.record(1, [Unchanged(task)])

    entry = await peer.ledger.due.entry("cases", "1", 0)
    assert (entry.state, entry.copy, entry.is_due) == (State.WANTED, None, True)


async def test_a_commit_whose_answer_was_lost_is_recognised(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    [task] = await peer.lease_all()
    outcome = stored(task)
    await peer.record(1, [outcome])

    settled = await peer.ledger.database.transact(
        lambda transaction: peer.ledger.results.already_recorded(transaction, [outcome])
    )

    assert settled == {task.entry}
    assert await peer.record(1, [outcome]) == set()


async def test_what_was_recorded_for_a_row_that_had_changed_is_reverted(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold_apart(apart, write=True)
    await execute(apart.database, "UPDATE ad_cases SET main_image = :url", url=A + "?2")
    await apart.note()
    [task] = await apart.lease_all()
    outcome = stored(task, digest="e" * 64)
    written = {task.link: task.link.local_url}
    await apart.ledger.database.transact(
        lambda transaction: apart.ledger.results.record(transaction, 1, [outcome], written)
    )

    await apart.ledger.results.revert([outcome])

    assert await apart.ledger.reconcile.held_digests(["1/main_image.png"]) == {"1/main_image.png": "d" * 64}
    await execute(apart.database, "UPDATE ad_cases SET main_image = :url", url=A)
    assert (await apart.note()).changed == 1
    [again] = await apart.lease_all()
    assert (again.link.url, again.copy and again.copy.digest) == (A, "d" * 64)


async def test_a_late_revert_changes_nothing(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold_apart(apart, write=True)
    [standing] = await execute_in_ledger(apart, "SELECT fence FROM rehost_links")
    task = Task(1, standing[0] - 1, Link("cases", "1", 0, A, None, None), "a.example", 1)

    await apart.ledger.results.revert([stored(task)])

    assert await execute_in_ledger(apart, "SELECT state FROM rehost_links") == [("held",)]


# --- decoys


async def hold_with_notice(peer, run: int) -> None:
    await add_cases(peer.database, LINKS)
    await peer.note()
    tasks = await peer.lease_all()
    digests = {"1": NOTICE, "2": NOTICE, "3": "f" * 64, "4": NOTICE}
    await peer.record(run, [stored(task, digests[task.link.row_key]) for task in tasks])


async def test_digests_that_several_links_of_one_host_share_are_found(peer):
    await hold_with_notice(peer, 1)

    found = await peer.ledger.results.shared_digests("cases", [NOTICE, "f" * 64, "0" * 64])

    assert {place: [link.row_key for link in links] for place, links in found.items()} == {
        ("a.example", NOTICE): ["1", "2"]
    }


async def test_suspected_copies_make_their_links_due_and_stay_where_they_are(peer):
    await hold_with_notice(peer, 1)
    results = peer.ledger.results
    found = await results.copies_to_examine("cases", "a.example", NOTICE)
    assert [link.url for link in found.values()] == [LINKS[0], LINKS[1]]
    first, second = found

    assert await results.suspect(NOTICE, [first], [second]) == 1

    assert await results.copies_to_examine("cases", "a.example", NOTICE) == {}  # for a month
    reports = [await Queries(peer.database).link("cases", key) for key in ("1", "2")]
    assert [(each.state, each.digest) for each in reports if each] == [(State.WANTED, NOTICE), (State.HELD, NOTICE)]
    assert list((await peer.locals()).values()) == [f"/static/images/{n}/main_image.png" for n in (1, 2, 3, 4)]
    (task,) = await peer.ledger.leases.lease("cases", "a.example", 9)
    assert (task.has_own_copy, task.copy.digest) == (True, NOTICE)
    assert await results.suspect(NOTICE, [first], []) == 0  # a worker is visiting it


async def test_suspect_that_is_left_as_it_is_is_held_again(peer):
    await hold_with_notice(peer, 1)
    found = await peer.ledger.results.copies_to_examine("cases", "a.example", NOTICE)
    await peer.ledger.results.suspect(NOTICE, list(found), [])
    tasks = await peer.ledger.leases.lease("cases", "a.example", 9)

    await peer.record(2, [Unchanged(task) for task in tasks])

    assert (await peer.ledger.due.counts("cases")).held == 4
    assert await peer.ledger.results.copies_to_examine("cases", "a.example", NOTICE) == {}


async def test_copy_of_a_former_link_is_examined_under_the_url_that_it_came_from(peer):
    await hold_with_notice(peer, 1)
    await execute(peer.database, "UPDATE ad_cases SET main_image = 'https://c.example/5' WHERE case_id = 2")
    await peer.note()

    found = await peer.ledger.results.copies_to_examine("cases", "a.example", NOTICE)

    assert [link.url for link in found.values()] == LINKS[:2]


async def test_lost_copy_is_no_longer_a_suspect(peer):
    await hold_with_notice(peer, 1)
    found = await peer.ledger.results.copies_to_examine("cases", "a.example", NOTICE)
    await peer.ledger.results.suspect(NOTICE, list(found), [])
    await peer.ledger.reconcile.mark_missing("cases", "1", 0, "1/main_image.png")

    tasks = await peer.ledger.leases.lease("cases", "a.example", 9)

    assert {task.link.row_key: task.has_own_copy for task in tasks} == {"1": False, "2": True}


async def test_the_bytes_of_all_copies_are_summed_by_source_and_host(peer):
    await add_cases(peer.database, [f"https://{host}.example/{number}.png" for number in range(3) for host in "ab"])
    await peer.note()
    await peer.hold_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = NULL WHERE case_id = 1")
    await execute(peer.database, "UPDATE ad_cases SET main_image = 'https://a.example/new.png' WHERE case_id = 3")
    await peer.note()  # the copies of a link that is gone, or has changed, are still there
    found = {("stale", "stale"): 1}

    await peer.ledger.results.sizes(lambda source, host, size: found.update({(source, host): size}), found.clear)

    assert found == {("cases", "a.example"): 15, ("cases", "b.example"): 15}
