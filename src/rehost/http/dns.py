"""Host names -> addresses, off the event loop, bounded in time and in threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from rehost.errors import Permanent, Transient, VisitError, shortage
from rehost.model import Reason

Detour = tuple[str, int | None, str, int | None]
"""Host (`*`: any), port (None: any), and the address or name (empty: the same) and port (None: the same) to go to
instead, as curl's --connect-to."""


class Resolver(Protocol):
    """Knows the addresses of names."""

    async def __call__(self, host: str, /) -> Sequence[str]:
        """Return at least one address.

        Raises:
            VisitError: UNRESOLVED.
        """
        ...


@dataclass(frozen=True, slots=True)
class Detours:
    """Where to connect in place of where a URL says."""

    entries: Sequence[Detour] = ()

    def target(self, host: str, port: int) -> tuple[str, int]:
        """Return host and port to connect to; the first entry that fits decides."""
        for of_host, of_port, to_host, to_port in self.entries:
            if of_host in {"*", host} and of_port in {None, port}:
                return to_host or host, to_port or port
        return host, port


class SystemResolver:
    """The machine's own resolver (hosts file, DNS).

    getaddrinfo cannot be cancelled and may block for half a minute: each call has a thread of its own that dies with
    the process, at most `threads` of them at once.
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
        """Return the host's addresses in the order of RFC 6724; see Lookup."""
        try:
            async with asyncio.timeout(self._limit_seconds):
                await self._free.acquire()
                found = await self._in_thread(host)
        except TimeoutError:
            raise Transient(Reason.UNRESOLVED, f"{host}: no answer in {self._limit_seconds:g} s") from None
        if isinstance(found, OSError):
            raise shortage(found) or failure(host, found)
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
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(report, found)

        threading.Thread(target=look_up, name=f"lookup {host}", daemon=True).start()
        return answer


def _getaddrinfo(host: str) -> Sequence[str] | OSError:
    try:
        infos = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in infos))


def failure(host: str, error: OSError) -> VisitError:
    """Return what the resolver's error means for the picture."""
    evidence = f"{host}: {error.strerror or error}"
    if error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}:
        return Permanent(Reason.UNRESOLVED, evidence)
    return Transient(Reason.UNRESOLVED, evidence)
