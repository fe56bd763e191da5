"""How many requests one host may get at once, and when it may get the next, judged by its answers. Pure.

- Concurrency: additive increase, multiplicative decrease (Chiu and Jain, 1989), as in TCP.
- Circuit breaker: closed -> open after several failures in a row (the host is paused) -> half-open (one request at a
  time) -> closed on a good answer, or open again on a failure, for four times as long. Each origin (scheme, host and
  port) has one of its own for failed connections: a link may name a port on which nothing listens, and the pictures of
  the host's other origins must not wait for that.
- Retry-After takes precedence over both.
- What a single folder answers says nothing about the host, as anyone may link to a URL that fails each time. It pauses
  that folder, until FOLDERS_IN_A_ROW have failed in a row or the folder was one that had answered well.

LatencyTracker limits how long an answer may take to begin before another link is visited instead, as TCP computes its
retransmission timeout (RFC 6298, section 2): the smoothed mean plus four times the smoothed mean deviation, at least
half a second. A link given up as slow is requested again at the end, without this limit, so a slow but good answer
costs one more request. A host gets at most one such extra request for ten answers, and a few before its first answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from random import Random

from cachetools import LRUCache

from rehost.errors import HostUnavailable, SlowToAnswer, Transient, VisitError
from rehost.model import Reason

GROWTH_ROUNDS = 4
"""The limit grows by one after this many good answers for each request that it allows."""

FAILURES_IN_A_ROW = 3
ERRORS_IN_A_ROW = 10
"""Time-outs and lost connections, and answers such as 500, after which the host is paused."""

FOLDERS_IN_A_ROW = 3
"""Folders whose answers are the host's fault if no other answer comes in between."""

HOST_REST = 5.0
"""Seconds at most for which a host rests after one of its folders asks to wait."""

MOST_GOOD_FOLDERS = 50
"""Folders of a host that are remembered for having answered well."""

FIRST_PAUSE = 15.0
LONGEST_PAUSE = 3600.0
"""Seconds. Each pause of the breaker is four times as long as the one before."""

THROTTLES_IN_A_ROW = 5
"""Retry-After values that are obeyed as they stand; a host that goes on asking is paused for longer than it asks."""

LONGEST_THROTTLE_PAUSE = 60.0
"""Seconds, for a 429 without Retry-After."""

PROBE_SECONDS = 1.0
"""After so long other requests may be sent to a half-open origin that has one in flight, should that one be good."""


class HostSignal(Enum):
    """What the end of a request says about the host; the picture does not matter."""

    GOOD = "good"  # it answered, if only with a 404
    THROTTLED = "throttled"
    STRAINED = "strained"  # 408, 5xx
    TIMED_OUT = "timed out"
    UNRESOLVED = "unresolved"
    UNREACHABLE = "unreachable"  # says nothing about the host's other origins
    NONE = "none"  # nothing was sent, or we did not wait for the answer


_SIGNALS = {
    Reason.THROTTLED: HostSignal.THROTTLED,
    Reason.ORIGIN_ERROR: HostSignal.STRAINED,
    Reason.TIMED_OUT: HostSignal.TIMED_OUT,
    Reason.UNREACHABLE: HostSignal.UNREACHABLE,
    Reason.UNRESOLVED: HostSignal.UNRESOLVED,
    Reason.TLS_FAILED: HostSignal.UNREACHABLE,
    Reason.NOT_A_URL: HostSignal.NONE,
    Reason.ADDRESS_REFUSED: HostSignal.NONE,
    Reason.PORT_REFUSED: HostSignal.NONE,
    Reason.ROBOTS_REFUSED: HostSignal.NONE,
    Reason.TAKEN_DOWN: HostSignal.NONE,
}


_OF_A_FOLDER = frozenset({HostSignal.THROTTLED, HostSignal.STRAINED, HostSignal.TIMED_OUT})


