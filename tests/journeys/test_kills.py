"""Runs killed at every important system call, and at random moments: rows stay correct, and the next run completes.

The same on SQLite and on PostgreSQL. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import pytest
from tests.journeys.killer import CALLS
from tests.journeys.world import LIMIT, World, ended

INSTANTS = 200


@pytest.fixture
def world(kill_world, proof: Mapping[str, str]) -> World:
    world, _ = kill_world
    world.settings = proof
    return world


@pytest.fixture
def changed(world: World) -> World:
    """Three rows that are due, one with a changed link of the same extension."""
    urls = [world.origin.url("picture", f"{name}.jpg", host="pics.example") for name in ("old", "new", "two", "three")]
    world.urls = urls
    world.add(1, urls[0])
    done = world.run()
    assert done.returncode == 0, done.stderr
    world.sql(f"UPDATE ad_cases SET main_image = '{urls[1]}' WHERE case_id = 1")
    world.add(2, urls[2])
    world.add(3, urls[3])
    world.keep()
    return world


@pytest.mark.timeout(3600)
@pytest.mark.sampled(1, per="engine")
@pytest.mark.parametrize(("engine", "call"), CALLS)
def test_invariant_1_no_kill_leaves_a_row_without_its_file(changed: World, kill) -> None:
    assert_every_run_is_completed(changed, kill)


def assert_every_run_is_completed(changed: World, kill: Callable[..., Iterator[str]]) -> None:
    """Assert that rows are right after each kill of a run, and that the next one completes it."""
    for when in kill(changed, "run --quiet"):
        changed.check_rows()
        done = changed.run()
        assert done.returncode == 0, f"{when}: {done.stdout}{done.stderr}"
        changed.check_end()
        assert_no_picture_was_fetched_more_than_twice(changed, when)


def assert_no_picture_was_fetched_more_than_twice(world: World, when: str) -> None:
    for url in world.urls:
        times = world.origin.count(urlsplit(url).path)
        assert times <= 2, f"{when}: {url} was asked for {times} times"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_run_killed_at_random_moments_converges(world: World, sample) -> None:
    world.urls = [world.origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(120)]
    for number, url in enumerate(world.urls, 1):
        world.add(number, url)
    dice = random.Random(7)
    instants = [dice.uniform(0.05, 1.5) for _ in range(INSTANTS)]
    assert_converges(world, sample(instants, 3), dice)


def assert_converges(world: World, instants: Sequence[float], dice: random.Random) -> None:
    """Kill runs so many seconds after their starts; assert that rows are right each time, and that all is held then."""
    for instant in instants:
        process = world.start()
        time.sleep(instant)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=LIMIT)
        world.check_rows()
        if process.returncode == 0:  # it ended before the kill: change half of the links and start again
            for number in range(1, len(world.sql("SELECT 1 FROM ad_cases")) // 2):
                url = world.origin.url("picture", f"{dice.randrange(10**6)}.jpg", host="pics.example")
                world.urls = [*world.urls, url]
                world.sql(f"UPDATE ad_cases SET main_image = '{url}' WHERE case_id = {number}")

    # A link that was visited alone when the third kill came is taken for the cause.
    with world.start(options=["--retry", "worker-died"]) as process:
        done = ended(process)

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
