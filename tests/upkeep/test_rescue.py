"""Dead links whose pictures are found elsewhere: real rows, real files, a real origin that has forgotten them."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from tests.misbehaviours import HTML, NOTICE
from tests.pictures import picture
from tests.upkeep.shop import ARCHIVE, DEAD, PICTURE, capture

from rehost.attempt import VisitLog
from rehost.model import Format, Mark, Stored
from rehost.store.base import Cause
from rehost.upkeep.forget import Takedowns
from rehost.upkeep.journal import Journal
from rehost.upkeep.rescue import Rescuer
from rehost.upkeep.visits import HeldVisits
from rehost.wiring import upkeep
from rehost.wiring.upkeep import open_upkeep

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def test_a_dead_link_gets_the_copy_of_another_row_with_the_same_url_which_can_be_undone(shop, mood):
    mood["dead.example"] = capture()
    await shop.add("offers", 7, DEAD)
    await shop.run("offers")
    mood["dead.example"] = "gone"
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()
    before = shop.origin.count()

    done = await shop.rescue()

    assert (done.tried, dict(done.rescued), done.dead) == (1, {"goods": 1}, 0)
    assert shop.origin.count() == before
    local = await shop.local("goods", 1)
    assert local == "/static/images/goods/1.png"
    assert shop.file(local).read_bytes() == PICTURE
    assert await shop.rescued() == "row 7 of offers"
    assert await shop.sql("SELECT source, verb, held FROM rehost_runs WHERE run = :run", run=done.run) == [
        ("goods", "rescue", 1)
    ]
    await upkeep.undo(shop.settings, run=done.run)
    assert await shop.local("goods", 1) is None


@pytest.mark.parametrize(
    ("days", "times", "answer"), [(10, 2, "gone"), (5, 3, "gone"), (10, 3, "too-many-requests")], ids=str
)
@only_sqlite
async def test_a_link_that_failed_seldom_or_lately_or_for_a_passing_cause_is_not_dead(shop, mood, days, times, answer):
    shop.configure(ARCHIVE)
    mood["archive.example"] = capture()
    mood["dead.example"] = answer if answer == "gone" else _busy
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die(days, times)

    done = await shop.rescue()

    assert (done.tried, done.dead, done.run) == (0, 0, None)
    assert shop.origin.count(host="archive.example") == 0


async def _busy(exchange):
    await exchange.reply(429, b"", "Retry-After: 86400")


async def test_a_picture_that_https_has_is_copied_for_a_dead_http_link(shop, mood):
    async def only_https(exchange):
        await (capture()(exchange) if exchange.asked.tls else exchange.reply(404))

    mood["dead.example"] = only_https
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()

    done = await shop.rescue()

    assert dict(done.rescued) == {"goods": 1}
    assert await shop.rescued() == "https"
    assert shop.file(await shop.local("goods", 1)).read_bytes() == PICTURE


async def test_an_archive_is_asked_by_the_day_when_the_link_was_first_seen(shop, mood):
    shop.configure(ARCHIVE)
    mood["archive.example"] = capture()
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()
    moment = "1700000000" if "sqlite" in shop.url else "to_timestamp(1700000000)"
    await shop.sql(f"UPDATE rehost_links SET noted_at = {moment}")

    done = await shop.rescue()

    assert dict(done.rescued) == {"goods": 1}
    captured = f"http://archive.example/web/20231114im_/{DEAD}"
    assert await shop.rescued() == captured
    assert await shop.sql("SELECT final_url, state, reason FROM rehost_links") == [(captured, "held", None)]


@pytest.mark.parametrize("answer", ["gone", HTML, "cut-in-transit"], ids=["gone", "html", "cut"])
@only_sqlite
async def test_an_archive_without_a_whole_picture_rescues_nothing_and_is_not_asked_again_for_a_month(
    shop, mood, answer
):
    shop.configure(ARCHIVE)
    mood["archive.example"] = _page if answer is HTML else answer
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()

    first = await shop.rescue()
    asked = shop.origin.count(host="archive.example")
    second = await shop.rescue()
    again = shop.origin.count(host="archive.example")
    await shop.sql("UPDATE rehost_links SET sought_at = sought_at - 31 * 86400")
    third = await shop.rescue()

    assert (first.tried, first.dead, first.run) == (1, 1, None)
    assert (second.tried, second.dead) == (0, 1)
    assert third.tried == 1
    assert 0 < asked == again < shop.origin.count(host="archive.example")
    assert await shop.local("goods", 1) is None
    assert await shop.sql("SELECT state, reason FROM rehost_links") == [("refused", "gone")]


async def _page(exchange):
    await exchange.reply(200, HTML, "Content-Type: text/html")


@only_sqlite
async def test_a_notice_that_the_archive_has_captured_is_no_picture(shop, mood):
    shop.configure(ARCHIVE)
    mood["archive.example"] = capture(NOTICE)
    mood["dead.example"] = NOTICE
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()
    assert await shop.sql("SELECT reason FROM rehost_links") == [("decoy",)]

    done = await shop.rescue()

    assert (done.tried, done.run) == (1, None)
    assert await shop.local("goods", 1) is None


@only_sqlite
async def test_what_was_taken_down_is_not_brought_back_from_anywhere(shop, mood):
    shop.configure(ARCHIVE)
    mood["archive.example"] = capture()
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()
    async with open_upkeep(shop.settings) as parts:
        picture_of_someone = (Mark.DIGEST, hashlib.sha256(PICTURE).hexdigest())
        await Takedowns(parts.sources, "me").take_down("a picture", {picture_of_someone})

    done = await shop.rescue()

    assert (done.tried, done.run) == (1, None)
    assert await shop.local("goods", 1) is None


@only_sqlite
async def test_a_damaged_copy_of_another_row_is_not_passed_on(shop, mood):
    mood["dead.example"] = capture()
    await shop.add("offers", 7, DEAD)
    await shop.run("offers")
    mood["dead.example"] = "gone"
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()
    damaged = shop.file(await shop.local("offers", 7))
    damaged.write_bytes(picture(20, Format.PNG, 64, 48))

    done = await shop.rescue()

    assert (done.tried, done.run) == (1, None)
    assert await shop.local("goods", 1) is None


@only_sqlite
async def test_what_the_link_gave_before_comes_back_from_the_trash(shop, mood):
    mood["dead.example"] = capture()
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    held = shop.file(await shop.local("goods", 1))
    async with open_upkeep(shop.settings, ["goods"]) as parts:
        store = parts.sources[0].store
        await store.trash(await store.file_ids(["goods/1.png"]), Cause.REMOVED)
    mood["dead.example"] = "gone"
    await shop.run("goods")
    await shop.die()
    assert not held.exists()

    done = await shop.rescue()

    assert dict(done.rescued) == {"goods": 1}
    assert held.read_bytes() == PICTURE
    assert await shop.rescued() == "trash"


@only_sqlite
async def test_a_rescued_copy_gives_way_when_the_origin_has_the_picture_again(shop, mood):
    shop.configure(ARCHIVE)
    mood["archive.example"] = capture(picture(21, Format.PNG, 32, 24))
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()
    await shop.rescue()
    mood["dead.example"] = capture()

    async with open_upkeep(shop.settings, ["goods"]) as parts:
        journal = Journal(parts.ledger.runs, "refresh")
        run = await journal.begin("goods")
        visits = HeldVisits(parts.sources[0], parts.limits, parts.clock, parts.listen, asyncio.Event(), run)
        await visits.visit(_entries([1]))
        await journal.end({})

    assert shop.file(await shop.local("goods", 1)).read_bytes() == PICTURE
    assert await shop.rescued() is None


async def _entries(numbers):
    yield numbers


@only_sqlite
async def test_a_link_that_changed_during_the_search_keeps_its_own_picture_to_come(shop, mood):
    shop.configure(ARCHIVE)

    async def change():
        await shop.sql("UPDATE goods SET photo = 'http://other.example/2.png'")

    mood["archive.example"] = capture(then=change)
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()

    done = await shop.rescue()

    assert (done.tried, dict(done.rescued)) == (1, {"goods": 0})
    assert await shop.local("goods", 1) is None
    await shop.run("goods")
    assert shop.file(await shop.local("goods", 1)).read_bytes() == shop.origin.picture("http://other.example/2.png")


@only_sqlite
async def test_a_stop_leaves_the_rest_for_the_next_search(shop, mood):
    shop.configure(ARCHIVE)
    stop = asyncio.Event()
    for number in range(1, 41):
        await shop.add("goods", number, f"http://dead.example/gone/{number}.png")

    async def stopping():
        stop.set()

    await shop.run("goods")
    await shop.die()
    mood["archive.example"] = capture(then=stopping)

    first = await shop.rescue(stop)
    mood["archive.example"] = capture()
    second = await shop.rescue()

    assert 0 < first.tried < 40
    assert first.tried + second.tried == 40
    assert second.dead == 0


@only_sqlite
async def test_a_repair_can_ask_for_one_link_that_is_held(shop, mood):
    mood["dead.example"] = capture()
    await shop.add("offers", 7, DEAD)
    await shop.add("goods", 1, DEAD)
    await shop.run()
    Path(shop.file(await shop.local("goods", 1))).unlink()
    async with open_upkeep(shop.settings, ["goods"]) as parts:
        (task,) = await parts.ledger.leases.lease_held([1])

        stored = await Rescuer(parts.sources[0]).rescue(task, VisitLog(task.host))

        assert isinstance(stored, Stored)
        assert (stored.rescued, stored.final_url) == ("row 7 of offers", None)
        assert stored.copy.digest == hashlib.sha256(PICTURE).hexdigest()
        run = await Journal(parts.ledger.runs, "verify").begin("goods")
        assert (await parts.sources[0].recorder.record(run, [stored])).held == 1
    assert shop.file(await shop.local("goods", 1)).read_bytes() == PICTURE
