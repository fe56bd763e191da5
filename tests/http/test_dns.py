import asyncio
import errno
import socket
import threading

import pytest
from tests.fakes import FakeClock

from rehost.http.dns import LookupCache, SystemResolver, resolver_error
from rehost.http.errors import NameNotFound, NameNotResolved, TooManyOpenFiles


class Resolver:
    """Replaces getaddrinfo, and answers once `go` is set."""

    def __init__(self):
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)
        self.busy = self.peak = 0
        self._lock = threading.Lock()

    def __call__(self, _host):
        with self._lock:
            self.busy += 1
            self.peak = max(self.peak, self.busy)
        self.asked.release()
        self.go.wait()
        with self._lock:
            self.busy -= 1
        return ["192.0.2.1"]


async def test_name_has_addresses():
    assert "127.0.0.1" in await SystemResolver()("localhost")


async def test_resolver_that_never_answers_costs_its_limit_only():
    resolver = Resolver()
    look_up = SystemResolver(limit_seconds=0.05, resolve=resolver)

    with pytest.raises(NameNotResolved, match=r"a\.example: no answer in 0\.05 s"):
        await look_up("a.example")
    resolver.go.set()


async def test_threads_are_bounded_even_after_callers_have_given_up():
    resolver = Resolver()
    look_up = SystemResolver(limit_seconds=0.05, threads=2, resolve=resolver)

    given_up = await asyncio.gather(*(look_up("a.example") for _ in range(6)), return_exceptions=True)
    peak = resolver.peak
    resolver.go.set()

    assert [type(error) for error in given_up] == [NameNotResolved] * 6
    assert peak == 2


async def test_thread_is_free_after_its_lookup():
    look_up = SystemResolver(threads=2, resolve=lambda _host: ["192.0.2.1"])

    assert await asyncio.gather(*(look_up("a.example") for _ in range(20))) == [["192.0.2.1"]] * 20


async def test_other_names_are_looked_up_while_one_hangs():
    resolver = Resolver()
    look_up = SystemResolver(resolve=lambda host: resolver(host) if host == "slow.example" else ["192.0.2.2"])

    hanging = asyncio.create_task(look_up("slow.example"))
    quick = await look_up("quick.example")
    resolver.go.set()

    assert quick == ["192.0.2.2"]
    assert await hanging == ["192.0.2.1"]


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_NODATA])
def test_unknown_name_is_not_found(number):
    error = resolver_error("a.example", socket.gaierror(number, "not known"))

    assert (type(error), str(error)) == (NameNotFound, "a.example: not known")


def test_failing_resolver_may_answer_later():
    error = resolver_error("a.example", socket.gaierror(socket.EAI_AGAIN, "try again"))

    assert (type(error), str(error)) == (NameNotResolved, "a.example: try again")


def test_shortage_of_files_is_no_fault_of_the_name():
    assert isinstance(resolver_error("a.example", OSError(errno.EMFILE, "Too many")), TooManyOpenFiles)


class Source:
    """Answers with the number of lookups so far; the first `failures` fail."""

    def __init__(self, failures=0):
        self.lookups = []
        self.failures = failures

    async def __call__(self, key):
        self.lookups.append(key)
        await asyncio.sleep(0)
        if len(self.lookups) <= self.failures:
            raise NameNotResolved(key)
        return len(self.lookups)


async def test_answer_is_looked_up_again_after_its_time():
    source, clock = Source(), FakeClock()
    cache = LookupCache(source, 60.0, clock.monotonic)

    assert [await cache("a"), await cache("a"), await cache("b")] == [1, 1, 2]
    clock.advance(60.0)
    assert await cache("a") == 3


async def test_concurrent_callers_share_one_lookup():
    source = Source()
    cache = LookupCache(source, 60.0, FakeClock().monotonic)

    assert await asyncio.gather(*(cache("a") for _ in range(9))) == [1] * 9


async def test_failure_is_shared_by_all_who_waited_and_looked_up_again_later():
    source, clock = Source(failures=1), FakeClock()
    cache = LookupCache(source, 60.0, clock.monotonic)

    failed = await asyncio.gather(*(cache("a") for _ in range(9)), return_exceptions=True)
    clock.advance(1.0)

    assert {(type(error), str(error)) for error in failed} == {(NameNotResolved, "a")}
    assert len(set(map(id, failed))) == 9  # callers add to the one that they caught
    assert await cache("a") == 2


async def test_next_caller_looks_up_after_the_first_is_cancelled():
    hangs = asyncio.Event()

    async def source(_key):
        await hangs.wait()
        return "answer"

    cache = LookupCache(source, 60.0, FakeClock().monotonic)
    first, second = (asyncio.create_task(cache("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    hangs.set()

    assert await second == "answer"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_no_more_than_a_thousand_keys_are_kept():
    source = Source()
    cache = LookupCache(source, 60.0, FakeClock().monotonic)

    for number in range(1001):
        await cache(str(number))

    assert await cache("1000") == 1001
    assert await cache("0") == 1002
