"""Whole runs over several sources in this process: one number, fair turns, one sum."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3

import pytest
from tests.misbehaviours import BEHAVIOURS
from tests.origin import Origin

from rehost.errors import CatalogueError, LedgerError, SettingsError, StoreError
from rehost.events import Planned, RunBegan, RunEnded, Visited
from rehost.model import Reason
from rehost.run.visitor import Visitor
from rehost.settings import load
from rehost.upkeep.undo import Undone
from rehost.wiring import databases, upkeep
from rehost.wiring.run import open_run

HOST = "pics.example"
SOURCE = """
[source.{name}]
table = "{name}"
key = "id"
link = "photo"
local = "photo_local"
path = "{name}/{{key}}"
"""


class World:
    """Two tables, `large` and `small`, with links to one origin."""

    def __init__(self, folder, origin):
        self.folder = folder
        self.origin = origin
        self.events = []
        for name in ("large", "small"):
            self.sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, photo, photo_local)")
        self.define("large", "small")

    def define(self, *names):
        (self.folder / "rehost.toml").write_text("".join(SOURCE.format(name=name) for name in names), encoding="utf-8")
        given = {
            "DATABASE_URL": f"sqlite:///{self.folder}/c.db",
            "IMAGE_STORAGE_DIR": str(self.folder / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_VERIFY": "structure",
            "IMAGE_CONNECT_TO": self.origin.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
        }
        self.settings = load(self.folder, given, {})

    def sql(self, statement, *values):
        with contextlib.closing(sqlite3.connect(self.folder / "c.db")) as connection, connection:
            return list(connection.execute(statement, values))

    def add(self, table, number, behaviour="permissive", host=HOST):
        urls = [self.origin.url(behaviour, f"{table}-{each}.jpg", host=host) for each in range(number)]
        self.sql(f"INSERT INTO {table} (photo) VALUES {','.join(['(?)'] * number)}", *urls)

    def locals(self, table):
        return [row[0] for row in self.sql(f"SELECT photo_local FROM {table} ORDER BY id")]

    async def run(self, *sources, **options):
        async with open_run(self.settings, source=sources, listen=self.events.append) as run:
            return await asyncio.wait_for(run.execute(**options), 120)


@pytest.fixture
def mood():
    """What the origin does for a path, where a test changes that."""
    return {}


@pytest.fixture
def world(tmp_path, mood):
    with Origin(lambda _host, path, _headers: mood.get(path)) as origin:
        yield World(tmp_path, origin)


async def test_a_run_without_a_name_is_over_all_sources_under_one_number(world):
    world.add("large", 4)
    world.add("small", 1)
    world.add("small", 1, "gone")

    ended = await world.run()

    large, small = ended.sources
    assert (large.source, large.held, large.failed, large.total_present) == ("large", 4, {}, 4)
    assert (small.source, small.held, small.failed, small.total_present) == ("small", 1, {Reason.GONE: 1}, 2)
    assert (ended.held, ended.failed, ended.total_held, ended.total_present) == (5, {Reason.GONE: 1}, 5, 6)
    assert (ended.later, ended.next_due_seconds) == (1, small.next_due_seconds)
    assert world.locals("small") == ["/static/images/small/1.jpg", None]
    assert [event for event in world.events if isinstance(event, RunBegan)] == [
        RunBegan("large", 1),
        RunBegan("small", 1),
    ]
    assert [event.source for event in world.events if isinstance(event, Planned)] == ["large", "small"]
    assert [event for event in world.events if isinstance(event, RunEnded)] == [ended]
    assert world.sql("SELECT count(*) FROM rehost_workers UNION ALL SELECT count(*) FROM rehost_shares") == [(0,), (0,)]


async def test_only_the_named_sources_are_run(world):
    world.add("large", 2)
    world.add("small", 2)

    ended = await world.run("small")

    assert (ended.source, ended.held, ended.sources) == ("small", 2, ())
    assert world.locals("large") == [None, None]


async def test_links_that_wait_are_visited_again_in_the_named_sources_only(world):
    world.add("large", 1, "gone")
    world.add("small", 1, "gone")
    await world.run()

    one = await world.run("small", retry="all")
    both = await world.run(retry="gone")

    assert (one.failed, [each.failed for each in both.sources]) == ({Reason.GONE: 1}, [{Reason.GONE: 1}] * 2)
    assert world.origin.count("/gone/large-0.jpg") < world.origin.count("/gone/small-0.jpg")


async def test_a_small_source_does_not_wait_for_a_large_one_at_the_same_host(world):
    world.add("large", 400)
    world.add("small", 10)

    ended = await world.run()

    visits = [event.outcome.task.link.source for event in world.events if isinstance(event, Visited)]
    assert ended.held == 410
    assert "small" not in visits[200:]


async def test_links_of_which_a_worker_may_have_died_are_visited_while_no_other_source_is(world, mood):
    going = set()
    beside = []

    async def answer(exchange):
        going.add(exchange.asked.path)
        await asyncio.sleep(0.02)
        if "small" in exchange.asked.path:
            beside.append(sorted(path for path in going if "large" in path))
        await BEHAVIOURS["picture"](exchange)
        going.discard(exchange.asked.path)

    world.add("large", 1)
    world.add("small", 3)
    await world.run()
    world.add("large", 60)
    world.sql("UPDATE small SET photo = photo || '?again'")
    await plan(world)
    world.sql("UPDATE rehost_links SET deaths = 1 WHERE source = 'small'")
    mood |= {f"/permissive/large-{number}.jpg": answer for number in range(60)}
    mood |= {f"/permissive/small-{number}.jpg?again": answer for number in range(3)}

    ended = await world.run()

    assert [each.held for each in ended.sources] == [60, 3]
    assert beside == [[], [], []]


async def plan(world):
    """Record all links, as a run does, and visit none."""
    async with open_run(world.settings, source=None, listen=world.events.append) as run:
        for each in run._sources:
            await each.parts.planner.plan()


async def test_every_source_has_a_plan(world):
    world.add("large", 2)
    world.add("small", 1)

    plans = await databases.plan(world.settings)

    assert [(plan.source, plan.due) for plan in plans] == [("large", 2), ("small", 1)]


async def test_undo_takes_a_run_back_in_all_its_sources_or_in_one(world):
    world.add("large", 2)
    world.add("small", 1)
    await world.run()

    one = await upkeep.undo(world.settings, sources=["small"], run=1)
    after_one = world.locals("large"), world.locals("small")
    both = await upkeep.undo(world.settings, run=1)

    assert one == {"small": Undone(1, 0)}
    assert after_one == (["/static/images/large/1.jpg", "/static/images/large/2.jpg"], [None])
    assert both == {"large": Undone(2, 0), "small": Undone(0, 1)}
    assert world.locals("large") == [None, None]


async def test_runs_are_listed_by_source_with_their_common_number(world):
    world.add("large", 2)
    world.add("small", 1)
    await world.run("large")
    await world.run()
    number = world.sql("SELECT max(crew) FROM rehost_runs")[0][0]
    await upkeep.undo(world.settings, sources=["small"], run=number)

    async with databases.open_queries(world.settings) as queries:
        of_small = await queries.runs("small")
        all_ = await queries.runs()
        earlier = await queries.runs(before=number)

    undone = number + 2  # an undo is a run of its own
    assert [(each.run, each.source, each.held, each.workers) for each in of_small] == [
        (undone, "small", 0, 1),
        (number, "small", 1, 1),
    ]
    assert [(each.run, each.source) for each in all_] == [
        (undone, "small"),
        (number, "large"),
        (number, "small"),
        (1, "large"),
    ]
    assert [each.undone_at is None for each in all_] == [True, True, False, True]
    assert [(each.run, each.held) for each in earlier] == [(1, 2)]


async def test_undo_of_a_run_names_what_it_cannot_find(world):
    world.add("large", 1)
    await world.run("large")

    with pytest.raises(LedgerError, match="There is no run 7; `rehost status` lists the runs"):
        await upkeep.undo(world.settings, run=7)
    with pytest.raises(LedgerError, match="Run 1 was over large, not over small"):
        await upkeep.undo(world.settings, sources=["large", "small"], run=1)
    world.define("small")
    with pytest.raises(SettingsError, match="no source named large"):
        await upkeep.undo(world.settings, run=1)
    assert world.locals("large") == ["/static/images/large/1.jpg"]


async def test_every_table_that_cannot_be_used_is_named_before_anything_is_written(world):
    world.add("small", 1)
    world.define("gone", "small", "lost")

    with pytest.raises(CatalogueError) as caught:
        await world.run()

    first, second, advice = str(caught.value).split("\n")
    assert first.startswith("gone: ")
    assert "has no table gone" in first
    assert second.startswith("lost: ")
    assert advice == "To leave them out: --source small."
    assert world.sql("SELECT name FROM sqlite_master WHERE name LIKE 'rehost%'") == []


async def test_a_full_disk_met_in_one_source_stops_all_and_what_was_verified_is_recorded(world, monkeypatch):
    world.add("large", 200)
    world.add("small", 20)
    real, visits = Visitor.visit, itertools.count()

    async def visit(self, task, **options):
        if next(visits) == 40:
            raise StoreError("the disk is full")
        return await real(self, task, **options)

    monkeypatch.setattr(Visitor, "visit", visit)

    with pytest.raises(StoreError, match="the disk is full"):
        await world.run()

    verified = [event.outcome.task.link.source for event in world.events if isinstance(event, Visited)]
    assert {"large", "small"} == set(verified)
    assert len(verified) < 220
    assert sum(url is not None for url in world.locals("large") + world.locals("small")) == len(verified)
    assert world.sql("SELECT DISTINCT state FROM rehost_links ORDER BY state") == [("held",), ("wanted",)]


async def test_a_stop_ends_the_run_over_all_sources(world):
    world.add("large", 300)
    world.add("small", 300)

    def listen(event):
        world.events.append(event)
        if isinstance(event, Visited):
            run.stop()

    async with open_run(world.settings, source=None, listen=listen) as run:
        ended = await asyncio.wait_for(run.execute(), 120)

    assert [each.interrupted for each in (ended, *ended.sources)] == [True, True, True]
    assert 0 < ended.held < 600
    assert world.sql("SELECT count(*) FROM rehost_links WHERE state = 'leased'") == [(0,)]
