"""Recording while other workers have the same links, with a real ledger, table and store; and the pipeline."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass
from random import Random

import pytest
from tests.databases import Peer, add_cases, another_peer, execute, url_of
from tests.pictures import picture

from rehost.clock import Clock
from rehost.errors import Permanent
from rehost.events import CopiesSuspected, Recorded
from rehost.hotlink.repository import Evidence
from rehost.images.verifier import ImageVerifier
from rehost.model import Copy, Format, Image, Link, Reason, Refused, Stored, Task
from rehost.run.limits import Limits, StorageQuota, TakedownCheck
from rehost.run.planner import Planner
from rehost.run.recorder import Recorder, RecordingPipeline
from rehost.run.stats import RunStats
from rehost.run.visitor import Visitor
from rehost.store.filesystem import Durability
from rehost.store.layout import Layout
from rehost.store.local import LocalStore
from rehost.upkeep.journal import Journal
from rehost.upkeep.undo import Undone, undo

A = "https://a.example/1"
ENDINGS = {"png": Format.PNG, "jpg": Format.JPEG}


class Interrupted:
    """A part; something happens before or after each call of one of its methods."""

    def __init__(self, part, method: str, *, before=None, after=None) -> None:
        self._part, self._method, self._before, self._after = part, method, before, after

    def __getattr__(self, name: str):
        if name != self._method:
            return getattr(self._part, name)
        return self._call

    async def _call(self, *arguments):
        if self._before is not None:
            await self._before()
        result = await getattr(self._part, self._method)(*arguments)
        if self._after is not None:
            await self._after()
        return result


def with_transactions(ledger, *, before=None, after=None):
    """Return the ledger; something happens before or after each transaction over several of its parts."""
    changed = copy(ledger)
    changed.database = Interrupted(ledger.database, "transact", before=before, after=after)
    return changed


class FakeLearner:
    """Knows no decoys, and obtains nothing."""

    async def obtain(self, _link, _log):
        raise Permanent(Reason.GONE)

    async def is_decoy(self, _link, _digest: str) -> bool:
        return False

    async def examine_copy(self, _link, _digest: str, _log) -> Evidence:
        return Evidence.NONE


@dataclass
class Worker:
    """One worker with a store of its own over the same folder."""

    peer: Peer
    store: LocalStore

    async def lease(self) -> Task:
        [task] = await self.peer.lease_all()
        return task

    def fetched(self, task: Task, content: bytes, ending: str = "jpg") -> Stored:
        spool = self.store.spool()
        spool.write_bytes(content)
        copy = Copy(f"{task.link.row_key}/main_image.{ending}", hashlib.sha256(content).hexdigest(), len(content))
        return Stored(task, copy, Image(ENDINGS[ending], 4, 3, 1), spool, final_url=task.link.url)

    def recorder(self, *, ledger=None, store=None) -> Recorder:
        return Recorder(ledger or self.peer.ledger, store or self.store, self.peer.catalogue, Layout())

    def planner(self, *, ledger=None, store=None) -> Planner:
        return Planner(ledger or self.peer.ledger, store or self.store, self.peer.catalogue, Layout())

    async def fetch(self, content: bytes, ending: str = "jpg") -> None:
        """Take in the link, lease it, and record a picture."""
        await self.peer.note()
        task = await self.lease()
        recorded = await self.recorder().record(1, [self.fetched(task, content, ending)])
        assert recorded.held == 1

    async def plan(self) -> None:
        await self.planner().plan()

    async def adopt(self, task: Task) -> Stored | None:
        hotlinks = FakeLearner()
        async with ImageVerifier(
            verify="structure",
            max_pixels=10**6,
            max_frames=10,
            max_total_pixels=10**8,
            decode_memory_bytes=2**29,
            decode_seconds=10.0,
            processes=1,
            clock=(clock := Clock()),
        ) as inspector:
            visitor = Visitor(
                hotlinks,
                inspector,
                self.store,
                Layout(),
                clock,
                Random(1),
                StorageQuota(None, clock, domain_bytes=0, source_bytes=0),
                TakedownCheck(self.peer.ledger.results, clock),
            )
            outcome = (await visitor.visit(task)).outcome
            return outcome if isinstance(outcome, Stored) else None

    async def link(self, url: str) -> None:
        await execute(self.peer.database, "UPDATE ad_cases SET main_image = :url", url=url)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def worker(database, database_url, root):
    """Make workers; the leases of the late one expire at once."""

    @asynccontextmanager
    async def make(name: str, lease_seconds: float = 120.0):
        store = LocalStore(root, clock=Clock())
        async with another_peer(database_url, name, lease_seconds) as peer, store:
            yield Worker(peer, store)

    assert database is not None  # the tables are there
    return make


async def row_and_file(worker: Worker, root) -> bytes:
    """Return the bytes that the only row points at."""
    [(local,)] = await execute(worker.peer.database, "SELECT main_image_local FROM ad_cases")
    return (root / local.removeprefix(url_of(""))).read_bytes()


async def test_invariant_4_a_late_worker_does_not_undo_a_file_that_its_successor_adopted(worker, root):
    content = picture(1)
    async with worker("late", 0.0) as late, worker("successor") as successor:
        await add_cases(late.peer.database, [A])
        await late.peer.note()
        task = await late.lease()

        async def succeed() -> None:
            await successor.plan()  # finds the late one's file
            adopted = await successor.adopt(await successor.lease())
            assert adopted is not None
            assert (await successor.recorder().record(2, [adopted])).held == 1

        ledger = with_transactions(late.peer.ledger, before=succeed)
        recorded = await late.recorder(ledger=ledger).record(1, [late.fetched(task, content)])

        assert recorded.held == 0
        assert await row_and_file(successor, root) == content


@pytest.mark.parametrize("has_former", [False, True])
async def test_invariant_4_a_late_worker_does_not_undo_a_file_that_its_successor_is_about_to_record(
    worker, root, has_former
):
    async with worker("late", 0.0) as late, worker("successor") as successor:
        await add_cases(late.peer.database, [A])
        if has_former:
            await late.fetch(picture(1))
            await late.link(A + "?2")
        await late.peer.note()
        task = await late.lease()
        adopted = []

        async def adopt() -> None:
            if not has_former:
                await successor.plan()  # finds the late one's file
            adopted.append(await successor.adopt(await successor.lease()))

        ledger = with_transactions(late.peer.ledger, before=adopt)
        recorded = await late.recorder(ledger=ledger).record(1, [late.fetched(task, picture(2))])
        assert recorded.held == 0
        assert (await successor.recorder().record(2, adopted)).held == 1

        assert await row_and_file(successor, root) == picture(2)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("has_former", [False, True])
async def test_invariant_4_the_outcome_of_an_ended_lease_is_not_recorded_under_the_next_lease_of_the_same_worker(
    worker, root, order, has_former
):
    async with worker("one", 0.0) as one:
        await add_cases(one.peer.database, [A])
        if has_former:
            await one.fetch(picture(1))
            await one.link(A + "?2")
        await one.peer.note()
        outcomes = [one.fetched(await one.lease(), picture(number)) for number in (2, 3)]

        recorded = await one.recorder().record(1, outcomes[::order])

        assert (recorded.held, recorded.overtaken) == (1, 1)
        assert await row_and_file(one, root) == picture(3)
        assert await execute(one.peer.database, "SELECT digest FROM rehost_links") == [(outcomes[1].copy.digest,)]
        assert not any(outcome.spool.exists() for outcome in outcomes)
        assert not list((root / ".rehost").rglob("main_image*")), "nothing is kept aside"


async def test_a_late_failure_does_not_end_the_next_lease_of_the_same_worker(worker, root):
    async with worker("one", 0.0) as one:
        await add_cases(one.peer.database, [A])
        await one.peer.note()
        late = Refused(await one.lease(), Reason.GONE, "404", 60.0)

        recorded = await one.recorder().record(1, [late, one.fetched(await one.lease(), picture(2))])

        assert (recorded.held, recorded.failed) == (1, 1)
        assert await row_and_file(one, root) == picture(2)


async def test_a_late_worker_brings_no_old_bytes_back_after_its_successor_recorded_the_new_ones(worker, root):
    old, new = picture(1), picture(2)
    async with worker("late", 0.0) as late, worker("successor") as successor:
        await add_cases(late.peer.database, [A])
        await late.fetch(old)
        await late.link(A + "?2")
        await late.peer.note()
        task = await late.lease()

        async def succeed() -> None:
            adopted = await successor.adopt(await successor.lease())
            assert adopted is not None
            assert (await successor.recorder().record(2, [adopted])).held == 1

        ledger = with_transactions(late.peer.ledger, before=succeed)
        recorded = await late.recorder(ledger=ledger).record(1, [late.fetched(task, new)])

        assert recorded.held == 0
        assert await row_and_file(successor, root) == new


@pytest.mark.parametrize("moment", ["commit", "confirm"])
async def test_invariant_1_a_former_file_is_not_removed_once_its_name_is_in_use_again(worker, root, moment):
    async with worker("first") as first, worker("second") as second:
        await add_cases(first.peer.database, [A])
        await first.fetch(picture(1), "png")
        await first.link(A + "?2")
        await first.peer.note()
        task = await first.lease()

        async def come_back() -> None:
            await second.link(A + "?3")
            await second.fetch(picture(3), "png")

        ledger, store = first.peer.ledger, first.store
        if moment == "commit":
            ledger = with_transactions(ledger, after=come_back)
        else:
            store = Interrupted(store, "confirm", before=come_back)  # the first step after it
        await first.recorder(ledger=ledger, store=store).record(1, [first.fetched(task, picture(2), "jpg")])

        assert await row_and_file(second, root) == picture(3)


async def test_invariant_1_a_leftover_is_not_removed_once_its_name_is_in_use_again(worker, root):
    async with worker("first") as first, worker("second") as second:
        await add_cases(first.peer.database, [A])
        await first.fetch(picture(1), "png")
        await first.link(A + "?2")
        await first.fetch(picture(2), "jpg")  # the ledger knows of a leftover until the next plan

        async def come_back() -> None:
            await second.link(A + "?3")
            await second.fetch(picture(3), "png")

        for moment in ({"before": come_back}, {"after": come_back}):
            store = Interrupted(second.store, "file_ids", **moment)
            await first.planner(store=store).plan()

            assert await row_and_file(second, root) == picture(3)
            await second.link(A + "?4")
            await second.fetch(picture(4), "jpg")


async def test_no_row_is_pointed_at_a_copy_that_went_missing_meanwhile(worker, root):
    async with worker("first") as first, worker("second") as second:
        await add_cases(first.peer.database, [A])
        await first.fetch(picture(1), "png")
        await execute(first.peer.database, "UPDATE ad_cases SET main_image_local = NULL")

        async def lose() -> None:
            (root / "1/main_image.png").unlink()
            await second.peer.compare([])
            recorded = await second.recorder().record(
                2, [second.fetched(await second.lease(), picture(1, Format.JPEG), "jpg")]
            )
            assert recorded.held == 1

        ledger = with_transactions(first.peer.ledger, before=lose)
        planned, _ = await first.planner(ledger=ledger).plan(1)

        assert planned.mended == 0
        assert await row_and_file(second, root) == picture(1, Format.JPEG)


async def test_rows_that_a_plan_mended_can_be_undone(worker):
    async with worker("first") as first:
        await add_cases(first.peer.database, [A])
        await first.peer.ledger.runs.begin("cases")
        await first.fetch(picture(1), "png")
        await execute(first.peer.database, "UPDATE ad_cases SET main_image_local = NULL")
        await first.plan()
        [(run,)] = await execute(first.peer.database, "SELECT run FROM rehost_runs WHERE mended = 1")

        undone = await undo(Journal(first.peer.ledger.runs, "undo"), run, first.peer.catalogue)

        assert undone == Undone(restored=1, left=0)
        assert await first.peer.locals() == {1: None}


@pytest.mark.parametrize("step", ["claim", "spool_copy"])
async def test_a_file_that_vanishes_between_listing_and_reading_is_not_adopted(worker, root, step):
    async with worker("first") as first:
        await add_cases(first.peer.database, [A])
        (root / "1").mkdir(parents=True)
        found = root / "1/main_image.jpeg"  # to become main_image.jpg, the same bytes under two names
        found.write_bytes(picture(1))
        await first.plan()
        task = await first.lease()
        assert task.found == "1/main_image.jpeg"

        async def lose() -> None:
            found.unlink()

        moment = {"after": lose} if step == "claim" else {"before": lose}
        first.store = Interrupted(first.store, step, **moment)

        assert await first.adopt(task) is None


async def test_invariant_1_an_adopted_file_and_its_name_are_durable_before_its_row_is_written(
    worker, root, monkeypatch
):
    steps = []

    async def commit() -> None:
        steps.append("commit")

    async with worker("first") as first:
        await add_cases(first.peer.database, [A])
        (root / "1").mkdir(parents=True)
        (root / "1/main_image.jpg").write_bytes(picture(1))
        await first.plan()
        adopted = await first.adopt(await first.lease())
        assert adopted is not None
        assert adopted.spool is None
        for name in ("sync_files", "sync_folders"):
            monkeypatch.setattr(Durability, name, lambda _self, paths, **_: steps.extend(paths))

        ledger = with_transactions(first.peer.ledger, before=commit)
        assert (await first.recorder(ledger=ledger).record(1, [adopted])).held == 1

        assert steps[0] == root / "1/main_image.jpg"
        assert set(steps[1:-1]) == {root / "1", root}
        assert steps[-1] == "commit"


async def test_invariant_1_an_adopted_file_that_vanishes_before_it_is_recorded_is_wanted_again(worker, root):
    async with worker("first") as first:
        await add_cases(first.peer.database, [A])
        (root / "1").mkdir(parents=True)
        (root / "1/main_image.jpg").write_bytes(picture(1))
        await first.plan()
        adopted = await first.adopt(await first.lease())
        assert adopted is not None
        (root / "1/main_image.jpg").unlink()

        recorded = await first.recorder().record(1, [adopted])

        assert (recorded.held, recorded.overtaken) == (0, 1)
        assert await first.peer.locals() == {1: None}
        assert (await first.lease()).link.url == A


# --- the pipeline

LIMITS = Limits(concurrency=1, requests=1, visits=1, group=2, group_seconds=0.01, drain_seconds=0.05)


def outcome(entry: int) -> Refused:
    link = Link("cases", str(entry), 0, f"https://a.example/{entry}", None, None)
    return Refused(Task(entry, 1, link, "a.example", 1), Reason.GONE, "404", 60.0)


class Parts:
    """Records at once; the search for decoys lasts until `answers` is set."""

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.events: list[Recorded] = []
        self.answers = asyncio.Event()
        self.stop = asyncio.Event()
        self.stats = RunStats()
        self.pipeline = RecordingPipeline(
            self, self, self.close, self.stats, limits=LIMITS, stop=self.stop, listen=self.events.append
        )

    async def record(self, _run, group):
        return Recorded(held=0, failed=len(group), overtaken=0)

    def close(self, tasks):
        self.recorded += [task.entry for task in tasks]

    async def find(self, group):
        await self.answers.wait()
        return (CopiesSuspected("cases", "a.example", "d" * 64, len(group)),)

    def start(self) -> asyncio.Task[None]:
        async def both() -> None:
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                searching = group.create_task(self.pipeline.search_decoys())
                await self.pipeline.record(1)
                searching.cancel()

        return asyncio.create_task(both())

    async def until_recorded(self, number: int) -> None:
        async with asyncio.timeout(5):
            while len(self.recorded) < number:
                await asyncio.sleep(0)


async def test_recording_does_not_wait_for_the_search_for_decoys_in_an_earlier_group():
    parts = Parts()
    running = parts.start()

    for entry in range(10):
        await parts.pipeline.put(outcome(entry))
    await parts.until_recorded(10)

    assert parts.stats.suspected == 0
    assert sum(event.failed for event in parts.events if isinstance(event, Recorded)) == 10
    parts.answers.set()
    await parts.pipeline.flush()
    assert parts.stats.suspected == 10
    await parts.pipeline.end()
    await running


async def test_stop_cuts_the_search_for_decoys_short_whatever_its_backlog():
    parts = Parts()
    running = parts.start()

    async def visits() -> None:
        for entry in range(60):
            await parts.pipeline.put(outcome(entry))

    visiting = asyncio.create_task(visits())
    await parts.until_recorded(20)
    assert not visiting.done()  # the backlog of the search is bounded
    flushing = asyncio.create_task(parts.pipeline.flush())
    parts.stop.set()
    await visiting
    await parts.pipeline.end()
    await flushing
    await running

    assert parts.recorded == list(range(60))
    assert parts.stats.suspected == 0


async def test_flush_returns_after_the_search_of_everything_put():
    parts = Parts()
    parts.answers.set()
    running = parts.start()
    await parts.pipeline.put(outcome(1))

    await parts.pipeline.flush()

    assert (parts.recorded, parts.stats.suspected) == ([1], 1)
    await parts.pipeline.end()
    await running
