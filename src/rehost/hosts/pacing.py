"""How one host is to be asked, by what it has shown: how many requests at once, and when again. Pure.

- Concurrency: additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP does it.
- A circuit breaker: several failures in a row stop all requests for a while; then one probe decides.
- Whatever the host itself asks for (Retry-After) comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

from rehost.errors import HostUnavailable, SlowToAnswer, Transient, VisitError
from rehost.model import Reason

GROWTH_ROUNDS = 4
"""One more request at once after so many times as many good answers as there are requests at once now."""

FAILURES_IN_A_ROW = 3
ERRORS_IN_A_ROW = 10
"""Time-outs and lost connections, and answers such as 500, after which the host is left alone."""

FIRST_PAUSE = 15.0
LONGEST_PAUSE = 3600.0
"""Seconds. The breaker's pauses grow fourfold."""

THROTTLES_IN_A_ROW = 5
"""Wishes that are obeyed to the letter; an origin that still asks to wait is left alone for longer than it asks."""

LONGEST_THROTTLE_PAUSE = 60.0
"""Seconds, for a 429 that does not say how long to wait."""

LARGEST_PART = 32
"""Requests of a day's budget that a worker has for itself at most: a crash loses no more of it."""

LATEST = 5.0
"""Seconds before a day's end from which on no part of its budget is used: the answer that told of it took a while."""


class HostSignal(Enum):
    """What a request's end says of the host, whatever it says of the picture."""

    GOOD = "good"  # it answered, if only with a 404
    THROTTLED = "throttled"
    STRAINED = "strained"  # 408, 5xx
    TIMED_OUT = "timed out"
    UNREACHABLE = "unreachable"
    NONE = "none"  # nothing was sent, or its answer not waited for


_SIGNS = {
    Reason.THROTTLED: HostSignal.THROTTLED,
    Reason.ORIGIN_ERROR: HostSignal.STRAINED,
    Reason.TIMED_OUT: HostSignal.TIMED_OUT,
    Reason.UNREACHABLE: HostSignal.UNREACHABLE,
    Reason.UNRESOLVED: HostSignal.UNREACHABLE,
    Reason.TLS_FAILED: HostSignal.UNREACHABLE,
    Reason.NOT_A_URL: HostSignal.NONE,
    Reason.ADDRESS_REFUSED: HostSignal.NONE,
    Reason.PORT_REFUSED: HostSignal.NONE,
    Reason.ROBOTS_REFUSED: HostSignal.NONE,
}


def sign_of(error: VisitError | None) -> HostSignal:
    """Return what the end of a request says of its host."""
    if error is None:
        return HostSignal.GOOD
    if isinstance(error, HostUnavailable | SlowToAnswer):
        return HostSignal.NONE
    if isinstance(error, Transient) and error.retry_after:
        return HostSignal.THROTTLED
    return _SIGNS.get(error.reason, HostSignal.GOOD)


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """What the operator asks for, over all workers."""

    min_delay_seconds: float = 0.0
    daily_budget: int | None = None  # requests in a day of UTC, by the ledger's clock


@dataclass(frozen=True, slots=True)
class Pause:
    """This host should be left alone by all workers."""

    host: str
    seconds: float
    evidence: str
    reason: Reason = Reason.THROTTLED  # what its links are deferred for, should the pause be long


@dataclass(frozen=True, slots=True)
class Allowance:
    """This host bears so many requests at once, over all workers."""

    host: str
    slots: int
    proven: bool = False  # it has given a proven picture


News = Pause | Allowance
"""What one worker's politeness found out and all workers should know."""


