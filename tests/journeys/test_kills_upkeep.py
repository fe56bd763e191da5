"""What replaces and removes copies, killed at every important system call: nothing is lost, the next call completes.

The same on SQLite and on PostgreSQL. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.journeys.killer import CALLS
from tests.journeys.world import World, ended
from tests.pictures import picture

STRAY = "9/main_image.png"
REFRESH = "refresh --quiet --key 1 --key 2"
PRUNE = "prune --yes --quiet"


@dataclass
class Kept:
    """A world with held copies, two of which have changed at their origin, one without a row, and a stray."""

    world: World
    changed: dict[str, bytes]  # path -> what the origin sends now

    def build(self) -> None:
        """Hold four copies, let two change at their origin, delete a row, and put a stray into the store."""
        world = self.world
        world.fill([world.origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(1, 5)])
        self.call("run --quiet")
        world.sql("DELETE FROM ad_cases WHERE case_id = 4")
        self.changed |= {f"/picture/{number}.jpg": picture(50 + number) for number in (1, 2)}
        stray = world.store / STRAY
        stray.parent.mkdir()
        stray.write_bytes(b"stray")
        make_old(stray)

    def call(self, verb: str, when: str = "") -> None:
        with self.world.start(verb=verb) as process:
            done = ended(process)
        assert done.returncode == 0, f"{when}: {done.stdout}{done.stderr}"

    def last_run(self, verb: str) -> str:
        [(run,)] = self.world.sql(f"SELECT max(run) FROM rehost_runs WHERE verb = '{verb}'")
        return run

    def former(self, number: int) -> bytes:
        return self.world.origin.picture(self.world.urls[number - 1])

    def check(self, when: str) -> None:
        """Assert that every row leads to a whole picture of its link, and that no bytes are lost."""
        for case_id, local in self.world.sql("SELECT case_id, main_image_local FROM ad_cases"):
            file = self.world.store / local.removeprefix("/static/images/")
            assert local, f"{when}: row {case_id} was cleared"
            assert file.is_file(), f"{when}: row {case_id} points at nothing"
            whole = [self.former(int(case_id)), self.changed.get(f"/picture/{case_id}.jpg")]
            assert file.read_bytes() in whole, f"{when}: row {case_id} has a broken picture"
        there = {path.read_bytes() for path in self.world.store.rglob("*") if path.is_file()}
        lost = {*map(self.former, (1, 2, 3, 4)), b"stray"} - there
        assert not lost, f"{when}: {len(lost)} files are lost"

    def check_end(self, when: str, held: Mapping[int, bytes], trash: set[bytes], others: set[str]) -> None:
        """Assert what the store has, and that the ledger has the digests of the files to which its rows lead."""
        files = {path.relative_to(self.world.store): path.read_bytes() for path in self.world.store.rglob("*.*g")}
        copies = {str(path): content for path, content in files.items() if not str(path).startswith(".rehost")}
        expected = {f"{number}/main_image.jpg": content for number, content in held.items()}
        assert {key: copies.get(key) for key in expected} == expected, when
        assert copies.keys() - expected.keys() == others, when
        trashed = {path.read_bytes() for path in (self.world.store / ".rehost/trash").rglob("*") if path.is_file()}
        assert trashed == trash, when
        assert not list((self.world.store / ".rehost/work").glob("*/replaced/**/*.*")), when
        digests = dict(self.world.sql("SELECT key, digest FROM rehost_links WHERE row_key <> '4'"))
        assert digests == {key: hashlib.sha256(content).hexdigest() for key, content in expected.items()}, when


def make_old(file: Path) -> None:
    os.utime(file, (time.time() - 1e6,) * 2)


@pytest.fixture
def kept(kill_world) -> Kept:
    kept = Kept(*kill_world)
    kept.build()
    return kept


def prepare_prune(kept: Kept) -> tuple[str, Callable[[str], None]]:
    held, stray = {number: kept.former(number) for number in (1, 2, 3)}, kept.world.store / STRAY

    def check_end(when: str) -> None:
        if stray.exists():  # killed when it had the time for the trash, but not its name there: it counts as young
            make_old(stray)
            kept.call(PRUNE, when)
        kept.check_end(when, held, {kept.former(4), b"stray"}, set())

    return PRUNE, check_end


def prepare_refresh(kept: Kept) -> tuple[str, Callable[[str], None]]:
    held = {**{number: kept.changed[f"/picture/{number}.jpg"] for number in (1, 2)}, 3: kept.former(3)}
    trash = {kept.former(1), kept.former(2)}
    return REFRESH, lambda when: kept.check_end(when, held, trash, {STRAY, "4/main_image.jpg"})


def prepare_undo_of_replaced(kept: Kept) -> tuple[str, Callable[[str], None]]:
    kept.call(REFRESH)
    held = {number: kept.former(number) for number in (1, 2, 3)}
    trash = {*kept.changed.values(), kept.former(1), kept.former(2)}
    verb = f"undo {kept.last_run('refresh')}"
    return verb, lambda when: kept.check_end(when, held, trash, {STRAY, "4/main_image.jpg"})


def prepare_undo_of_pruned(kept: Kept) -> tuple[str, Callable[[str], None]]:
    kept.call(PRUNE)
    held = {number: kept.former(number) for number in (1, 2, 3)}
    verb = f"undo {kept.last_run('prune')}"
    return verb, lambda when: kept.check_end(when, held, {kept.former(4), b"stray"}, {STRAY, "4/main_image.jpg"})


@pytest.mark.timeout(3600)
@pytest.mark.sampled(1, per="engine")
@pytest.mark.parametrize(("engine", "call"), CALLS)
@pytest.mark.parametrize("prepare", [prepare_prune, prepare_refresh, prepare_undo_of_replaced, prepare_undo_of_pruned])
def test_invariant_1_no_kill_of_what_replaces_or_removes_copies_loses_one(kept: Kept, prepare, kill) -> None:
    verb, check_end = prepare(kept)
    kept.world.keep()
    for when in kill(kept.world, verb):
        kept.check(when)
        kept.call(verb, when)
        kept.check(when)
        check_end(when)