def signal_of(error: VisitError | None) -> HostSignal:
    """Return what the end of a request says about its host; None stands for a good end."""
    if error is None:
        return HostSignal.GOOD
    if isinstance(error, HostUnavailable | SlowToAnswer):
        return HostSignal.NONE
    if isinstance(error, Transient) and error.retry_after:
        return HostSignal.THROTTLED
    return _SIGNALS.get(error.reason, HostSignal.GOOD)


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """What the operator asks for, across all workers."""

    min_delay_seconds: float = 0.0
    daily_budget: int | None = None  # requests in a day of UTC, by the ledger's clock


@dataclass(frozen=True, slots=True)
class Pause:
    """No worker should send requests to this host for some time."""

    host: str  # or an origin (scheme://host[:port]), whose host may have others
    seconds: float
    evidence: str
    reason: Reason = Reason.THROTTLED  # its links are deferred for this, should the pause be long


@dataclass(frozen=True, slots=True)
class Allowance:
    """The host takes this many requests at once, across all workers."""

    host: str
    slots: int
    proven: bool = False  # it has returned a verified picture


News = Pause | Allowance
"""What one worker found out about a host, and all workers should know."""


@dataclass(slots=True)
class Breaker:
    """A circuit breaker, and other pauses, of one host or origin. Times are monotonic seconds."""

    paused_until: float = 0.0
    cause: tuple[Reason, str] = (Reason.THROTTLED, "the host is paused")
    failures: int = 0  # in a row
    trips: int = 0  # in a row
    in_flight: int = 0  # requests in slots; counted for origins
    is_shared: bool = False  # the ledger has this pause: it is over when the ledger says so

    def close(self) -> None:
        """Forget the failures, after a good answer."""
        self.failures = self.trips = 0

    def fail(self, max_failures: int, error: VisitError | None, now: float, random: Random) -> float:
        """Count a failure; return the seconds of the pause that it causes, 0 for none."""
        self.failures += 1
        if self.failures < max_failures or now < self.paused_until:
            return 0.0
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 4.0**self.trips) * random.uniform(0.75, 1.25)
        self.trips += 1
        return self.pause(seconds, error, now, failures=self.failures)

    def pause(self, seconds: float, error: VisitError | None, now: float, failures: int = 0) -> float:
        """Pause for so long, unless a pause lasts longer already; return the seconds, or 0 if one does."""
        cause = self.cause
        if error:
            last = error.evidence or error.reason.meaning
            cause = error.reason, f"{failures} failures in a row (last: {last})" if failures else last
        before = self.paused_until
        self.pause_until(now + seconds, cause)
        return seconds if self.paused_until > before else 0.0

    def pause_until(self, until: float, cause: tuple[Reason, str]) -> None:
        """Pause until then; a pause that lasts longer stays as it is."""
        if until > self.paused_until:
            self.paused_until, self.cause, self.is_shared = until, cause, False

    def pause_seconds(self, now: float) -> float:
        """Return for how many seconds no request may be sent: the rest of the pause, or while another one decides."""
        is_probed = self.trips > 0 and self.in_flight > 0
        return max(0.0, self.paused_until - now, PROBE_SECONDS if is_probed else 0.0)


