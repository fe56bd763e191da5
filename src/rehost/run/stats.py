"""What a run has done so far, counted event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rehost.events import CopiesSuspected, Event, HostDeferred, Planned, Recorded, RunEnded, Visited
from rehost.model import Deferred, Reason, Refused, Stored, Unchanged

_SUMMED = ("held", "unchanged", "adopted", "overtaken", "mended", "lost", "suspected", "decoys", "size")


@dataclass(slots=True)
class RunStats:
    """Counters of links, unless said otherwise. Feed it every event of a run, or of several processes of one run."""

    due: int = 0  # to be visited; never less than `visited`
    visited: int = 0  # by a visit, or deferred with their host; a link visited twice counts twice
    held: int = 0
    unchanged: int = 0
    adopted: int = 0
    overtaken: int = 0
    mended: int = 0  # rows
    lost: int = 0  # files
    suspected: int = 0  # held copies that may be decoys
    decoys: int = 0  # held copies that turned out to be decoys
    size: int = 0  # bytes received
    failed: Counter[Reason] = field(default_factory=Counter)
    deferred: Counter[tuple[str, Reason]] = field(default_factory=Counter)  # of `failed`: with a host, origin or folder

    def add(self, event: Event) -> None:
        """Count one event; events that count nothing are ignored."""
        match event:
            case Planned():
                self.due += event.due
                self.mended += event.mended
                self.lost += event.lost
                self._add_refused(event.refused)
            case Visited():
                self._add_visit(event)
            case HostDeferred():
                self._count_visited(event.links)
                self.failed[event.reason] += event.links
                self.deferred[event.host, event.reason] += event.links
            case Recorded():
                self.held += event.held
                self.overtaken += event.overtaken
                self.adopted -= event.refused_adopted
                self.add_bugs(event.bugs)
                self._add_refused(event.refused)
            case CopiesSuspected():
                self.suspected += event.copies
            case _:
                pass

    def add_bugs(self, number: int = 1) -> None:
        """Count failures that are bugs of ours."""
        if number:
            self.failed[Reason.BUG] += number

    def _add_refused(self, rows: int) -> None:
        if rows:
            self.failed[Reason.ROW_REFUSED] += rows

    def ended(self, source: str, seconds: float, waiting: Mapping[str, int] | None = None) -> RunEnded:
        """Return the summary of the run over a source, after so many seconds.

        `waiting` are the links that still wait for the pause of a host, origin or folder; those that were deferred with
        it and no longer wait have been visited since, and count as that visit ended.
        """
        sums, failed = {name: getattr(self, name) for name in _SUMMED}, self.failed.copy()
        for (name, reason), links in self.deferred.items():
            failed[reason] -= 0 if waiting is None else max(0, links - waiting.get(name, 0))
        return RunEnded(source, **sums, failed=dict(+failed), seconds=seconds)

    def _add_visit(self, visited: Visited) -> None:
        self._count_visited(1)
        self.size += visited.size
        match visited.outcome:
            case Stored(final_url=final_url, task=task):
                self.adopted += final_url is None
                self.decoys += task.has_own_copy and final_url is not None
            case Unchanged():
                self.unchanged += 1
            case Deferred(reason=reason, decoy=decoy) | Refused(reason=reason, decoy=decoy):
                self.failed[reason] += 1
                self.decoys += decoy is not None
            case _:
                pass

    def _count_visited(self, links: int) -> None:
        self.visited += links
        self.due = max(self.due, self.visited)


def combined(ends: Sequence[RunEnded], seconds: float) -> RunEnded:
    """Return the summary of a run by several processes, after so many seconds.

    Totals are what the last one read: the one for which most links were held, in whatever order the summaries came.
    """
    if sources := [combined(each, seconds) for each in zip(*(end.sources for end in ends), strict=True)]:
        return total(sources)
    return replace(_sum(sorted(ends, key=lambda end: end.total_held)), seconds=seconds)


def total(ends: Sequence[RunEnded]) -> RunEnded:
    """Return the summary of a run from those of its sources: the only one, or the sum of all, which holds each."""
    if len(ends) == 1:
        return ends[0]
    return replace(
        _sum(ends),
        source=", ".join(each.source for each in ends),
        later=sum(each.later for each in ends),
        next_due_seconds=min(
            (each.next_due_seconds for each in ends if each.next_due_seconds is not None), default=None
        ),
        total_held=sum(each.total_held for each in ends),
        total_present=sum(each.total_present for each in ends),
        paused=dict(sum((Counter(each.paused) for each in ends), Counter[str]()).most_common()),
        long_paused=tuple(dict.fromkeys(host for each in ends for host in each.long_paused)),
        sources=tuple(ends),
    )


def with_rescued(ended: RunEnded, rescued: Mapping[str, int]) -> RunEnded:
    """Return the summary of a run after which so many dead links were rescued, by source."""
    sources = tuple(with_rescued(each, rescued) for each in ended.sources)
    number = sum(rescued.values()) if sources else rescued.get(ended.source, 0)
    held, later = ended.total_held + number, ended.later - number
    return replace(ended, rescued=number, total_held=held, later=later, sources=sources)


def _sum(ends: Sequence[RunEnded]) -> RunEnded:
    """Return the last summary, with the sums of what each of them counted."""
    return replace(
        ends[-1],
        **{name: sum(getattr(each, name) for each in ends) for name in _SUMMED},
        failed=dict(sum((Counter(each.failed) for each in ends), Counter())),
        interrupted=any(each.interrupted for each in ends),
    )
