import io
import json
import re
import sys
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime

import pytest

from rehost.cli.output.programs import several, to_json, total_plan
from rehost.cli.output.reports import (
    PASSING,
    Advice,
    StatusReport,
    attention,
    plan_table,
    plan_tables,
    planned_words,
    status_text,
    status_total,
    summary,
)
from rehost.cli.output.storage import undone_text
from rehost.cli.output.tables import Style
from rehost.events import Planned, RunEnded
from rehost.ledger.reports import LinkReport, RunReport, SourceReport
from rehost.model import Reason, State
from rehost.run.stats import total
from rehost.upkeep.undo import Undone

PLAIN = Style(is_on=False)
NOW = datetime(2026, 11, 29, 20, 0, tzinfo=UTC)
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
    assert "total 5,980 of 6,108 links held (97.9%)" in lines
    assert "disk 52.0 GB free" in lines


def test_the_summary_lists_reasons_by_frequency_with_their_meaning():
    lines = words(summary(ended(), PLAIN))

    gone = lines.index(f"gone 120 {Reason.GONE.meaning}")
    assert lines[gone + 1] == f"decoy 8 {Reason.DECOY.meaning}"


def test_the_summary_names_the_command_that_visits_waiting_links_now():
    text = summary(ended(), PLAIN, Advice("python scripts/download_all_images.py", "some.log"))

    assert "waiting for the next visit, the earliest in 9 min" in text
    assert "python scripts/download_all_images.py --retry all" in text
    assert "to list them with reasons: some.log" in text


def test_a_summary_without_advice_names_no_command():
    text = summary(ended(), PLAIN, advice=None)

    assert "waiting for the next visit" in text
    assert "rehost" not in text


def test_the_summary_says_that_nothing_was_due():
    nothing = ended(held=0, failed={}, size=0, seconds=0.4, later=0)

    lines = words(summary(nothing, PLAIN))
    assert lines[0] == "Done: nothing was due, 400 ms"
    assert "total 5,980 of 6,108 links held (97.9%)" in lines
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

    assert planned_words(planned) == "6,108 links, 5,980 held, 3 to visit, 2 new, 1 row repaired, 125 left for later"


def test_the_table_of_a_plan_has_a_line_for_each_kind_of_work():
    lines = words(plan_table(Planned("cases", present=6108, held=5980, due=3, later=125, new=2, lost=1), PLAIN))

    assert lines[0] == "cases: 3 links would be visited"
    assert "new 2 of these: seen for the first time" in lines
    assert "lost 1 of these: the file is missing from the store" in lines
    assert "repaired 0 row does not point at its copy; to be corrected without a request" in lines


def test_the_status_counts_damaged_pictures_and_those_that_browsers_do_not_display():
    standing = replace(STANDING, states={State.HELD: 5}, damaged=2, undisplayed=1)
    lines = words(StatusReport(standing, hosts=[], runs=[], failed=[], unconfined=[]).text(PLAIN))

    assert "2 held: the picture is whole, but its file is damaged elsewhere" in lines
    assert "1 held, in a format that browsers do not display" in lines
    assert not any("damaged" in line for line in words(StatusReport(STANDING, [], [], [], []).text(PLAIN)))


def test_the_status_and_the_summary_say_which_copies_may_be_decoys():
    standing = replace(STANDING, states={State.HELD: 5, State.DEFERRED: 1}, suspected=1)
    status = words(StatusReport(standing, hosts=[], runs=[], failed=[], unconfined=[]).text(PLAIN))
    lines = words(summary(ended(suspected=2, decoys=1), PLAIN))

    assert "1 perhaps a decoy: the copy stays until a second check agrees" in status
    assert any(line.startswith("suspected 2 held, but perhaps a decoy") for line in lines)
    assert any(line.startswith("decoys 1 was a decoy: replaced by the image, or moved") for line in lines)


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


# --- several sources

OTHER = replace(STANDING, source="shops", states={State.HELD: 1, State.DEFERRED: 2}, next_due_seconds=9.0, size=1000)


def test_the_summary_of_several_sources_has_a_block_for_each_before_the_total():
    text = summary(total([ended(), ended(source="shops", held=20, failed={}, later=0)]), PLAIN)

    cases, shops, *rest = text.split("\n\n")
    assert words(cases)[:3] == ["cases", "copied 5,980", "failed 128"]
    assert words(shops) == ["shops", "copied 20", "failed 0", "total 5,980 of 6,108 links held (97.9%)"]
    assert rest[0].startswith("Done in 5 min 12 s: 4.80 GB received")
    assert "copied 6,000" in words(rest[1])
    assert "total 11,960 of 12,216 links held (97.9%)" in words(rest[2])


