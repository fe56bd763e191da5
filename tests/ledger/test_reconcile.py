"""Comparison of store and rows with the ledger: missing copies, unknown files, stale rows; on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, event
from tests.databases import add_cases, execute, hold_apart, make_ledger, stored, url_of

from rehost.catalogue.table import WriteBack
from rehost.errors import StoreError
from rehost.ledger.reconcile import StoreComparison
from rehost.model import KnownStore, State
from rehost.store.layout import Layout

A = "https://a.example/1.png"
B = "https://b.example:8443/2.png"


async def test_a_missing_file_makes_its_link_wanted_again(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    await peer.hold_all()

    compared = await peer.compare(["2/main_image.png"])

    assert compared == StoreComparison(lost=1, found=0, redo=False)
    [task] = await peer.lease_all()
    assert (task.link.row_key, task.copy, task.found) == ("1", None, None)


async def test_all_files_missing_is_a_redo(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    await peer.hold_all()

    assert await peer.compare([]) == StoreComparison(lost=2, found=0, redo=True)


async def test_one_copy_marked_missing_makes_its_link_wanted_again(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()

    await peer.ledger.reconcile.mark_missing("cases", "1", 0, "1/other.png")
    before = await peer.ledger.due.entry("cases", "1", 0)
    await peer.ledger.reconcile.mark_missing("cases", "1", 0, "1/main_image.png")
    after = await peer.ledger.due.entry("cases", "1", 0)

    assert (before.state, after.state) == (State.HELD, State.WANTED)
    assert (after.copy, after.is_due) == (None, True)


async def test_an_unknown_file_is_handed_out_to_be_proven(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()

    compared = await peer.compare(["1/main_image.png", "9/main_image.png"])

    assert compared == StoreComparison(lost=0, found=1)
    tasks = {task.link.row_key: task.found for task in await peer.lease_all()}
    assert tasks == {"1": "1/main_image.png", "2": None}


async def test_a_file_at_the_place_of_a_changed_link_is_not_trusted(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await peer.note()

    assert (await peer.compare(["1/main_image.png"])).found == 0


async def test_a_cleared_row_is_stale(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    await peer.hold_all()
    assert await peer.stale_rows() == []
    await execute(peer.database, "UPDATE ad_cases SET main_image_local = NULL WHERE case_id = 2")

    [(link, copy)] = await peer.stale_rows()

    assert (link.row_key, link.url, copy.key) == ("2", B, "2/main_image.png")


async def test_a_foreign_local_url_is_left_alone_and_ours_with_an_old_prefix_is_stale(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    await peer.hold_all()
    await execute(
        peer.database, "UPDATE ad_cases SET main_image_local = 'https://cdn.example/1/main_image.png' WHERE case_id = 1"
    )
    peer.ledger = make_ledger(peer.database, url=lambda key, _: "/pictures/" + key)

    [(link, copy)] = await peer.stale_rows()

    assert (link.row_key, link.local_url) == ("2", "/static/images/2/main_image.png")
    assert copy.key == "2/main_image.png"


async def test_a_row_without_the_version_that_is_wanted_now_is_stale_and_then_no_more(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    versioned = Layout(is_versioned=True)
    peer.ledger = make_ledger(peer.database, url=versioned.url)

    [(link, copy)] = await peer.stale_rows()
    await execute(
        peer.database, "UPDATE ad_cases SET main_image_local = :url", url=versioned.url(copy.key, copy.digest)
    )
    await peer.database.transact(lambda connection: peer.ledger.reconcile.mark_pointed(connection, [(link, copy)]))

    assert link.local_url == "/static/images/1/main_image.png"
    assert await peer.stale_rows() == []
    peer.ledger = make_ledger(peer.database)  # the operator changes his mind
    [(link, _)] = await peer.stale_rows()
    assert link.local_url == versioned.url(copy.key, copy.digest)


async def test_a_versioned_url_leads_to_its_key(peer):
    reconcile = make_ledger(peer.database, url=Layout(is_versioned=True).url).reconcile

    assert reconcile._leads_to("https://cdn.example/x/1/main_image.png?v=0123456789abcdef", "1/main_image.png")
    assert not reconcile._leads_to("/static/images/11/main_image.png?v=0123456789abcdef", "1/main_image.png")


async def test_a_row_that_was_recorded_and_not_written_is_stale(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold_apart(apart, write=False)

    [(link, copy)] = await apart.stale_rows()

    assert (link.row_key, copy.key) == ("1", "1/main_image.png")


async def test_a_written_row_is_not_stale(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold_apart(apart, write=True)

    assert await apart.stale_rows() == []
    assert not (await apart.note()).redo


async def test_a_kill_between_the_two_steps_leaves_the_file_that_the_row_still_points_at(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold_apart(apart, write=True)
    await execute(apart.database, "UPDATE ad_cases SET main_image = :url", url=A + "?2")
    await apart.note()
    [task] = await apart.lease_all()
    outcome = stored(task, extension="jpg")
    written = {task.link: task.link.local_url}
    await apart.ledger.database.transact(
        lambda transaction: apart.ledger.results.record(transaction, 1, [outcome], written)
    )

    between = await apart.ledger.reconcile.leftovers("cases", apart.catalogue.links())
    [(link, copy)] = await apart.stale_rows()
    change = WriteBack(link, url_of(copy.key))
    await apart.catalogue.write_back([change])

    assert between == []
    assert (link.local_url, copy.key) == (url_of("1/main_image.png"), "1/main_image.jpg")
    assert await apart.ledger.reconcile.leftovers("cases", apart.catalogue.links()) == ["1/main_image.png"]
    assert await apart.stale_rows() == []


async def test_a_lost_copy_is_remembered_until_its_row_is_cleared(either):
    await add_cases(either.database, [A, B])
    await either.note()
    if either.catalogue.is_joint:
        await either.hold_all()
    else:
        await hold_apart(either, write=True)
    reconcile = either.ledger.reconcile
    await either.compare(["2/main_image.png"])

    [copy] = await reconcile.lost_copies("cases")
    other = replace(copy, key="1/other.png")
    work = either.ledger.database.transact

    assert (copy.link.row_key, copy.link.local_url) == ("1", url_of("1/main_image.png"))
    assert await work(lambda transaction: reconcile.lock_lost(transaction, [copy])) == [copy]
    assert await work(lambda transaction: reconcile.lock_lost(transaction, [other])) == []
    assert await reconcile.lost_copies("cases", after=copy.entry) == []
    await work(lambda transaction: reconcile.forget_local_urls(transaction, [copy]))
    assert await reconcile.lost_copies("cases") == []


async def test_a_lost_copy_whose_file_is_there_again_is_not_to_be_cleared(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    await peer.compare([])

    assert await peer.compare(["1/main_image.png"]) == StoreComparison(lost=0, found=1)

    assert await peer.ledger.reconcile.lost_copies("cases") == []


async def test_too_many_lost_copies_change_nothing(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    await peer.hold_all()

    with pytest.raises(StoreError, match="1 of 2"):
        await peer.compare(["2/main_image.png"], check=refuse)

    assert await peer.compare(["1/main_image.png", "2/main_image.png"]) == StoreComparison(lost=0, found=0)


def refuse(lost: int, held: int) -> None:
    raise StoreError("{lost} of {held}", lost=lost, held=held)


async def test_only_copies_recorded_in_another_store_are_to_be_verified_by_their_digests(peer):
    stores = peer.ledger.stores
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    for store in ("first", "second", "second"):
        await stores.use(KnownStore(store, "/srv/images", "web1"))
    await add_cases(peer.database, [B], first=2)
    await peer.note()
    await peer.hold_all()

    assert await peer.compare(["1/main_image.png", "2/main_image.png"]) == StoreComparison(lost=0, found=0)

    assert [each.store for each in await stores.known()] == ["second", "first"]
    [task] = await peer.lease_all()
    assert (task.link.row_key, task.found, task.pending) == ("1", "1/main_image.png", "d" * 64)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_copies_are_not_in_doubt_because_they_move_during_the_comparison(peer, postgres, postgres_database):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    for store in ("former", "first"):
        await peer.ledger.stores.use(KnownStore(store, "/srv/images", "web1"))
    await execute(peer.database, "UPDATE rehost_stores SET since = '1970-01-01Z'")

    def move(_connection, _cursor, statement, *_others):
        if statement.startswith("UPDATE rehost_links") and "pending_digest=rehost_links.digest" in statement:
            moving = "INSERT INTO rehost_stores VALUES (DEFAULT, 'second', 's3://bucket', 'web1', '1970-01-01Z')"
            postgres.run(moving, postgres_database)

    event.listen(Engine, "before_cursor_execute", move)
    try:
        await peer.compare(["1/main_image.png"])
    finally:
        event.remove(Engine, "before_cursor_execute", move)

    assert [each.store for each in await peer.ledger.stores.known()] == ["second", "first", "former"]
    assert await peer.lease_all() == []
