"""What the page and the API work with, opened on first use: the server starts without its database, and answers 503."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from rehost.catalogue import Titles
from rehost.errors import StoreError, cause_of
from rehost.hosts.shares import HostShares
from rehost.ledger import Ledger
from rehost.ledger.reports import Queries
from rehost.model import Bucket, KnownStore
from rehost.store.bucket import BucketClient
from rehost.store.local import check_marker
from rehost.store.publish import check_identity
from rehost.store.s3 import read_marker

BUCKET_SECONDS = 5.0  # a request does not wait longer for a bucket


@dataclass(frozen=True, slots=True)
class Resources:
    """The open databases."""

    queries: Queries
    ledger: Ledger
    shares: HostShares
    titles: Mapping[str, Titles]  # by source


T_co = TypeVar("T_co", covariant=True)


class Lazy(Generic[T_co]):
    """A resource that is opened when it is first needed, and stays open until `close`."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[T_co]]) -> None:
        self._opening = opening
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._open: T_co | None = None

    async def get(self) -> T_co:
        """Return the open resource.

        Raises:
            OperatorError: it cannot be opened now; the next call tries again.
        """
        async with self._lock:
            if self._open is None:
                self._open = await self._stack.enter_async_context(self._opening())
            return self._open

    async def close(self) -> None:
        """Close the resource if it was opened."""
        async with self._lock:
            self._open = None
            await self._stack.aclose()


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Size of the file system that holds the copies, in bytes."""

    total: int
    free: int


async def disk_space(folder: Path, copies: int, known: Sequence[KnownStore] = ()) -> DiskSpace:
    """Return the space where the store's folder is or, before the first run has made the folder, will be.

    Args:
        folder: of the store.
        copies: how many it should hold at least; it may be missing only if this is 0.
        known: the stores of which it should be one if it should hold copies.

    Raises:
        StoreError: the folder cannot be read, or is not that of a known store.
    """
    if copies:
        check_marker(folder, known)
    try:
        place = folder if copies else next(each for each in (folder, *folder.parents) if _exists(each))
        if place == folder:
            os.scandir(folder).close()
        usage = shutil.disk_usage(place)
    except OSError as error:
        raise StoreError(
            "{folder} cannot be read ({cause}): check IMAGE_STORAGE_DIR.", folder=folder, cause=cause_of(error)
        ) from error
    return DiskSpace(usage.total, usage.free)


async def bucket_space(client: BucketClient, bucket: Bucket, copies: int, known: Sequence[KnownStore] = ()) -> None:
    """Return None after a look at the bucket, which has no limit that we could know; arguments as in `disk_space`.

    Raises:
        StoreError: the bucket cannot be used now, or is not a known store.
    """
    try:
        async with asyncio.timeout(BUCKET_SECONDS):
            found = await read_marker(client)
    except TimeoutError as error:
        raise StoreError("The bucket {bucket} does not answer.", bucket=bucket) from error
    if copies:
        check_identity(found, str(bucket), known)


def _exists(path: Path) -> bool:
    """Return whether a path exists.

    Raises:
        OSError: the file system cannot say.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True
