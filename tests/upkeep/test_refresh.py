"""Refreshes of held pictures, with a real origin, ledger (SQLite) and store: what is followed, and what freezes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.databases import CASES, add_cases, execute, open_database
from tests.origin import Origin
from tests.pictures import picture
from tests.run.test_run import World, make_world

from rehost.events import RunEnded
from rehost.ledger.freezes import Decision, Freezes, RefreshFilter
from rehost.model import Format, Reason
from rehost.upkeep.refresh import Refresh, Refreshed
from rehost.upkeep.visits import HeldVisits
from rehost.wiring.run import open_run
from rehost.wiring.upkeep import open_upkeep, undo

MONTH = RefreshFilter(30 * 86_400.0)
LINKS = 50  # of an origin; three of them are 6%


def origin_of(host: str) -> str:
    return f"http://{host}"


class Garden(World):
    """A catalogue of links to several origins, whose moods a test changes."""

    @property
    def environment(self) -> dict[str, str]:
        given = {"DATABASE_URL": f"sqlite:///{self.folder}/c.db", "IMAGE_STORAGE_DIR": f"{self.folder}/images"}
        return {**given, "IMAGE_MIN_FREE_BYTES": "0", **self.origin.environment()}

    def plant(self, host: str, links: int = LINKS) -> None:
        self.add(*(self.link("permissive", f"{number}.png", host) for number in range(links)))

    async def run(self, *_arguments: object) -> RunEnded:
        async with open_run(self.settings, source=None, listen=self.events.append) as run:
            return await asyncio.wait_for(run.execute(), 1200)

    def age(self, days: int = 40) -> None:
        """Let all links have been asked for last so many days ago, so that they are asked for in the order of rows."""
        self.sql(f"UPDATE rehost_links SET visited_at = (SELECT min(visited_at) FROM rehost_links) - {days} * 86400.0")

    async def refresh(self, which: RefreshFilter = MONTH, **limits: object) -> Refreshed:
        async with open_upkeep(self.settings, (), self.events.append) as parts:
            work = Refresh(parts.sources, parts.limits, parts.clock, parts.listen)
            return await asyncio.wait_for(work.execute(which, **limits), 1200)

    async def decide(self, decision: Decision, *hosts: str) -> None:
        async with open_upkeep(self.settings) as parts:
            await Freezes(parts.ledger.database).decide([origin_of(host) for host in hosts], decision)

    def files(self) -> dict[Path, bytes]:
        """Return the copies, without what is in `.rehost`."""
        every = (path for path in (self.folder / "images").rglob("*.*") if ".rehost" not in path.parts)
        return {path: path.read_bytes() for path in every if path.is_file()}

    def rows(self) -> list[tuple[object, ...]]:
        return self.sql("SELECT * FROM ad_cases ORDER BY case_id")


@pytest.fixture
def mood() -> dict[str, object]:
    """What a host, or a path of one host, answers instead of its picture: that, or what it returns."""
    return {}


@pytest.fixture
def garden(tmp_path, mood):
    def play(host, path, _headers):
        answer = mood.get(f"{host}{path}", mood.get(host))
        return answer() if callable(answer) else answer

    with Origin(play) as origin:
        world = make_world(tmp_path, origin, {})
        yield Garden(**{name: getattr(world, name) for name in ("folder", "origin", "settings")})


def changed(number: int, width: int = 96, height: int = 72) -> bytes:
    return picture(9000 + number, Format.PNG, width, height)


async def test_pictures_that_change_one_by_one_are_followed_and_the_others_cost_a_304(garden, mood):
    garden.plant("a.example", 20)
    await garden.run()
    before, rows, asked = garden.files(), garden.rows(), garden.origin.count()
    mood["a.example/permissive/3.png"] = changed(3)
    mood["a.example/permissive/7.png"] = "not-found"
    garden.age()

    done = await garden.refresh()

    assert (done.asked, done.current, done.replaced, done.kept) == (20, 18, 1, {Reason.GONE: 1})
    assert done.frozen == []
    assert garden.bytes_of(4) == changed(3)
    assert Counter(before.values()) - Counter(garden.files().values()) == Counter([before[garden.path_of(rows[3][3])]])
    assert garden.rows() == rows
    assert all("if-none-match" in each.headers for each in garden.origin.requests[asked:])
    assert garden.origin.count() == asked + 20
    assert (await garden.refresh()).asked == 0

    await undo(garden.settings, run=done.run)

    assert garden.files() == before


async def test_an_origin_that_changes_six_percent_for_the_worse_freezes(garden, mood):
    kinds = {
        "smaller.example": changed(1, 8, 6),
        "same.example": changed(2),
        "html.example": "html-page",
        "gone.example": "not-found",
        "refused.example": "forbidden",
    }
    for host in (*kinds, "good.example"):
        garden.plant(host)
    await garden.run()
    before, rows = garden.files(), garden.rows()
    for host, answer in kinds.items():
        mood |= {f"{host}/permissive/{number}.png": answer for number in (5, 25, 45)}
        mood[f"{host}/permissive/0.png"] = changed(100)  # would be right of itself
    mood["good.example/permissive/0.png"] = changed(101)
    garden.age()

    done = await garden.refresh()

    assert {each.host: each.bad for each in done.frozen} == dict.fromkeys(kinds, 3)
    assert {each.examples[0].held.digest != "" for each in done.frozen} == {True}
    assert done.replaced == 1
    good = garden.path_of(garden.locals()[5 * LINKS + 1])
    assert garden.files() == before | {good: changed(101)}
    assert garden.rows() == rows
    await check_decisions(garden, before, good)


async def check_decisions(garden, before, good):
    await garden.decide(Decision.ACCEPT, "smaller.example", "same.example", "gone.example")
    await garden.decide(Decision.KEEP, "html.example", "refused.example")
    asked = garden.origin.count(host="html.example")

    done = await garden.refresh()

    assert (done.frozen, done.asked, done.replaced) == ([], 3 * LINKS, 3 + 3 + 3)
    assert garden.origin.count(host="html.example") == asked
    left = garden.sql("SELECT origin, decision FROM rehost_freezes ORDER BY origin")
    assert left == [("http://html.example", "keep"), ("http://refused.example", "keep")]
    replaced = Counter(garden.files().values()) - Counter(before.values())
    assert replaced == Counter({changed(1, 8, 6): 3, changed(2): 3, changed(100): 3, changed(101): 1})
    garden.age()
    assert (await garden.refresh(RefreshFilter(MONTH.older_seconds, hosts=["html.example"]))).asked == 0


async def test_photobuckets_night_changes_no_file_and_no_row(garden, mood, pytestconfig):
    links = 10_000 if pytestconfig.getoption("full") else 200
    garden.plant("p.example", links)
    await garden.run()
    before, rows, asked = garden.files(), garden.rows(), garden.origin.count()
    mood["p.example"] = changed(7)
    garden.age()

    done = await garden.refresh()

    assert (garden.files(), garden.rows()) == (before, rows)
    assert [each.origin for each in done.frozen] == ["http://p.example"]
    assert done.replaced == done.put_back == 0
    assert garden.origin.count() - asked < 120
    assert (await garden.refresh()).asked == 0


async def test_what_was_taken_before_its_origin_froze_is_put_back_even_by_the_next_refresh(garden, mood, monkeypatch):
    garden.plant("a.example", 40)
    await garden.run()
    before, rows = garden.files(), garden.rows()
    for number in range(8):
        mood[f"a.example/permissive/{number}.png"] = changed(number)
    taken, put = threading.Event(), HeldVisits.put

    async def take(visits, outcome):
        await put(visits, outcome)
        taken.set()

    def not_found():
        assert taken.wait(60)  # the links before have had their answers by then
        return "not-found"

    for number in range(20, 40):
        mood[f"a.example/permissive/{number}.png"] = not_found
    garden.age()
    monkeypatch.setattr(HeldVisits, "put", take)
    monkeypatch.setattr("rehost.upkeep.refresh.MOST_WAITING", 2)
    put_back = Refresh._put_back
    seen: list[Counter[bytes]] = []

    async def die(*_arguments):
        seen.append(Counter(garden.files().values()))
        raise ConnectionAbortedError

    monkeypatch.setattr(Refresh, "_put_back", die)
    with pytest.raises(ConnectionAbortedError):
        await garden.refresh()
    monkeypatch.setattr(Refresh, "_put_back", put_back)

    done = await garden.refresh()

    assert (seen[0] - Counter(before.values())).total() > 0
    assert done.put_back == (seen[0] - Counter(before.values())).total()
    assert (garden.files(), garden.rows()) == (before, rows)
    assert ([each.host for each in done.frozen], done.asked) == (["a.example"], 0)
    assert (await garden.refresh()).put_back == 0


async def test_a_refresh_goes_on_where_it_was_killed_and_a_run_takes_nothing_meanwhile(garden, mood):
    garden.plant("a.example", 30)
    await garden.run()
    before, rows = garden.files(), garden.rows()
    mood |= {f"a.example/permissive/{number}.png": changed(number) for number in range(3)}
    mood |= {f"a.example/permissive/{number}.png": "hang" for number in range(10, 30)}
    garden.age()
    asked = garden.origin.count()
    killed = subprocess.Popen(
        [sys.executable, "-m", "rehost", "refresh", "--quiet", "--base", garden.folder],
        env={**os.environ, **garden.environment},
    )
    await until(lambda: garden.origin.count() >= asked + 12)
    killed.kill()
    killed.wait(30)
    for number in range(10, 30):
        del mood[f"a.example/permissive/{number}.png"]

    ended = await garden.run()

    assert (ended.held, ended.failed, garden.files(), garden.rows()) == (0, {}, before, rows)
    done = await garden.refresh()
    assert done.replaced == 3
    assert done.asked >= 23


async def until(is_so) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.05)


async def test_an_origin_that_turns_slowly_freezes_over_several_small_refreshes(garden, mood):
    garden.plant("a.example", 12)
    await garden.run()
    mood |= {f"a.example/permissive/{number}.png": "html-page" for number in range(12)}
    garden.age()

    first = await garden.refresh(most=2)
    second = await garden.refresh(most=2)

    assert (first.frozen, first.left, first.kept) == ([], 10, {Reason.NOT_AN_IMAGE: 2})
    assert [(each.answers, each.bad, len(each.examples)) for each in second.frozen] == [(4, 4, 2)]


async def test_a_picture_that_was_gone_before_says_nothing_new(garden, mood):
    garden.plant("a.example", 12)
    await garden.run()
    mood |= {f"a.example/permissive/{number}.png": "not-found" for number in range(2)}
    for _ in range(3):
        garden.age()
        done = await garden.refresh()

        assert (done.frozen, done.kept) == ([], {Reason.GONE: 2})


async def test_what_passes_is_no_answer(garden, mood):
    garden.plant("a.example", 6)
    await garden.run()
    mood |= {f"a.example/permissive/{number}.png": "cut-at-origin" for number in range(4)}
    garden.age()

    done = await garden.refresh()

    assert (done.frozen, done.kept, done.current) == ([], {Reason.TRUNCATED: 4}, 2)


async def test_postgresql_is_refreshed_alike(tmp_path, mood, postgres, postgres_database):
    def play(host, path, _headers):
        answer = mood.get(f"{host}{path}", mood.get(host))
        return answer() if callable(answer) else answer

    url = postgres.url(postgres_database)
    links = [f"http://{host}/permissive/{number}.png" for host in ("a.example", "b.example") for number in range(6)]
    async with open_database(url) as database:
        await execute(database, CASES)
        await add_cases(database, links)
        with Origin(play) as origin:
            world = make_world(tmp_path, origin, {"DATABASE_URL": url})
            garden = Garden(tmp_path, origin, world.settings)
            await garden.run()
            before = garden.files()
            mood |= {"a.example/permissive/2.png": changed(2)}
            mood |= {f"b.example/permissive/{number}.png": changed(9) for number in range(3)}
            later = "UPDATE rehost_links SET visited_at = visited_at - interval '40 days'"
            await execute(database, later)

            done = await garden.refresh()

            assert (done.replaced, done.untaken, [each.host for each in done.frozen]) == (1, 3, ["b.example"])
            assert garden.files() == before | {tmp_path / "images/3/main_image.png": changed(2)}
            assert (await garden.refresh()).asked == 0


async def test_an_origin_that_does_not_answer_is_not_asked_first_again_when_the_time_is_over(garden, mood):
    garden.plant("a.example", 8)
    await garden.run()
    mood |= {f"a.example/permissive/{number}.png": "hang" for number in range(5)}
    garden.age()

    await garden.refresh(seconds=2.0)
    states = garden.sql("SELECT state, reason FROM rehost_links WHERE row_key < '6'")
    mood.clear()
    done = await garden.refresh()

    assert set(states) == {("held", None)}
    assert (done.asked, done.current) == (0, 0)
