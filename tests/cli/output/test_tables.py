import io

import pytest

from rehost.cli.output.tables import Advice, Style, cut, summary, table, width
from rehost.events import RunEnded
from rehost.model import Reason

PLAIN = Style(is_on=False)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def ended(**changes):
    usual = {
        "source": "cases", "held": 5980, "unchanged": 0, "adopted": 0, "failed": {Reason.DECOY: 8, Reason.GONE: 120},
        "size": 2_400_000_000, "seconds": 312.0, "later": 128, "next_due_seconds": 540.0,
        "free_bytes": 52_000_000_000, "total_held": 5980, "total_present": 6108,
    }  # fmt: skip
    return RunEnded(**usual | changes)


def words(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_summary_says_what_was_held_and_what_was_not():
    lines = words(summary(ended(), PLAIN))

    assert lines[0] == "Done in 5 min 12 s: 2.40 GB received, 7.69 MB/s"
    assert "held 5,980" in lines
    assert "not held 128" in lines
    assert "in all 5,980 of 6,108 links are held, 97.9%" in lines
    assert "disk 52.0 GB free" in lines


def test_reasons_come_by_number_with_their_meaning():
    lines = words(summary(ended(), PLAIN))

    gone = lines.index(f"gone 120 {Reason.GONE.meaning}")
    assert lines[gone + 1] == f"decoy 8 {Reason.DECOY.meaning}"


def test_what_waits_comes_with_the_command_that_asks_now():
    text = summary(ended(), PLAIN, Advice("python scripts/download_all_images.py", "some.log"))

    assert "wait for their next turn, the first in 9 min" in text
    assert "python scripts/download_all_images.py --retry all" in text
    assert "which and why: some.log" in text


def test_where_nothing_can_be_done_nothing_is_advised():
    text = summary(ended(), PLAIN, advice=None)

    assert "wait for their next turn" in text
    assert "rehost" not in text


def test_nothing_due_is_said_so():
    nothing = ended(held=0, failed={}, size=0, seconds=0.4, later=0)

    lines = words(summary(nothing, PLAIN))
    assert lines[0] == "Done: nothing was due, 400 ms"
    assert "in all 5,980 of 6,108 links are held, 97.9%" in lines
    assert "held 0" not in lines


def test_an_interrupted_run_says_how_to_go_on():
    text = summary(ended(interrupted=True), PLAIN)

    assert text.startswith("Interrupted")
    assert "go on where it stopped: rehost run" in text


def test_a_table_is_straight_with_chinese_in_it():
    lines = table(["host", "links"], [("广告门", 12), ("oss.adquan.com", 6141)], PLAIN).splitlines()

    assert lines == ["host            links", "广告门             12", "oss.adquan.com  6,141"]
    assert len({width(line) for line in lines}) == 1


def test_cells_cannot_act_on_the_terminal():
    assert "\x1b" not in table(["host"], [("\x1b[2Jevil",)], PLAIN)


def test_a_table_without_rows_is_nothing():
    assert table(["host"], [], PLAIN) == ""


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("广告", 4), ("é", 1), ("e\u0301", 1), ("\uff21\uff22", 4)])
def test_wide_characters_take_two_columns(text, columns):
    assert columns == width(text)


def test_a_cut_never_splits_a_wide_character():
    assert cut("广告门广告门", 6) == "广告…"


@pytest.mark.parametrize(
    ("stream", "environ", "is_on"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(stream, environ, is_on):
    assert Style.of(stream, environ).is_on is is_on
