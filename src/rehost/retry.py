"""How long to wait: between the attempts of one visit, and between the visits of one link. Pure.

The two kinds of retry are never mixed (invariant 6). Attempts belong to one visit and are seconds apart, or the later
ones come last in the run. Visits are minutes to weeks apart, and the ledger schedules them by reason.
"""

from __future__ import annotations

from random import Random

from rehost.errors import Transient, VisitError

FIRST_ATTEMPT_WAIT = 0.5
LONGEST_ATTEMPT_WAIT = 10.0
"""Seconds; an attempt that would have to wait longer is left to the next visit."""

_MINUTE = 60.0
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR

FIRST_VISIT_WAIT = 10 * _MINUTE
LONGEST_VISIT_WAIT = 1 * _DAY
REFUSED_WAIT = 14 * _DAY
LONGEST_REFUSED_WAIT = 56 * _DAY
BUG_WAIT = 1 * _DAY
"""Seconds until the next visit of a link after a bug of ours ended the last one."""

UNREADABLE_WAIT = 1 * _DAY
"""Seconds until the next visit, at least, of a link at whose place a file lies that cannot be read."""

ROW_WAIT = 1 * _DAY
"""Seconds until the next attempt to write a row that the database refused; its copy is held, so nothing is fetched."""

LOCKED_ROW_WAIT = FIRST_VISIT_WAIT
"""The same, for a row that another transaction had locked."""

QUOTA_WAIT = 1 * _DAY
"""Seconds until the next visit, at least, of a link that a storage quota left out."""


def attempt_wait(attempt: int, error: Transient, random: Random) -> float | None:
    """Return the seconds to wait after attempt number `attempt` (from 1), or None to leave the rest to another visit.

    Exponential with full jitter: uniform between 0 and min(cap, base * 2 ** (attempt - 1)) (Marc Brooker, "Exponential
    Backoff And Jitter", 2015), and never less than the origin's Retry-After (RFC 9110, section 10.2.3).
    """
    wait = random.uniform(0.0, min(LONGEST_ATTEMPT_WAIT, FIRST_ATTEMPT_WAIT * 2.0 ** (attempt - 1)))
    wait = max(wait, error.retry_after or 0.0)
    return wait if wait <= LONGEST_ATTEMPT_WAIT else None


def visit_wait(visits: int, error: VisitError, random: Random) -> float:
    """Return the seconds until the next visit, after `visits` visits of this link (from 1) without an image.

    A cause that passes: 10 minutes, doubled each time up to a day, and at least the origin's Retry-After. A cause that
    stays: two weeks, doubled each time up to eight. Spread by a quarter either way, so that links that failed together
    do not come back together.
    """
    doublings = 2.0 ** min(visits - 1, 16)
    if not isinstance(error, Transient):
        return min(LONGEST_REFUSED_WAIT, REFUSED_WAIT * doublings) * random.uniform(0.75, 1.25)
    wait = min(LONGEST_VISIT_WAIT, FIRST_VISIT_WAIT * doublings) * random.uniform(0.75, 1.25)
    return max(wait, error.retry_after or 0.0)