def test_the_plan_of_several_sources_has_a_line_for_each_and_one_for_all():
    plans = [Planned("cases", 9, 5, 3, 1, new=3), Planned("shops", 2, 1, 0, 1, mended=7)]

    lines = words(plan_tables(plans, PLAIN))

    assert lines[0] == "source links held due later new changed vanished lost found repaired"
    assert lines[1:] == ["cases 9 5 3 1 3 0 0 0 0 0", "shops 2 1 0 1 0 0 0 0 0 7", "total 11 6 3 2 3 0 0 0 0 7"]
    assert planned_words(plans[1], named=True).startswith("shops: 2 links, 1 held")


def test_the_status_of_several_sources_ends_with_the_total():
    reports = [
        StatusReport(replace(each, states=each.states or {State.HELD: 1}), [], [], [], []) for each in (STANDING, OTHER)
    ]

    lines = words(status_text(reports, PLAIN))

    assert lines[0] == "cases: 1 of 1 link held (100%), 0 B"
    assert "shops: 1 of 3 links held (33.3%), 1.00 kB" in lines
    assert lines[-3:-1] == ["total: 2 of 4 links held (50%), 1.00 kB", ""]
    assert status_total(reports).next_due_seconds == 9.0


def test_the_status_names_sources_that_the_settings_lack():
    report = StatusReport(replace(STANDING, states={State.HELD: 1}), [], [], [], [])

    assert any(line.startswith("Not in these settings") for line in words(status_text([report], PLAIN, ["a", "z"])))
    assert "Not in these settings, but in the ledger: a, z. " in status_text([report], PLAIN, ["a", "z"])
    assert "Not in these settings" not in status_text([report], PLAIN)


def test_undoing_in_several_sources_is_told_by_source_and_in_all():
    one, both = {"cases": Undone(3, 0)}, {"cases": Undone(3, 0), "shops": Undone(1, 2)}

    assert undone_text(one, 7) == "Restored 3 rows to what they were before run 7."
    left = "2 rows were left as they are: they have changed since, or their files are missing."
    assert undone_text(both, 7).splitlines() == [
        "cases: Restored 3 rows to what they were before run 7.",
        f"shops: Restored 1 row to what it was before run 7. {left}",
        f"total: Restored 4 rows to what they were before run 7. {left}",
    ]


def test_the_json_of_one_source_is_its_report_and_of_several_each_and_the_total():
    plan = Planned("cases", 9, 5, 3, 1)
    run = total([ended(), ended(source="shops", failed={Reason.GONE: 1})])

    one = json.loads(to_json(several([plan], total_plan)))
    plans = json.loads(to_json(several([plan, replace(plan, source="shops")], total_plan)))
    runs = json.loads(to_json(several(run.sources, lambda _sources: run)))
    alone = json.loads(to_json(several([ended()], lambda _sources: ended())))

    assert one == asdict(plan)
    assert [each["source"] for each in plans["sources"]] == ["cases", "shops"]
    assert plans["total"] == {name: 2 * value for name, value in one.items() if name != "source"}
    assert [each["held"] for each in (*runs["sources"], runs["total"])] == [5980, 5980, 11960]
    assert runs["total"]["failed"] == {"decoy": 8, "gone": 121}
    assert "sources" not in alone
    assert "sources" not in runs["total"]


def test_the_status_of_several_sources_can_be_json():
    status = StatusReport(OTHER, [], [], [], [])

    report = json.loads(to_json(several([status, status], status_total)))

    assert report["sources"][0]["standing"]["states"] == {"held": 1, "deferred": 2}
    assert report["total"]["states"] == {"held": 2, "deferred": 4}
    assert report["total"]["size"] == 2000


def test_one_of_anything_is_said_in_the_singular():
    one = Planned("cases", present=1, held=1, due=1, later=1, new=1, changed=1, vanished=1, lost=1, found=1, mended=1)
    standing = replace(STANDING, states={State.HELD: 1}, damaged=1, undisplayed=1, suspected=1, later=1)
    single = ended(held=1, adopted=1, unchanged=1, failed={Reason.GONE: 1}, overtaken=1, later=1, suspected=1, decoys=1)
    texts = [
        planned_words(one),
        plan_table(one, PLAIN),
        summary(replace(single, total_held=1, total_present=1), PLAIN),
        StatusReport(standing, hosts=[], runs=[], failed=[], unconfined=[]).text(PLAIN),
        attention(replace(single, lost=1, long_paused=("a.example",)), Advice()),
    ]

    said = "\n".join(texts)
    assert not re.search(r"\b1 +(\w+ )?(links|rows|files|copies|pictures|are|were|have)\b", said), said


def test_nothing_is_said_quietly_of_what_passes_by_itself():
    assert attention(ended(failed={Reason.UNREACHABLE: 9, Reason.THROTTLED: 2}), Advice()) == ""
    assert attention(ended(failed={}, paused={"a.example": 4}), Advice()) == ""