@dataclass(slots=True)
class HostPacing:
    """One host, as this worker knows it. Times are monotonic seconds.

    Invariants: 1 <= limit <= most; in_flight never grows beyond room().
    """

    most: int  # what the operator allows
    manners: HostPolicy
    slots: int  # this worker's part of the allowance
    limit: int = 0  # requests at once that the host bears, over all workers
    proven: bool = False
    in_flight: int = 0
    used_at: float = 0.0
    paused_until: float = 0.0
    cause: tuple[Reason, str] = (Reason.THROTTLED, "the host is to be left alone")
    news: bool = False  # the limit has changed and nobody else knows
    _unheard: bool = False  # told, but the answer that is under way may be older
    _next_at: float = 0.0
    _good: int = 0  # answers since the limit changed
    _cooling: int = 0  # requests that were in flight at the last halving: they tell nothing new
    _failures: int = 0  # in a row
    _throttles: int = 0  # in a row
    _trips: int = 0  # of the breaker, in a row
    part: int = 0  # requests that this worker may send still of the day's budget, if there is one
    day: int = 0  # that the part is of
    _day_ends: float = 0.0

    def __post_init__(self) -> None:
        """Begin with all that the operator allows; an unproven host is held to one by its slots."""
        self.limit = self.most

    def room(self, now: float) -> int:
        """Return how many requests this worker may have in flight; one while the breaker waits for a probe."""
        room = min(self.slots, 1 if self._trips else self.limit)
        if not self.manners.daily_budget:
            return room
        return min(room, self.in_flight + self.part) if now < self._day_ends else 0

    def ready_at(self) -> float:
        """Return the time from which the host may be asked, room given."""
        return max(self.paused_until, self._next_at)

    def is_forgettable(self) -> bool:
        """Return whether nothing would be lost if this were forgotten, once its pause is over."""
        blank = not (self.in_flight or self._failures or self._trips or self.news)
        return blank and self.limit == self.most and not self.part

    def start(self, now: float) -> None:
        """Count a request as sent."""
        self.in_flight += 1
        self.used_at = now
        self._next_at = now + self.manners.min_delay_seconds * self._workers()
        if self.manners.daily_budget:
            self.part -= 1

    def pass_on(self, now: float) -> bool:
        """Count a request that is no turn as sent, if the day's budget, if any, has a part for it; return whether.

        Raises:
            Withheld: the host is left alone; it is when its budget is used up.
        """
        if now < self.paused_until:
            reason, evidence = self.cause
            raise HostUnavailable(reason, evidence, retry_after=self.paused_until - now)
        if not self.manners.daily_budget:
            return True
        self.used_at = now
        if self.part <= 0 or now >= self._day_ends:
            return False
        self.part -= 1
        return True

    def draw(self, now: float, *, is_wanted: bool) -> int:
        """Return how much of the day's budget to ask for, or (below zero) how much is given back with this call."""
        if not self.manners.daily_budget:
            return 0
        if now >= self._day_ends:
            self.part = 0  # it was of a day that is over
        if not is_wanted:
            given, self.part = self.part, 0
            return -given
        return LARGEST_PART - self.part if self.is_short() and now >= self.paused_until else 0

    def fill(self, number: int, day: int, now: float, seconds: float) -> None:
        """Take a part of the day's budget; without one, leave the host alone until the day ends."""
        self.day, self._day_ends = day, now + seconds - LATEST
        self.part += number
        if self.part <= 0:
            evidence = f"the day's budget of {self.manners.daily_budget} requests is used up"
            self.heed(now + seconds, (Reason.THROTTLED, evidence))

    def is_short(self) -> bool:
        """Return whether more of the day's budget will be needed soon."""
        return bool(self.manners.daily_budget) and self.part <= LARGEST_PART // 4

    def end(self) -> None:
        """Count a request as over, whatever came of it."""
        self.in_flight -= 1
        self._cooling = max(0, self._cooling - 1)

    def learn(self, sign: HostSignal, error: VisitError | None, now: float, random: Random) -> float:
        """Take in how a request ended; return for how many seconds the host is to be left alone for it, 0 for none."""
        match sign:
            case HostSignal.NONE:
                return 0.0
            case HostSignal.GOOD:
                self._failures = self._throttles = self._trips = 0
                self._grow()
                return 0.0
            case HostSignal.THROTTLED:
                self._failures = self._trips = 0
                self._throttles += not self._cooling  # those in flight at once are one
                self._halve()
                return self._rest(self._throttle_pause(error, random), error, now)
            case HostSignal.STRAINED:
                return self._fail(ERRORS_IN_A_ROW, error, now, random)
            case HostSignal.TIMED_OUT | HostSignal.UNREACHABLE:
                return self._fail(FAILURES_IN_A_ROW, error, now, random)

    def heed(self, until: float, cause: tuple[Reason, str]) -> None:
        """Leave the host alone until then; never shortens a pause."""
        if until > self.paused_until:
            self.paused_until, self.cause = until, cause

    def tell(self) -> int:
        """Return the limit, to be told to the others now."""
        self.news, self._unheard = False, True
        return self.limit

    def take(self, slots: int, allowance: int, *, proven: bool) -> None:
        """Take this worker's part, and the limit that the others found unless our own news is still on its way."""
        self.slots, self.proven = slots, proven
        if allowance and not self.news and not self._unheard:
            self.limit = max(1, min(self.most, allowance))
        self._unheard = False

    def _workers(self) -> float:
        """Return how many times this worker's part goes into the whole: its delay is longer by that."""
        return max(1.0, (self.limit if self.proven else 1) / max(1, self.slots))

    def _grow(self) -> None:
        self._good += 1
        if self.limit < self.most and self._good >= GROWTH_ROUNDS * self.limit:
            self.limit += 1
            self._good = 0
            self.news = True

    def _halve(self) -> None:
        """Halve once for what happened at once: requests that were in flight at a halving cause no second one."""
        if self._cooling:
            return
        self._cooling = self.in_flight
        self._good = 0
        if self.limit > 1:
            self.limit = max(1, self.limit // 2)
            self.news = True

    def _fail(self, patience: int, error: VisitError | None, now: float, random: Random) -> float:
        self._failures += 1
        # One 500 may be the picture's own fault; a second in a row is the host's.
        if sign_of(error) is HostSignal.TIMED_OUT or self._failures > 1:
            self._halve()
        if self._failures < patience or now < self.paused_until:
            return 0.0
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 4.0**self._trips) * random.uniform(0.75, 1.25)
        self._trips += 1
        return self._rest(seconds, error, now, f"{self._failures} failures in a row, the last: ")

    def _throttle_pause(self, error: VisitError | None, random: Random) -> float:
        """Return Retry-After (RFC 9110, section 10.2.3) and a little more, so that not all come back in one moment."""
        wish = error.retry_after if isinstance(error, Transient) else None
        if wish:
            late = self._throttles - THROTTLES_IN_A_ROW
            least = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**late) * random.uniform(1.0, 1.25) if late > 0 else 0.0
            return max(wish + random.uniform(0.0, min(1.0, wish / 10)), least)
        return random.uniform(0.5, 1.0) * min(LONGEST_THROTTLE_PAUSE, 2.0**self._throttles)

    def _rest(self, seconds: float, error: VisitError | None, now: float, why: str = "") -> float:
        cause = (error.reason, why + (error.evidence or error.reason.meaning)) if error else self.cause
        before = self.paused_until
        self.heed(now + seconds, cause)
        return seconds if self.paused_until > before else 0.0
