"""Which host this worker may ask next: that of the domain with the fewest requests in flight. No I/O.

`HostPacing` decides how one host may be asked, `HostLimiter` which one comes next; its methods return the news for the
other workers. Names below a registrable domain cost nothing, so requests are shared between domains first, and then
between the hosts of a domain: fewest in flight first, then longest unserved.

A `name` is a host, an origin (scheme://host[:port]) or a folder of one: what one origin does is counted for its host
too, except that connections to it fail. What one folder answers is not counted for the host before others agree
(`HostPacing.is_to_blame`), because anyone may link to a URL that always fails.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from random import Random

from cachetools import LRUCache

from rehost.clock import Clock
from rehost.errors import HostUnavailable, VisitError
from rehost.hosts.pacing import (
    FAILURES_IN_A_ROW,
    Allowance,
    Breaker,
    HostPacing,
    HostPolicy,
    HostSignal,
    News,
    Pause,
    signal_of,
)
from rehost.hosts.shares import Share
from rehost.http.url import domain_of, folder_url, host_of, origin_of
from rehost.model import Reason

SHORT_PAUSE = 5.0
"""Seconds; a shorter pause is over before the other workers could learn of it."""

RECENT_SECONDS = 10.0
"""A host counts as in use for so long after a request."""

MAX_ORIGINS = 10_000
"""Origins that are remembered; those used longest ago are dropped first."""

_REMEMBERED_NAMES = 256  # whose parts are known: each request asks for them a dozen times, and folders can be long
_MAX_STALE = 8
"""A heap is rebuilt when it has this many entries more than twice its names."""

_CONNECTED = frozenset({HostSignal.GOOD, HostSignal.THROTTLED, HostSignal.STRAINED})

_Key = tuple[float, int]
"""The value that orders a name, and its turn."""


class _Order:
    """Names in the order of their keys: a heap, in which an entry is stale once its name has another key, or none."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self._heap: list[tuple[_Key, str]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, name: str, key: _Key) -> None:
        """Add a name, or give it another key."""
        if self._keys.get(name) == key:
            return
        self._keys[name] = key
        heappush(self._heap, (key, name))
        if len(self._heap) > 2 * len(self._keys) + _MAX_STALE:
            self._heap = [(key, name) for name, key in self._keys.items()]
            heapify(self._heap)

    def remove(self, name: str) -> None:
        self._keys.pop(name, None)

    def first(self) -> tuple[_Key, str] | None:
        """Return the lowest key and its name; None if there is no name."""
        while self._heap and self._keys.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0] if self._heap else None


@dataclass(slots=True)
class _Domain:
    """The hosts below one registrable domain."""

    turn: int  # of the last request to any of them
    in_flight: int = 0
    ready: _Order = field(default_factory=_Order)  # hosts that may be asked now, by requests in flight


