from dataclasses import replace

import pytest

from rehost.cli.output.reports import Advice, StatusReport, plan_table, planned_words, summary
from rehost.cli.output.tables import Style
from rehost.events import Planned, RunEnded
from rehost.ledger.reports import SourceReport
from rehost.model import Reason, State

PLAIN = Style(is_on=False)
STANDING = SourceReport(
    "cases", {}, {}, due=0, later=0, leased=0, next_due_seconds=None, size=0, damaged=0, undisplayed=0
)


def ended(**changes):
    usual = {
        "source": "cases", "held": 5980, "unchanged": 0, "adopted": 0, "failed": {Reason.DECOY: 8, Reason.GONE: 120},
        "size": 2_400_000_000, "seconds": 312.0, "later": 128, "next_due_seconds": 540.0,
        "free_bytes": 52_000_000_000, "total_held": 5980, "total_present": 6108,
    }  # fmt: skip
    return RunEnded(**usual | changes)


def words(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_summary_shows_what_is_held_and_what_is_not():
    lines = words(summary(ended(), PLAIN))

    assert lines[0] == "Done in 5 min 12 s: 2.40 GB received, 7.69 MB/s"
    assert "copied 5,980" in lines
    assert "failed 128" in lines
    assert "total 5,980 of 6,108 links are held (97.9%)" in lines
    assert "disk 52.0 GB free" in lines


def test_the_summary_lists_reasons_by_frequency_with_their_meaning():
    lines = words(summary(ended(), PLAIN))

    gone = lines.index(f"gone 120 {Reason.GONE.meaning}")
    assert lines[gone + 1] == f"decoy 8 {Reason.DECOY.meaning}"


def test_the_summary_names_the_command_that_visits_waiting_links_now():
    text = summary(ended(), PLAIN, Advice("python scripts/download_all_images.py", "some.log"))

    assert "are waiting for their next visit, the earliest in 9 min" in text
    assert "python scripts/download_all_images.py --retry all" in text
    assert "to list them with reasons: some.log" in text


def test_a_summary_without_advice_names_no_command():
    text = summary(ended(), PLAIN, advice=None)

    assert "are waiting for their next visit" in text
    assert "rehost" not in text


def test_the_summary_says_that_nothing_was_due():
    nothing = ended(held=0, failed={}, size=0, seconds=0.4, later=0)

    lines = words(summary(nothing, PLAIN))
    assert lines[0] == "Done: nothing was due, 400 ms"
    assert "total 5,980 of 6,108 links are held (97.9%)" in lines
    assert "copied 0" not in lines


def test_the_summary_of_an_interrupted_run_says_how_to_continue():
    text = summary(ended(interrupted=True), PLAIN)

    assert text.startswith("Interrupted")
    assert "to continue: rehost run" in text


def test_colours_do_not_move_the_numbers():
    coloured = summary(ended(), Style(is_on=True))

    plain = coloured
    for code in ("\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[0m"):
        assert code in coloured
        plain = plain.replace(code, "")
    assert plain == summary(ended(), PLAIN)


def test_a_plan_is_one_line_that_leaves_out_what_is_zero():
    planned = Planned("cases", present=6108, held=5980, due=3, later=125, new=2, mended=1)

    assert planned_words(planned) == "6,108 links, 5,980 held, 3 to visit, 2 new, 1 rows repaired, 125 left for later"


def test_the_table_of_a_plan_has_a_line_for_each_kind_of_work():
    lines = words(plan_table(Planned("cases", present=6108, held=5980, due=3, later=125, new=2, lost=1), PLAIN))

    assert lines[0] == "cases: 3 links would be visited"
    assert "new 2 of these: seen for the first time" in lines
    assert "lost 1 of these: the file is missing from the store" in lines
    assert "repaired 0 rows point at their copy again (no request needed)" in lines


def test_the_status_counts_damaged_pictures_and_those_that_browsers_do_not_display():
    standing = replace(STANDING, states={State.HELD: 5}, damaged=2, undisplayed=1)
    lines = words(StatusReport(standing, hosts=[], runs=[], failed=[], unconfined=[]).text(PLAIN))

    assert "2 of the held pictures are whole, but their files are damaged elsewhere" in lines
    assert "1 are held, but browsers do not display their format" in lines
    assert not any("damaged" in line for line in words(StatusReport(STANDING, [], [], [], []).text(PLAIN)))


def test_the_status_and_the_summary_say_which_copies_may_be_decoys():
    standing = replace(STANDING, states={State.HELD: 5, State.DEFERRED: 1}, suspected=1)
    status = words(StatusReport(standing, hosts=[], runs=[], failed=[], unconfined=[]).text(PLAIN))
    lines = words(summary(ended(suspected=2, unveiled=1), PLAIN))

    assert "1 copies may be decoys; each stays until a second check agrees" in status
    assert any(line.startswith("suspected 2 held copies may be decoys") for line in lines)
    assert any(line.startswith("decoys 1 copies were decoys: replaced by the image, or moved") for line in lines)


@pytest.mark.parametrize(
    ("unconfined", "line"),
    [
        ([], "decoders are confined by namespaces, Landlock, seccomp"),
        (
            ["namespaces: Operation not permitted"],
            "decoders are confined by Landlock, seccomp; not by namespaces: Operation not permitted",
        ),
        (
            ["namespaces: a", "Landlock: b", "seccomp: c"],
            "decoders are confined by nothing; not by namespaces: a, Landlock: b, seccomp: c",
        ),
    ],
)
def test_the_status_says_what_confines_decoders(unconfined, line):
    report = StatusReport(STANDING, hosts=[], runs=[], failed=[], unconfined=unconfined)

    assert report.text(PLAIN).splitlines()[-1] == line
