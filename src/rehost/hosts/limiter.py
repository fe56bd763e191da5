"""Which host this worker may ask now, and in which order. No I/O.

`HostPacing` decides how one host may be asked. `_Rotation` keeps the order: fewest requests in flight first, then the
host that was served longest ago. It is cheap with ten thousand hosts waiting, because a host is placed when something
happens to it, not for each request. `HostLimiter` joins the two, and returns what the other workers should know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush
from itertools import chain, filterfalse, takewhile
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

SCAN_FRACTION = 32
"""New hosts come after idle ones anyway, so `next_host` looks for them only once in `len(waiting) / 32` calls: a call
checks 32 hosts on average."""


class HostLimiter:
    """Limits this worker's requests to each host, and tells its callers which host comes next."""

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
        """Begin without any host.

        Args:
            clock: for pauses and delays.
            random: for jitter.
            concurrency: requests in flight that any host may get, over all workers.
            requests: those of them that this worker may have in flight, so that it wants no more; None for all.
            policy_for: what the operator asks for, by host.
            first_slots: slots at a host before the ledger has given this worker a share; 0 where another worker may
                begin with the host too.
        """
        self._clock = clock
        self._random = random
        self._max_limit = concurrency
        self._wanted_slots = min(requests or concurrency, concurrency)
        self._policy_for = policy_for
        self._first_slots = first_slots
        self._pacings: dict[str, HostPacing] = {}
        self._rotation = _Rotation()
        self._waiting: Collection[str] = ()
        self._calls_to_scan = 0

    def __len__(self) -> int:
        """Return how many hosts are remembered."""
        return len(self._pacings)

    def pacing(self, host: str) -> HostPacing:
        """Return what is known of a host; of a new one, the beginning."""
        pacing = self._pacings.get(host)
        if pacing is None:
            pacing = HostPacing(self._max_limit, self._policy_for(host), self._first_slots)
            self._pacings[host] = pacing
        return pacing

    def next_host(self, waiting: Collection[str]) -> str | None:
        """Return the host of `waiting` that should be asked next and may be asked now; None if none may.

        Fair: fewest requests in flight first, then longest unserved. `waiting` should be a dict or a set.
        """
        self._waiting = waiting
        for due in self._rotation.due(self._clock.monotonic()):
            self._place(due)
        self._calls_to_scan -= 1
        host = self._rotation.first_idle(waiting) if self._calls_to_scan > 0 else None
        if host is None:
            self._calls_to_scan = len(waiting) // SCAN_FRACTION
            for newcomer in self._rotation.newcomers(waiting):
                self._place(newcomer)
            host = self._rotation.first(waiting)
        return host

    def next_time(self) -> float | None:
        """Return the monotonic time at which the first host that is held back may be asked again; None for never."""
        return self._rotation.next_time()

    def pause_seconds(self, host: str) -> float:
        """Return for how long this host is still paused; 0 if it is not."""
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
        self.pacing(host).start(self._clock.monotonic())
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
        self._replace(host)
        return news

    def pause(self, pause: Pause) -> None:
        """Pause this host; a pause that lasts longer stays as it is."""
        until = self._clock.monotonic() + pause.seconds
        self.pacing(pause.host).pause_until(until, (pause.reason, pause.evidence))
        self._replace(pause.host)

    def wanted(self) -> Mapping[str, int]:
        """Return how many slots this worker could use at each host that waits or was in use recently."""
        recent = self._clock.monotonic() - RECENT_SECONDS
        for host in [host for host, pacing in self._pacings.items() if pacing.used_at < recent]:
            self._forget(host)
        used = [host for host, pacing in self._pacings.items() if pacing.in_flight or pacing.used_at >= recent]
        return dict.fromkeys([*self._waiting, *used], self._wanted_slots)

    def in_flight(self) -> Mapping[str, int]:
        """Return the number of requests in flight at each host that has any."""
        return {host: pacing.in_flight for host, pacing in self._pacings.items() if pacing.in_flight}

    def apply(self, shares: Mapping[str, Share]) -> None:
        """Take this worker's shares as the ledger gave them; a host that is not named is as at the beginning."""
        for host in self._pacings.keys() | shares.keys():
            pacing = self.pacing(host)
            share = shares.get(host)
            if share is None:
                pacing.slots = self._first_slots
            else:
                pacing.apply_share(share.slots, share.allowance, proven=share.proven)
                self._apply_pause(pacing, share.pause_seconds)
            self._replace(host)

    def _apply_pause(self, pacing: HostPacing, seconds: float) -> None:
        """Pause as long as the ledger says, unless this is our own pause, which comes back a little later."""
        until = self._clock.monotonic() + seconds
        if seconds > 0 and until > pacing.paused_until + SHORT_PAUSE:
            pacing.pause_until(until, (Reason.THROTTLED, "another worker paused the host"))

    def _learn(self, host: str, error: VisitError | None) -> News | None:
        pacing = self.pacing(host)
        seconds = pacing.learn(error, self._clock.monotonic(), self._random)
        if seconds >= SHORT_PAUSE:
            reason, evidence = pacing.cause
            return Pause(host, seconds, evidence, reason)
        return Allowance(host, pacing.announce_limit(), proven=pacing.proven) if pacing.limit_changed else None

    def _place(self, host: str) -> None:
        """Put the host where it belongs now: into the order, or among those that are held back."""
        pacing = self.pacing(host)
        ready_at = pacing.ready_at()
        if pacing.in_flight >= pacing.room():
            self._rotation.hold(host)
        elif ready_at > self._clock.monotonic():
            self._rotation.hold(host, ready_at)
        else:
            self._rotation.join(host, pacing.in_flight)

    def _replace(self, host: str) -> None:
        if host in self._rotation:
            self._place(host)

    def _forget(self, host: str) -> None:
        """Drop a host of which nothing need be remembered."""
        pacing = self._pacings[host]
        if pacing.slots != self._first_slots:
            return  # a share of the ledger holds until the ledger says otherwise
        if pacing.is_forgettable() and host not in self._rotation and pacing.ready_at() <= self._clock.monotonic():
            del self._pacings[host]


