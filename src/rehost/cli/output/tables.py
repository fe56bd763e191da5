"""What a person reads: tables and the summary of a run. Pure, once `Style.of` has looked at the terminal.

Whatever comes out of a row or an answer passes through `plain` before it meets a terminal.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rehost.events import Planned, RunEnded
from rehost.model import Reason
from rehost.telemetry.format import count, duration, share, size
from rehost.telemetry.sanitize import plain

WIDEST_CELL = 60
_ENDS = ("\x1b[", "\x1b[0m")
_CODES = {"strong": "1", "good": "32", "bad": "31", "weak": "2"}


@dataclass(frozen=True, slots=True)
class Style:
    """Colours, or none of them."""

    is_on: bool

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str] = os.environ) -> Style:
        """Return colours for a terminal, unless NO_COLOR is set (no-color.org) or the terminal is a dumb one."""
        return cls(stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb")

    def __call__(self, name: str, text: str) -> str:
        """Return the text in a style: strong, good, bad or weak."""
        return f"{_ENDS[0]}{_CODES[name]}m{text}{_ENDS[1]}" if self.is_on else text


@dataclass(frozen=True, slots=True)
class Advice:
    """What an operator can do after a run, in the words that work where it was started."""

    again: str = "rehost run"
    why: str = "rehost status --failed"  # names the links without a copy, and what was seen


USUAL = Advice()


def width(text: str) -> int:
    """Return how many columns a terminal needs for the text (Unicode TR 11: wide and full-width take two)."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def cut(text: str, columns: int) -> str:
    """Return as much of the text as these columns hold, with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    kept = ""
    for each in text:
        if width(kept + each) > columns - 1:
            break
        kept += each
    return kept + "…"


def table(heads: Sequence[str], rows: Iterable[Sequence[str | int]], style: Style) -> str:
    """Return a table; numbers stand to the right. No rows, no table."""
    cells = [
        [
            (count(cell) if isinstance(cell, int) else cut(plain(cell), WIDEST_CELL), isinstance(cell, int))
            for cell in row
        ]
        for row in rows
    ]
    if not cells:
        return ""
    widths = [max(width(head), *(width(row[i][0]) for row in cells)) for i, head in enumerate(heads)]
    lines = [
        style(
            "weak",
            "  ".join(
                _pad(head, w, cells[0][i][1]) for i, (head, w) in enumerate(zip(heads, widths, strict=True))
            ).rstrip(),
        )
    ]
    lines += [
        "  ".join(_pad(text, w, right) for (text, right), w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    return "\n".join(lines)


def summary(ended: RunEnded, style: Style, advice: Advice | None = USUAL) -> str:
    """Return the summary of a run, read in ten seconds; without advice where nothing can be done."""
    failed = sum(ended.failed.values())
    lines = [style("strong", _headline(ended, failed))]
    if ended.held or failed or ended.unchanged:
        lines += ["", _line("held", style("good", count(ended.held)), _held_note(ended))]
        if ended.unchanged:
            lines.append(_line("unchanged", count(ended.unchanged), "still right"))
        lines.append(_line("not held", style("bad", count(failed)) if failed else "0", ""))
        lines += reason_lines(ended.failed, style)
    if ended.overtaken:
        lines.append(_line("changed", count(ended.overtaken), "their links changed meanwhile; the next run takes them"))
    if ended.unveiled:
        lines.append(_line("unveiled", count(ended.unveiled), "held copies that are decoys: kept aside, rows cleared"))
    lines += _standing(ended)
    lines += _what_next(ended, failed, advice)
    return "\n".join(lines)


def reason_lines(reasons: Mapping[Reason, int], style: Style) -> list[str]:
    """Return a line for each reason, the most frequent first, with what it means."""
    ordered = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    return [f"  {style('weak', f'{reason:<19}')} {count(number):>7}  {reason.meaning}" for reason, number in ordered]


def plan_table(planned: Planned, style: Style) -> str:
    """Return what a run would do, a line for each kind of work."""
    head = f"{planned.source}: {count(planned.due)} links would be visited"
    rows = (
        ("links", planned.present, "in the table now"),
        ("held", planned.held, "whole copies at rest; nothing to do"),
        ("due", planned.due, "would be visited"),
        ("new", planned.new, "of the due: first met just now"),
        ("changed", planned.changed, "of the due: another link than last time"),
        ("lost", planned.lost, "of the due: their file is gone from the store"),
        ("found", planned.found, "of the due: a file lies there already, to be proven without a request"),
        ("mended", planned.mended, "rows pointed at their copy again, without a request"),
        ("vanished", planned.vanished, "links whose row or cell is no more"),
        ("later", planned.later, "failed before and wait for their turn (rehost run --retry all)"),
    )
    return "\n".join([style("strong", head), "", *(_line(name, count(n), note) for name, n, note in rows)])


def planned_words(planned: Planned) -> str:
    """Return in one line what a run is going to do."""
    parts = [f"{count(planned.present)} links", f"{count(planned.held)} held", f"{count(planned.due)} to visit"]
    parts += [
        f"{count(number)} {word}"
        for word, number in (
            ("new", planned.new), ("changed", planned.changed), ("gone from the table", planned.vanished),
            ("files lost", planned.lost), ("files found", planned.found), ("rows mended", planned.mended),
            ("left for later", planned.later),
        )
        if number
    ]  # fmt: skip
    return ", ".join(parts)


def _headline(ended: RunEnded, failed: int) -> str:
    word = "Interrupted" if ended.interrupted else "Done"
    if not (ended.held or failed or ended.unchanged):
        return f"{word}: nothing was due, {duration(ended.seconds)}"
    rate = ended.size / ended.seconds if ended.seconds > 0 else 0.0
    return f"{word} in {duration(ended.seconds)}: {size(ended.size)} received, {size(round(rate))}/s"


def _held_note(ended: RunEnded) -> str:
    return f"{count(ended.adopted)} of them lay on disk already" if ended.adopted else ""


def _standing(ended: RunEnded) -> list[str]:
    lines = ["", _line("in all", count(ended.total_held), f"of {count(ended.total_present)} links are held, "
                       f"{share(ended.total_held, ended.total_present)}")]  # fmt: skip
    if ended.free_bytes is not None:
        lines.append(_line("disk", size(ended.free_bytes), "free"))
    return lines


def _what_next(ended: RunEnded, failed: int, advice: Advice | None) -> list[str]:
    lines = []
    if ended.later:
        due = "" if ended.next_due_seconds is None else f", the first in {duration(ended.next_due_seconds)}"
        lines.append(_line("later", count(ended.later), f"wait for their next turn{due}"))
    if advice is None:
        return lines
    if ended.later:
        lines.append(_line("", "", f"now all the same: {advice.again} --retry all (or a reason from above)"))
    if ended.interrupted:
        lines.append(_line("", "", f"go on where it stopped: {advice.again}"))
    elif failed:
        lines.append(_line("", "", f"which and why: {advice.why}"))
    return lines


def _line(name: str, figure: str, note: str) -> str:
    shown = width(_bare(figure))
    return f"{name:<13}{' ' * max(0, 16 - shown)}{figure}  {note}".rstrip()


def _bare(text: str) -> str:
    for code in _CODES.values():
        text = text.replace(f"{_ENDS[0]}{code}m", "")
    return text.replace(_ENDS[1], "")


def _pad(text: str, columns: int, is_right: bool) -> str:  # noqa: FBT001 - private, read at the call
    space = " " * (columns - width(text))
    return space + text if is_right else text + space
