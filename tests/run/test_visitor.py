"""The outcome of one visit: a file in the store is adopted, or the link is asked for; and the wait after a failure."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from tests.pictures import picture

from rehost.attempt import FetchedImage
from rehost.clock import Clock
from rehost.errors import Permanent, Transient
from rehost.images.verifier import ImageVerifier
from rehost.model import Deferred, Download, Format, Image, Link, Reason, Refused, Stored, Task, Validator
from rehost.run.limits import StorageQuota
from rehost.run.visitor import Visitor
from rehost.store.layout import Layout
from rehost.store.local import LocalStore

LINK = Link("cases", "1", 0, "https://pics.example/1.jpg", None, None)
QUOTA = StorageQuota(None, Clock(), domain_bytes=0, source_bytes=0)  # none
FOUND = "1/main_image.jpg"
DOWNLOAD = Download(Path("spool"), 7, "f" * 64, "https://pics.example/1.jpg", Validator())


class FakeLearner:
    """Answers each link alike; knows some decoys."""

    def __init__(self, answer, decoys=()):
        self._answer = answer
        self._decoys = decoys

    async def obtain(self, _link, log):
        log.attempts, log.size = 1, 7
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def is_decoy(self, _link, digest):
        return digest in self._decoys


@asynccontextmanager
async def visitor(folder, learner):
    clock = Clock()
    verifier = ImageVerifier(
        verify="structure",
        max_pixels=10**6,
        max_frames=10,
        max_total_pixels=10**8,
        decode_memory_bytes=2**29,
        decode_seconds=10.0,
        processes=1,
        clock=clock,
    )
    async with verifier, LocalStore(folder, clock=clock) as store:
        yield Visitor(learner, verifier, store, Layout(), clock, Random(1), QUOTA)


def task(**found):
    return Task(1, 1, LINK, "pics.example", 1, **found)


def put(folder, body):
    """Put a file at the link's place; return its digest."""
    path = folder / FOUND
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    return sha256(body).hexdigest()


async def test_image_that_the_origin_gives_is_stored_under_the_links_key(tmp_path):
    learner = FakeLearner(FetchedImage(DOWNLOAD, Image(Format.PNG, 4, 3, 1)))
    async with visitor(tmp_path, learner) as visits:
        visited = await visits.visit(task())

    assert isinstance(visited.outcome, Stored)
    assert (visited.outcome.copy.key, visited.outcome.copy.digest) == ("1/main_image.png", DOWNLOAD.digest)
    assert (visited.origin, visited.size, visited.attempts) == ("pics.example", 7, 1)


@pytest.mark.parametrize(
    ("error", "kind"), [(Transient(Reason.TIMED_OUT, "20 s"), Deferred), (Permanent(Reason.GONE, "404"), Refused)]
)
async def test_passing_cause_is_deferred_and_lasting_cause_is_refused(tmp_path, error, kind):
    async with visitor(tmp_path, FakeLearner(error)) as visits:
        outcome = (await visits.visit(task())).outcome

    assert isinstance(outcome, kind)
    assert (outcome.reason, outcome.evidence, outcome.decoy) == (error.reason, error.evidence, None)


async def test_link_whose_copy_could_not_be_named_is_refused_without_a_request(tmp_path):
    long = replace(task(), link=replace(LINK, row_key="\x1b广" * 300))
    async with visitor(tmp_path, FakeLearner(AssertionError("it was requested"))) as visits:
        outcome = (await visits.visit(long)).outcome

    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.KEY_TOO_LONG
    assert outcome.evidence.startswith("its file's name would have 3,")


async def test_image_in_the_store_is_adopted_without_a_request(tmp_path):
    digest = put(tmp_path, picture(1))
    async with visitor(tmp_path, FakeLearner(Permanent(Reason.GONE))) as visits:
        visited = await visits.visit(task(found=FOUND))

    assert isinstance(visited.outcome, Stored)
    assert (visited.outcome.copy.key, visited.outcome.copy.digest) == (FOUND, digest)
    assert (visited.outcome.spool, visited.outcome.final_url, visited.attempts) == (None, None, 0)


@pytest.mark.parametrize(
    ("body", "pending"), [(b"no image", None), (picture(1), "0" * 64)], ids=["no image", "of the link before"]
)
async def test_file_that_is_not_the_links_image_is_not_adopted(tmp_path, body, pending):
    put(tmp_path, body)
    async with visitor(tmp_path, FakeLearner(Permanent(Reason.GONE))) as visits:
        visited = await visits.visit(task(found=FOUND, pending=pending))

    assert isinstance(visited.outcome, Refused)
    assert visited.outcome.decoy is None


async def test_known_decoy_in_the_store_is_reported_with_the_failure_and_stays(tmp_path):
    digest = put(tmp_path, picture(1))
    async with visitor(tmp_path, FakeLearner(Permanent(Reason.GONE), decoys={digest})) as visits:
        outcome = (await visits.visit(task(found=FOUND))).outcome

    assert isinstance(outcome, Refused)
    assert outcome.decoy == FOUND
    assert (tmp_path / FOUND).exists()
