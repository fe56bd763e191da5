import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from rehost.cli.output.tables import Style, cut, fold, pad, table, width

PLAIN = Style(is_on=False)

FAMILY = "👨\u200d👩\u200d👧\u200d👦"
FLAG = "🇨🇳"
HEART = "❤\ufe0f"
THUMB = "👍🏽"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def straight(text):
    """Return whether all lines end in the same column."""
    return len({width(line) for line in text.splitlines()}) == 1


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("", 0),
        ("广告", 4),
        ("é", 1),
        ("e\u0301", 1),
        ("a\u0300\u0301b", 2),
        ("\uff21\uff22", 4),
        ("한글", 4),
        ("日本語テキスト", 14),
        ("👩", 2),
        (FAMILY, 2),
        (FLAG, 2),
        (HEART, 2),
        (THUMB, 2),
        (f"{FLAG}{FAMILY}", 4),
    ],
)
def test_width_is_what_a_terminal_needs(text, columns):
    assert columns == width(text)


@pytest.mark.parametrize(
    ("text", "columns", "kept"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("广告门广告门", 6, "广告…"),
        ("广告门广告门", 7, "广告门…"),
        (FAMILY * 3, 5, f"{FAMILY * 2}…"),
        (FLAG * 3, 4, f"{FLAG}…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
        (f"a{THUMB}{THUMB}", 4, f"a{THUMB}…"),
    ],
)
def test_a_cut_keeps_whole_characters(text, columns, kept):
    assert cut(text, columns) == kept


@pytest.mark.parametrize("text", ["a", "广", FAMILY, FLAG, "e\u0301", "广告门广告门", FAMILY * 5])
def test_padded_text_has_exactly_the_columns(text):
    assert width(pad(text, 6)) == 6
    assert width(pad(text, 6, is_right=True)) == 6


def test_a_table_is_straight_with_chinese_in_it():
    text = table(["host", "links"], [("广告门", 12), ("oss.adquan.com", 6141)], PLAIN)

    assert text.splitlines() == ["host            links", "广告门             12", "oss.adquan.com  6,141"]
    assert straight(text)


@pytest.mark.parametrize("title", [FAMILY, FLAG, HEART, THUMB, "e\u0301e\u0301", "한글", FAMILY * 40, "广" * 40])
def test_a_table_is_straight_with_any_script_and_emoji(title):
    assert straight(table(["title", "links"], [(title, 12), ("plain", 6141)], Style(is_on=False, columns=72)))


def test_a_column_of_numbers_is_aligned_right_even_where_one_is_unknown():
    text = table(["run", "held"], [(1, 5980), (2, "?")], PLAIN)

    assert text.splitlines() == ["run   held", "  1  5,980", "  2      ?"]


ROWS = [("297041", "timed-out", 3, "https://oss.adquan.com/" + "x" * 100, "广告门" * 20), ("2", "gone", 1, "a", "b")]
HEADS = ["row", "reason", "tries", "link", "title"]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_table_fits_the_terminal(columns):
    text = table(HEADS, ROWS, Style(is_on=False, columns=columns))

    assert columns - 1 <= max(width(line) for line in text.splitlines()) <= columns
    assert "297041  timed-out      3  https://oss.adquan.com/" in text
    assert "…" in text


def test_a_narrow_terminal_leaves_something_of_every_cell():
    lines = table(HEADS, ROWS, Style(is_on=False, columns=20)).splitlines()

    assert lines[1] == "297041  timed-o…      3  https:/…  广告门…"


def test_cells_cannot_act_on_the_terminal():
    assert "\x1b" not in table(["host"], [("\x1b[2Jevil",)], PLAIN)


def test_a_table_without_rows_is_empty():
    assert table(["host"], [], PLAIN) == ""


def test_a_coloured_table_has_the_same_text_in_its_lines():
    coloured = table(["host"], [("a.example",)], Style(is_on=True))

    assert coloured == "\x1b[2mhost\x1b[0m\na.example"


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


def test_a_terminal_says_how_many_columns_it_has():
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        assert Style.of(stream, {"NO_COLOR": "1"}) == Style(is_on=False, columns=80)
    os.close(leader)


def test_a_pipe_has_neither_colours_nor_columns():
    reading, writing = os.pipe()

    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        assert Style.of(stream, {}) == Style(is_on=False, columns=None)
    os.close(reading)


def test_a_pipe_gets_every_cell_whole():
    url = f"https://a.example/{'x' * 200}.png"

    text = table(["link", "attempts", "evidence"], [(url, 3, "y" * 300), ("short", 12, "z")], PLAIN)

    assert text.splitlines()[1] == f"{url}         3  {'y' * 300}"
    assert text.splitlines()[2] == f"{'short':60}        12  z"


def test_a_terminal_shows_as_much_of_a_cell_as_its_width_allows():
    text = table(["link"], [("x" * 200,)], Style(is_on=False, columns=150))

    assert text.splitlines()[1] == "x" * 149 + "…"


@pytest.mark.parametrize(
    ("line", "columns", "folded"),
    [
        ("failed           12  a b c", 80, "failed           12  a b c"),
        ("a very long sentence that is broken", 18, "a very long\nsentence that is\nbroken"),
        (f"gone   6  {'word ' * 6}end", 34, f"gone   6  {'word ' * 4}word\n{' ' * 10}word end"),
        (
            "\x1b[2mup\x1b[0m   6  to the very end of a line", 32,
            "\x1b[2mup\x1b[0m   6  to the very end of a\n        line",
        ),
        ("name      6  too narrow for two columns", 20, "name      6  too\nnarrow for two\ncolumns"),
        ("to a pipe everything as it is " * 9, None, "to a pipe everything as it is " * 9),
        ("", 10, ""),
    ],
)  # fmt: skip
def test_lines_are_broken_between_words_and_notes_stay_in_their_column(line, columns, folded):
    assert fold(line, columns) == folded
