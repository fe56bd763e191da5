"""Which host may be asked now, by this worker . No I/O.

pace.py knows how one host is to be asked, rotation.py whose turn it is; here they meet. What the other workers should
know is returned, not told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random

from rehost.clock import Clock
from rehost.errors import VisitError
from rehost.hosts.daily_quota import Draw, Drawn
from rehost.hosts.pacing import Allowance, HostPacing, HostPolicy, News, Pause, sign_of
from rehost.hosts.rotation import Rotation
from rehost.hosts.shares import Share
from rehost.model import Reason

SHORT_PAUSE = 5.0
"""Seconds; a shorter pause is over before the other workers could hear of it."""

OF_LATE = 10.0
"""Seconds for which a host that was asked counts as in use."""

LOOK_SHARE = 32
"""Newcomers queue behind idle hosts, so they need not be looked for at once: a call looks at so many on average."""


class HostLimiter:
    """This worker's manners towards every host."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        *,
        concurrency: int,
        requests: int | None = None,
        manners: Callable[[str], HostPolicy] = lambda _host: HostPolicy(),
        first_slots: int = 1,
    ) -> None:
        """Begin without knowing any host.

        Args:
            clock: for pauses and delays.
            random: for jitter.
            concurrency: requests at once that any host may get, over all workers.
            requests: those of them that this worker may have in flight, which is all that it wishes for; None for all.
            manners: what the operator asks for, by host.
            first_slots: requests at once to a host of which no share has come yet; 0 where another worker may be about
                to ask it too.
        """
        self._clock = clock
        self._random = random
        self._most = concurrency
        self._wish = min(requests or concurrency, concurrency)
        self._manners = manners
        self._first_slots = first_slots
        self._paces: dict[str, HostPacing] = {}
        self._rotation = Rotation()
        self._waiting: Collection[str] = ()
        self._calls_to_look = 0

    def next_host(self, waiting: Collection[str]) -> str | None:
        """Return the host of `waiting` that should be asked next and may be asked now; None if none may.

        Fair: fewest in flight first, then longest since. `waiting` should be a dict or a set.
        """
        self._waiting = waiting
        for due in self._rotation.due(self._clock.monotonic()):
            self._place(due)
        self._calls_to_look -= 1
        host = self._rotation.first_idle(waiting) if self._calls_to_look > 0 else None
        if host is None:
            self._calls_to_look = len(waiting) // LOOK_SHARE
            for newcomer in self._rotation.newcomers(waiting):
                self._place(newcomer)
            host = self._rotation.first(waiting)
        return host

    def next_time(self) -> float | None:
        """Return the monotonic time at which a host that is held back now may be asked again, if one is."""
        return self._rotation.next_time()

    def pause_seconds(self, host: str) -> float:
        """Return for how long this host is still to be left alone; 0 if it is not."""
        pace = self._paces.get(host)
        return max(0.0, pace.paused_until - self._clock.monotonic()) if pace else 0.0

    def lacks_share(self, host: str) -> bool:
        """Return whether this worker has no part of what the host bears, though the host is not to be left alone."""
        return not self.pause_seconds(host) and not self._pace(host).slots

    def cause(self, host: str) -> tuple[Reason, str]:
        """Return why this host is left alone, with the evidence."""
        return self._pace(host).cause

    def started(self, host: str) -> bool:
        """Count a request to this host as in flight; return whether a new part of its daily budget is needed soon."""
        pace = self._pace(host)
        pace.start(self._clock.monotonic())
        self._place(host)
        return pace.is_short()

    def passes(self, host: str) -> bool:
        """Count a request that is no turn against the host's daily budget, if any; return whether it may be sent.

        Raises:
            Withheld: the host is to be left alone.
        """
        if host not in self._paces and not self._manners(host).daily_budget:
            return True
        passes = self._pace(host).pass_on(self._clock.monotonic())
        self._replace(host)
        return passes

    def passed(self, host: str, error: VisitError | None) -> News | None:
        """Learn from how a request ended that was no turn, and return what others should know of it.

        What ends while the host is left alone already was under way before: it tells nothing new.
        """
        if self.pause_seconds(host):
            return None
        news = self._learn(host, error)
        self._replace(host)
        return news

    def finished(self, host: str, error: VisitError | None) -> News | None:
        """Count the request as ended, learn from how it ended, and return what others should know of it."""
        news = self._learn(host, error)
        self._pace(host).end()
        self._place(host)
        return news

    def abandoned(self, host: str) -> None:
        """Count the request as never sent."""
        self._pace(host).end()
        self._place(host)

    def heed(self, pause: Pause) -> None:
        """Leave this host alone from now on; a pause that lasts longer already stays as it is."""
        until = self._clock.monotonic() + pause.seconds
        self._pace(pause.host).heed(until, (pause.reason, pause.evidence))
        self._replace(pause.host)

    def wanted(self) -> Mapping[str, int]:
        """Return how many requests at once each host of late could use here, for `HostShares.shares`."""
        late = self._clock.monotonic() - OF_LATE
        for host in [host for host, pace in self._paces.items() if pace.used_at < late]:
            self._forget(host)
        used = [host for host, pace in self._paces.items() if pace.in_flight or pace.used_at >= late]
        return dict.fromkeys([*self._waiting, *used], self._wish)

    def in_flight(self) -> Mapping[str, int]:
        """Return how many requests each host is answering now, for `HostShares.shares`."""
        return {host: pace.in_flight for host, pace in self._paces.items() if pace.in_flight}

    def draws(self, *, leaving: bool = False) -> Mapping[str, Draw]:
        """Return what is wanted of daily budgets, or given back with this call: by who leaves, and of idle hosts."""
        now = self._clock.monotonic()
        result = {}
        for host, pace in self._paces.items():
            if not pace.manners.daily_budget:
                continue
            is_wanted = not leaving and (host in self._waiting or pace.used_at >= now - OF_LATE)
            if number := pace.draw(now, is_wanted=is_wanted):
                result[host] = Draw(pace.manners.daily_budget, number, pace.day)
            self._replace(host)
        return result

    def fill(self, drawn: Mapping[str, Drawn]) -> None:
        """Take the parts of daily budgets; leave alone until the day ends whom there is no budget left for."""
        now = self._clock.monotonic()
        for host, each in drawn.items():
            self._pace(host).fill(each.number, each.day, now, each.seconds)
            self._replace(host)

    def apply(self, shares: Mapping[str, Share]) -> None:
        """Take what the ledger lets this worker have of each host; of hosts it does not name, as at first."""
        for host in self._paces.keys() | shares.keys():
            pace = self._pace(host)
            share = shares.get(host)
            if share is None:
                pace.slots = self._first_slots
            else:
                pace.take(share.slots, share.allowance, proven=share.proven)
                self._heed_others(pace, share.pause_seconds)
            self._replace(host)

    def _learn(self, host: str, error: VisitError | None) -> News | None:
        pace = self._pace(host)
        seconds = pace.learn(sign_of(error), error, self._clock.monotonic(), self._random)
        if seconds >= SHORT_PAUSE:
            reason, evidence = pace.cause
            return Pause(host, seconds, evidence, reason)
        return Allowance(host, pace.tell(), proven=pace.proven) if pace.news else None

    def _heed_others(self, pace: HostPacing, seconds: float) -> None:
        """Take over a pause, unless it is our own that comes back to us a little later."""
        until = self._clock.monotonic() + seconds
        if seconds > 0 and until > pace.paused_until + SHORT_PAUSE:
            pace.heed(until, (Reason.THROTTLED, "another worker found that the host is to be left alone"))

    def _pace(self, host: str) -> HostPacing:
        pace = self._paces.get(host)
        if pace is None:
            pace = self._paces[host] = HostPacing(self._most, self._manners(host), self._first_slots)
        return pace

    def _place(self, host: str) -> None:
        """Give the host the place that fits how it stands now."""
        pace = self._pace(host)
        ready_at = pace.ready_at()
        if pace.in_flight >= pace.room(self._clock.monotonic()):
            self._rotation.hold(host)
        elif ready_at > self._clock.monotonic():
            self._rotation.hold(host, ready_at)
        else:
            self._rotation.join(host, pace.in_flight)

    def _replace(self, host: str) -> None:
        if host in self._rotation:
            self._place(host)

    def _forget(self, host: str) -> None:
        """Let go of a host that nothing need be remembered of."""
        pace = self._paces[host]
        if pace.slots != self._first_slots:
            return  # what the ledger said holds until it says otherwise
        if pace.is_forgettable() and host not in self._rotation and pace.ready_at() <= self._clock.monotonic():
            del self._paces[host]