class HostLimiter:
    """Limits this worker's requests to each host, and picks the host that comes next."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        *,
        concurrency: int,
        requests: int | None = None,
        policy_for: Callable[[str], HostPolicy] = lambda _host: HostPolicy(),
        first_slots: int = 1,
    ) -> None:
        """Start with no hosts.

        Args:
            clock: for pauses and delays.
            random: for jitter.
            concurrency: requests in flight that any host may get, across all workers.
            requests: how many of them this worker may have in flight; it asks for no more slots. None for all.
            policy_for: what the operator asks for, by host.
            first_slots: slots at a host before the ledger has given this worker a share; 0 where another worker may
                start on the host at the same time.
        """
        self._clock = clock
        self._random = random
        self._max_limit = concurrency
        self._in_flight = 0
        self._wanted_slots = min(requests or concurrency, concurrency)
        self._policy_for = policy_for
        self._first_slots = first_slots
        self._valid_until = inf
        self._pacings: dict[str, HostPacing] = {}
        self._turns = count()
        self._breakers: LRUCache[str, Breaker] = LRUCache(MAX_ORIGINS)  # by origin
        self._folders: LRUCache[str, Breaker] = LRUCache(MAX_ORIGINS)  # by the URL of the folder; those that failed
        self._waiting: dict[str, None] = {}  # a set with an order
        self._held = _Order()  # hosts, by the time from which they may be asked
        self._domains: dict[str, _Domain] = {}
        self._ready = _Order()  # domains with a host that may be asked now, by requests in flight
        self._used: tuple[str, float] = ("", -inf)  # the domain used last, and when
        self._other_used_at = -inf  # when any other one was used last

    def __len__(self) -> int:
        """Return how many hosts are remembered."""
        return len(self._pacings)

    def pacing(self, host: str) -> HostPacing:
        """Return the state of a host; a new host starts with the defaults."""
        pacing = self._pacings.get(host)
        if pacing is None:
            turn = next(self._turns)
            pacing = HostPacing(self._max_limit, self._policy_for(host), self._first_slots, turn)
            self._pacings[host] = pacing
            pacing.domain = self._domain_name(host)
            self._domains.setdefault(pacing.domain, _Domain(turn))
        return pacing

    @property
    def waiting(self) -> Collection[str]:
        """The hosts for which requests wait."""
        return self._waiting.keys()

    def add_waiting(self, name: str) -> None:
        """Let `next_host` consider this host."""
        host = _host(name)
        self._breaker(name)  # so that the heartbeat asks for pauses of the origin
        if host not in self._waiting:
            self._waiting[host] = None
            self._use(self.pacing(host).domain)
            self._place(host)

    def remove_waiting(self, host: str) -> None:
        """Let `next_host` ignore this host: no request waits for it any more."""
        if host in self._waiting:
            del self._waiting[host]
            self._place(host)

    def next_host(self, *, is_last_slot: bool = False) -> str | None:
        """Return the waiting host that should be asked next and may be asked now; None if none may.

        If all other slots are one domain's, the last one is kept for other domains while one of them is in use: it is
        for their next request, which may follow from the answer to the one before.
        """
        now = self._clock.monotonic()
        while (entry := self._held.first()) is not None and entry[0][0] <= now:
            self._place(entry[1])
        first = self._ready.first()
        if first is None or now >= self._valid_until:
            return None
        (in_flight, _), domain = first
        if is_last_slot and in_flight == self._in_flight and self._is_another_in_use(domain, now):
            return None
        host = self._domains[domain].ready.first()
        return host and host[1]

    def may_begin(self, url: str) -> bool:
        """Return whether a URL may be requested now, should no other request wait for a slot."""
        pacing, now = self._pacings.get(host_of(url)), self._clock.monotonic()
        if pacing is None or pacing.in_flight >= pacing.room() or now < pacing.ready_at() or now >= self._valid_until:
            return False
        return not any(map(self.pause_seconds, (origin_of(url), folder_url(url))))

    def next_time(self) -> float | None:
        """Return the monotonic time at which the first host that is held back may be asked again; None for never."""
        entry = self._held.first()
        return entry[0][0] if entry and entry[0][0] < self._valid_until else None

    def pause_seconds(self, name: str) -> float:
        """Return how many seconds this host, or this origin or folder alone, is still paused for; 0 for not paused."""
        if name == _host(name):
            breaker = self._pacings[name].breaker if name in self._pacings else None
        else:
            breaker = (self._folders if is_folder(name) else self._breakers).get(name)
        return breaker.pause_seconds(self._clock.monotonic()) if breaker else 0.0

    def longest_pause(self, url: str) -> str:
        """Return the name that is paused for longest: the URL's host, its origin, or its folder."""
        return max(host_of(url), origin_of(url), folder_url(url), key=self.pause_seconds)

    def has_failing_folders(self) -> bool:
        """Return whether a folder may be paused alone."""
        return bool(self._folders)

    def check_not_paused(self, url: str) -> None:
        """Check that a URL may be requested without a slot.

        Raises:
            HostUnavailable: its folder, its origin or its host is paused.
        """
        name = self.longest_pause(url)
        if (seconds := self.pause_seconds(name)) > 0:
            reason, evidence = self.cause(name)
            raise HostUnavailable(reason, evidence, retry_after=seconds)

    def lacks_share(self, host: str) -> bool:
        """Return whether this worker has no slot at a host that is not paused."""
        return not self.pause_seconds(host) and not self.pacing(host).slots

    def cause(self, name: str) -> tuple[Reason, str]:
        """Return why this host or origin is paused, with the evidence."""
        return self._breaker(name).cause

    def daily_budget(self, host: str) -> int | None:
        """Return how many requests a day the operator allows to this host; None for any number."""
        known = self._pacings.get(host)
        return (known.policy if known else self._policy_for(host)).daily_budget

    def started(self, name: str) -> None:
        """Count a request to this host or origin as in flight."""
        turn = next(self._turns)
        self.pacing(_host(name)).start(self._clock.monotonic(), turn)
        self._count(name, 1, turn)
        self._place(_host(name))

    def finished(self, name: str, error: VisitError | None) -> News | None:
        """Count the request as ended, learn from how it ended, and return what the other workers should know."""
        news = self._learn(_folder(name), error)
        self.abandoned(_origin(name))
        return news

    def abandoned(self, name: str) -> None:
        """Count the request as ended without an answer to learn from: it was never sent."""
        self.pacing(_host(name)).end()
        self._count(name, -1)
        self._place(_host(name))

    def finished_unscheduled(self, name: str, error: VisitError | None) -> News | None:
        """Learn from how a request without a slot ended, and return what the other workers should know.

        While the host or the origin is paused nothing is learned: the request was under way before the pause.
        """
        name = _folder(name)
        if any(map(self.pause_seconds, {_host(name), _origin(name), name})):
            return None
        news = self._learn(name, error)
        self._place(_host(name))
        return news

    def pause(self, pause: Pause) -> None:
        """Pause this host or origin; a pause that lasts longer stays as it is."""
        until = self._clock.monotonic() + pause.seconds
        self._breaker(pause.host).pause_until(until, (pause.reason, pause.evidence))
        self._place(_host(pause.host))

    def wanted(self) -> Mapping[str, int]:
        """Return how many slots this worker could use at each host that waits or was in use recently.

        Also their origins, without a slot: a pause may be an origin's alone.
        """
        recent = self._clock.monotonic() - RECENT_SECONDS
        idle = [host for host, pacing in self._pacings.items() if pacing.used_at < recent]
        self._forget([host for host in idle if self._is_forgettable(host)])
        used = [host for host, pacing in self._pacings.items() if pacing.in_flight or pacing.used_at >= recent]
        slots = dict.fromkeys([*self._waiting, *used], self._wanted_slots)
        return slots | dict.fromkeys([origin for origin in self._breakers if host_of(origin) in slots], 0)

    def in_flight(self) -> Mapping[str, int]:
        """Return the number of requests in flight at each host that has any."""
        return {host: pacing.in_flight for host, pacing in self._pacings.items() if pacing.in_flight}

    def apply(self, shares: Mapping[str, Share], until: float = inf) -> None:
        """Apply this worker's shares from the ledger; a host without one gets the first slots again.

        From the monotonic time `until` on no request begins: other workers may have these slots then.
        """
        self._valid_until = until
        for name, share in shares.items():
            until = self._clock.monotonic() + share.pause_seconds
            breaker = self._breaker(name)
            if share.pause_seconds <= 0:
                self._lift([name] if breaker.is_shared else [])
                continue
            # Our own pause comes back from the ledger with an end a little later.
            if until > breaker.paused_until + SHORT_PAUSE:
                reason = Reason.THROTTLED if name == _host(name) else Reason.UNREACHABLE
                breaker.pause_until(until, (reason, share.evidence or "another worker paused the host"))
                breaker.is_shared = True
        for host, pacing in self._pacings.items():
            share_here = shares.get(host)
            if share_here is None:
                pacing.slots = self._first_slots
            else:
                pacing.apply_share(share_here.slots, share_here.allowance, proven=share_here.proven)
            self._place(host)

    def shared(self, pause: Pause) -> None:
        """Note that the ledger has this pause now, unless the one here has become longer since."""
        breaker = self._breaker(pause.host)
        breaker.is_shared = breaker.paused_until <= self._clock.monotonic() + pause.seconds

    def lift_resumed(self, paused: Collection[str]) -> bool:
        """End the pauses that the ledger had and that are not among its pauses now; return whether there were any."""
        breakers = {**{host: each.breaker for host, each in self._pacings.items()}, **self._breakers}
        return self._lift([name for name, each in breakers.items() if each.is_shared and name not in paused])

    def _lift(self, names: Collection[str]) -> bool:
        now = self._clock.monotonic()
        lifted = [name for name in names if self._breaker(name).paused_until > now]
        for folder in [each for each in self._folders if _host(each) in lifted]:
            del self._folders[folder]
        for name in lifted:
            self._breaker(name).paused_until = now
            self._place(_host(name))
        return bool(lifted)

    def _learn(self, name: str, error: VisitError | None) -> News | None:
        host, origin, now, signal = _host(name), _origin(name), self._clock.monotonic(), signal_of(error)
        pacing, failing = self.pacing(host), host
        if signal is HostSignal.UNREACHABLE:
            failing = origin
            seconds = self._breaker(origin).fail(FAILURES_IN_A_ROW, error, now, self._random)
        elif is_folder(name) and not pacing.is_to_blame(name, signal):
            failing = name
            seconds = pacing.learn_of_folder(self._breaker(name), error, now, self._random)
        else:
            seconds = pacing.learn(error, now, self._random)
            if signal is HostSignal.GOOD:
                self._folders.pop(name, None)
        if origin != host and signal in _CONNECTED:
            self._breaker(origin).close()
        if seconds >= SHORT_PAUSE:
            reason, evidence = self.cause(failing)
            return Pause(failing, seconds, evidence, reason)
        return Allowance(host, pacing.announce_limit(), proven=pacing.proven) if pacing.limit_changed else None

    def _breaker(self, name: str) -> Breaker:
        if name == _host(name):
            return self.pacing(name).breaker
        breakers = self._folders if is_folder(name) else self._breakers
        return breakers.get(name) or breakers.setdefault(name, Breaker())

    def _count(self, name: str, requests: int, turn: int | None = None) -> None:
        """Count requests as in flight, or as ended, at a domain and an origin."""
        pacing = self.pacing(_host(name))
        domain = self._domains[pacing.domain]
        domain.in_flight += requests
        self._in_flight += requests
        self._use(pacing.domain)
        domain.turn = domain.turn if turn is None else turn
        if name != _host(name):
            breaker = self._breaker(name)
            breaker.in_flight = max(0, breaker.in_flight + requests)

    def _use(self, domain: str) -> None:
        """Remember that a domain is in use now."""
        if domain != self._used[0]:
            self._other_used_at = self._used[1]
        self._used = domain, self._clock.monotonic()

    def _is_another_in_use(self, domain: str, now: float) -> bool:
        used_at = self._used[1] if domain != self._used[0] else self._other_used_at
        return used_at >= now - RECENT_SECONDS

    def _place(self, host: str) -> None:
        """Put the host, and its domain, where they belong now."""
        pacing = self.pacing(host)
        domain = self._domains[pacing.domain]
        if host not in self._waiting and not domain.ready:
            self._held.remove(host)
            return
        ready_at = pacing.ready_at()
        may_be_asked = host in self._waiting and pacing.in_flight < pacing.room()
        is_held = ready_at > self._clock.monotonic()
        if may_be_asked and is_held:
            self._held.put(host, (ready_at, pacing.turn))
        else:
            self._held.remove(host)
        if may_be_asked and not is_held:
            domain.ready.put(host, (pacing.in_flight, pacing.turn))
        else:
            domain.ready.remove(host)
        if domain.ready:
            self._ready.put(pacing.domain, (domain.in_flight, domain.turn))
        else:
            self._ready.remove(pacing.domain)

    def _domain_name(self, host: str) -> str:
        """Return the domain of a host that was just added; an only host has no need for the list of suffixes."""
        if len(self._pacings) == 1:
            return host
        if len(self._pacings) - 1 == len(self._domains) == 1:
            ((first, former),) = ((name, each) for name, each in self._pacings.items() if name != host)
            domain = self._domains.pop(former.domain)
            self._ready.remove(former.domain)
            former.domain = domain_of(first)
            self._used = former.domain, self._used[1]
            self._domains[former.domain] = domain
            self._place(first)
        return domain_of(host)

    def _is_forgettable(self, host: str) -> bool:
        """Return whether nothing is lost with a host; a share from the ledger holds until the ledger changes it."""
        pacing = self._pacings[host]
        is_idle = host not in self._waiting and pacing.ready_at() <= self._clock.monotonic()
        return is_idle and pacing.slots == self._first_slots and pacing.is_forgettable()

    def _forget(self, hosts: Collection[str]) -> None:
        for host in hosts:
            del self._pacings[host]
        used = {pacing.domain for pacing in self._pacings.values()}
        self._domains = {name: domain for name, domain in self._domains.items() if name in used}


@lru_cache(_REMEMBERED_NAMES)
def is_folder(name: str) -> bool:
    """Return whether a name is the URL of a folder."""
    return "://" in name and origin_of(name) != name


def _folder(name: str) -> str:
    return folder_url(name) if "://" in name else name


def _origin(name: str) -> str:
    return origin_of(name) if "://" in name else name


@lru_cache(_REMEMBERED_NAMES)
def _host(name: str) -> str:
    return host_of(name) if "://" in name else name
