"""What a run's counters make of its events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rehost.events import CopiesSuspected, HostDeferred, Planned, Recorded, RunBegan, RunEnded, Visited
from rehost.model import Copy, Deferred, Format, Image, Link, Outcome, Reason, Refused, Stored, Task, Unchanged
from rehost.run.stats import RunStats, combined, total

TASK = Task(1, 1, Link("cases", "1", 0, "https://a.example/1", None, None), "a.example", 1)
COPY, IMAGE = Copy("1/main_image.png", "d" * 64, 5), Image(Format.PNG, 4, 3, 1)


def visited(outcome: Outcome, size: int = 0) -> Visited:
    return Visited(outcome, "a.example", size, seconds=0.1, attempts=1)


def test_every_event_of_a_run_is_counted():
    stats = RunStats()

    for event in (
        RunBegan("cases", 1),
        Planned("cases", present=9, held=3, due=5, later=0, mended=2),
        visited(Stored(TASK, COPY, IMAGE, None, final_url="https://a.example/1"), size=5),
        visited(Stored(TASK, COPY, IMAGE, None)),
        visited(Unchanged(TASK)),
        visited(Deferred(TASK, Reason.TIMED_OUT, "10 s", 60.0), size=2),
        HostDeferred("b.example", 3, Reason.THROTTLED, "429", 60.0),
        Recorded(held=2, failed=1, overtaken=1, bugs=1),
    ):
        stats.add(event)

    assert (stats.due, stats.visited) == (7, 7)
    ended = stats.ended("cases", 1.5)
    assert (ended.held, ended.adopted, ended.unchanged, ended.overtaken, ended.mended) == (2, 1, 1, 1, 2)
    assert ended.failed == {Reason.TIMED_OUT: 1, Reason.THROTTLED: 3, Reason.BUG: 1}
    assert (ended.source, ended.size, ended.seconds) == ("cases", 7, 1.5)


def test_links_that_were_deferred_with_a_host_and_visited_after_its_pause_count_once():
    stats = RunStats()
    for host in ("a.example", "b.example"):
        stats.add(HostDeferred(host, 3, Reason.THROTTLED, "429", 60.0))

    assert stats.ended("cases", 1.0, {"a.example": 1, "b.example": 3}).failed == {Reason.THROTTLED: 4}
    assert stats.ended("cases", 1.0, {}).failed == {}


def test_links_visited_beyond_the_plan_are_due_too():
    stats = RunStats()

    stats.add(visited(Unchanged(TASK)))

    assert (stats.due, stats.visited) == (1, 1)


@pytest.mark.parametrize("is_turned", [False, True])
def test_summaries_of_several_processes_add_up(is_turned):
    first = RunEnded("cases", 10, 1, 2, {Reason.GONE: 3}, 1, 4, 1000, 5.0, later=3, total_held=15, total_present=30)
    second = RunEnded("cases", 20, 0, 0, {Reason.GONE: 1, Reason.DECOY: 2}, 0, 0, 500, 6.0, later=6, total_held=30,
                      total_present=36, interrupted=True)  # fmt: skip

    ended = combined([second, first] if is_turned else [first, second], 7.5)

    assert (ended.held, ended.unchanged, ended.adopted, ended.overtaken, ended.size) == (30, 1, 2, 1, 1500)
    assert ended.failed == {Reason.GONE: 4, Reason.DECOY: 2}
    assert ended.decoys == 4
    assert (ended.seconds, ended.later, ended.total_held, ended.interrupted) == (7.5, 6, 30, True)


def test_copies_found_to_be_decoys_are_counted_once_they_are_replaced_or_removed():
    stats = RunStats()
    held = replace(TASK, copy=COPY, held_url=TASK.link.url)

    stats.add(CopiesSuspected("cases", "a.example", COPY.digest, 4))
    stats.add(visited(Stored(held, COPY, IMAGE, None, "https://a.example/1")))
    stats.add(visited(Refused(held, Reason.DECOY, "decoy", 60.0, COPY.key)))
    stats.add(visited(Deferred(held, Reason.DECOY, "decoy", 60.0)))
    stats.add(visited(Unchanged(held)))

    ended = stats.ended("cases", 1.0)
    assert (ended.suspected, ended.decoys, ended.adopted) == (4, 2, 0)


def test_the_summary_of_several_sources_is_their_sum_and_holds_each():
    first = RunEnded("a", 10, 1, 2, {Reason.GONE: 3}, size=1000, seconds=5.0, later=3, next_due_seconds=8.0,
                     free_bytes=7, total_held=15, total_present=30)  # fmt: skip
    second = RunEnded("b", 20, 0, 0, {Reason.GONE: 1}, size=500, seconds=5.0, total_held=20, total_present=20,
                      free_bytes=7, interrupted=True)  # fmt: skip

    ended = total([first, second])

    assert (ended.held, ended.failed, ended.size, ended.later) == (30, {Reason.GONE: 4}, 1500, 3)
    assert (ended.total_held, ended.total_present, ended.next_due_seconds, ended.free_bytes) == (35, 50, 8.0, 7)
    assert (ended.seconds, ended.interrupted, ended.sources) == (5.0, True, (first, second))
    assert total([first]) == first


def test_summaries_of_several_processes_add_up_by_source():
    one = total([RunEnded("a", 10, 0, 0, total_held=10), RunEnded("b", 1, 0, 0, total_held=1)])
    two = total([RunEnded("a", 5, 0, 0, total_held=15), RunEnded("b", 2, 0, 0, total_held=3)])

    ended = combined([two, one], 7.5)

    assert (ended.held, ended.total_held, ended.seconds) == (18, 18, 7.5)
    assert [(each.source, each.held, each.total_held, each.seconds) for each in ended.sources] == [
        ("a", 15, 15, 7.5),
        ("b", 3, 3, 7.5),
    ]
