"""Takedowns killed at every important system call: the next run completes them, and no row points at nothing.

The same on SQLite and on PostgreSQL. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

import hashlib

import pytest
from tests.journeys.killer import CALLS
from tests.journeys.world import World, ended


@pytest.fixture
def world(kill_world) -> World:
    """Three rows of one picture, which is in the trash too, and a row of another one."""
    world, _ = kill_world
    one, other = (world.origin.url("picture", f"{number}.jpg", host="pics.example") for number in (1, 2))
    world.fill([one, one, f"{one}?again", other])
    done = world.run()
    assert done.returncode == 0, done.stderr
    content = picture_of(world)
    digest = hashlib.sha256(content).hexdigest()
    trashed = world.store / ".rehost/trash/replaced" / digest[:2] / digest
    trashed.parent.mkdir(parents=True)
    trashed.write_bytes(content)
    world.keep()
    return world


def complete(world: World, verb: str) -> None:
    with world.start(verb=verb) as process:
        done = ended(process)
    assert done.returncode == 0, f"{verb}: {done.stdout}{done.stderr}"


def check_gone(world: World, when: str) -> None:
    """Assert that the picture is nowhere, that its rows are cleared, and that the other one is held."""
    rows = dict(world.sql("SELECT case_id, main_image_local FROM ad_cases"))
    assert rows == {"1": "", "2": "", "3": "", "4": "/static/images/4/main_image.jpg"}, when
    left = [path for path in world.store.rglob("*") if path.is_file() and path.read_bytes() == picture_of(world)]
    assert left == [], when
    [(allowed, ended_at, links)] = world.sql(
        "SELECT count(allowed_at), count(ended_at), (SELECT count(*) FROM rehost_links WHERE reason = 'taken-down')"
        " FROM rehost_takedowns"
    )
    assert (allowed, ended_at, links) == ("0", "1", "3"), when


def picture_of(world: World) -> bytes:
    return world.origin.picture(world.urls[0])


@pytest.mark.timeout(3600)
@pytest.mark.sampled(2, per="engine")
@pytest.mark.parametrize(("engine", "call"), CALLS)
def test_invariant_1_a_takedown_killed_at_any_system_call_is_completed(world: World, kill) -> None:
    forget = f"forget {world.urls[0]}"
    for when in kill(world, forget):
        world.check_rows()
        complete(world, "run --quiet")
        if not begun(world):
            complete(world, forget)
        check_gone(world, when)


def begun(world: World) -> bool:
    return world.sql("SELECT count(*) FROM rehost_takedowns") != [("0",)]
