"""Host names to addresses: off the event loop, bounded in time and threads, and remembered for a while."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import LRUCache, TLRUCache

from rehost.http.errors import HttpError, NameNotFound, NameNotResolved, TooManyOpenFiles
from rehost.http.url import domain_of

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""Returns at least one address of a host name; raises NameNotResolved."""

_FAILURE_SECONDS = 1.0  # long enough for all callers that wait for the answer, short enough to try again soon
_MAX_ENTRIES = 1_000
_MAX_ADDRESSES = 64  # of one name that are kept: strangers decide how many there are
_LOOKUPS_PER_DOMAIN = 2  # one more than needed, for a name whose answer was lost; its others wait, as its pictures do
_UNANSWERED_NAMES = 3
_SILENT_SECONDS = 30.0  # as long as getaddrinfo may block

T = TypeVar("T")


class LookupCache(Generic[T]):
    """Answers by key, each looked up once for all callers and kept for a time; a failure is kept for a second."""

    def __init__(
        self,
        look_up: Callable[[str], Awaitable[T]],
        seconds: float,
        timer: Callable[[], float],
        failures: type[Exception] = NameNotResolved,
        places_of: Callable[[T], int] = lambda _answer: 1,
    ) -> None:
        """Keep what `look_up` returns, or raises as one of the `failures`; `timer` gives monotonic seconds.

        There are a thousand places; `places_of` says how many an answer takes.
        """
        self._look_up = look_up
        self._failures = failures
        self._answers: TLRUCache[str, T | Exception] = TLRUCache(
            _MAX_ENTRIES,
            lambda _key, answer, now: now + (_FAILURE_SECONDS if isinstance(answer, Exception) else seconds),
            timer=timer,
            getsizeof=lambda answer: 1 if isinstance(answer, Exception) else places_of(answer),
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


@dataclass(slots=True)
class _Zone:
    """The lookups of names below one registrable domain."""

    turn: asyncio.Semaphore
    asked: int = 0  # lookups that a thread waits for; without any, it was not the domain that let a caller wait
    unanswered: int = 0  # names in a row
    silent_until: float = 0.0  # by the clock of the event loop

    def answered(self) -> None:
        self.unanswered = 0

    def is_silent(self, now: float) -> bool:
        """Return whether a name need not be looked up; when the time is over, one lookup shows it."""
        return self.unanswered >= _UNANSWERED_NAMES and (self.asked > 0 or self.silent_until > now)

    def missed(self, now: float) -> None:
        self.unanswered += 1
        self.silent_until = now + _SILENT_SECONDS


class SystemResolver:
    """The machine's own resolver (hosts file, DNS).

    getaddrinfo cannot be cancelled and may block for half a minute: each call has a daemon thread of its own, at most
    `threads` of them at once, and two for the names of one registrable domain, as anybody can invent names below
    theirs that are never answered. After three of them in a row the domain's names fail at once for half a minute;
    then the next one that is not answered has them fail again.
    """

    def __init__(
        self,
        *,
        limit_seconds: float = 10.0,
        threads: int = 32,
        resolve: Callable[[str], Sequence[str] | OSError] | None = None,
    ) -> None:
        self._limit_seconds = limit_seconds
        self._free = asyncio.Semaphore(threads)
        self._zones: LRUCache[str, _Zone] = LRUCache(_MAX_ENTRIES)
        self._resolve = resolve or _getaddrinfo

    async def __call__(self, host: str) -> Sequence[str]:
        """Return the host's addresses in the order of RFC 6724.

        Raises:
            NameNotResolved: the resolver failed, or did not answer in time.
            TooManyOpenFiles: it could open no file or socket.
        """
        domain, now = domain_of(host), asyncio.get_running_loop().time
        zone = self._zones.setdefault(domain, _Zone(asyncio.Semaphore(_LOOKUPS_PER_DOMAIN)))
        if zone.is_silent(now()):
            raise NameNotResolved(f"{host}: not looked up, {zone.unanswered} names of {domain} in a row got no answer")
        try:
            async with asyncio.timeout(self._limit_seconds):
                await zone.turn.acquire()
                found = await self._in_thread(host, zone)
        except TimeoutError:
            if zone.asked:
                zone.missed(now())
            raise NameNotResolved(f"{host}: no answer in {self._limit_seconds:g} s") from None
        if not isinstance(found, OSError):
            zone.answered()
            return found[:_MAX_ADDRESSES]
        error = resolver_error(host, found)
        if isinstance(error, NameNotFound):
            zone.answered()
        elif isinstance(error, NameNotResolved):
            zone.missed(now())
        raise error from found

    async def _in_thread(self, host: str, zone: _Zone) -> Sequence[str] | OSError:
        """Return what the resolver says; the zone's turn, and a thread, are free again when that is known."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str] | OSError] = loop.create_future()

        def report(found: Sequence[str] | OSError) -> None:
            self._free.release()
            zone.asked -= 1
            zone.turn.release()
            if not answer.done():
                answer.set_result(found)

        def look_up() -> None:
            found = self._resolve(host)
            with suppress(RuntimeError):  # the loop is closed, and nothing waits for the answer
                loop.call_soon_threadsafe(report, found)

        try:
            await self._free.acquire()
        except BaseException:
            zone.turn.release()
            raise
        zone.asked += 1
        threading.Thread(target=look_up, name=f"lookup {host}", daemon=True).start()
        return await answer


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