class _Rotation:
    """The hosts that may be asked, in order, and those that are held back."""

    def __init__(self) -> None:
        """Begin without hosts."""
        self._ranks: list[dict[str, None]] = [{}]  # by requests in flight; within a rank, in order
        self._rank_of: dict[str, int] = {}
        self._held: dict[str, float | None] = {}  # until when; None: until the host joins again
        self._alarms: list[tuple[float, str]] = []  # a heap of the times in `_held`; may contain outdated ones

    def __contains__(self, host: str) -> bool:
        return host in self._rank_of or host in self._held

    def newcomers(self, waiting: Collection[str]) -> list[str]:
        """Return those of `waiting` that have no place yet."""
        unranked = filterfalse(self._rank_of.__contains__, waiting)
        return list(filterfalse(self._held.__contains__, unranked))

    def join(self, host: str, in_flight: int) -> None:
        """Put the host last among those with as many requests in flight; if it is one of them, it keeps its place."""
        if self._rank_of.get(host) == in_flight:
            return
        self._leave(host)
        while len(self._ranks) <= in_flight:
            self._ranks.append({})
        self._ranks[in_flight][host] = None
        self._rank_of[host] = in_flight

    def hold(self, host: str, until: float | None = None) -> None:
        """Hold the host back until a time, or (None) until it joins again."""
        if host in self._held and self._held[host] == until:
            return
        self._leave(host)
        self._held[host] = until
        if until is not None:
            heappush(self._alarms, (until, host))

    def due(self, now: float) -> list[str]:
        """Return the hosts that were held back until now or earlier; they stay held until they join."""
        result = []
        while self._alarms and self._alarms[0][0] <= now:
            until, host = heappop(self._alarms)
            if self._held.get(host) == until:
                self._held[host] = None
                result.append(host)
        return result

    def next_time(self) -> float | None:
        """Return the earliest time until which a host is held back."""
        while self._alarms and self._held.get(self._alarms[0][1]) != self._alarms[0][0]:
            heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def first(self, waiting: Collection[str]) -> str | None:
        """Return the first host in order that is waiting."""
        idle = self.first_idle(waiting)
        if idle is not None:
            return idle
        busy = chain.from_iterable(self._ranks[1:])
        return next((host for host in busy if host in waiting), None)

    def first_idle(self, waiting: Collection[str]) -> str | None:
        """Return the first waiting host without a request in flight; those before it, not waiting, lose their place."""
        for idle in list(takewhile(lambda host: host not in waiting, self._ranks[0])):
            self._leave(idle)
        return next(iter(self._ranks[0]), None)

    def _leave(self, host: str) -> None:
        self._held.pop(host, None)
        rank = self._rank_of.pop(host, None)
        if rank is not None:
            del self._ranks[rank][host]
