"""Repairs killed at every important system call: no row points at nothing, no bytes are lost, the next call completes.

The same on SQLite and on PostgreSQL. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.journeys.killer import CALLS
from tests.journeys.world import World, ended
from tests.pictures import picture

REPAIR = "verify --repair --quiet"
DAMAGED = {1: b"<html>damaged", 3: picture(999)}  # by case
GONE = "/picture/2.jpg"  # at the origin; its file is gone too


@pytest.fixture
def world(kill_world) -> World:
    """Four copies: two are damaged, one and its picture are gone, and a row does not point at its copy."""
    world, mood = kill_world
    world.fill([world.origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(1, 5)])
    assert world.run().returncode == 0
    mood[GONE] = "not-found"
    for case, content in DAMAGED.items():
        file(world, case).write_bytes(content)
    file(world, 2).unlink()
    world.sql("UPDATE ad_cases SET main_image_local = NULL WHERE case_id = 4")
    world.keep()
    return world


def file(world: World, case: int) -> Path:
    return world.store / f"{case}/main_image.jpg"


def locals_of(world: World) -> dict[int, str]:
    return {int(case): local for case, local in world.sql("SELECT case_id, main_image_local FROM ad_cases") if local}


def check_after_kill(world: World, when: str) -> None:
    """Assert that every row points at a file that is whole or the damaged one; the file of row 2 is gone already."""
    for case in locals_of(world).keys() - {2}:
        whole = world.origin.picture(world.urls[case - 1])
        assert file(world, case).read_bytes() in {whole, DAMAGED.get(case)}, f"{when}: {case}"


def check_end(world: World, when: str) -> None:
    """Assert that row 2 is cleared, the others have their pictures, and the damaged bytes are in the trash."""
    assert locals_of(world).keys() == {1, 3, 4}, when
    for case in (1, 3, 4):
        assert file(world, case).read_bytes() == world.origin.picture(world.urls[case - 1]), f"{when}: {case}"
    kept = {hashlib.sha256(each.read_bytes()).digest() for each in world.store.rglob(".rehost/**/*") if each.is_file()}
    assert {hashlib.sha256(each).digest() for each in DAMAGED.values()} <= kept, when


@pytest.mark.timeout(3600)
@pytest.mark.sampled(1, per="engine")
@pytest.mark.parametrize(("engine", "call"), CALLS)
def test_invariant_1_no_kill_of_a_repair_leaves_a_row_without_its_file(world: World, kill) -> None:
    for when in kill(world, REPAIR):
        check_after_kill(world, when)
        with world.start(verb=REPAIR) as process:
            done = ended(process)
        assert done.returncode == 0, f"{when}: {done.stdout}{done.stderr}"
        check_end(world, when)