def test_what_needs_a_look_is_one_line_with_counts_and_a_command():
    failed = {Reason.UNREACHABLE: 9, Reason.DECOY: 2, Reason.GONE: 1200}

    gone = ended(failed=failed, lost=3, long_paused=("a.example", "b.example"))
    line = attention(gone, Advice("again", "rehost status --failed"))

    assert line == (
        "cases: 1,202 pictures failed (gone 1,200, decoy 2), 3 files were missing, "
        "2 paused hosts, the first: a.example. "
        "To list what failed: rehost status --failed"
    )


def test_files_that_were_missing_and_came_back_need_no_list_of_failures():
    assert attention(ended(failed={}, lost=3), Advice()) == "cases: 3 files were missing"


def test_every_reason_either_passes_by_itself_or_needs_a_look():
    said = {reason for reason in Reason if attention(ended(failed={reason: 1}), Advice())}

    assert said == set(Reason) - PASSING
    assert {Reason.GONE, Reason.HOTLINK_REFUSED, Reason.DECOY, Reason.BUG, Reason.QUOTA_REACHED} <= said


def test_a_run_that_an_error_stopped_is_listed_with_it():
    run = RunReport(
        run=7, source="cases", host="m", pid=1, os_user="o", version="0", started_at=NOW, ended_at=NOW, undone_at=None,
        workers=1, working=0, is_alive=False, held=1, unchanged=0, adopted=0, failed=0, overtaken=0, mended=0, size=1,
        seconds=1.0, interrupted=True, stopped="The disk is full.", stop_at=None, reasons={},
    )  # fmt: skip

    def note(**changes):
        runs = [replace(run, **changes)]
        return words(StatusReport(STANDING, hosts=[], runs=runs, failed=[], unconfined=[]).text(PLAIN))[3]

    assert note().endswith("o@m stopped: The disk is full.")
    assert note(stopped=None).endswith("o@m interrupted")
    assert note(stopped=None, ended_at=None).endswith("o@m no end recorded")
    assert note(stopped=None, interrupted=False, verb="prune").endswith("o@m prune")
    assert note(undone_at=NOW, verb="prune").endswith("o@m prune undone")


STAY_ENGLISH = """
    cases others namespaces seccomp Landlock rehost run retry all status failed http https URL HTTP HTML SVG TLS JPEG
    Referer Retry After Fetch bad ports robots txt Robots Tag API GB MB forget allow
"""


def test_a_chinese_report_has_no_english_words(monkeypatch):
    monkeypatch.setenv("REHOST_LANG", "zh_CN")
    planned = Planned("cases", 9, 1, 2, 3, new=1, changed=1, vanished=1, lost=1, found=1, mended=1)
    standing = replace(
        STANDING, states=dict.fromkeys(State, 2), reasons={Reason.GONE: 1}, later=1, next_due_seconds=90000.0,
        damaged=1, undisplayed=1, suspected=1,
    )  # fmt: skip
    every = ended(
        failed=dict.fromkeys(Reason, 1), unchanged=1, adopted=1, overtaken=1, suspected=1, decoys=1, interrupted=True
    )
    text = [
        *(summary(each, PLAIN) for each in (every, ended(), ended(held=0, failed={}))),
        planned_words(planned),
        plan_table(planned, PLAIN),
        plan_tables([planned, planned], PLAIN),
        status_text([StatusReport(standing, [], [], [], ["seccomp: x"])] * 2, PLAIN),
        undone_text({"cases": Undone(1, 2), "others": Undone(0, 0)}, 7),
    ]

    shown = re.sub(r"[a-z]+-[a-z-]+|IMAGE_\w+", "", "\n".join(text))
    assert set(re.findall(r"[A-Za-z]{3,}", shown)) <= {*STAY_ENGLISH.split(), *Reason, *State}


def test_json_is_the_same_in_every_language(monkeypatch):
    english = to_json(ended()), to_json([StatusReport(STANDING, [], [], [], [])])
    monkeypatch.setenv("REHOST_LANG", "zh_CN")

    assert (to_json(ended()), to_json([StatusReport(STANDING, [], [], [], [])])) == english


def test_json_for_an_encoding_that_lacks_characters_is_ascii(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="gbk"))

    assert to_json({"title": "中文 é"}) == '{"title": "\\u4e2d\\u6587 \\u00e9"}'


def test_failed_links_that_a_terminal_cuts_are_said_to_be_whole_in_a_pipe():
    link = LinkReport(
        **dict.fromkeys((each.name for each in fields(LinkReport)), None)
        | {"row_key": "1", "position": 0, "attempts": 1, "due_at": NOW, "url": f"https://a.example/{'x' * 90}.png"}
    )

    def listed(columns):
        style = Style(is_on=False, columns=columns)
        return StatusReport(STANDING, hosts=[], runs=[], failed=[link], unconfined=[]).text(style)

    assert "a pipe gets them whole: rehost status" in listed(80)
    assert "a pipe gets them" not in listed(300)
    assert link.url in listed(None)
    assert "a pipe gets them" not in listed(None)
