"""The life of a link in the ledger, on both databases."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from tests.databases import add_cases, another_desk, execute, make_ledger, stored

from rehost.ledger.reconcile import StoreComparison
from rehost.ledger.sync import SyncResult
from rehost.model import Deferred, Reason, Refused, Unchanged, Validator

A = "https://a.example/1.png"
B = "https://b.example:8443/2.png"


async def test_new_links_are_wanted_at_once(desk):
    await add_cases(desk.database, [A, B, None, "", "  ", "file:"])

    noted = await desk.note()

    assert noted == SyncResult(present=3, new=3, changed=0, vanished=0)
    assert set(await desk.ledger.due.hosts("cases")) == {"", "a.example", "b.example"}


async def test_junk_that_no_index_could_hold_as_a_host_is_noted_like_any_other_link(database, desk):
    random = Random(1)
    junk = "".join(chr(random.randrange(0x4E00, 0x9FA5)) for _ in range(1500))
    await add_cases(database, [f"http://{junk}/x.png", A])

    assert (await desk.note()).new == 2
    assert len(await desk.lease_all()) == 2


async def test_a_second_noting_finds_nothing_new(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()

    noted = await desk.note()

    assert noted == SyncResult(present=2, new=0, changed=0, vanished=0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_rows_and_links_are_joined_by_their_key_however_few_are_new_each_time(desk):
    """SQLite takes a table for a small one until it is told to look: it went through all rows for each link."""
    for first in (1, 31):
        await add_cases(desk.database, [f"{A}?{number}" for number in range(30)], first)
        await desk.note()

    plan = await execute(
        desk.database,
        "EXPLAIN QUERY PLAN SELECT entry FROM ad_cases JOIN rehost_links"
        " ON source = 'cases' AND row_key = CAST(case_id AS TEXT) AND position = 0"
        " WHERE state = 'held' AND present = 1 AND key IS NOT NULL AND url = CAST(main_image AS TEXT)"
        " AND NOT (main_image IS NULL OR trim(main_image) = '') AND case_id IS NOT NULL",
    )

    assert [step for *_, step in plan if "rehost_links" in step and "row_key=?" in step], plan


async def test_a_task_tells_the_link_as_the_row_has_it(desk):
    await add_cases(desk.database, ["HTTPS://User@A.Example/ä.png "])
    await desk.note()

    [task] = await desk.ledger.leases.lease("cases", "a.example", 5)

    assert task.link.url == "HTTPS://User@A.Example/ä.png "
    assert task.link.row_key == "1"
    assert task.link.page_url == "https://www.example.com/1"
    assert (task.attempt, task.copy, task.found, task.validator) == (1, None, None, None)


async def test_a_stored_link_is_held_and_its_row_written(desk):
    await add_cases(desk.database, [A])
    await desk.note()

    await desk.hold_all()

    tally = await desk.ledger.due.counts("cases")
    assert (tally.present, tally.held, tally.due, tally.later) == (1, 1, 0, 0)
    assert await desk.locals() == {1: "/static/images/1/main_image.png"}
    assert await desk.ledger.due.hosts("cases") == []


async def test_a_leased_link_is_nobody_elses(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.lease_all()

    again = await desk.ledger.leases.lease("cases", "a.example", 5)

    assert again == []
    assert (await desk.ledger.due.counts("cases")).leased == 1


async def test_a_released_link_is_due_and_not_counted_as_visited(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.ledger.leases.release(await desk.lease_all())

    [task] = await desk.lease_all()

    assert task.attempt == 1


async def test_invariant_4_an_ended_lease_is_anyones_and_the_late_settle_is_refused(desk, database_url):
    await add_cases(desk.database, [A])
    await desk.note()
    async with another_desk(database_url, "slow", lease_seconds=-1.0) as slow:
        late = await slow.lease_all()
        [taken] = await desk.lease_all()

        ours = await slow.record(1, [stored(task, "e" * 64) for task in late])

    assert ours == set()
    assert taken.fence > late[0].fence
    assert await desk.locals() == {1: None}
    assert await desk.record(1, [stored(taken)]) == {taken.entry}


async def test_an_ended_lease_that_nobody_took_is_still_settled(database_url, desk):
    await add_cases(desk.database, [A])
    await desk.note()
    async with another_desk(database_url, "slow", lease_seconds=-1.0) as slow:
        [task] = await slow.lease_all()

        assert await slow.record(1, [stored(task)]) == {task.entry}


async def test_renewing_moves_the_end_of_a_lease_on(database_url, desk):
    await add_cases(desk.database, [A])
    await desk.note()
    async with another_desk(database_url, "slow", lease_seconds=-1.0) as slow:
        tasks = await slow.lease_all()
        await desk.ledger.leases.renew(tasks)

        assert await desk.lease_all() == []


async def test_invariant_4_four_claimers_never_overlap(database_url, desk):
    await add_cases(desk.database, [f"https://a.example/{number}.png" for number in range(300)])
    await desk.note()

    async def claim(name: str) -> list[int]:
        mine: list[int] = []
        async with another_desk(database_url, name) as worker:
            while tasks := await worker.ledger.leases.lease("cases", "a.example", 7):
                mine += [task.entry for task in tasks]
        return mine

    claimed = await asyncio.gather(*(claim(f"worker {number}") for number in range(4)))

    everything = [entry for each in claimed for entry in each]
    assert len(everything) == 300
    assert len(set(everything)) == 300


async def test_deferred_waits_and_comes_back(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()
    first, second = await desk.lease_all()

    await desk.record(1, [
        Deferred(first, Reason.THROTTLED, "429", 3600.0),
        Deferred(second, Reason.TIMED_OUT, "30 s", -1.0),
    ])  # fmt: skip

    tally = await desk.ledger.due.counts("cases")
    assert (tally.due, tally.later) == (1, 1)
    assert tally.next_due_seconds == pytest.approx(3600, abs=60)
    [again] = await desk.lease_all()
    assert (again.entry, again.attempt) == (second.entry, 2)


async def test_forgetting_waits_goes_by_reason(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()
    first, second = await desk.lease_all()
    await desk.record(1, [Refused(first, Reason.GONE, "404", 9e5), Deferred(second, Reason.THROTTLED, "429", 3600.0)])

    assert await desk.ledger.due.forget_waits("cases", "gone") == 1
    assert [task.entry for task in await desk.lease_all()] == [first.entry]
    assert await desk.ledger.due.forget_waits("cases") == 1


async def test_a_changed_link_is_wanted_at_once_whatever_it_waited_for(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    [task] = await desk.lease_all()
    await desk.record(1, [Refused(task, Reason.GONE, "404", 9e5)])
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)

    noted = await desk.note()

    assert noted.changed == 1
    [again] = await desk.lease_all()
    assert (again.link.url, again.host, again.attempt) == (B, "b.example", 1)


async def test_a_link_that_changes_while_it_is_leased_is_not_settled_with_the_old_picture(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    [task] = await desk.lease_all()
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await desk.note()

    assert await desk.record(1, [stored(task)]) == set()
    assert await desk.locals() == {1: None}


async def test_invariant_2_an_overtaken_link_waits_for_the_next_noting(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    [task] = await desk.lease_all()
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)

    await desk.record(1, [stored(task)])

    assert await desk.locals() == {1: None}
    assert await desk.lease_all() == []
    await desk.note()
    [again] = await desk.lease_all()
    assert again.link.url == B


async def test_a_link_changed_back_is_held_again_without_a_request(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.hold_all()
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await desk.note()
    [task] = await desk.lease_all()
    await desk.record(2, [Refused(task, Reason.GONE, "404", 9e5)])
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=A)

    noted = await desk.note()

    assert noted.changed == 1
    assert (await desk.ledger.due.counts("cases")).held == 1
    assert await desk.locals() == {1: "/static/images/1/main_image.png"}


async def test_a_changed_link_brings_the_held_copy_along(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.hold_all()
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await desk.note()

    [task] = await desk.lease_all()

    assert task.copy is not None
    assert task.copy.key == "1/main_image.png"
    assert task.validator is None


async def test_a_pending_digest_is_handed_out_after_the_run_died(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.hold_all()
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await desk.note()
    [task] = await desk.lease_all()
    await desk.ledger.results.announce_replacements([stored(task, "e" * 64)])
    await desk.ledger.leases.release([task])

    [again] = await desk.lease_all()

    assert (again.found, again.pending) == ("1/main_image.png", "e" * 64)


async def test_a_link_changed_back_while_bytes_are_pending_is_fetched(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.hold_all()
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await desk.note()
    [task] = await desk.lease_all()
    await desk.ledger.results.announce_replacements([stored(task, "e" * 64)])
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=A)
    await desk.note()

    [again] = await desk.lease_all()

    assert (again.link.url, again.found, again.pending) == (A, None, None)


async def test_a_vanished_row_is_not_visited_and_comes_back(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()
    await execute(desk.database, "DELETE FROM ad_cases WHERE case_id = 1")

    noted = await desk.note()

    assert noted == SyncResult(present=1, new=0, changed=0, vanished=1)
    assert await desk.ledger.due.hosts("cases") == ["b.example"]
    await add_cases(desk.database, [A])
    assert (await desk.note()).present == 2
    assert set(await desk.ledger.due.hosts("cases")) == {"a.example", "b.example"}


async def test_a_lost_file_is_wanted_again(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()
    await desk.hold_all()

    compared = await desk.compare(["2/main_image.png"])

    assert compared == StoreComparison(lost=1, found=0, redo=False)
    [task] = await desk.lease_all()
    assert (task.link.row_key, task.copy, task.found) == ("1", None, None)


async def test_all_files_lost_is_a_redo(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()
    await desk.hold_all()

    assert await desk.compare([]) == StoreComparison(lost=2, found=0, redo=True)


async def test_all_columns_cleared_is_a_redo_and_one_is_not(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()
    await desk.hold_all()

    await execute(desk.database, "UPDATE ad_cases SET main_image_local = NULL WHERE case_id = 1")
    assert not (await desk.note()).redo
    await execute(desk.database, "UPDATE ad_cases SET main_image_local = ''")
    assert (await desk.note()).redo


async def test_an_unknown_file_is_handed_out_to_be_proven(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()

    compared = await desk.compare(["1/main_image.png", "9/main_image.png"])

    assert compared == StoreComparison(lost=0, found=1)
    tasks = {task.link.row_key: task.found for task in await desk.lease_all()}
    assert tasks == {"1": "1/main_image.png", "2": None}


async def test_a_file_at_the_place_of_a_changed_link_is_not_trusted(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await desk.note()

    assert (await desk.compare(["1/main_image.png"])).found == 0


async def test_a_cleared_column_is_found_and_mended(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()
    await desk.hold_all()
    assert await desk.stale_rows() == []
    await execute(desk.database, "UPDATE ad_cases SET main_image_local = NULL WHERE case_id = 2")

    [(link, copy)] = await desk.stale_rows()

    assert (link.row_key, link.url, copy.key) == ("2", B, "2/main_image.png")


async def test_a_local_url_of_somebody_else_is_left_alone_and_ours_under_an_old_prefix_is_not(desk):
    await add_cases(desk.database, [A, B])
    await desk.note()
    await desk.hold_all()
    await execute(
        desk.database, "UPDATE ad_cases SET main_image_local = 'https://cdn.example/1/main_image.png' WHERE case_id = 1"
    )
    desk.ledger = make_ledger(desk.database, url=lambda key: "/pictures/" + key)

    [(link, copy)] = await desk.stale_rows()

    assert (link.row_key, link.local_url) == ("2", "/static/images/2/main_image.png")
    assert copy.key == "2/main_image.png"


async def test_unchanged_keeps_the_copy_and_its_validator(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    [task] = await desk.lease_all()

    await desk.record(1, [Unchanged(task, Validator('"x"', None))])

    [row] = await execute(desk.database, "SELECT state, etag FROM rehost_links")
    assert row == ("held", '"x"')


async def test_a_whole_host_is_deferred_unvisited(desk):
    await add_cases(desk.database, [A, A + "?2", B])
    await desk.note()

    deferred = await desk.ledger.due.defer_host("cases", "a.example", Reason.THROTTLED, "429", 3600.0)

    assert deferred == 2
    assert await desk.ledger.due.hosts("cases") == ["b.example"]


async def test_a_commit_whose_answer_was_lost_is_recognised(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    [task] = await desk.lease_all()
    outcome = stored(task)
    await desk.record(1, [outcome])

    settled = await desk.ledger.transact(
        lambda transaction: desk.ledger.results.already_recorded(transaction, [outcome])
    )

    assert settled == {task.entry}
    assert await desk.record(1, [outcome]) == set()


async def test_a_lease_of_a_clock_that_jumped_is_not_stuck(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.lease_all()
    leap = 400 * 86_400
    later = f"due_at + {leap}" if desk.database.is_sqlite else f"due_at + interval '{leap} seconds'"
    await execute(desk.database, f"UPDATE rehost_links SET due_at = {later}")

    await desk.note()

    assert len(await desk.lease_all()) == 1
