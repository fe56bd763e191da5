"""The data for `rehost status`, the API and the dashboard; on both databases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.databases import add_cases, execute, put_ahead, stored

from rehost.hosts.shares import HostShares
from rehost.ledger.filters import LinkFilter
from rehost.ledger.reports import Queries
from rehost.model import Deferred, Format, Image, Reason, Refused, State

GUIDE = Path(__file__).parents[2] / "docs/howto/other-tables.md"
LINKS = [f"https://a.example/{number}.png" for number in range(4)] + ["https://B.example/100%_x.png"]


@pytest.fixture
async def queries(peer) -> Queries:
    """Two held, one deferred, one refused at a.example; one wanted at b.example."""
    await add_cases(peer.database, LINKS)
    await peer.note()
    tasks = sorted(await peer.ledger.leases.lease("cases", "a.example", 10), key=lambda task: task.link.row_key)
    await peer.record(1, [
        stored(tasks[0]),
        stored(tasks[1]),
        Deferred(tasks[2], Reason.THROTTLED, "429", 3600.0),
        Refused(tasks[3], Reason.GONE, "404", 7200.0),
    ])  # fmt: skip
    return Queries(peer.database)


async def test_a_source_report_counts_states_reasons_and_waits(queries):
    standing = await queries.source_report("cases")

    assert standing.states == {
        State.HELD: 2,
        State.DEFERRED: 1,
        State.REFUSED: 1,
        State.WANTED: 1,
        State.LEASED: 0,
    }
    assert standing.reasons == {Reason.THROTTLED: 1, Reason.GONE: 1}
    assert (standing.due, standing.later, standing.size) == (1, 2, 10)
    assert standing.next_due_seconds == pytest.approx(3600, abs=60)


async def test_damaged_pictures_and_those_that_browsers_do_not_display_are_counted(peer):
    await add_cases(peer.database, LINKS)
    await peer.note()
    tasks = sorted(await peer.ledger.leases.lease("cases", "a.example", 10), key=lambda task: task.link.row_key)
    images = [
        Image(Format.JPEG, 4, 3, 1, "the iCCP of a PNG, which does not match its checksum"),
        Image(Format.TIFF, 4, 3, 1),
        Image(Format.HEIC, 4, 3, 1),
        Image(Format.PNG, 4, 3, 1),
    ]
    await peer.record(1, [stored(task, image=image) for task, image in zip(tasks, images, strict=True)])
    queries = Queries(peer.database)

    standing = await queries.source_report("cases")
    link = await queries.link("cases", tasks[0].link.row_key)

    assert (standing.states[State.HELD], standing.damaged, standing.undisplayed) == (4, 1, 2)
    assert "iCCP" in link.damage


async def test_hosts_are_reported_with_their_pauses(queries, database):
    await HostShares(database, worker="one", concurrency=4, lease_seconds=60).pause("b.example", 60.0, "429")

    first, second = await queries.hosts("cases")

    assert (first.host, first.present, first.held, first.failed, first.pause_seconds) == ("a.example", 4, 2, 2, 0.0)
    assert (second.host, second.due, second.evidence) == ("b.example", 1, "429")
    assert second.pause_seconds == pytest.approx(60, abs=30)

    await put_ahead(database, "rehost_hosts", "paused_until")
    assert [host.pause_seconds for host in await queries.hosts("cases")] == [0.0, 0.0]


async def test_a_pause_of_an_origin_is_reported_with_its_host_and_resumed_with_it(queries, database):
    shares = HostShares(database, worker="one", concurrency=4, lease_seconds=60)
    await shares.pause("http://b.example:4444", 60.0, "3 failures in a row")

    first, second = await queries.hosts("cases")
    assert (first.pause_seconds, first.paused_origin) == (0.0, None)
    assert (second.host, second.paused_origin) == ("b.example", "http://b.example:4444")
    assert (second.pause_seconds, second.evidence) == (pytest.approx(60, abs=30), "3 failures in a row")

    assert await shares.resume("b.example")
    assert [host.paused_origin for host in await queries.hosts("cases")] == [None, None]


async def test_pages_have_no_gap_and_no_overlap(queries):
    keys, after = [], 0
    while True:
        page = await queries.links(LinkFilter("cases"), after, limit=2)
        keys += [link.row_key for link in page.links]
        if page.next is None:
            break
        after = page.next

    assert keys == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        (LinkFilter(state=State.HELD), ["1", "2"]),
        (LinkFilter(reason=Reason.GONE), ["4"]),
        (LinkFilter(host="b.example"), ["5"]),
        (LinkFilter(text="A.EXAMPLE/3"), ["4"]),
        (LinkFilter(text="%"), ["5"]),
        (LinkFilter(text="_"), ["5"]),
        (LinkFilter(text="' OR 1=1 --"), []),
        (LinkFilter(source="others"), []),
    ],
)
async def test_links_are_filtered_by(queries, wanted, keys):
    page = await queries.links(wanted)

    assert [link.row_key for link in page.links] == keys


async def test_one_link_is_reported_with_its_copy_and_changes(queries):
    link = await queries.link("cases", "1")
    [change] = await queries.history("cases", "1")

    assert link is not None
    assert (link.state, link.key, link.format, link.width) == (State.HELD, "1/main_image.png", Format.PNG, 4)
    assert (change.run, change.before_url, change.after_url) == (1, None, "/static/images/1/main_image.png")
    assert await queries.link("cases", "99") is None


async def test_sources_are_those_ever_taken_in_until_they_are_removed_as_the_guide_says(queries, database):
    for number, source in enumerate(("products", "a", "z"), 1):
        await execute(database, f"UPDATE rehost_links SET source = '{source}' WHERE row_key = '{number}'")
    assert await queries.sources() == ["a", "cases", "products", "z"]

    guide = GUIDE.read_text(encoding="utf-8").partition("## Remove a table")[2]
    for statement in re.search(r"```sql\n(.*?)```", guide, re.DOTALL)[1].splitlines():
        await execute(database, statement)

    assert await queries.sources() == ["a", "cases", "z"]
    left = "SELECT count(*) FROM rehost_visits WHERE entry NOT IN (SELECT entry FROM rehost_links)"
    assert await execute(database, left) == [(0,)]


async def test_an_empty_ledger_has_no_sources(database):
    assert await Queries(database).sources() == []


async def test_resume_ends_a_pause(queries, database):
    origins = HostShares(database, worker="one", concurrency=4, lease_seconds=60)
    await origins.pause("b.example", 60.0, "by hand")

    assert (await origins.resume("b.example")).was_paused
    assert not (await origins.resume("b.example")).was_paused

    assert [host.pause_seconds for host in await queries.hosts("cases")] == [0.0, 0.0]


async def test_a_run_is_alive_while_its_worker_is(peer, database):
    queries = Queries(database)
    run = await peer.ledger.runs.begin("cases")
    assert [each.is_alive for each in await queries.runs()] == [False]

    await HostShares(database, worker="worker", concurrency=4, lease_seconds=60).take({"a.example": 1}, {})
    assert [(each.run, each.is_alive) for each in await queries.runs()] == [(run, True)]

    await put_ahead(database, "rehost_workers", "alive_until")
    assert [(each.run, each.is_alive) for each in await queries.runs()] == [(run, False)]


async def test_growth_counts_recent_copies_only(queries):
    assert await queries.growth() == 10
    assert await queries.growth(days=0) == 0


async def test_rows_found_by_their_title_are_returned_too(queries):
    page = await queries.links(LinkFilter(text="A.EXAMPLE/3", keys=("1",)))

    assert [link.row_key for link in page.links] == ["1", "4"]
