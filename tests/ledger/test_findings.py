"""One open finding for each fault; what is right again or mended is closed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.databases import execute

from rehost.ledger.findings import FILE_FAULTS, Fault, Finding, Findings, Mend

FIRST = Finding(Fault.MISSING, "cases", "1", 0, "1/main_image.png", "there is no such file")
SECOND = replace(FIRST, kind=Fault.CUT, row_key="2", key="2/main_image.png")


@pytest.fixture
def findings(database):
    return Findings(database)


async def rows(database):
    query = "SELECT kind, row_key, evidence, run, mended_by, mended_at IS NULL FROM rehost_findings ORDER BY finding"
    return [(*row[:-1], bool(row[-1])) for row in await execute(database, query)]


async def test_a_fault_that_is_found_again_is_one_finding_with_the_last_evidence(findings, database):
    await findings.report([FIRST, SECOND])
    await findings.report([replace(FIRST, evidence="a symbolic link to nothing")])

    assert await rows(database) == [
        ("missing", "1", "a symbolic link to nothing", None, None, True),
        ("cut", "2", "there is no such file", None, None, True),
    ]


async def test_a_fault_that_comes_back_after_it_was_mended_is_a_new_finding(findings, database):
    await findings.report([FIRST])
    await findings.mend([replace(FIRST, mended_by=Mend.ORIGIN)], 7)
    await findings.report([FIRST])

    assert [row[3:] for row in await rows(database)] == [(7, "origin", False), (None, None, True)]


async def test_open_findings_are_listed_in_groups_and_by_row(findings):
    await findings.report([FIRST, SECOND])

    listed = await findings.open_ones(["cases"], FILE_FAULTS)

    assert [each for _, each in listed] == [FIRST, SECOND]
    assert [each for _, each in await findings.open_ones(["cases"], FILE_FAULTS, "2")] == [SECOND]
    assert [each for _, each in await findings.open_ones(["cases"], FILE_FAULTS, None, listed[0][0])] == [SECOND]
    assert await findings.open_ones(["others"], FILE_FAULTS) == []
    assert await findings.is_any_open(["cases"])


async def test_what_is_right_again_is_closed_at_its_place_for_the_kinds_that_were_looked_for(findings, database):
    await findings.report([FIRST, SECOND])
    places = [(each.source, each.row_key, each.position, each.key) for each in (FIRST, SECOND)]

    await findings.close_at(places, {Fault.MISSING})

    assert [row[4] for row in await rows(database)] == ["otherwise", None]


async def test_what_a_whole_search_has_not_found_again_is_closed(findings, database):
    await findings.report([FIRST, SECOND])
    since = await findings.time()
    await findings.report([SECOND])

    await findings.close_older(since, FILE_FAULTS, ["cases"])

    assert [row[4] for row in await rows(database)] == ["otherwise", None]
