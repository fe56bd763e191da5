"""Runs whose copies are in a bucket: killed, without their server, by several processes, and over a whole catalogue."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.journeys.deployment import real_cases
from tests.journeys.fork_server import ForkServer
from tests.journeys.killer import CALLS_WITH_BUCKET
from tests.journeys.test_kills import (
    assert_converges,
    assert_every_run_is_completed,
    assert_no_picture_was_fetched_more_than_twice,
)
from tests.journeys.world import LIMIT, TABLE, Command, World, ended
from tests.origin import Origin
from tests.s3 import BUCKET, S3Error, S3Server, running_s3
from tests.s3_faults import Fault, FaultyS3, faulty_s3

LINKS = 40
ENVIRONMENT_FAULT = 3  # exit status
INSTANTS = 100


@dataclass
class BucketWorld(World):
    """A world whose copies are in a bucket."""

    server: S3Server | None = None
    endpoint: str = ""  # of a proxy before the server
    prefix: str = ""
    may_have_strays: bool = False  # of links that changed after a kill; `rehost prune` removes them after a day
    kept_objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.server is not None
        self.prefix = self.server.fresh_prefix()

    @property
    def s3(self) -> S3Server:
        assert self.server is not None
        return self.server

    def environment(self) -> dict[str, str]:
        where = {"IMAGE_STORAGE_DIR": f"s3://{BUCKET}/{self.prefix}", "IMAGE_SPOOL_DIR": str(self.folder / "spool")}
        return {**super().environment(), **where, **self.s3.env(self.endpoint or None)}

    def objects(self, *, with_home: bool = False) -> set[str]:
        names = {name.removeprefix(f"{self.prefix}/") for name in self.s3.objects(BUCKET, f"{self.prefix}/")}
        return {name for name in names if with_home or not name.startswith(".rehost/")}

    def keep(self) -> None:
        super().keep()
        for name in self.objects(with_home=True):
            found = self.s3.get(BUCKET, f"{self.prefix}/{name}")
            metadata = {f"x-amz-meta-{key}": value for key, value in found.metadata.items()}
            self.kept_objects[name] = found.body, {**metadata, "content-type": found.content_type}

    def restore(self) -> None:
        super().restore()
        for name in self.objects(with_home=True) - self.kept_objects.keys():
            self.s3.delete(BUCKET, f"{self.prefix}/{name}")
        for name in self.kept_objects.keys() - self.objects(with_home=True):
            self.s3.put(BUCKET, f"{self.prefix}/{name}", *self.kept_objects[name])

    def check_rows(self) -> None:
        self._bodies()

    def _bodies(self) -> dict[str, bytes]:
        """Return the object of each row with a local URL, by key; assert that all are there and whole."""
        whole = self._whole()
        bodies = {}
        for case_id, local in self.sql("SELECT case_id, main_image_local FROM ad_cases"):
            if local:
                key = local.removeprefix("/static/images/")
                try:
                    bodies[key] = self.s3.get(BUCKET, f"{self.prefix}/{key}").body
                except S3Error as error:
                    raise AssertionError(f"case {case_id} points at {local}, which is not there") from error
                assert hashlib.sha256(bodies[key]).hexdigest() in whole, f"case {case_id} has a broken picture"
        return bodies

    def _whole(self) -> set[str]:
        """Return the digests of all pictures that any row has linked to."""
        return {hashlib.sha256(self.origin.picture(request)).hexdigest() for request in self.urls}

    def check_end(self, deleted: Sequence[int] = ()) -> None:
        bodies = self._bodies()
        for case_id, url, local in self.sql("SELECT case_id, main_image, main_image_local FROM ad_cases"):
            assert local, f"case {case_id} is not held"
            key = local.removeprefix("/static/images/")
            assert bodies[key] == self.origin.picture(url), f"case {case_id} has another link's picture"
        assert self.objects() >= bodies.keys()
        strays = self.objects() - bodies.keys()
        assert self.may_have_strays or not strays
        whole = self._whole()
        for name in strays:
            body = self.s3.get(BUCKET, f"{self.prefix}/{name}").body
            assert hashlib.sha256(body).hexdigest() in whole, f"{name} is no whole picture"
        assert not deleted
        left = [path for path in (self.folder / "spool").rglob("*") if path.is_file() and path.name != "lock"]
        assert not left, "spools are left"


def sentence_of(done) -> str:
    """Return the error of a run that the environment ended, which is one sentence; no row failed because of it."""
    assert done.returncode == ENVIRONMENT_FAULT, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Debug" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("rehost: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def make_world(
    request: pytest.FixtureRequest, fork_server: ForkServer, proof: Mapping[str, str], tmp_path: Path
) -> Iterator[Callable[..., BucketWorld]]:
    """Make a world with LINKS rows."""
    with contextlib.ExitStack() as stack:

        def make(engine: str, server: S3Server, endpoint: str = "", links: int = LINKS) -> BucketWorld:
            postgres = request.getfixturevalue("postgres") if engine == "postgresql" else None
            database = postgres.create_database() if postgres else ""
            if postgres:
                stack.callback(postgres.drop_database, database)
            folder = tmp_path / "world"
            folder.mkdir()
            origin = stack.enter_context(Origin())
            settings = dict(proof)
            world = BucketWorld(
                folder, origin, postgres, database, settings, (), fork_server, server=server, endpoint=endpoint
            )
            world.sql(TABLE)
            world.fill([origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(links)])
            return world

        yield make


# --- kills


@pytest.fixture
def changed(engine: str, make_world, s3_server: S3Server) -> BucketWorld:
    """Three rows that are due, one with a changed link."""
    world = make_world(engine, s3_server, links=1)
    done = world.run()
    assert done.returncode == 0, done.stderr
    world.fill([world.origin.url("picture", f"{name}.jpg", host="pics.example") for name in ("new", "two", "three")])
    world.sql(f"UPDATE ad_cases SET main_image = '{world.urls[1]}' WHERE case_id = 1")
    world.sql("DELETE FROM ad_cases WHERE case_id = 2")
    world.keep()
    return world


@pytest.mark.timeout(3600)
@pytest.mark.sampled(1, per="engine")
@pytest.mark.parametrize(("engine", "call"), CALLS_WITH_BUCKET)
def test_invariant_1_no_kill_leaves_a_row_without_its_object(changed: BucketWorld, kill) -> None:
    assert_every_run_is_completed(changed, kill)


@pytest.mark.timeout(3600)
@pytest.mark.sampled(1)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_run_killed_at_random_moments_converges(engine: str, make_world, s3_server: S3Server, sample) -> None:
    world = make_world(engine, s3_server, links=80)
    world.may_have_strays = True
    dice = random.Random(11)
    instants = [dice.uniform(0.2, 2.0) for _ in range(INSTANTS)]
    assert_converges(world, sample(instants, 2), dice)


# --- a server that is away


def killed(server: S3Server, _proxy: FaultyS3, _command: Command) -> None:
    server.kill()
    server.start()


def hung(server: S3Server, _proxy: FaultyS3, command: Command) -> None:
    server.hang()
    with contextlib.suppress(Exception):
        command.communicate(timeout=1.0)
        raise AssertionError("the run did not wait")
    server.resume()


def unreachable(_server: S3Server, proxy: FaultyS3, _command: Command) -> None:
    proxy.refuse()
    time.sleep(2.0)
    proxy.accept()


@pytest.fixture
def world(make_world, s3_faults: FaultyS3) -> BucketWorld:
    return make_world("sqlite", s3_faults.server, s3_faults.endpoint)


def in_the_middle(proxy: FaultyS3, puts: int = LINKS // 3) -> None:
    """Return when so many objects were stored."""
    end = time.monotonic() + LIMIT
    while proxy.count("PUT") < puts:
        assert time.monotonic() < end, f"{proxy.count('PUT')} of {puts} objects"
        time.sleep(0.005)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("fault", [killed, hung], ids=lambda fault: fault.__name__)
def test_a_run_waits_for_a_server_that_is_killed_or_hangs_and_loses_nothing(make_world, fault) -> None:
    with running_s3() as server, faulty_s3(server) as proxy:
        world = make_world("sqlite", server, proxy.endpoint, links=200)
        with world.start() as command:
            in_the_middle(proxy)
            fault(server, proxy, command)
            done = ended(command)

        assert done.returncode == 0, done.stdout + done.stderr
        world.check_end()


def test_a_run_waits_for_a_server_that_cannot_be_reached_for_a_while(world: BucketWorld, s3_faults: FaultyS3) -> None:
    with world.start() as command:
        in_the_middle(s3_faults)
        unreachable(s3_faults.server, s3_faults, command)
        done = ended(command)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    world.check_end()
    assert_no_picture_was_fetched_more_than_twice(world, "unreachable")


def test_answers_that_are_lost_after_the_object_arrived_cost_no_copy_and_no_row(
    world: BucketWorld, s3_faults: FaultyS3
) -> None:
    s3_faults.add(Fault("PUT", "main_image", times=60, swallow=True))

    done = world.run()

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
    assert all(world.origin.count(urlsplit(url).path) == 1 for url in world.urls)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("PUT", "main_image", status=403, code="AccessDenied"), "refuses access"),
        (Fault("PUT", "main_image", status=404, code="NoSuchBucket"), "There is no bucket pictures"),
    ],
    ids=["denied", "no-bucket"],
)
def test_a_bucket_that_refuses_in_the_middle_ends_the_run_in_a_sentence_and_the_next_one_completes(
    world: BucketWorld, s3_faults: FaultyS3, fault: Fault, words: str
) -> None:
    with world.start(verb="run") as command:
        in_the_middle(s3_faults, 3)
        s3_faults.add(fault)
        done = ended(command)

    assert words in sentence_of(done)
    world.check_rows()
    assert world.sql("SELECT count(*) FROM rehost_links WHERE state IN ('deferred', 'refused')") == [("0",)]
    s3_faults.clear()
    assert world.run().returncode == 0
    world.check_end()
    assert_no_picture_was_fetched_more_than_twice(world, words)


@pytest.mark.timeout(1200)
@pytest.mark.sampled(0)  # three minutes of patience
def test_a_server_that_does_not_come_back_ends_the_run_in_a_sentence(world: BucketWorld, s3_faults: FaultyS3) -> None:
    with world.start(verb="run") as command:
        in_the_middle(s3_faults, 3)
        s3_faults.refuse()
        out, err = command.communicate(timeout=900)
    done = subprocess.CompletedProcess(command.args, command.returncode, out, err)

    assert "cannot be used, after 180 seconds" in sentence_of(done)
    world.check_rows()
    s3_faults.accept()
    assert world.run().returncode == 0
    world.check_end()
    assert_no_picture_was_fetched_more_than_twice(world, "away")


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses access"),
        ({"IMAGE_STORAGE_DIR": "s3://no-such-bucket/x"}, "There is no bucket no-such-bucket"),
        ({"IMAGE_MIN_FREE_BYTES": "1024TiB"}, "less than IMAGE_MIN_FREE_BYTES"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be used, after 15 seconds"),
    ],
    ids=["secret", "bucket", "spools", "away"],
)
def test_a_run_that_cannot_begin_says_why_in_a_sentence(world: BucketWorld, variables, words: str) -> None:
    with world.start(verb="run", settings=variables) as command:
        done = ended(command)

    assert words in sentence_of(done)
    assert world.objects() == set()


# --- several processes, and everything


def test_several_processes_of_one_run_store_in_the_bucket_each_picture_once(world: BucketWorld) -> None:
    with world.start(options=["--workers", "3"]) as command:  # forked before any of them uses the bucket
        done = ended(command)

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
    assert all(world.origin.count(urlsplit(url).path) == 1 for url in world.urls)


def run_at_length(world: BucketWorld) -> subprocess.CompletedProcess[str]:
    with world.start() as command:
        out, err = command.communicate(timeout=1700)
    return subprocess.CompletedProcess(command.args, command.returncode, out, err)


@pytest.mark.timeout(3600)
def test_the_whole_catalogue_is_held_in_one_run_and_a_second_one_asks_for_next_to_nothing(
    make_world, s3_faults: FaultyS3, shared: Path, sample
) -> None:
    """With --full all 8,446 rows; origin and bucket count what they are asked for."""
    world = make_world("postgresql", s3_faults.server, s3_faults.endpoint, links=0)
    cases = [*sample(real_cases(shared), 150)]
    world.settings["IMAGE_CONNECT_TO"] = f"*::{world.origin.address}:{world.origin.port}"
    world.fill([case.main_image.replace("'", "''") for case in cases])

    first = run_at_length(world)
    asked, stored = len(world.origin.requests), len(s3_faults.requests)
    held = world.sql("SELECT count(*) FROM ad_cases WHERE main_image_local IS NOT NULL")
    puts = s3_faults.count("PUT", "main_image")
    second = run_at_length(world)

    assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr + second.stderr
    assert held == [(str(len(cases)),)]
    assert len(world.objects()) == len(cases) == puts
    assert len(world.origin.requests) == asked
    listed = len(cases) // 1000 + 1
    again = s3_faults.requests[stored:]
    assert len(again) <= 2 * listed + 4, [(each.method, each.path) for each in again]
    assert stored <= len(cases) + 2 * listed + 8, "more than one request for each picture"
