"""Which links are dead, and who searches for their pictures."""

from __future__ import annotations

from tests.databases import execute

from rehost.ledger.rescues import Rescues

URL = "http://dead.example/1.png"


def moment(database, days):
    """Return the instant so many days ago, in SQL."""
    if database.is_sqlite:
        return f"((julianday('now') - 2440587.5) * 86400.0 - {days} * 86400)"
    return f"now() - interval '{days} days'"


async def add(database, entry, reason="gone", state="refused", url=URL, present=True, held_url=None):
    later = moment(database, -9)
    names = "source, row_key, position, url, host, state, due_at, noted_at, reason, present, held_url"
    key = ", key, digest, size" if held_url else ""
    values = f", 'k{entry}.png', '{entry:064d}', 9" if held_url else ""
    await execute(
        database,
        f"INSERT INTO rehost_links ({names}{key}) VALUES ('cases', :row_key, 0, :url, 'dead.example', :state, {later},"
        f" {later}, :reason, :present, CAST(:held_url AS TEXT){values})",
        row_key=str(entry),
        url=url,
        state=state,
        reason=reason,
        present=present,
        held_url=held_url,
    )


async def visit(database, entry, turn, days, *, times=1, outcome="refused", reason="gone", url=URL, span=0):
    first, last = moment(database, days + span), moment(database, days)
    await execute(
        database,
        "INSERT INTO rehost_visits (entry, slot, turn, run, first_at, last_at, times, outcome, reason, url)"
        f" VALUES (:entry, :turn, :turn, 1, {first}, {last}, :times, :outcome, CAST(:reason AS TEXT), :url)",
        entry=entry,
        turn=turn,
        times=times,
        outcome=outcome,
        reason=reason,
        url=url,
    )


async def test_dead_is_a_link_that_failed_three_times_over_six_days_for_causes_that_stay(database):
    rescues = Rescues(database)
    for entry in range(1, 9):
        await add(database, entry)
    await visit(database, 1, 1, 0, times=3, span=7)  # dead: alike
    for turn, reason in enumerate(("gone", "unresolved", "hotlink-refused"), 1):  # dead: for different causes
        await visit(database, 2, turn, 14 - 4 * turn, reason=reason)
    await visit(database, 3, 1, 0, times=2, span=30)  # twice only
    await visit(database, 4, 1, 0, times=9, span=5)  # within five days
    await visit(database, 5, 1, 20, times=3, span=7)  # and then it came once
    await visit(database, 5, 2, 10, outcome="held", reason=None)
    await visit(database, 5, 3, 0)
    await visit(database, 6, 1, 0, times=3, span=7, reason="throttled")  # a cause that passes
    await visit(database, 7, 1, 0, times=3, span=7, url="http://dead.example/former.png")  # another link then
    # the eighth was never visited

    assert await rescues.dead("cases") == 2
    assert {task.link.row_key for task in await rescues.claim("cases")} == {"1", "2"}


async def test_links_that_are_held_gone_from_the_table_or_taken_down_are_not_dead(database):
    rescues = Rescues(database)
    await add(database, 1, state="held", held_url=URL)
    await add(database, 2, present=False)
    await add(database, 3, reason="taken-down")
    await add(database, 4, state="leased")
    await add(database, 5, held_url=URL)  # its own copy is there, and may be a decoy
    await add(database, 6, held_url="http://dead.example/former.png")  # the copy of a former link
    for entry in range(1, 7):
        await visit(database, entry, 1, 0, times=3, span=7)

    assert [task.link.row_key for task in await rescues.claim("cases")] == ["6"]


async def test_a_search_is_due_again_after_a_month_and_one_that_was_killed_after_a_day(database):
    rescues = Rescues(database)
    await add(database, 1)
    await visit(database, 1, 1, 0, times=3, span=7)

    assert len(await rescues.claim("cases")) == 1
    assert await rescues.claim("cases") == []
    await _pass(database, 1.1)
    assert len(await rescues.claim("cases")) == 1
    await rescues.searched(1)
    await _pass(database, 29)
    assert await rescues.claim("cases") == []
    await _pass(database, 2)
    assert len(await rescues.claim("cases")) == 1
    await rescues.unclaim([1])
    assert len(await rescues.claim("cases")) == 1


async def _pass(database, days):
    seconds = f"{days} * 86400" if database.is_sqlite else f"interval '1 day' * {days}"
    await execute(database, f"UPDATE rehost_links SET sought_at = sought_at - {seconds}")


async def test_copies_of_the_same_url_are_found_for_many_links_at_once(database):
    rescues = Rescues(database)
    for entry in range(1, 6):
        await add(database, entry, state="held", held_url=URL)
    await add(database, 6, state="held", url="http://dead.example/2.png", held_url="http://dead.example/2.png")
    await add(database, 7, url=URL)
    await visit(database, 7, 1, 0, times=3, span=7)
    tasks = await rescues.claim("cases")

    found = await rescues.same_url(tasks)

    assert {url: [twin.row_key for twin in twins] for url, twins in found.items()} == {URL: ["1", "5"]}
    assert [twin.row_key for twin in await rescues.same_bytes(tasks[0], [f"{3:064d}"])] == ["3"]
