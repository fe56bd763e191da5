"""The history of a link's visits: complete, up to its bound; on both databases."""

from __future__ import annotations

import pytest
from tests.databases import add_cases, execute, stored

from rehost.ledger.history import KEPT, End
from rehost.ledger.reports import Queries
from rehost.model import Copy, Deferred, Reason, Refused, Unchanged

LINK = "https://a.example/1.png"


@pytest.fixture
async def queries(peer):
    await add_cases(peer.database, [LINK])
    await peer.note()
    return Queries(peer.database)


async def visit(peer, run, made):
    await execute(
        peer.database, "UPDATE rehost_links SET state = 'wanted', due_at = visited_at WHERE visited_at > noted_at"
    )
    (task,) = await peer.lease_all()
    await peer.record(run, [made(task)])


async def history(queries):
    link = await queries.link("cases", "1")
    return await queries.visits(link.entry)


def throttled(evidence):
    return lambda task: Deferred(task, Reason.THROTTLED, evidence, 0.0)


def gone(task):
    return Refused(task, Reason.GONE, "404", 0.0)


async def test_visits_come_latest_first_with_their_runs(peer, queries):
    for run, made in enumerate((throttled("429"), gone, stored, Unchanged), 1):
        await visit(peer, run, made)

    visits = await history(queries)

    assert [(each.run, each.outcome, each.reason, each.evidence, each.digest) for each in visits] == [
        (4, End.UNCHANGED, None, None, "d" * 64),
        (3, End.HELD, None, None, "d" * 64),
        (2, End.REFUSED, Reason.GONE, "404", None),
        (1, End.DEFERRED, Reason.THROTTLED, "429", None),
    ]
    assert {each.url for each in visits} == {LINK}
    assert all(each.first_at == each.last_at for each in visits)


async def test_consecutive_visits_that_end_alike_are_one_with_first_last_and_count(peer, queries):
    for run in range(1, 5):
        await visit(peer, run, throttled(f"429 at {run}"))
    await visit(peer, 5, gone)
    await visit(peer, 6, throttled("429"))

    last, _, first = await history(queries)

    assert (first.times, first.run, first.evidence, last.times) == (4, 4, "429 at 4", 1)
    assert first.first_at < first.last_at


async def test_a_history_keeps_only_the_last_visits(peer, queries):
    for run in range(1, KEPT + 8):
        await visit(peer, run, gone if run % 2 else throttled("429"))

    visits = await history(queries)

    assert [each.run for each in visits] == list(range(KEPT + 7, 7, -1))


async def test_the_visits_of_a_changed_link_are_counted_apart(peer, queries):
    await visit(peer, 1, gone)
    await execute(peer.database, "UPDATE ad_cases SET main_image = 'https://a.example/2.png'")
    await peer.note()
    await visit(peer, 2, gone)

    assert [each.url for each in await history(queries)] == ["https://a.example/2.png", LINK]


async def test_an_image_whose_row_changed_meanwhile_is_overtaken(peer, queries):
    (task,) = await peer.lease_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = 'https://a.example/2.png'")

    await peer.record(1, [stored(task)])

    assert [(each.outcome, each.url) for each in await history(queries)] == [(End.OVERTAKEN, LINK)]


async def test_a_reverted_visit_is_overtaken(peer, queries):
    (task,) = await peer.lease_all()
    await peer.record(1, [stored(task)])

    await peer.ledger.results.revert([stored(task)])

    assert [each.outcome for each in await history(queries)] == [End.OVERTAKEN]


async def test_a_late_outcome_of_the_former_owner_is_not_in_the_history(peer, queries):
    (task,) = await peer.lease_all()
    await execute(peer.database, "UPDATE rehost_links SET fence = fence + 1")

    await peer.record(1, [gone(task)])

    assert await history(queries) == []


async def test_an_adopted_copy_is_in_the_history_as_adopted(peer, queries):
    def adopted(task):
        made = stored(task)
        return type(made)(task, Copy(made.copy.key, made.copy.digest, 5), made.image, spool=None)

    await visit(peer, 1, adopted)

    assert [each.outcome for each in await history(queries)] == [End.ADOPTED]
