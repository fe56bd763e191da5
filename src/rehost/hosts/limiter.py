"""Which host this worker may ask next: fewest requests in flight first, then longest unserved. No I/O.

`HostPacing` decides how one host may be asked, `HostLimiter` which one comes next; its methods return the news for the
other workers. The waiting hosts are in two heaps, so that the next of ten thousand is found quickly: a host gets a new
entry when its state changes, and its old one becomes stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush
from itertools import count
from random import Random

from rehost.clock import Clock
from rehost.errors import HostUnavailable, VisitError
from rehost.hosts.pacing import Allowance, HostPacing, HostPolicy, News, Pause
from rehost.hosts.shares import Share
from rehost.model import Reason

SHORT_PAUSE = 5.0
"""Seconds; a shorter pause is over before the other workers could learn of it."""

RECENT_SECONDS = 10.0
"""A host counts as in use for so long after a request."""

MAX_STALE = 100
"""A heap is rebuilt when it has more entries than this, and twice as many as hosts wait."""

_Entry = tuple[float, int, str]
"""The value that orders a host, its turn, and its name."""


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
        self._wanted_slots = min(requests or concurrency, concurrency)
        self._policy_for = policy_for
        self._first_slots = first_slots
        self._pacings: dict[str, HostPacing] = {}
        self._turns = count()
        self._waiting: dict[str, _Entry | None] = {}  # each host's entry; None: it has no room
        self._ready: list[_Entry] = []  # a heap by requests in flight, then by turn
        self._held: list[_Entry] = []  # a heap by the time from which the host may be asked

    def __len__(self) -> int:
        """Return how many hosts are remembered."""
        return len(self._pacings)

    def pacing(self, host: str) -> HostPacing:
        """Return the state of a host; a new host starts with the defaults."""
        pacing = self._pacings.get(host)
        if pacing is None:
            pacing = HostPacing(self._max_limit, self._policy_for(host), self._first_slots, next(self._turns))
            self._pacings[host] = pacing
        return pacing

    @property
    def waiting(self) -> Collection[str]:
        """The hosts for which requests wait."""
        return self._waiting.keys()

    def add_waiting(self, host: str) -> None:
        """Let `next_host` consider this host."""
        if host not in self._waiting:
            self._waiting[host] = None
            self._place(host)

    def remove_waiting(self, host: str) -> None:
        """Let `next_host` ignore this host: no request waits for it any more."""
        self._waiting.pop(host, None)

    def next_host(self) -> str | None:
        """Return the waiting host that should be asked next and may be asked now; None if none may."""
        now = self._clock.monotonic()
        while (entry := self._first(self._held)) is not None and entry[0] <= now:
            heappop(self._held)
            self._place(entry[-1])
        entry = self._first(self._ready)
        return entry and entry[-1]

    def next_time(self) -> float | None:
        """Return the monotonic time at which the first host that is held back may be asked again; None for never."""
        entry = self._first(self._held)
        return entry and entry[0]

    def pause_seconds(self, host: str) -> float:
        """Return how many seconds this host is still paused for; 0 if it is not paused."""
        pacing = self._pacings.get(host)
        return max(0.0, pacing.paused_until - self._clock.monotonic()) if pacing else 0.0

    def check_not_paused(self, host: str) -> None:
        """Check that a request that needs no slot may be sent to this host.

        Raises:
            HostUnavailable: the host is paused.
        """
        if (seconds := self.pause_seconds(host)) > 0:
            reason, evidence = self.cause(host)
            raise HostUnavailable(reason, evidence, retry_after=seconds)

    def lacks_share(self, host: str) -> bool:
        """Return whether this worker has no slot at a host that is not paused."""
        return not self.pause_seconds(host) and not self.pacing(host).slots

    def cause(self, host: str) -> tuple[Reason, str]:
        """Return why this host is paused, with the evidence."""
        return self.pacing(host).cause

    def daily_budget(self, host: str) -> int | None:
        """Return how many requests a day the operator allows to this host; None for any number."""
        known = self._pacings.get(host)
        return (known.policy if known else self._policy_for(host)).daily_budget

    def started(self, host: str) -> None:
        """Count a request to this host as in flight."""
        self.pacing(host).start(self._clock.monotonic(), next(self._turns))
        self._place(host)

    def finished(self, host: str, error: VisitError | None) -> News | None:
        """Count the request as ended, learn from how it ended, and return what the other workers should know."""
        news = self._learn(host, error)
        self.abandoned(host)
        return news

    def abandoned(self, host: str) -> None:
        """Count the request as ended without an answer to learn from: it was never sent."""
        self.pacing(host).end()
        self._place(host)

    def finished_unscheduled(self, host: str, error: VisitError | None) -> News | None:
        """Learn from how a request without a slot ended, and return what the other workers should know.

        While the host is paused nothing is learned: the request was under way before the pause.
        """
        if self.pause_seconds(host):
            return None
        news = self._learn(host, error)
        self._place(host)
        return news

    def pause(self, pause: Pause) -> None:
        """Pause this host; a pause that lasts longer stays as it is."""
        until = self._clock.monotonic() + pause.seconds
        self.pacing(pause.host).pause_until(until, (pause.reason, pause.evidence))
        self._place(pause.host)

    def wanted(self) -> Mapping[str, int]:
        """Return how many slots this worker could use at each host that waits or was in use recently."""
        recent = self._clock.monotonic() - RECENT_SECONDS
        for host in [host for host, pacing in self._pacings.items() if pacing.used_at < recent]:
            if self._is_forgettable(host):
                del self._pacings[host]
        used = [host for host, pacing in self._pacings.items() if pacing.in_flight or pacing.used_at >= recent]
        return dict.fromkeys([*self._waiting, *used], self._wanted_slots)

    def in_flight(self) -> Mapping[str, int]:
        """Return the number of requests in flight at each host that has any."""
        return {host: pacing.in_flight for host, pacing in self._pacings.items() if pacing.in_flight}

    def apply(self, shares: Mapping[str, Share]) -> None:
        """Apply this worker's shares from the ledger; a host without one gets the first slots again."""
        for host in self._pacings.keys() | shares.keys():
            pacing = self.pacing(host)
            share = shares.get(host)
            if share is None:
                pacing.slots = self._first_slots
            else:
                pacing.apply_share(share.slots, share.allowance, proven=share.proven)
                until = self._clock.monotonic() + share.pause_seconds
                # Our own pause comes back from the ledger with an end a little later.
                if share.pause_seconds > 0 and until > pacing.paused_until + SHORT_PAUSE:
                    pacing.pause_until(until, (Reason.THROTTLED, "another worker paused the host"))
            self._place(host)

    def _learn(self, host: str, error: VisitError | None) -> News | None:
        pacing = self.pacing(host)
        seconds = pacing.learn(error, self._clock.monotonic(), self._random)
        if seconds >= SHORT_PAUSE:
            reason, evidence = pacing.cause
            return Pause(host, seconds, evidence, reason)
        return Allowance(host, pacing.announce_limit(), proven=pacing.proven) if pacing.limit_changed else None

    def _first(self, heap: list[_Entry]) -> _Entry | None:
        """Return the first entry of a heap, without stale ones."""
        while heap and self._waiting.get(heap[0][-1]) != heap[0]:
            heappop(heap)
        return heap[0] if heap else None

    def _place(self, host: str) -> None:
        """Put the host into the heap where it belongs now, if requests wait for it."""
        if host not in self._waiting:
            return
        pacing = self.pacing(host)
        if pacing.in_flight >= pacing.room():
            self._waiting[host] = None
        elif (ready_at := pacing.ready_at()) > self._clock.monotonic():
            self._push(self._held, (ready_at, pacing.turn, host))
        else:
            self._push(self._ready, (pacing.in_flight, pacing.turn, host))

    def _push(self, heap: list[_Entry], entry: _Entry) -> None:
        if entry == self._waiting[entry[-1]]:
            return
        self._waiting[entry[-1]] = entry
        heappush(heap, entry)
        if len(heap) > 2 * len(self._waiting) + MAX_STALE:
            heap[:] = sorted({each for each in heap if self._waiting.get(each[-1]) == each})

    def _is_forgettable(self, host: str) -> bool:
        """Return whether nothing is lost with a host; a share from the ledger holds until the ledger changes it."""
        pacing = self._pacings[host]
        is_idle = host not in self._waiting and pacing.ready_at() <= self._clock.monotonic()
        return is_idle and pacing.slots == self._first_slots and pacing.is_forgettable()
