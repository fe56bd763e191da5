"""Host names to addresses: off the event loop, bounded in time and threads, and remembered for a while."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from copy import copy
from typing import Generic, TypeVar

from cachetools import TLRUCache

from rehost.http.errors import HttpError, NameNotFound, NameNotResolved, TooManyOpenFiles

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""Returns at least one address of a host name; raises NameNotResolved."""

_FAILURE_SECONDS = 1.0  # long enough for all callers that wait for the answer, short enough to try again soon
_MAX_ENTRIES = 1_000

T = TypeVar("T")


class LookupCache(Generic[T]):
    """Answers by key, each looked up once for all callers and kept for a time; a failure is kept for a second."""

    def __init__(
        self,
        look_up: Callable[[str], Awaitable[T]],
        seconds: float,
        timer: Callable[[], float],
        failures: type[Exception] = NameNotResolved,
    ) -> None:
        """Keep what `look_up` returns, or raises as one of the `failures`; `timer` gives monotonic seconds."""
        self._look_up = look_up
        self._failures = failures
        self._answers: TLRUCache[str, T | Exception] = TLRUCache(
            _MAX_ENTRIES,
            lambda _key, answer, now: now + (_FAILURE_SECONDS if isinstance(answer, Exception) else seconds),
            timer=timer,
        )
        self._locks: dict[str, asyncio.Lock] = {}  # of keys that are being looked up

    async def __call__(self, key: str) -> T:
        """Return the answer for a key; raises what `look_up` raises."""
        answer = self._answers.get(key)
        if answer is None:
            answer = await self._shared(key)
        if isinstance(answer, Exception):
            raise copy(answer)  # callers add to the exception that they caught
        return answer

    async def _shared(self, key: str) -> T | Exception:
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                answer = self._answers.get(key)
                if answer is None:
                    answer = self._answers[key] = await self._fresh(key)
        finally:
            if not lock.locked():
                self._locks.pop(key, None)
        return answer

    async def _fresh(self, key: str) -> T | Exception:
        try:
            return await self._look_up(key)
        except self._failures as error:
            return error


class SystemResolver:
    """The machine's own resolver (hosts file, DNS).

    getaddrinfo cannot be cancelled and may block for half a minute: each call has a daemon thread of its own, at most
    `threads` of them at once.
    """

    def __init__(
        self,
        *,
        limit_seconds: float = 10.0,
        threads: int = 16,
        resolve: Callable[[str], Sequence[str] | OSError] | None = None,
    ) -> None:
        self._limit_seconds = limit_seconds
        self._free = asyncio.Semaphore(threads)
        self._resolve = resolve or _getaddrinfo

    async def __call__(self, host: str) -> Sequence[str]:
        """Return the host's addresses in the order of RFC 6724.

        Raises:
            NameNotResolved: the resolver failed, or did not answer in time.
            TooManyOpenFiles: it could open no file or socket.
        """
        try:
            async with asyncio.timeout(self._limit_seconds):
                await self._free.acquire()
                found = await self._in_thread(host)
        except TimeoutError:
            raise NameNotResolved(f"{host}: no answer in {self._limit_seconds:g} s") from None
        if isinstance(found, OSError):
            raise resolver_error(host, found) from found
        return found

    def _in_thread(self, host: str) -> asyncio.Future[Sequence[str] | OSError]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str] | OSError] = loop.create_future()

        def report(found: Sequence[str] | OSError) -> None:
            self._free.release()
            if not answer.done():
                answer.set_result(found)

        def look_up() -> None:
            found = self._resolve(host)
            with suppress(RuntimeError):  # the loop is closed, and nothing waits for the answer
                loop.call_soon_threadsafe(report, found)

        threading.Thread(target=look_up, name=f"lookup {host}", daemon=True).start()
        return answer


def _getaddrinfo(host: str) -> Sequence[str] | OSError:
    try:
        infos = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in infos))


def resolver_error(host: str, error: OSError) -> HttpError:
    """Return what an error of the resolver means."""
    text = f"{host}: {error.strerror or error}"
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return TooManyOpenFiles(text)
    if error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}:
        return NameNotFound(text)
    return NameNotResolved(text)
