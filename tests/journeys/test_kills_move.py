"""A move of all copies, killed at every important system call: nothing is lost, and the same command completes it.

The same on SQLite and on PostgreSQL, to a bucket and back. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.journeys.killer import CALLS
from tests.journeys.world import World, ended
from tests.s3 import BUCKET, S3Server

PREFIX = "/static/images/"


@dataclass
class Removal:
    """A world with three held copies, and the bucket to which they move."""

    world: World
    server: S3Server
    prefix: str

    def call(self, verb: str, when: str = "") -> None:
        with self.world.start(verb=verb) as process:
            done = ended(process)
        assert done.returncode == 0, f"{when}: {done.stdout}{done.stderr}"

    def objects(self) -> set[str]:
        return {name.removeprefix(f"{self.prefix}/") for name in self.server.objects(BUCKET, f"{self.prefix}/")}

    def check(self, when: str) -> set[bool]:
        """Assert that every row leads to its picture, as the ledger says; return whether these are in the bucket."""
        query = """SELECT main_image, main_image_local, key, rehost_links.local_url FROM ad_cases
            JOIN rehost_links ON row_key = CAST(case_id AS text) WHERE state = 'held'"""
        rows, objects, places = self.world.sql(query), self.objects(), set()
        assert len(rows) == 3, when
        for url, local, key, known in rows:
            assert local == known == f"{PREFIX}{key}", when
            is_object = key in objects
            file = self.world.store / key
            content = self.server.get(BUCKET, f"{self.prefix}/{key}").body if is_object else file.read_bytes()
            assert content == self.world.origin.picture(url), when
            places.add(is_object)
        return places

    def empty(self) -> None:
        for name in self.objects():
            self.server.delete(BUCKET, f"{self.prefix}/{name}")


@pytest.fixture
def removal(kill_world, s3_server) -> Removal:
    world, _ = kill_world
    world.settings = {**world.settings, **s3_server.env(), "IMAGE_SPOOL_DIR": str(world.folder / "spool")}
    world.fill([world.origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(3)])
    removal = Removal(world, s3_server, s3_server.fresh_prefix())
    removal.call("run --quiet")
    return removal


@pytest.mark.timeout(3600)
@pytest.mark.sampled(1, per="engine")
@pytest.mark.parametrize(("engine", "call"), CALLS)
@pytest.mark.parametrize("is_back", [False, True], ids=["to a bucket", "back"])
def test_invariant_1_no_kill_of_a_move_loses_a_copy(removal: Removal, kill, *, is_back: bool) -> None:
    bucket, folder = f"s3://{BUCKET}/{removal.prefix}", str(removal.world.store)
    if is_back:
        removal.call(f"move-store {bucket} --quiet")
        removal.world.settings = {**removal.world.settings, "IMAGE_STORAGE_DIR": bucket}
    verb = f"move-store {folder if is_back else bucket} --quiet"
    removal.world.keep()
    for when in kill(removal.world, verb):
        removal.check(when)
        removal.call(verb, when)
        assert removal.check(when) == {not is_back}, when
        if not is_back:
            removal.empty()
