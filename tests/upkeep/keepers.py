"""A worker that holds copies and takes care of them, with a real ledger, table and store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.databases import add_cases, another_peer, execute
from tests.run.test_recorder import A, Worker

from rehost.clock import Clock
from rehost.images.verifier import ImageVerifier
from rehost.ledger.copies import Copies
from rehost.store.local import LocalStore
from rehost.upkeep.journal import Journal
from rehost.upkeep.prune import Pruned, Pruner
from rehost.upkeep.putback import PutBack
from rehost.upkeep.undo import Undone, undo

Opens = Callable[..., AbstractAsyncContextManager["Keeper"]]


def make_verifier() -> ImageVerifier:
    return ImageVerifier(
        verify="structure",
        max_pixels=10**6,
        max_frames=10,
        max_total_pixels=10**8,
        decode_memory_bytes=2**29,
        decode_seconds=10.0,
        processes=1,
        clock=Clock(),
    )


class Keeper(Worker):
    """A worker that replaces and removes held copies, and takes that back."""

    async def first(self, content: bytes, ending: str = "jpg", number: int = 1) -> None:
        """Copy the picture of a new row, in a run of its own."""
        await self.peer.ledger.runs.begin("cases")
        await add_cases(self.peer.database, [f"{A}/{number}"], number)
        await self.fetch(content, ending)

    async def replace(self, content: bytes, ending: str = "jpg") -> int:
        """Replace the copy of the first row in a run of its own; return its number."""
        run = await self.peer.ledger.runs.begin("cases", verb="refresh")
        [task] = await self.peer.ledger.leases.lease_held([1])
        recorded = await self.recorder().record(run, [self.fetched(task, content, ending)])
        assert recorded.held == 1
        return run

    async def undo(self, run: int) -> Undone:
        async with make_verifier() as verifier:
            put_back = PutBack(self.recorder(), verifier)
            journal = Journal(self.peer.ledger.runs, "undo")
            return await undo(journal, run, self.peer.catalogue, put_back=put_back, find_lost=self.find_lost)

    def pruner(self, *, store: Any = None, clock: Clock | None = None) -> Pruner:
        parts: Any = SimpleNamespace(
            recorder=self.recorder(), ledger=self.peer.ledger, store=store or self.store, planner=self.planner()
        )
        copies, journal = Copies(self.peer.database), Journal(self.peer.ledger.runs, "prune")
        return Pruner([parts], copies, journal, clock or Clock(), asyncio.Event())

    async def prune(self, **options: Any) -> Pruned:
        return await self.pruner().prune(**options)

    async def find_lost(self, urls: Collection[str]) -> set[str]:
        return {url for url in urls if not self.store.path(url.removeprefix("/static/images/")).exists()}

    async def last_run(self) -> int:
        [(run,)] = await execute(self.peer.database, "SELECT max(run) FROM rehost_runs")
        return run

    def put(self, key: str, content: bytes, *, days_old: float = 2.0) -> Path:
        """Put a file into the store's folder, as somebody else would."""
        path = self.store.path(key)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content)
        then = time.time() - 86_400 * days_old
        os.utime(path, (then, then))
        return path

    def file(self, key: str = "1/main_image.jpg") -> bytes | None:
        path = self.store.path(key)
        return path.read_bytes() if path.exists() else None

    async def held(self) -> list[tuple[object, ...]]:
        columns = "state, key, digest, local_url"
        return await execute(self.peer.database, f"SELECT {columns} FROM rehost_links ORDER BY entry")

    async def trashed(self) -> set[str]:
        """Return the digests in the trash."""
        return {each.digest async for group in self.store.trashed() for each in group}


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def as_held(content: bytes, key: str = "1/main_image.jpg") -> list[tuple[object, ...]]:
    return [("held", key, digest_of(content), f"/static/images/{key}")]


@pytest.fixture
def keeper(database_url: str, tmp_path: Path) -> Opens:
    @asynccontextmanager
    async def open_one(name: str = "first") -> AsyncIterator[Keeper]:
        async with another_peer(database_url, name) as peer, LocalStore(tmp_path / "images", clock=Clock()) as store:
            yield Keeper(peer, store)

    return open_one
