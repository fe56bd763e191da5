"""What the page and the API show of upkeep; on both databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, update
from tests.databases import add_cases, execute, stored

from rehost.ledger import schema
from rehost.ledger.upkeep_reports import UpkeepQueries

ORIGIN = "https://a.example"
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
NOW = datetime.now(UTC)
OLD = datetime(2020, 1, 1, tzinfo=UTC)
HELD = {"size": 200_000, "digest": "a" * 64, "width": 800, "height": 600}
EXAMPLE = {"source": "cases", "row_key": "1", "position": 0, "url": f"{ORIGIN}/0.png", "held": HELD}
EXAMPLES = [
    EXAMPLE | {"came": HELD | {"size": 900, "digest": "f" * 64}, "kind": "smaller", "evidence": None},
    EXAMPLE | {"row_key": "2", "came": None, "kind": "not-an-image", "evidence": "text/html"},
]
RECEIPT = {
    "rows": 2,
    "files": 3,
    "size": 900,
    "left": [{"source": "cases", "key": "9"}],
    "removed": [{"key": "1/x.png"}],
}


async def plant(database, *, links=(), row_key="1", digest=HELD["digest"]):
    """Write what upkeep leaves in the ledger: a pass, three findings, two freezes, two takedowns.

    The first example of a freeze is of this row, and of this picture.
    """
    first = EXAMPLES[0] | {"row_key": row_key, "held": HELD | {"digest": digest}}
    examples = json.dumps([first, *EXAMPLES[1:]])

    def finding(kind, source="cases", **values):
        place = {"source": source, "row_key": "1", "position": 0, "key": "1/main_image.png"}
        times = {"found_at": JUNE, "last_at": JUNE}
        return {"kind": kind, "evidence": "200 of 400 bytes", **place, **times, **values}

    def freeze(origin, **values):
        figures = {"run": 7, "frozen_at": JUNE, "evidence": "6 of 100 answers", "answers": 100, "bad": 6}
        return {"origin": origin, "examples": examples, **figures, **values}

    rows = {
        schema.passes: [{"name": "verify", "began_at": JUNE, "copies": 2, "size": 10, "found": 1, "cursor": 2}],
        schema.findings: [
            finding("cut"),
            finding("missing", "other"),
            finding("cut", run=4, mended_at=JUNE, mended_by="trash"),
        ],
        schema.freezes: [freeze("https://z.example", decision="keep", decided_at=JUNE), freeze(ORIGIN)],
        schema.takedowns: [
            {"what": "https://a.example/3.png", "legal": True, "os_user": "root", "began_at": JUNE,
             "ended_at": JUNE, "receipt": json.dumps(RECEIPT)},
            {"what": "x", "legal": False, "os_user": "root", "began_at": JUNE, "allowed_at": JUNE},
        ],
    }  # fmt: skip

    async def work(connection):
        for table, values in rows.items():
            for each in values:
                await connection.execute(insert(table).values(each))
        for entry, values in links:
            await connection.execute(update(schema.links).where(schema.links.c.entry == entry).values(values))

    await database.transact(work)


@pytest.fixture
async def queries(peer):
    """Two held: one was verified today, the other was rescued, and verified years ago."""
    await add_cases(peer.database, [f"{ORIGIN}/{number}.png" for number in range(2)])
    await peer.note()
    tasks = sorted(await peer.lease_all(), key=lambda task: task.link.row_key)
    await peer.record(1, [stored(tasks[0], digest="a" * 64), stored(tasks[1], digest="b" * 64)])
    await plant(
        peer.database,
        links=[
            (tasks[0].entry, {"verified_at": NOW}),
            (tasks[1].entry, {"verified_at": OLD, "rescued": "row 12 of products"}),
        ],
    )
    return UpkeepQueries(peer.database)


async def test_summary_counts_copies_findings_freezes_and_takedowns(queries):
    summary = await queries.summary()

    assert [(each.name, each.copies, each.ended_at) for each in summary.passes] == [("verify", 2, None)]
    assert (summary.held, summary.verified, summary.never_verified, summary.rescued) == (2, 0, 0, 1)
    assert summary.oldest_verified_at == OLD
    assert summary.open_findings == {"cut": 1, "missing": 1}
    assert (summary.mended_findings, summary.undecided_freezes, summary.takedowns, summary.tombstones) == (1, 1, 1, 0)


async def test_copy_with_an_open_fault_is_not_counted_as_verified(queries):
    await execute(queries.database, "UPDATE rehost_findings SET mended_at = found_at")

    assert (await queries.summary()).verified == 1


async def test_empty_ledger_has_an_empty_summary(peer):
    summary = await UpkeepQueries(peer.database).summary()

    assert (summary.held, summary.oldest_verified_at, summary.passes, summary.open_findings) == (0, None, [], {})


async def test_findings_are_filtered_counted_and_paged(queries):
    every = await queries.findings()
    first = await queries.findings(limit=1)
    second = await queries.findings(limit=1, before=first[0].finding)

    assert [each.finding for each in every] == [3, 2, 1]
    assert [each.finding for each in (*first, *second)] == [3, 2]
    assert [each.finding for each in await queries.findings("cases", "cut", is_open=True)] == [1]
    assert (await queries.findings(is_open=False))[0].mended_by == "trash"
    assert await queries.count_findings("cases") == 2
    assert await queries.count_findings(kind="missing", is_open=False) == 0


async def test_freeze_without_decision_comes_first_with_held_beside_what_came(queries):
    undecided, decided = await queries.freezes()
    smaller, html = undecided.freeze.examples

    assert (undecided.freeze.origin, decided.freeze.decision) == (ORIGIN, "keep")
    assert undecided.freeze.is_open
    assert (smaller.held.size, smaller.came.size, html.came, html.evidence) == (200_000, 900, None, "text/html")
    assert undecided.copy_keys == ["1/main_image.png", None]  # of row 2, another picture is held by now


async def test_takedown_has_the_sums_of_its_receipt(queries):
    later, earlier = await queries.takedowns()
    _, receipt = await queries.takedown(1)

    assert (earlier.rows, earlier.files, earlier.size, earlier.left, earlier.legal) == (2, 3, 900, 1, True)
    assert (later.takedown, later.rows, later.allowed_at) == (2, 0, JUNE)
    assert receipt == RECEIPT
    assert [each.takedown for each in await queries.takedowns(before=2)] == [1]
    assert await queries.count_takedowns() == 2
    assert await queries.takedown(3) is None