@dataclass(slots=True)
class HostPacing:
    """One host, as this worker knows it. Times are monotonic seconds.

    Invariants: 1 <= limit <= max_limit; in_flight never grows beyond room().
    """

    max_limit: int  # what the operator allows
    policy: HostPolicy
    slots: int  # this worker's share of the limit
    turn: int = 0  # grows with each request of this worker to any host: the lowest is longest unserved
    domain: str = ""  # whose hosts share this worker's requests
    breaker: Breaker = field(default_factory=Breaker)
    limit: int = 0  # requests at once that the host takes, across all workers
    proven: bool = False
    in_flight: int = 0
    used_at: float = 0.0
    limit_changed: bool = False  # and no other worker knows yet
    _just_announced: bool = False  # the next share from the ledger may be older than what we announced
    _next_at: float = 0.0
    _good: int = 0  # answers since the limit changed
    _ignored: int = 0  # requests that were in flight at the last halving: their failures cause no second one
    _throttles: int = 0  # in a row
    _failing: set[str] = field(default_factory=set)  # folders, since the last good answer
    _good_folders: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin with all that the operator allows; the share of a host that is not proven is one slot anyway."""
        self.limit = self.max_limit

    def room(self) -> int:
        """Return how many requests this worker may have in flight; one while the breaker is half-open."""
        return min(self.slots, 1 if self.breaker.trips else self.limit)

    def ready_at(self) -> float:
        """Return the time from which the host may be asked, if there is room."""
        return max(self.breaker.paused_until, self._next_at)

    def is_forgettable(self) -> bool:
        """Return whether nothing is lost if this is forgotten once its pause is over."""
        return self.limit == self.max_limit and not (
            self.in_flight or self.breaker.failures or self.breaker.trips or self.limit_changed
        )

    def start(self, now: float, turn: int) -> None:
        """Count a request as sent."""
        self.turn = turn
        self.in_flight += 1
        self.used_at = now
        self._next_at = now + self.policy.min_delay_seconds * self.delay_factor()

    def delay_factor(self) -> float:
        """Return the limit divided by this worker's share: the operator's delay holds for all workers together."""
        return max(1.0, (self.limit if self.proven else 1) / max(1, self.slots))

    def end(self) -> None:
        """Count a request as ended."""
        self.in_flight -= 1
        self._ignored = max(0, self._ignored - 1)

    def is_to_blame(self, folder: str, signal: HostSignal) -> bool:
        """Return whether the host, not the folder alone, answers for how a request to this folder ended."""
        if signal is HostSignal.GOOD:
            self._failing.clear()
            if len(self._good_folders) < MOST_GOOD_FOLDERS:
                self._good_folders.add(folder)
        if signal not in _OF_A_FOLDER or folder in self._good_folders:
            return True
        if len(self._failing) < FOLDERS_IN_A_ROW:
            self._failing.add(folder)
        return len(self._failing) >= FOLDERS_IN_A_ROW

    def learn_of_folder(self, folder: Breaker, error: VisitError | None, now: float, random: Random) -> float:
        """Learn from a failure for which the folder alone is to blame; return the seconds for which that is paused.

        The host gets fewer requests at once, and a short rest after a 429.
        """
        signal = signal_of(error)
        if signal is HostSignal.THROTTLED:
            self._throttles += not self._ignored
            self._halve()
            seconds = self._throttle_pause(error, random)
            self.breaker.pause(min(seconds, HOST_REST), error, now)
            return folder.pause(seconds, error, now) if seconds > HOST_REST else 0.0
        if signal is HostSignal.TIMED_OUT:
            self._halve()
        most = FAILURES_IN_A_ROW if signal is HostSignal.TIMED_OUT else ERRORS_IN_A_ROW
        return folder.fail(most, error, now, random)

    def learn(self, error: VisitError | None, now: float, random: Random) -> float:
        """Learn from how a request ended; return the seconds for which it pauses the host, 0 for none."""
        match signal_of(error):
            case HostSignal.NONE | HostSignal.UNREACHABLE:
                return 0.0
            case HostSignal.GOOD:
                self._throttles = 0
                self.breaker.close()
                self._grow()
                return 0.0
            case HostSignal.THROTTLED:
                self.breaker.close()
                self._throttles += not self._ignored  # requests in flight together are throttled once
                self._halve()
                return self.breaker.pause(self._throttle_pause(error, random), error, now)
            case HostSignal.STRAINED:
                return self._fail(ERRORS_IN_A_ROW, error, now, random)
            case HostSignal.TIMED_OUT | HostSignal.UNRESOLVED:
                return self._fail(FAILURES_IN_A_ROW, error, now, random)

    def announce_limit(self) -> int:
        """Return the limit, which the caller reports to the other workers now."""
        self.limit_changed, self._just_announced = False, True
        return self.limit

    def apply_share(self, slots: int, allowance: int, *, proven: bool) -> None:
        """Take this worker's share, and the limit of all workers unless ours is newer and still on its way to them."""
        self.slots, self.proven = slots, proven
        if allowance and not self.limit_changed and not self._just_announced:
            self.limit = max(1, min(self.max_limit, allowance))
        self._just_announced = False

    def _grow(self) -> None:
        self._good += 1
        if self.limit < self.max_limit and self._good >= GROWTH_ROUNDS * self.limit:
            self.limit += 1
            self._good = 0
            self.limit_changed = True

    def _halve(self) -> None:
        """Halve the limit; once for all requests that are in flight together."""
        if self._ignored:
            return
        self._ignored = self.in_flight
        self._good = 0
        if self.limit > 1:
            self.limit = max(1, self.limit // 2)
            self.limit_changed = True

    def _fail(self, max_failures: int, error: VisitError | None, now: float, random: Random) -> float:
        # One 500 may be the fault of the picture; a second in a row is the host's.
        if signal_of(error) is HostSignal.TIMED_OUT or self.breaker.failures > 0:
            self._halve()
        return self.breaker.fail(max_failures, error, now, random)

    def _throttle_pause(self, error: VisitError | None, random: Random) -> float:
        """Return Retry-After (RFC 9110, section 10.2.3) plus some jitter, so that not all workers return at once."""
        asked = error.retry_after if isinstance(error, Transient) else None
        if asked:
            excess = self._throttles - THROTTLES_IN_A_ROW
            least = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**excess) * random.uniform(1.0, 1.25) if excess > 0 else 0.0
            return max(asked + random.uniform(0.0, min(1.0, asked / 10)), least)
        return random.uniform(0.5, 1.0) * min(LONGEST_THROTTLE_PAUSE, 2.0**self._throttles)


