"""Tables and colours for a terminal; display width is measured with wcwidth (docs/decisions/0010-terminal-output.md).

Text that comes from a row or a response passes through `plain` before it is printed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rehost.telemetry.format import count, plain

WIDEST_CELL = 60  # columns to which a file or a pipe gets cells filled; longer ones stay whole
NARROWEST_NOTE = 24  # columns
NARROWEST_CELL = 8  # columns
_GAP = "  "
_CODES = {"strong": "1", "good": "32", "bad": "31", "weak": "2"}  # ECMA-48, section 8.3.117 (SGR)


@dataclass(frozen=True, slots=True)
class Style:
    """What the output stream can show: colours or none, and how many columns (None for a file or a pipe)."""

    is_on: bool
    columns: int | None = None

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str] = os.environ) -> Style:
        """Return colours for a terminal, unless NO_COLOR is set (no-color.org) or the terminal is a dumb one."""
        if not stream.isatty():
            return cls(is_on=False)
        return cls(not environ.get("NO_COLOR") and environ.get("TERM") != "dumb", _columns(stream))

    def __call__(self, name: str, text: str) -> str:
        """Return the text in a style: strong, good, bad or weak."""
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.is_on else text


def _columns(stream: TextIO) -> int | None:
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def width(text: str) -> int:
    """Return how many columns a terminal needs for a text without control characters."""
    if text.isascii():
        return len(text)
    import wcwidth  # its tables take 20 ms to load, and most output is ASCII

    return wcwidth.width(text, control_codes="ignore")


def cut(text: str, columns: int) -> str:
    """Return the text, or as many whole characters of it as leave room for an ellipsis within these columns."""
    if width(text) <= columns:
        return text
    if text.isascii():
        return text[: columns - 1] + "…"
    import wcwidth

    kept, used = "", 0
    for grapheme in wcwidth.iter_graphemes(text):  # Unicode Annex 29: an emoji family is one
        used += width(grapheme)
        if used >= columns:
            break
        kept += grapheme
    return kept + "…"


# Between two words, or beside a wide character: not before a closing mark, not after an opening one (JIS X 4051).
# Compiled when it is used, which is seldom and takes 6 ms.
_UNIT = r"[（《“([]*(?:[⺀-￯]|[^\s⺀-￯“]+)[，。；：？！、）》”…%]*\s*"


def wrap(text: str, columns: int) -> list[str]:
    """Return the lines of a text that fits into these columns; a word that is longer has a line of its own."""
    lines = [""]
    for unit in re.findall(_UNIT, text):
        if lines[-1] and width((lines[-1] + unit).rstrip()) > columns:
            lines.append("")
        lines[-1] += unit
    return [line.rstrip() for line in lines]


_NOTE = re.compile(r"(.*\S  +|)(\S.*)")  # behind the last gap of a line
_SGR = re.compile("\x1b\\[[0-9;]*m")


def fold(text: str, columns: int | None) -> str:
    """Return lines that are too long for the terminal broken between words; what follows a gap stays behind it."""
    return text if columns is None else "\n".join(_folded(line, columns) for line in text.split("\n"))


def say(text: str, *, err: bool = False) -> None:
    """Print a text on stdout or stderr, its lines broken between words where the terminal ends."""
    stream = sys.stderr if err else sys.stdout
    print(fold(text, Style.of(stream).columns), file=stream, flush=True)


def _folded(line: str, columns: int) -> str:
    found = _NOTE.fullmatch(line)
    if found is None or width(_SGR.sub("", line)) <= columns:
        return line
    indent = width(_SGR.sub("", found[1]))
    if columns - indent < NARROWEST_NOTE:
        return "\n".join(wrap(line, columns))
    return found[1] + f"\n{'':{indent}}".join(wrap(found[2], columns - indent))


def table(heads: Sequence[str], rows: Iterable[Sequence[str | int]], style: Style) -> str:
    """Return a table, no wider than the terminal if that is possible; numbers are aligned right.

    A file or a pipe gets every cell whole. Without rows it is an empty text.
    """
    values = list(rows)
    if not values:
        return ""
    is_number = [any(isinstance(row[i], int) for row in values) for i in range(len(heads))]
    cells = [[count(cell) if isinstance(cell, int) else plain(cell) for cell in row] for row in values]
    widths = [max(width(head), *(width(row[i]) for row in cells)) for i, head in enumerate(heads)]
    if style.columns is None:
        widths = [min(each, WIDEST_CELL) for each in widths]
        lines = [_GAP.join(map(_fill, row, widths, is_number)).rstrip() for row in [heads, *cells]]
    else:
        widths = _fit(widths, is_number, style.columns)
        lines = [_GAP.join(map(pad, row, widths, is_number)).rstrip() for row in [heads, *cells]]
    head, *lines = lines
    return "\n".join([style("weak", head), *lines])


def _fit(widths: list[int], is_fixed: Sequence[bool], columns: int | None) -> list[int]:
    """Return the widths with the widest columns of text made narrower until the terminal holds a line."""
    excess = 0 if columns is None else sum(widths) + len(_GAP) * (len(widths) - 1) - columns
    for _ in range(max(0, excess)):
        text_widths = [0 if fixed else each for each, fixed in zip(widths, is_fixed, strict=True)]
        widest = max(text_widths)
        if widest <= NARROWEST_CELL:
            break
        widths[text_widths.index(widest)] -= 1
    return widths


def pad(text: str, columns: int, is_right: bool = False) -> str:  # noqa: FBT001, FBT002 - right or left
    """Return the text cut or filled to exactly these columns, aligned left or right."""
    return _fill(cut(text, columns), columns, is_right)


def _fill(text: str, columns: int, is_right: bool) -> str:  # noqa: FBT001 - as above
    space = " " * (columns - width(text))
    return space + text if is_right else text + space
