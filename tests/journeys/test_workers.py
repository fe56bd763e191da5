"""Several workers with one database and one store: each image once, killed workers are replaced, stops are clean."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import SEED
from tests.journeys.world import LIMIT, Watched, World, wait_for_end_of

HOSTS = ("one.example", "two.example", "three.example")
CONCURRENCY = 6
SETTINGS = {"IMAGE_DOWNLOAD_CONCURRENCY": str(CONCURRENCY), "IMAGE_LEASE_SECONDS": "5"}


def fill(world: World, number: int, *, after: int = 0) -> None:
    """Add this many pictures of all hosts in turn, after so many that are there already."""
    numbers = range(after, after + number)
    world.fill([world.origin.url("picture", f"{each}.jpg", host=HOSTS[each % len(HOSTS)]) for each in numbers])


def number_of_links(request: pytest.FixtureRequest) -> int:
    return 2000 if request.config.getoption("full") else 60


def times_asked(world: World) -> Counter[str]:
    """Return how often each link was requested; requests for learning Referer rules are left out."""
    asked = Counter(f"http://{one.host}{one.target}" for one in list(world.origin.requests))
    return Counter({url: asked[url] for url in world.urls})


def check_limits(world: World) -> None:
    for host in HOSTS:
        assert world.origin.peak(host) <= CONCURRENCY, f"{host} had {world.origin.peak(host)} requests at once"


@pytest.mark.timeout(600)
def test_one_of_four_commands_is_killed_and_each_image_is_fetched_once(world, watched, request) -> None:
    number = number_of_links(request)
    fill(world, number)
    commands = {name: world.start(settings={"IMAGE_USER_AGENT": name}) for name in ("a", "b", "c", "d")}
    watched.wait(number // 3)
    busiest = Counter(one.headers["user-agent"] for one in list(world.origin.requests)).most_common(1)[0][0]
    dead = commands.pop(busiest)

    os.killpg(dead.pid, signal.SIGKILL)
    dead.communicate(timeout=LIMIT)
    asked_by_dead = {
        f"http://{one.host}{one.target}" for one in list(world.origin.requests) if one.headers["user-agent"] == busiest
    }
    in_flight = asked_by_dead - world.held()  # requested and not recorded: groups take up to a second

    for name, command in commands.items():
        out, err = command.communicate(timeout=LIMIT)
        assert command.returncode == 0, f"{name}: {out}{err}"
    assert world.held() == set(world.urls)
    times = times_asked(world)
    again = {url for url in times if times[url] > 1}
    assert again <= in_flight
    assert max(times.values()) <= 2
    check_limits(world)

    asked = world.origin.count()
    after = world.run()  # removes what the killed one left in the store

    assert after.returncode == 0, after.stdout + after.stderr
    world.check_end()
    assert world.origin.count() == asked


@pytest.mark.timeout(600)
def test_four_workers_fetch_each_image_once(world, request) -> None:
    fill(world, number_of_links(request))

    with world.start(options=["--workers", "4"]) as command:
        out, err = command.communicate(timeout=LIMIT)

    assert command.returncode == 0, out + err
    world.check_end()
    assert set(times_asked(world).values()) == {1}
    check_limits(world)
    wait_for_end_of(command.pid)


@pytest.mark.timeout(600)
def test_the_other_workers_take_over_when_one_is_killed(world, watched, request) -> None:
    lost = lose_one(world, watched, number_of_links(request), workers=4, which=2)

    assert lost.status == 0, lost.err
    assert "A worker process died (exit code -9); the others take over its links" in lost.err
    wait_for_end_of(lost.first)
    assert world.held() == set(world.urls)
    lost.check_requests()
    check_limits(world)
    asked_in_all = world.origin.count()

    after = world.run()  # removes what the killed one left in the store

    assert after.returncode == 0, after.stdout + after.stderr
    world.check_end()
    assert world.origin.count() == asked_in_all


@pytest.mark.timeout(600)
def test_workers_end_cleanly_when_the_first_process_is_killed(world, watched, request) -> None:
    lost = lose_one(world, watched, number_of_links(request), workers=3, which=0)

    assert "Traceback" not in lost.err
    left = world.sql("SELECT DISTINCT worker FROM rehost_links WHERE state = 'leased'")
    assert len(left) <= 1, "only the killed process keeps its leases"
    done = world.run()

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
    lost.check_requests()


@dataclass
class Lost:
    """A command with several workers that has ended after one of them was killed."""

    world: World
    first: int
    status: int
    err: str
    in_flight: set[str]  # requested and not recorded when it was killed

    def check_requests(self) -> None:
        """Each link was requested once, except those in flight."""
        times = times_asked(self.world)
        assert {url for url in times if times[url] > 1} <= self.in_flight
        assert max(times.values()) <= 2


def lose_one(world: World, watched: Watched, number: int, *, workers: int, which: int) -> Lost:
    """Run with several workers, and kill one (0: the first process) after a third of the links."""
    fill(world, number)
    with world.start(options=["--workers", str(workers)]) as command:
        watched.wait(number // 3)
        processes = [command.pid, *workers_of(command.pid)]
        os.kill(processes[which], signal.SIGKILL)
        held = world.held()
        asked = {url for url, times in times_asked(world).items() if times}
        _, err = command.communicate(timeout=LIMIT)  # of all processes: when the first is gone the others finish
    assert len(processes) == workers
    return Lost(world, command.pid, command.returncode, err, asked - held)


def workers_of(first: int) -> list[int]:
    """Return the workers that the first process has forked."""
    line = Path(f"/proc/{first}/cmdline").read_bytes()
    return [child for child in children(first) if Path(f"/proc/{child}/cmdline").read_bytes() == line]


def children(parent: int) -> list[int]:
    return [
        int(child)
        for each in Path(f"/proc/{parent}/task").iterdir()
        for child in (each / "children").read_text().split()
    ]


STOPS = [(workers, number) for number in (signal.SIGTERM, signal.SIGINT) for workers in ("1", "3")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        chosen = STOPS if metafunc.config.getoption("full") else random.Random(SEED).choice([STOPS[::3], STOPS[1:3]])
        metafunc.parametrize(("workers", "number"), chosen, ids=[f"{number.name}-{each}" for each, number in chosen])


@pytest.mark.timeout(1800)
def test_the_first_signal_finishes_requests_and_leaves_no_lease(world, watched, workers, number, sample) -> None:
    world.settings = {**world.settings, "IMAGE_LEASE_SECONDS": "3600"}
    moments = sample(range(1, 51, 2), 1)  # requests after which the signal is sent; with --full, 100 signals in all
    fill(world, 60 * len(moments))
    for moment in moments:
        asked_before = world.origin.count()
        with world.start(options=["--workers", workers]) as command:
            watched.wait(asked_before + moment)
            command.send_signal(number)
            out, err = command.communicate(timeout=10)
        assert command.returncode == 128 + number, out + err
        world.check_rows()
        assert world.sql("SELECT count(*) FROM rehost_links WHERE state = 'leased'") == [("0",)]
        wait_for_end_of(command.pid)

    done = world.run()

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
    assert set(times_asked(world).values()) == {1}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", ["1", "3"])
def test_the_second_interrupt_stops_at_once(world, watched, workers, sample) -> None:
    moments = sample([*range(1, 26)] * 2, 1)  # requests after which the first is sent; with --full, 100 times in all
    for number, moment in enumerate(moments):  # links of an ended run come after all others: each run has new ones
        for index in range(3):
            world.add(10_000 + 3 * number + index, world.origin.url("hang", f"{number}-{index}.jpg", host=HOSTS[0]))
        fill(world, 60, after=60 * number)
        asked_before = world.origin.count()
        with world.start(options=["--workers", workers]) as command:
            watched.wait(asked_before + moment)
            command.send_signal(signal.SIGINT)
            for line in command.stderr:
                if line.startswith("Stopping"):
                    break
            command.send_signal(signal.SIGINT)
            command.wait(timeout=2)
        assert command.returncode == -signal.SIGINT
        wait_for_end_of(command.pid)
        world.check_rows()


FAKETIME = next(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.timeout(600)
def test_a_clock_that_jumps_by_a_year_does_no_harm(world, watched, tmp_path, sample, request) -> None:
    if FAKETIME is None:
        pytest.skip("libfaketime is not installed: apt install libfaketime")
    number = 300 if request.config.getoption("full") else 60
    for round_, jump in enumerate(sample(["+400d", "-400d"], 1)):
        urls = [world.origin.url("picture", f"{round_}-{index}.jpg", host=HOSTS[index % 3]) for index in range(number)]
        for case_id, url in enumerate(urls, 1 + number * round_):
            world.add(case_id, url)
        world.urls = [*world.urls, *urls]
        offset = tmp_path / "offset"
        offset.write_text("+0d")
        faked = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        asked_before = world.origin.count()
        with world.start("env", settings=faked) as jumping, world.start() as steady:
            watched.wait(asked_before + number // 3)
            offset.write_text(jump)
            ends = {command: command.communicate(timeout=LIMIT) for command in (jumping, steady)}
        assert [command.returncode for command in ends] == [0, 0], ends.values()
        world.check_end()
        assert set(times_asked(world).values()) == {1}
        check_limits(world)
        assert world.sql("SELECT count(*) FROM rehost_links WHERE state = 'leased'") == [("0",)]
    far = "SELECT count(*) FROM rehost_links WHERE greatest(held_at, due_at) > now() + interval '1 day'"
    assert world.sql(far) == [("0",)]
