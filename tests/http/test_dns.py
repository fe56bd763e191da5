import asyncio
import socket
import threading

import pytest

from rehost.errors import Permanent, Transient
from rehost.http.dns import Detours, SystemResolver, failure
from rehost.model import Reason


class Resolver:
    """Stands where getaddrinfo stands, and answers when it is let go."""

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


async def test_a_name_has_addresses():
    assert "127.0.0.1" in await SystemResolver()("localhost")


async def test_a_resolver_that_never_answers_costs_its_limit_only():
    resolver = Resolver()
    look_up = SystemResolver(limit_seconds=0.05, resolve=resolver)

    with pytest.raises(Transient) as caught:
        await look_up("a.example")
    resolver.go.set()

    assert caught.value.reason is Reason.UNRESOLVED


async def test_threads_are_bounded_even_when_callers_have_given_up():
    resolver = Resolver()
    look_up = SystemResolver(limit_seconds=0.05, threads=2, resolve=resolver)

    given_up = await asyncio.gather(*(look_up("a.example") for _ in range(6)), return_exceptions=True)
    peak = resolver.peak
    resolver.go.set()

    assert [type(error) for error in given_up] == [Transient] * 6
    assert peak == 2


async def test_a_thread_is_free_again_once_its_lookup_has_ended():
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
def test_a_name_without_an_address_stays_without(number):
    error = failure("a.example", socket.gaierror(number, "not known"))

    assert isinstance(error, Permanent)
    assert error.reason is Reason.UNRESOLVED


def test_a_resolver_in_trouble_may_recover():
    error = failure("a.example", socket.gaierror(socket.EAI_AGAIN, "try again"))

    assert isinstance(error, Transient)
    assert error.reason is Reason.UNRESOLVED


@pytest.mark.parametrize(
    ("entry", "target"),
    [
        (("a.example", 443, "127.0.0.1", 8443), ("127.0.0.1", 8443)),
        (("*", 443, "127.0.0.1", 8443), ("127.0.0.1", 8443)),
        (("*", None, "127.0.0.1", None), ("127.0.0.1", 443)),
        (("a.example", None, "", 8443), ("a.example", 8443)),
        (("b.example", 443, "127.0.0.1", 8443), ("a.example", 443)),
        (("a.example", 80, "127.0.0.1", 8443), ("a.example", 443)),
    ],
)
def test_a_detour_is_taken_where_it_fits(entry, target):
    assert Detours([entry]).target("a.example", 443) == target


def test_the_first_detour_that_fits_decides():
    detours = Detours([("a.example", None, "127.0.0.1", None), ("*", None, "127.0.0.2", None)])

    assert detours.target("a.example", 80) == ("127.0.0.1", 80)
    assert detours.target("b.example", 80) == ("127.0.0.2", 80)