MIN_SECONDS = 0.5
"""RFC 6298, (2.4), says one second, because clocks were coarse, and allows less; Linux uses 0.2 (TCP_RTO_MIN)."""

FIRST_SECONDS = 3.0
"""RFC 6298, (5.7): TCP's timeout where nothing was measured yet and something was lost."""

MIN_ANSWERS = 4
"""Answers of a host from which its timeout is computed."""

CREDIT_PER_ANSWER = 0.1
MAX_CREDIT = 5.0
"""Each answer earns a tenth of a link that may be given up; a host never has credit for more than MAX_CREDIT links."""

MAX_HOSTS = 10_000
"""Hosts that are remembered; those used longest ago are dropped first."""


@dataclass(slots=True)
class _Latency:
    """How long one host's answers take to begin; seconds."""

    mean: float = 0.0
    deviation: float = 0.0
    answers: int = 0
    credit: float = 1.0

    def add(self, seconds: float) -> None:
        """Add one more answer (RFC 6298, (2.2) for the first, (2.3) for the others)."""
        if self.answers:
            self.deviation += (abs(self.mean - seconds) - self.deviation) / 4
            self.mean += (seconds - self.mean) / 8
            self.credit = min(MAX_CREDIT, self.credit + CREDIT_PER_ANSWER)
        else:
            self.mean, self.deviation = seconds, seconds / 2
        self.answers += 1

    def timeout(self) -> float | None:
        """Return the seconds after which an answer that has not begun is given up; None for never."""
        if self.credit < 1:
            return None
        return FIRST_SECONDS if self.answers < MIN_ANSWERS else max(MIN_SECONDS, self.mean + 4 * self.deviation)


class LatencyTracker:
    """Measures how long each host's answers take to begin."""

    def __init__(self) -> None:
        """Start with no hosts."""
        self._hosts: LRUCache[str, _Latency] = LRUCache(MAX_HOSTS)

    def seconds(self, host: str) -> float | None:
        """Return how long an answer may take to begin; None for as long as the whole attempt may take."""
        return self._hosts.get(host, _Latency()).timeout()

    def answered(self, host: str, seconds: float) -> None:
        """Record after how many seconds an answer began."""
        self._hosts.setdefault(host, _Latency()).add(seconds)

    def gave_up(self, host: str) -> None:
        """Record that the wait for an answer was given up."""
        self._hosts.setdefault(host, _Latency()).credit -= 1
