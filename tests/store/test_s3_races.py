"""Workers that share a bucket and a ledger, on both databases: whatever the order, no row points at a missing object.

Each order is forced: the proxy holds a request of one worker while another goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from tests.databases import Peer, add_cases, another_peer, execute, url_of
from tests.pictures import picture
from tests.run.test_recorder import A, with_transactions
from tests.s3 import BUCKET
from tests.s3_faults import Fault, FaultyS3

from rehost.clock import Clock
from rehost.model import Bucket, Copy, Deferred, Format, Image, Mark, Reason, Source, Stored, Task
from rehost.run.planner import Planner
from rehost.run.recorder import Recorder
from rehost.settings import Settings
from rehost.store.base import Cause, Placement
from rehost.store.layout import Layout
from rehost.store.s3 import S3Store
from rehost.wiring.databases import open_store

LAYOUT = Layout(has_digest=True)
MOST_SECONDS = 60


def key_of(content: bytes, row: int = 1) -> str:
    return f"{row}/main_image.{digest(content)[:16]}.png"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Worker:
    """One worker with connections of its own to ledger and bucket."""

    peer: Peer
    store: S3Store
    proxy: FaultyS3
    bucket: Bucket

    @property
    def recorder(self) -> Recorder:
        return self.recorder_with(self.peer.ledger)

    def recorder_with(self, ledger) -> Recorder:
        return Recorder(ledger, self.store, self.peer.catalogue, LAYOUT)

    async def plan(self) -> None:
        await Planner(self.peer.ledger, self.store, self.peer.catalogue, LAYOUT).plan()

    async def lease(self) -> Task:
        """Lease the only link that is due, once no other transaction has it locked."""
        async with asyncio.timeout(MOST_SECONDS):
            while not (tasks := await self.peer.lease_all()):
                await asyncio.sleep(0.01)
        [task] = tasks
        return task

    def fetched(self, task: Task, content: bytes) -> Stored:
        spool = self.store.spool()
        spool.write_bytes(content)
        copy = Copy(key_of(content, int(task.link.row_key)), digest(content), len(content))
        return Stored(task, copy, Image(Format.PNG, 4, 3, 1), spool, final_url=task.link.url)

    async def record(self, task: Task, content: bytes) -> int:
        return (await self.recorder.record(1, [self.fetched(task, content)])).held

    async def fetch(self, content: bytes, number: int = 1) -> None:
        """Add a row, take it in, and copy its picture."""
        await add_cases(self.peer.database, [f"{A}/{number}"], number)
        await self.peer.note()
        assert await self.record(await self.lease(), content) == 1

    async def put(self, content: bytes, row: int = 1) -> str:
        """Store an object of which the ledger knows nothing."""
        spool = self.store.spool()
        spool.write_bytes(content)
        await self.store.place([Placement(spool, key_of(content, row))])
        await self.store.confirm([key_of(content, row)])
        return key_of(content, row)

    async def trash(self, key: str) -> None:
        await self.store.trash(await self.store.file_ids([key]), Cause.REMOVED)

    async def link(self, url: str) -> None:
        await execute(self.peer.database, "UPDATE ad_cases SET main_image = :url", url=url)
        await self.peer.note()

    def objects(self) -> set[str]:
        """Return the keys of the copies."""
        found = self.proxy.server.objects(BUCKET, f"{self.bucket.prefix}/")
        names = {name.removeprefix(f"{self.bucket.prefix}/") for name in found}
        return {name for name in names if not name.startswith(".rehost/")}

    async def check_rows(self) -> None:
        """Every local URL leads to an object, and the ledger holds it."""
        rows = await execute(self.peer.database, "SELECT main_image_local FROM ad_cases")
        keys = {row.removeprefix(url_of("")) for (row,) in rows if row}
        assert keys <= self.objects()
        held = await execute(self.peer.database, "SELECT key FROM rehost_links WHERE state = 'held'")
        assert keys == {key for (key,) in held}


@pytest.fixture
def worker(database, database_url, s3_faults, tmp_path):
    """Make workers; the leases of a late one expire at once."""
    bucket = Bucket(BUCKET, s3_faults.server.fresh_prefix())
    s3_faults.server.put(BUCKET, f"{bucket.prefix}/.rehost/store-id", b"the-id-of-this-store")
    settings = replace(
        Settings(), sources=(Source(),), storage_dir=bucket, spool_dir=tmp_path / "spool", aws=s3_faults.env()
    )

    @asynccontextmanager
    async def make(name: str, lease_seconds: float = 120.0, **changed: object) -> AsyncIterator[Worker]:
        async with (
            another_peer(database_url, name, lease_seconds) as peer,
            open_store(replace(settings, **changed), Clock(), peer.ledger) as store,
        ):
            yield Worker(peer, store, s3_faults, bucket)

    assert database is not None  # the tables are there
    return make


@asynccontextmanager
async def held_at(proxy: FaultyS3, method: str, key: str = "", *, answer: bool = False):
    """Hold the next such request before it reaches the server, or its answer, until the block ends."""
    event = threading.Event()
    fault = proxy.add(Fault(method, key, times=1, **{"hold_answer" if answer else "hold_request": event}))

    async def arrived() -> None:
        async with asyncio.timeout(MOST_SECONDS):
            while fault.times:
                await asyncio.sleep(0.01)

    try:
        yield arrived
    finally:
        event.set()


async def is_waiting(worker: Worker, task: asyncio.Task) -> bool:
    """Wait until the task has ended, or its transaction waits for another; return which."""
    if worker.peer.database.is_sqlite:  # every transaction that writes waits for the one before it
        return not task.done()
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(MOST_SECONDS):
        while not task.done():
            if (await execute(worker.peer.database, query))[0][0]:
                return True
            await asyncio.sleep(0.01)
    return False


async def test_a_link_cannot_be_leased_while_an_object_at_its_place_is_removed(worker):
    async with worker("pruner") as pruner, worker("second") as second:
        await add_cases(pruner.peer.database, [A])
        await pruner.peer.note()
        key = await pruner.put(picture(1))

        async with held_at(pruner.proxy, "POST") as arrived:  # the request that deletes
            removing = asyncio.create_task(pruner.trash(key))
            await arrived()
            leasing = asyncio.create_task(second.lease())
            if not second.peer.database.is_sqlite:
                assert await second.peer.lease_all() == []
            assert not leasing.done()
        await removing
        assert pruner.objects() == set()

        assert await second.record(await leasing, picture(1)) == 1
        await second.check_rows()


@pytest.mark.parametrize("method", ["PUT", "POST"])  # the request that copies, and the one that deletes
async def test_a_row_that_is_new_is_not_taken_in_while_an_object_at_its_place_is_removed(worker, method):
    async with worker("pruner") as pruner, worker("second") as second:
        key = await pruner.put(picture(1))

        async with held_at(pruner.proxy, method, ".rehost/trash" if method == "PUT" else "") as arrived:
            removing = asyncio.create_task(pruner.trash(key))
            await arrived()
            fetching = asyncio.create_task(second.fetch(picture(1)))
            assert await is_waiting(second, fetching)
        await removing
        await fetching

        await second.check_rows()


async def test_an_object_that_a_worker_may_be_about_to_record_is_not_removed(worker):
    async with worker("first") as first, worker("second") as second:
        await add_cases(first.peer.database, [A])
        await first.peer.note()
        key = await second.put(picture(1))
        seen = await second.store.file_ids([key])
        task = await first.lease()

        async with held_at(first.proxy, "PUT", key, answer=True) as arrived:
            recording = asyncio.create_task(first.record(task, picture(1)))
            await arrived()
            await second.store.trash(seen, Cause.REMOVED)
            await second.store.remove(seen)
            await second.store.quarantine(seen)
        assert await recording == 1

        await first.check_rows()
        await second.trash(key)
        await first.check_rows()


async def test_two_workers_that_trash_the_same_object_leave_it_there(worker):
    async with worker("first") as first, worker("second") as second:
        await first.fetch(picture(1))
        await first.link(f"{A}?2")
        assert await first.peer.record(2, [replace(first.fetched(await first.lease(), picture(2)), spool=None)])
        seen = await second.store.file_ids([key_of(picture(1))])

        async with held_at(first.proxy, "POST") as arrived:
            removing = asyncio.create_task(first.trash(key_of(picture(1))))
            await arrived()
            again = asyncio.create_task(second.store.trash(seen, Cause.REPLACED))
            assert await is_waiting(second, again)
        await asyncio.gather(removing, again)

        assert first.objects() == set()
        assert (await second.store.spool_from_trash(digest(picture(1)))).read_bytes() == picture(1)


@pytest.mark.parametrize("successor", ["leases", "records", "fails"])
async def test_a_late_worker_deletes_what_it_has_placed_only_if_nobody_needs_it(worker, successor):
    async with worker("late", 0.0) as late, worker("second") as second:
        await add_cases(late.peer.database, [A])
        await late.peer.note()
        task = await late.lease()
        leased = []

        async def succeed() -> None:
            leased.append(await second.lease())
            if successor == "records":
                assert await second.record(leased[0], picture(1)) == 1
            elif successor == "fails":
                failed = Deferred(leased[0], Reason.UNREACHABLE, "nothing came", 60.0)
                assert (await second.recorder.record(2, [failed])).failed == 1

        ledger = with_transactions(late.peer.ledger, before=succeed)
        recorded = await late.recorder_with(ledger).record(1, [late.fetched(task, picture(1))])

        assert recorded.held == 0
        assert late.objects() == (set() if successor == "fails" else {key_of(picture(1))})
        if successor == "leases":
            assert await second.record(leased[0], picture(1)) == 1
        await second.check_rows()


async def test_a_put_that_arrives_after_its_worker_was_given_up_harms_nothing(worker):
    async with worker("late", 0.0) as late, worker("second") as second:
        await add_cases(late.peer.database, [A])
        await late.peer.note()
        task = await late.lease()

        async with held_at(late.proxy, "PUT", key_of(picture(1))) as arrived:
            recording = asyncio.create_task(late.record(task, picture(1)))
            await arrived()
            assert await second.record(await second.lease(), picture(2)) == 1
        assert await recording == 0

        await second.check_rows()
        assert second.objects() == {key_of(picture(2))}


async def test_a_link_that_changes_back_while_its_former_object_is_trashed_gets_it_again(worker):
    async with worker("first") as first, worker("second") as second:
        await first.fetch(picture(1))
        await first.link(f"{A}?2")
        task = await first.lease()

        async with held_at(first.proxy, "POST") as arrived:
            recording = asyncio.create_task(first.record(task, picture(2)))
            await arrived()
            changing = asyncio.create_task(second.link(f"{A}/1"))
            assert await is_waiting(second, changing)
        assert await recording == 1
        await changing

        assert await second.record(await second.lease(), picture(1)) == 1
        await second.check_rows()
        await second.plan()
        await second.check_rows()


async def test_a_link_that_changes_back_before_its_former_object_is_trashed_keeps_it(worker):
    async with worker("first") as first, worker("second") as second:
        await first.fetch(picture(1))
        await first.link(f"{A}?2")
        task = await first.lease()
        leased = []

        async def come_back() -> None:
            if not leased:
                await second.link(f"{A}/1")
                leased.append(await second.lease())

        ledger = with_transactions(first.peer.ledger, after=come_back)  # before the former object goes
        await first.recorder_with(ledger).record(1, [first.fetched(task, picture(2))])
        assert await second.record(leased[0], picture(1)) == 1

        await second.check_rows()


async def test_what_another_source_or_an_older_template_named_is_kept(worker):
    async with worker("first") as first, worker("second") as second:
        await first.fetch(picture(1))
        key = "elsewhere/a.0123456789abcdef.png"
        await execute(first.peer.database, "UPDATE rehost_links SET key = :key", key=key)
        first.proxy.server.put(BUCKET, f"{first.bucket.prefix}/{key}", picture(1))

        await second.trash(key)

        assert key in first.objects()


async def test_a_copy_that_was_taken_down_is_removed_though_its_link_is_leased_for_another_picture(worker):
    async with worker("first") as first, worker("second") as second:
        await first.fetch(picture(1))
        takedowns = first.peer.ledger.takedowns
        begun = await takedowns.begin("it", {(Mark.DIGEST, digest(picture(1)))}, "operator", legal=False)
        [known] = await takedowns.copies(begun.takedown)
        await first.peer.database.transact(lambda connection: takedowns.detach(connection, [known]))
        await second.lease()

        await first.store.remove(await first.store.file_ids([key_of(picture(1))]))

        assert first.objects() == set()


async def test_leases_are_renewed_while_objects_of_other_links_are_removed(worker):
    async with worker("first") as first, worker("second") as second:
        await first.fetch(picture(1))
        await first.link(f"{A}?2")
        task = await second.lease()
        keys = [await first.put(picture(2)), await first.put(picture(1), 77)]
        seen = await first.store.file_ids(keys)

        async with held_at(first.proxy, "POST") as arrived:
            removing = asyncio.create_task(first.store.trash(seen, Cause.REMOVED))
            await arrived()
            renewing = asyncio.create_task(second.peer.ledger.leases.renew([task]))
            if not first.peer.database.is_sqlite:  # there writers wait for each other
                await asyncio.wait_for(asyncio.shield(renewing), MOST_SECONDS)
        await asyncio.gather(removing, renewing)

        assert first.objects() == {key_of(picture(1)), key_of(picture(2))}


async def test_the_database_does_not_wait_for_a_server_that_is_away(worker, monkeypatch):
    monkeypatch.setattr("rehost.store.s3._LOCKED_SECONDS", 0.2)
    async with worker("first") as first, worker("second") as second:
        await add_cases(first.peer.database, [A])
        await first.peer.note()
        key = await first.put(picture(1))
        away = [first.proxy.add(Fault(method, status=503, code="SlowDown")) for method in ("POST", "GET", "HEAD")]

        removing = asyncio.create_task(first.trash(key))
        async with asyncio.timeout(MOST_SECONDS):
            while away[0].times == 1_000_000:
                away[1].times, away[2].times = 0, 0  # until it deletes
                await asyncio.sleep(0.01)
            away[1].times, away[2].times = 1_000_000, 1_000_000
        task = await second.lease()  # the first one waits without the lock
        first.proxy.clear()
        await removing

        assert first.objects() == {key}
        assert await second.record(task, picture(1)) == 1
        await second.check_rows()
