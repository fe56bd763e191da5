"""Does what is due of all kinds of upkeep within a time, in rounds in which each kind gets its share.

A kind that ends early leaves its time to the others: a further round goes to those that were cut short. Each kind goes
on the next night where it was. So none waits for another, however much that has to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rehost.clock import Clock
from rehost.errors import OperatorError

SHORTEST_SECONDS = 1.0
"""A share of less is not worth the time that a kind of upkeep needs to begin."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a kind of upkeep did."""

    done: Mapping[str, int]  # what was done, by a word; turns are added up
    left: Mapping[str, int] = field(default_factory=dict)  # what is left now
    needs_you: int = 0  # what the operator has to look at
    is_cut: bool = False  # by the end of its time: there is more to do
    runs: Sequence[int] = ()  # that `rehost undo` takes


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of upkeep."""

    name: str
    take_turn: Callable[[float | None, asyncio.Event], Awaitable[Turn]]  # seconds that it may take; ends it early


@dataclass(slots=True)
class Upkept:
    """What all turns of one kind did."""

    name: str
    done: dict[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    needs_you: int = 0
    is_cut: bool = False
    runs: list[int] = field(default_factory=list)
    seconds: float = 0.0
    error: OperatorError | None = None

    def add(self, turn: Turn) -> None:
        """Count a turn."""
        for word, number in turn.done.items():
            self.done[word] = self.done.get(word, 0) + number
        self.left, self.needs_you, self.is_cut = turn.left, turn.needs_you, turn.is_cut
        self.runs += turn.runs


async def do_what_is_due(
    kinds: Sequence[Kind], seconds: float | None, stop: asyncio.Event, clock: Clock
) -> Sequence[Upkept]:
    """Give each kind its turns until nothing is due, the time is over or `stop` is set; return what each did.

    A kind that an error ends gets no further turn; the others go on.

    Args:
        kinds: in the order of their turns.
        seconds: for all of them; None for no limit.
        stop: ends them early, cleanly.
        clock: measures the time.
    """
    reports = {kind.name: Upkept(kind.name, is_cut=True) for kind in kinds}
    end = None if seconds is None else clock.monotonic() + seconds
    going = list(kinds)
    while going and not stop.is_set():
        further = []
        for number, kind in enumerate(going):
            share = None if end is None else (end - clock.monotonic()) / (len(going) - number)
            if stop.is_set() or (share is not None and share < SHORTEST_SECONDS and reports[kind.name].seconds):
                continue
            if await _take_turn(kind, share, stop, clock, reports[kind.name]):
                further.append(kind)
        going = further if end is not None and end - clock.monotonic() >= SHORTEST_SECONDS else []
    return list(reports.values())


async def _take_turn(kind: Kind, seconds: float | None, stop: asyncio.Event, clock: Clock, report: Upkept) -> bool:
    """Give a kind a turn; return whether a further one would do more."""
    started = clock.monotonic()
    try:
        turn = await kind.take_turn(None if seconds is None else max(seconds, SHORTEST_SECONDS), stop)
    except OperatorError as error:
        report.error, report.is_cut = error, False
        return False
    finally:
        report.seconds += clock.monotonic() - started
    report.add(turn)
    return turn.is_cut and any(turn.done.values())
