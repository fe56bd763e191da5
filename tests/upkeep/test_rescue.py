"""Dead links whose pictures are found elsewhere: real rows, real files, a real origin that has forgotten them."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

import pytest
from tests.databases import execute, open_database
from tests.misbehaviours import HTML, NOTICE
from tests.origin import Origin
from tests.pictures import picture

from rehost.attempt import VisitLog
from rehost.model import Format, Stored
from rehost.settings import load
from rehost.store.base import Cause
from rehost.upkeep.journal import Journal
from rehost.upkeep.rescue import DeadLinks, Rescuer
from rehost.upkeep.visits import HeldVisits
from rehost.wiring import upkeep
from rehost.wiring.run import open_run
from rehost.wiring.upkeep import open_upkeep

SOURCE = """
[source.{name}]
table = "{name}"
key = "id"
link = "photo"
local = "photo_local"
path = "{name}/{{key}}"
"""
ARCHIVE = 'IMAGE_MIN_FREE_BYTES = "0"\n[rescue]\narchive = "http://archive.example/web/{date}im_/{url}"\n'
DEAD = "http://dead.example/gone/1.png"
PICTURE = picture(19, Format.PNG, 64, 48)


def capture(body=PICTURE, then=None):
    """Return a behaviour that has this picture where the URL ends like those of the dead links, and nothing else."""

    async def answer(exchange):
        if not re.search(r"/gone/[0-9]{1,2}\.(png|jpg)$", exchange.asked.target):
            await exchange.reply(404)
            return
        if then is not None:
            await then()
        await exchange.reply(200, body, "Content-Type: image/png")

    return answer


only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class World:
    """Two tables, `goods` and `offers`, with links to hosts that one origin plays."""

    def __init__(self, folder, url, origin):
        self.folder, self.url, self.origin = folder, url, origin
        self.events = []
        self.configure("")

    def configure(self, head):
        text = head + "".join(SOURCE.format(name=name) for name in ("goods", "offers"))
        (self.folder / "rehost.toml").write_text(text, encoding="utf-8")
        self.given = {
            "DATABASE_URL": self.url,
            "IMAGE_STORAGE_DIR": str(self.folder / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_VERIFY": "structure",
            "IMAGE_DOWNLOAD_RETRY": "1",
            "IMAGE_CONNECT_TO": self.origin.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
        }
        self.settings = load(self.folder, self.given, {})

    async def sql(self, statement, **values):
        async with open_database(self.url) as database:
            return await execute(database, statement, **values)

    async def add(self, table, key, url):
        await self.sql(f"INSERT INTO {table} VALUES (:key, :url, NULL)", key=key, url=url)

    async def local(self, table, key):
        return (await self.sql(f"SELECT photo_local FROM {table} WHERE id = :key", key=key))[0][0]

    async def rescued(self):
        return (await self.sql("SELECT rescued FROM rehost_links WHERE source = 'goods'"))[0][0]

    def file(self, local):
        return self.folder / "images" / local.removeprefix("/static/images/")

    async def run(self, *sources):
        async with open_run(self.settings, source=sources, listen=self.events.append) as run:
            return await asyncio.wait_for(run.execute(), 120)

    async def die(self, days=10, times=3):
        """Let the failures of all failed links be several ones, the first of them some days ago."""
        seconds = f"{86400 * days}" if "sqlite" in self.url else f"interval '{days} days'"
        await self.sql(
            f"UPDATE rehost_visits SET times = {times}, first_at = last_at - {seconds} WHERE outcome <> 'held'"
        )

    async def rescue(self, stop=None):
        async with open_upkeep(self.settings) as parts:
            searching = DeadLinks(parts.sources, parts.limits, parts.archive, stop or asyncio.Event())
            return await asyncio.wait_for(searching.rescue(), 120)


@pytest.fixture
def mood():
    """What the origin does for a host and path, where a test changes that."""
    return {}


@pytest.fixture
async def world(tmp_path, database_url, mood, monkeypatch):
    def play(host, path, _headers):
        return next((mood[name] for name in (host + path, host) if name in mood), None)

    with Origin(play) as origin:
        monkeypatch.setenv("SSL_CERT_FILE", str(origin.ca_file))
        made = World(tmp_path, database_url, origin)
        for name in ("goods", "offers"):
            await made.sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, photo TEXT, photo_local TEXT)")
        yield made


async def test_a_dead_link_gets_the_copy_of_another_row_with_the_same_url_which_can_be_undone(world, mood):
    mood["dead.example"] = capture()
    await world.add("offers", 7, DEAD)
    await world.run("offers")
    mood["dead.example"] = "gone"
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die()
    before = world.origin.count()

    done = await world.rescue()

    assert (done.tried, dict(done.rescued), done.dead) == (1, {"goods": 1}, 0)
    assert world.origin.count() == before
    local = await world.local("goods", 1)
    assert local == "/static/images/goods/1.png"
    assert world.file(local).read_bytes() == PICTURE
    assert await world.rescued() == "row 7 of offers"
    assert await world.sql("SELECT source, verb, held FROM rehost_runs WHERE run = :run", run=done.run) == [
        ("goods", "rescue", 1)
    ]
    await upkeep.undo(world.settings, run=done.run)
    assert await world.local("goods", 1) is None


@pytest.mark.parametrize(
    ("days", "times", "answer"), [(10, 2, "gone"), (5, 3, "gone"), (10, 3, "too-many-requests")], ids=str
)
@only_sqlite
async def test_a_link_that_failed_seldom_or_lately_or_for_a_passing_cause_is_not_dead(world, mood, days, times, answer):
    world.configure(ARCHIVE)
    mood["archive.example"] = capture()
    mood["dead.example"] = answer if answer == "gone" else _busy
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die(days, times)

    done = await world.rescue()

    assert (done.tried, done.dead, done.run) == (0, 0, None)
    assert world.origin.count(host="archive.example") == 0


async def _busy(exchange):
    await exchange.reply(429, b"", "Retry-After: 86400")


async def test_a_picture_that_https_has_is_copied_for_a_dead_http_link(world, mood):
    async def only_https(exchange):
        await (capture()(exchange) if exchange.asked.tls else exchange.reply(404))

    mood["dead.example"] = only_https
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die()

    done = await world.rescue()

    assert dict(done.rescued) == {"goods": 1}
    assert await world.rescued() == "https"
    assert world.file(await world.local("goods", 1)).read_bytes() == PICTURE


async def test_an_archive_is_asked_by_the_day_when_the_link_was_first_seen(world, mood):
    world.configure(ARCHIVE)
    mood["archive.example"] = capture()
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die()
    moment = "1700000000" if "sqlite" in world.url else "to_timestamp(1700000000)"
    await world.sql(f"UPDATE rehost_links SET noted_at = {moment}")

    done = await world.rescue()

    assert dict(done.rescued) == {"goods": 1}
    captured = f"http://archive.example/web/20231114im_/{DEAD}"
    assert await world.rescued() == captured
    assert await world.sql("SELECT final_url, state, reason FROM rehost_links") == [(captured, "held", None)]


@pytest.mark.parametrize("answer", ["gone", HTML, "cut-in-transit"], ids=["gone", "html", "cut"])
@only_sqlite
async def test_an_archive_without_a_whole_picture_rescues_nothing_and_is_not_asked_again_for_a_month(
    world, mood, answer
):
    world.configure(ARCHIVE)
    mood["archive.example"] = _page if answer is HTML else answer
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die()

    first = await world.rescue()
    asked = world.origin.count(host="archive.example")
    second = await world.rescue()
    again = world.origin.count(host="archive.example")
    await world.sql("UPDATE rehost_links SET sought_at = sought_at - 31 * 86400")
    third = await world.rescue()

    assert (first.tried, first.dead, first.run) == (1, 1, None)
    assert (second.tried, second.dead) == (0, 1)
    assert third.tried == 1
    assert 0 < asked == again < world.origin.count(host="archive.example")
    assert await world.local("goods", 1) is None
    assert await world.sql("SELECT state, reason FROM rehost_links") == [("refused", "gone")]


async def _page(exchange):
    await exchange.reply(200, HTML, "Content-Type: text/html")


@only_sqlite
async def test_a_notice_that_the_archive_has_captured_is_no_picture(world, mood):
    world.configure(ARCHIVE)
    mood["archive.example"] = capture(NOTICE)
    mood["dead.example"] = NOTICE
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die()
    assert await world.sql("SELECT reason FROM rehost_links") == [("decoy",)]

    done = await world.rescue()

    assert (done.tried, done.run) == (1, None)
    assert await world.local("goods", 1) is None


@only_sqlite
async def test_a_damaged_copy_of_another_row_is_not_passed_on(world, mood):
    mood["dead.example"] = capture()
    await world.add("offers", 7, DEAD)
    await world.run("offers")
    mood["dead.example"] = "gone"
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die()
    damaged = world.file(await world.local("offers", 7))
    damaged.write_bytes(picture(20, Format.PNG, 64, 48))

    done = await world.rescue()

    assert (done.tried, done.run) == (1, None)
    assert await world.local("goods", 1) is None


@only_sqlite
async def test_what_the_link_gave_before_comes_back_from_the_trash(world, mood):
    mood["dead.example"] = capture()
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    held = world.file(await world.local("goods", 1))
    async with open_upkeep(world.settings, ["goods"]) as parts:
        store = parts.sources[0].store
        await store.trash(await store.file_ids(["goods/1.png"]), Cause.REMOVED)
    mood["dead.example"] = "gone"
    await world.run("goods")
    await world.die()
    assert not held.exists()

    done = await world.rescue()

    assert dict(done.rescued) == {"goods": 1}
    assert held.read_bytes() == PICTURE
    assert await world.rescued() == "trash"


@only_sqlite
async def test_a_rescued_copy_gives_way_when_the_origin_has_the_picture_again(world, mood):
    world.configure(ARCHIVE)
    mood["archive.example"] = capture(picture(21, Format.PNG, 32, 24))
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die()
    await world.rescue()
    mood["dead.example"] = capture()

    async with open_upkeep(world.settings, ["goods"]) as parts:
        journal = Journal(parts.ledger.runs, "refresh")
        run = await journal.begin("goods")
        visits = HeldVisits(parts.sources[0], parts.limits, parts.clock, parts.listen, asyncio.Event(), run)
        await visits.visit(_entries([1]))
        await journal.end({})

    assert world.file(await world.local("goods", 1)).read_bytes() == PICTURE
    assert await world.rescued() is None


async def _entries(numbers):
    yield numbers


@only_sqlite
async def test_a_link_that_changed_during_the_search_keeps_its_own_picture_to_come(world, mood):
    world.configure(ARCHIVE)

    async def change():
        await world.sql("UPDATE goods SET photo = 'http://other.example/2.png'")

    mood["archive.example"] = capture(then=change)
    await world.add("goods", 1, DEAD)
    await world.run("goods")
    await world.die()

    done = await world.rescue()

    assert (done.tried, dict(done.rescued)) == (1, {"goods": 0})
    assert await world.local("goods", 1) is None
    await world.run("goods")
    assert world.file(await world.local("goods", 1)).read_bytes() == world.origin.picture("http://other.example/2.png")


@only_sqlite
async def test_a_stop_leaves_the_rest_for_the_next_search(world, mood):
    world.configure(ARCHIVE)
    stop = asyncio.Event()
    for number in range(1, 41):
        await world.add("goods", number, f"http://dead.example/gone/{number}.png")

    async def stopping():
        stop.set()

    await world.run("goods")
    await world.die()
    mood["archive.example"] = capture(then=stopping)

    first = await world.rescue(stop)
    mood["archive.example"] = capture()
    second = await world.rescue()

    assert 0 < first.tried < 40
    assert first.tried + second.tried == 40
    assert second.dead == 0


@only_sqlite
async def test_a_repair_can_ask_for_one_link_that_is_held(world, mood):
    mood["dead.example"] = capture()
    await world.add("offers", 7, DEAD)
    await world.add("goods", 1, DEAD)
    await world.run()
    Path(world.file(await world.local("goods", 1))).unlink()
    async with open_upkeep(world.settings, ["goods"]) as parts:
        (task,) = await parts.ledger.leases.lease_held([1])

        stored = await Rescuer(parts.sources[0]).rescue(task, VisitLog(task.host))

        assert isinstance(stored, Stored)
        assert (stored.rescued, stored.final_url) == ("row 7 of offers", None)
        assert stored.copy.digest == hashlib.sha256(PICTURE).hexdigest()
        run = await Journal(parts.ledger.runs, "verify").begin("goods")
        assert (await parts.sources[0].recorder.record(run, [stored])).held == 1
    assert world.file(await world.local("goods", 1)).read_bytes() == PICTURE
