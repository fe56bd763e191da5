"""Whole runs in which strangers' links must not hold up other links."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import replace

import pytest
from tests.misbehaviours import BEHAVIOURS
from tests.origin import Origin
from tests.run.test_run import HOST, World, make_world

from rehost.events import HostDeferred, OriginPaused, Visited
from rehost.hosts import pacing as pace
from rehost.model import Reason
from rehost.settings import OriginOverride
from rehost.wiring.run import open_run


@pytest.fixture
def mood():
    """What the origin does for a path, where a test changes that."""
    return {}


@pytest.fixture
def world(tmp_path, mood, monkeypatch):
    """Ports 443 and 4444 of every host are closed; a pause is longer than a run waits for."""
    monkeypatch.setattr(pace, "FIRST_PAUSE", 60.0)
    with Origin(lambda _host, path, _headers: mood.get(path)) as origin, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        port = closed.getsockname()[1]
        connect_to = f"*:443:127.0.0.1:{port},*:4444:127.0.0.1:{port},{origin.connect_to}"
        yield make_world(tmp_path, origin, {"IMAGE_CONNECT_TO": connect_to})


def deferred(world: World) -> Counter[str]:
    """Return how many links were deferred with each host or origin."""
    return Counter({each.host: each.links for each in world.events if isinstance(each, HostDeferred)})


def visited(world: World) -> Counter[str]:
    """Return how many links of each origin were visited."""
    return Counter(each.outcome.task.origin for each in world.events if isinstance(each, Visited))


@pytest.mark.parametrize("dead", [f"http://{HOST}:4444", f"https://{HOST}"])
async def test_links_to_a_port_on_which_nothing_listens_do_not_defer_the_others_of_the_host(world, dead):
    world.add(*(f"{dead}/{number}.jpg" for number in range(12)))
    world.add(*(world.link("permissive", f"{number}.jpg") for number in range(40)))

    ended = await world.run()

    assert (ended.held, ended.failed) == (40, {Reason.UNREACHABLE: 12})
    assert [event.host for event in world.events if isinstance(event, OriginPaused)] == [dead]
    assert deferred(world).total() + visited(world)[dead] == 12
    assert 0 < ended.next_due_seconds <= 75
    states = world.sql("SELECT DISTINCT state, reason FROM rehost_links WHERE url LIKE ?", f"{dead}/%")
    assert states == [("deferred", "unreachable")]


@pytest.mark.parametrize("answer", ["429", "500", "redirect"])
async def test_links_to_urls_of_a_host_that_always_fail_do_not_defer_its_others(world, mood, answer):
    """Also where a redirect of another host leads there."""

    async def fails(exchange):
        if exchange.asked.host != HOST:
            await exchange.reply(302, b"", f"Location: http://{HOST}{exchange.asked.path}")
        else:
            await exchange.reply(500 if answer == "500" else 429, b"", "Retry-After: 604800" if answer != "500" else "")

    mood |= {f"/api/{number}.jpg": fails for number in range(30)}
    stranger = "stranger.test" if answer == "redirect" else HOST
    world.add(*(world.link("api", f"{number}.jpg", host=stranger) for number in range(30)))
    world.add(*(world.link("permissive", f"{number}.jpg") for number in range(20)))

    ended = await world.run()

    reason = Reason.ORIGIN_ERROR if answer == "500" else Reason.THROTTLED
    assert (ended.held, ended.failed) == (20, {reason: 30})
    assert world.origin.count(host=HOST) < 20 + 30
    assert [event.host for event in world.events if isinstance(event, OriginPaused)] == [f"http://{HOST}/api/"]


async def test_every_spelling_of_a_paused_origin_is_deferred(world):
    spellings = ["http://pics.example:4444", "HTTP://PICS.example:04444", "http://pics.example:4444\\x"]
    world.add(*(f"{spelling}/{number}.jpg" for number in range(100) for spelling in spellings))
    world.add(*(world.link("permissive", f"{number}.jpg") for number in range(20)))

    ended = await world.run()

    assert (ended.held, ended.failed) == (20, {Reason.UNREACHABLE: 300})
    assert visited(world)["http://pics.example:4444"] < 60


async def test_a_host_whose_only_origin_is_down_is_deferred_as_a_whole(world):
    world.add(*(f"http://dead.example:4444/{number}.jpg" for number in range(700)))
    world.add(*(world.link("permissive", f"{number}.jpg") for number in range(40)))

    ended = await world.run()

    assert (ended.held, ended.failed) == (40, {Reason.UNREACHABLE: 700})
    assert deferred(world).keys() == {"dead.example"}
    assert visited(world)["http://dead.example:4444"] < 60
    ((state, reason, evidence),) = world.sql(
        "SELECT DISTINCT state, reason, evidence FROM rehost_links WHERE attempts = 0 AND host = 'dead.example'"
    )
    assert (state, reason) == ("deferred", "unreachable")
    failures, words = evidence.split(" ", 1)
    assert int(failures) >= pace.FAILURES_IN_A_ROW, "requests that were in flight count as well"
    assert words.startswith("failures in a row (last: ")


@pytest.mark.parametrize("others", [0, 20])
async def test_links_of_an_origin_that_is_down_for_a_moment_are_held_in_the_same_run(world, mood, monkeypatch, others):
    monkeypatch.setattr(pace, "FIRST_PAUSE", 1.0)
    asked = 0

    async def shaky(exchange):
        nonlocal asked
        asked += 1
        await BEHAVIOURS["closes-at-once" if asked <= pace.FAILURES_IN_A_ROW else "picture"](exchange)

    mood |= {f"/shaky/{number}.jpg": shaky for number in range(30)}
    world.add(*(f"http://{HOST}:8080/shaky/{number}.jpg" for number in range(30)))
    world.add(*(world.link("permissive", f"{number}.jpg") for number in range(others)))

    ended = await world.run()

    assert (ended.held, ended.failed) == (30 + others, {})


async def test_names_below_one_domain_that_never_answer_do_not_hold_up_the_pictures_of_another(world):
    world.add(*(world.link("hang", f"{number}.jpg", host=f"n{number}.evil.example") for number in range(200)))
    world.add(*(world.link("permissive", f"{number}.jpg") for number in range(60)))
    ended_at = []

    def listen(event):
        world.events.append(event)
        if isinstance(event, Visited):
            ended_at.append(event.outcome.task.host)
            if ended_at.count(HOST) == 60:
                run.stop()

    async with open_run(world.settings, source=None, listen=listen) as run:
        ended = await asyncio.wait_for(run.execute(), 120)

    asked = {request.host for request in world.origin.requests} - {HOST}
    assert ended.held == 60
    assert len(asked) < 150  # all 200, when each of their hosts had its turn


async def test_a_daily_budget_holds_however_the_host_is_spelled(world, mood):
    def to(spelling):
        return lambda exchange: exchange.reply(302, b"", f"Location: http://{spelling}/permissive/x.jpg")

    spellings = ["pics.example", "PICS.example", "%70ics.example", "pics.example.", "ｐｉｃｓ.example"]  # noqa: RUF001
    world.add(*(f"http://{each}/permissive/{number}.jpg" for number in range(10) for each in spellings))
    mood |= {f"/moved/{number}.jpg": to(each) for number, each in enumerate(spellings[:4])}
    world.add(*(world.link("moved", f"{number}.jpg", host="free.example") for number in range(4)))
    world.settings = replace(world.settings, origins=(OriginOverride(HOST, daily_budget=5),))

    ended = await world.run()

    assert len([each for each in world.origin.requests if each.host.rstrip(".").lower() == HOST]) == 5
    assert world.sql("SELECT DISTINCT host FROM rehost_links ORDER BY host") == [("free.example",), (HOST,)]
    assert ended.failed[Reason.THROTTLED] >= 45
