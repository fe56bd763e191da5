"""The outcome of one visit: a file in the store is adopted, or the link is asked for; and the wait after a failure."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from tests.pictures import picture

from rehost.attempt import CopyIsCurrent, FetchedImage
from rehost.clock import Clock
from rehost.errors import Permanent, Transient
from rehost.hotlink.repository import CONFIRM_SECONDS, Evidence
from rehost.images.verifier import ImageVerifier
from rehost.model import (
    Copy,
    Deferred,
    Download,
    Format,
    Image,
    Link,
    Reason,
    Refused,
    Stored,
    Task,
    Unchanged,
    Validator,
)
from rehost.run.limits import StorageQuota, TakedownCheck
from rehost.run.visitor import Visitor
from rehost.store.layout import Layout
from rehost.store.local import LocalStore

LINK = Link("cases", "1", 0, "https://pics.example/1.jpg", None, None)


class NoTombstones:
    """A ledger in which nothing was taken down."""

    async def has_tombstones(self):
        return False


NOTHING_TAKEN_DOWN = TakedownCheck(NoTombstones(), Clock())
QUOTA = StorageQuota(None, Clock(), domain_bytes=0, source_bytes=0)  # none
FOUND = "1/main_image.jpg"
DOWNLOAD = Download(Path("spool"), 7, "f" * 64, "https://pics.example/1.jpg", Validator())


class FakeLearner:
    """Answers each link alike; knows some decoys."""

    def __init__(self, answer, decoys=(), evidence=Evidence.NONE):
        self._answer = answer
        self._decoys = decoys
        self._evidence = evidence
        self.examined = []
        self.log = None

    async def obtain(self, _link, log):
        self.log = log
        log.attempts, log.size = 1, 7
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def is_decoy(self, _link, digest):
        return digest in self._decoys

    async def examine_copy(self, link, digest, _log):
        self.examined.append((link.url, digest))
        return self._evidence


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
        yield Visitor(learner, verifier, store, Layout(), clock, Random(1), QUOTA, NOTHING_TAKEN_DOWN)


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


async def test_file_that_cannot_be_read_affects_its_link_only(tmp_path, caplog):
    put(tmp_path, b"")
    (tmp_path / FOUND).unlink()
    (tmp_path / FOUND).symlink_to(tmp_path / FOUND)  # no one can open it, not even root
    async with visitor(tmp_path, FakeLearner(AssertionError("it was requested"))) as visits:
        outcome = (await visits.visit(task(found=FOUND))).outcome

    assert isinstance(outcome, Deferred)
    assert (outcome.reason, str(tmp_path / FOUND) in outcome.evidence) == (Reason.FILE_UNREADABLE, True)
    assert outcome.wait_seconds >= 86_400
    assert caplog.messages == [f"file not read row='1' error={outcome.evidence!r}"]


@pytest.mark.parametrize(
    ("body", "pending"), [(b"no image", None), (picture(1), "0" * 64)], ids=["no image", "of the link before"]
)
async def test_file_that_is_not_the_links_image_is_not_adopted(tmp_path, body, pending):
    put(tmp_path, body)
    async with visitor(tmp_path, FakeLearner(Permanent(Reason.GONE))) as visits:
        visited = await visits.visit(task(found=FOUND, pending=pending))

    assert isinstance(visited.outcome, Refused)
    assert visited.outcome.decoy is None


@pytest.mark.parametrize(
    ("evidence", "kind", "decoy"),
    [(Evidence.NONE, Refused, None), (Evidence.FIRST, Deferred, None), (Evidence.CONFIRMED, Refused, FOUND)],
)
async def test_known_decoy_in_the_store_is_to_be_removed_once_it_is_confirmed(tmp_path, evidence, kind, decoy):
    digest = put(tmp_path, picture(1))
    learner = FakeLearner(Permanent(Reason.GONE), decoys={digest}, evidence=evidence)
    async with visitor(tmp_path, learner) as visits:
        outcome = (await visits.visit(task(found=FOUND))).outcome

    assert (type(outcome), outcome.reason, outcome.decoy) == (kind, Reason.GONE, decoy)
    assert learner.examined == [(LINK.url, digest)]
    assert (tmp_path / FOUND).exists()


HELD = Copy(FOUND, "e" * 64, 7)
FORMER = "https://pics.example/former.jpg"


@pytest.mark.parametrize(
    ("evidence", "url", "kind", "decoy"),
    [
        (Evidence.NONE, LINK.url, Unchanged, None),
        (Evidence.FIRST, LINK.url, Deferred, None),
        (Evidence.STANDING, LINK.url, Deferred, None),
        (Evidence.CONFIRMED, LINK.url, Refused, FOUND),
        (Evidence.NONE, FORMER, Refused, None),
        (Evidence.FIRST, FORMER, Deferred, None),
        (Evidence.CONFIRMED, FORMER, Refused, FOUND),
    ],
)
async def test_invariant_5_copy_is_removed_only_once_it_is_confirmed_to_be_a_decoy(
    tmp_path, evidence, url, kind, decoy
):
    learner = FakeLearner(Permanent(Reason.DECOY, "decoy"), evidence=evidence)
    async with visitor(tmp_path, learner) as visits:
        outcome = (await visits.visit(task(copy=HELD, held_url=url))).outcome

    assert type(outcome) is kind
    assert getattr(outcome, "decoy", None) == decoy
    assert learner.examined == [(url, HELD.digest)]
    if kind is Deferred:
        assert CONFIRM_SECONDS <= outcome.wait_seconds <= 2 * CONFIRM_SECONDS


@pytest.mark.parametrize(("digest", "kind"), [("f" * 64, Unchanged), ("e" * 64, Stored)])
async def test_suspect_whose_link_gives_the_same_bytes_is_unchanged(tmp_path, digest, kind):
    learner = FakeLearner(FetchedImage(DOWNLOAD, Image(Format.JPEG, 4, 3, 1)))
    async with visitor(tmp_path, learner) as visits:
        outcome = (await visits.visit(task(copy=Copy(FOUND, digest, 7), held_url=LINK.url))).outcome

    assert type(outcome) is kind
    assert learner.examined == []


async def test_copy_that_its_origin_says_is_current_stays_and_gets_the_new_validator(tmp_path):
    learner = FakeLearner(CopyIsCurrent(Validator('"new"'), LINK.url))
    held = Copy(FOUND, "e" * 64, 9)
    async with visitor(tmp_path, learner) as visits:
        own = task(copy=held, held_url=LINK.url, validator=Validator('"old"'))
        outcome = (await visits.visit(own)).outcome

    assert outcome == Unchanged(own, Validator('"new"'))
    assert (learner.log.validator, learner.log.digest) == (Validator('"old"'), held.digest)


async def test_request_for_a_changed_link_is_not_conditional(tmp_path):
    learner = FakeLearner(Permanent(Reason.GONE, "404"))
    async with visitor(tmp_path, learner) as visits:
        other = task(copy=Copy(FOUND, "e" * 64, 9), held_url="https://pics.example/0.jpg", validator=Validator('"old"'))
        await visits.visit(other)

    assert learner.log.validator is None
