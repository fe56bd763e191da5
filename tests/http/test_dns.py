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


class Zones:
    """Replaces getaddrinfo: names below `never.example` are not answered before `go` is set, others at once.

    Attributes:
        answers: what it says for a name, if not an address.
        asked: the names that it was asked for.
    """

    def __init__(self):
        self.go = threading.Event()
        self.asked = []
        self.answers = {}

    def __call__(self, host):
        self.asked.append(host)
        if host.endswith("never.example"):
            self.go.wait()
        return self.answers.get(host, ["192.0.2.1"])

    async def finish(self):
        """Answer what hangs, and return when the resolver knows it."""
        self.go.set()
        for thread in threading.enumerate():
            if thread.name.startswith("lookup "):
                await asyncio.to_thread(thread.join)


@pytest.fixture
def zones():
    made = Zones()
    yield made
    made.go.set()


async def results(look_up, *hosts):
    return await asyncio.gather(*map(look_up, hosts), return_exceptions=True)


async def test_names_that_are_never_answered_hold_two_threads(zones):
    look_up = SystemResolver(limit_seconds=5, threads=4, resolve=zones)
    hanging = asyncio.create_task(results(look_up, *(f"{n}.a.never.example" for n in range(200))))
    await asyncio.sleep(0)

    async with asyncio.timeout(4):
        good = await results(look_up, *(f"{n}.good.example" for n in range(60)))

    assert good == [["192.0.2.1"]] * 60
    assert sum(host.endswith("never.example") for host in zones.asked) == 2
    hanging.cancel()


async def test_thread_that_hangs_after_its_caller_gave_up_still_counts_for_its_domain(zones):
    look_up = SystemResolver(limit_seconds=0.05, resolve=zones)

    for number in range(2):
        with pytest.raises(NameNotResolved, match=r"no answer in 0\.05 s"):
            await look_up(f"{number}.never.example")
    with pytest.raises(NameNotResolved, match=r"no answer in 0\.05 s"):
        await look_up("2.never.example")

    assert zones.asked == ["0.never.example", "1.never.example"]


async def test_domain_whose_names_get_no_answer_is_not_asked_again_for_a_while(zones):
    look_up = SystemResolver(limit_seconds=0.05, resolve=zones)

    await results(look_up, *(f"{n}.never.example" for n in range(3)))
    zones.asked.clear()
    refused = await results(look_up, *(f"{n}.b.never.example" for n in range(100)))

    assert zones.asked == []
    assert str(refused[0]) == "0.b.never.example: not looked up, 3 names of never.example in a row got no answer"
    assert {type(error) for error in refused} == {NameNotResolved}
    assert await look_up("good.example") == ["192.0.2.1"]


@pytest.fixture
def later(monkeypatch):
    """Return a function that moves the event loop's clock for what asks it for the time."""
    moved = [0.0]

    def move(seconds):
        moved[0] += seconds

    loop_time = asyncio.BaseEventLoop.time
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda loop: loop_time(loop) + moved[0])
    return move


AGAIN = socket.gaierror(socket.EAI_AGAIN, "try again")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "not known")


async def test_silent_domain_is_asked_again_later_and_one_more_failure_is_enough(zones, later):
    zones.answers = dict.fromkeys((f"{n}.a.example" for n in range(9)), AGAIN)
    look_up = SystemResolver(resolve=zones)
    for number in range(3):
        await results(look_up, f"{number}.a.example")

    later(29)
    await results(look_up, "3.a.example")
    assert "3.a.example" not in zones.asked
    later(2)
    await results(look_up, "4.a.example")
    await results(look_up, "5.a.example")
    assert zones.asked[-1] == "4.a.example"


async def test_one_lookup_shows_whether_a_silent_domain_answers_again(zones, later):
    look_up = SystemResolver(limit_seconds=0.2, resolve=zones)
    await results(look_up, *(f"{n}.never.example" for n in range(3)))
    await zones.finish()
    zones.go.clear()
    zones.asked.clear()

    later(31)
    probe = asyncio.create_task(look_up("3.never.example"))
    await asyncio.sleep(0)
    refused = await results(look_up, *(f"{n}.never.example" for n in range(4, 50)))
    zones.go.set()

    assert zones.asked == ["3.never.example"]
    assert {type(error) for error in refused} == {NameNotResolved}
    assert await probe == ["192.0.2.1"]
    assert await look_up("50.never.example") == ["192.0.2.1"]


@pytest.mark.parametrize("answer", [["192.0.2.1"], UNKNOWN])
async def test_any_answer_of_a_domain_shows_that_it_answers(zones, answer):
    zones.answers = dict.fromkeys((f"{n}.a.example" for n in range(9)), AGAIN) | {"2.a.example": answer}
    look_up = SystemResolver(resolve=zones)

    for number in range(5):
        await results(look_up, f"{number}.a.example")

    assert len(zones.asked) == 5


async def test_unknown_names_are_looked_up_however_many(zones):
    zones.answers = dict.fromkeys((f"{n}.a.example" for n in range(9)), UNKNOWN)
    look_up = SystemResolver(resolve=zones)

    assert [type(error) for error in await results(look_up, *zones.answers)] == [NameNotFound] * 9
    assert len(zones.asked) == 9


async def test_wait_for_a_thread_is_not_held_against_a_domain(zones):
    look_up = SystemResolver(limit_seconds=0.05, threads=1, resolve=zones)

    await results(look_up, "0.never.example", *(f"{n}.good.example" for n in range(5)))
    await zones.finish()

    assert await look_up("5.good.example") == ["192.0.2.1"]


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


async def test_large_answers_leave_room_for_fewer():
    source = Source()
    cache = LookupCache(source, 60.0, FakeClock().monotonic, places_of=lambda _answer: 400)

    for key in "abc":
        await cache(key)

    assert [await cache("c"), await cache("b"), await cache("a")] == [3, 2, 4]


async def test_sixty_four_addresses_of_a_name_are_kept():
    addresses = [f"8.8.{number // 250}.{number % 250}" for number in range(3000)]

    assert await SystemResolver(resolve=lambda _host: addresses)("a.example") == addresses[:64]


async def test_no_more_than_a_thousand_keys_are_kept():
    source = Source()
    cache = LookupCache(source, 60.0, FakeClock().monotonic)

    for number in range(1001):
        await cache(str(number))

    assert await cache("1000") == 1001
    assert await cache("0") == 1002
