"""What `rehost verify` prints: findings as status, action and see; and its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TextIO, TypeVar

from rehost.cli.output.tables import Style, fold, pad
from rehost.clock import Clock
from rehost.language import Message, ngettext, translated
from rehost.language import gettext as _
from rehost.ledger.findings import FILE_FAULTS, Fault, Finding, Mend
from rehost.telemetry.format import count, duration, plain, share, size
from rehost.upkeep.verify import VerifyReport

T = TypeVar("T")

EXAMPLES = 3  # findings of each kind that are shown
PAGE = "docs/howto/keep-right.md"
SERVING_PAGE = "docs/howto/s3.md"
QUIET_SECONDS = 2.0  # before the first line of progress
LINE_SECONDS = 10.0  # between two lines in a file or a pipe
_REDRAW_SECONDS = 0.2

STATUS = {
    Fault.MISSING: Message("Copies whose files are missing: {number}"),
    Fault.CUT: Message("Copies whose files end early: {number}"),
    Fault.ALTERED: Message("Copies whose bytes have changed: {number}"),
    Fault.WRONG_TYPE: Message("Files of another type than their names say: {number}"),
    Fault.REPLACED: Message("Copies in whose place another picture is: {number}"),
    Fault.UNREADABLE: Message("Copies that cannot be read: {number}"),
    Fault.NOT_A_FILE: Message("Copies in whose place a folder or something else is: {number}"),
    Fault.OTHER_URL: Message("Rows with another local URL than their copy's: {number}"),
    Fault.CLEARED_ROW: Message("Rows without the local URL of their copy: {number}"),
    Fault.ROW_WITHOUT_COPY: Message("Rows that point at a file that is not there: {number}"),
    Fault.COPY_WITHOUT_ROW: Message("Copies whose rows are gone: {number}"),
    Fault.STRAY: Message("Files that belong to no row: {number}"),
    Fault.SERVED: Message("Copies that the server serves differently: {number}"),
}
_REPAIR = Message("`rehost verify --repair` restores them; where nothing has the picture any more, it clears the row.")
_AGAIN = Message("Another process is working on them, or their rows hold URLs that others wrote. Call it again later.")
_FOREIGN = Message("URLs that rehost did not write stay as they are: correct or empty the column there yourself.")
_PRUNE = Message("`rehost prune` shows them, and moves them to the trash with `--yes`.")
_ACTION = {
    Fault.OTHER_URL: _FOREIGN,
    Fault.ROW_WITHOUT_COPY: _FOREIGN,
    Fault.COPY_WITHOUT_ROW: _PRUNE,
    Fault.STRAY: _PRUNE,
    Fault.SERVED: Message("The copies are right. Check which store the server serves, and purge its cache or CDN."),
}
_ROW_REPAIR = Message("`rehost verify --repair` writes the local URL again, or clears it, where rehost wrote it.")
MENDS = {
    Mend.STORE: Message("restored from the same bytes elsewhere in the store"),
    Mend.TRASH: Message("restored from the trash"),
    Mend.ORIGIN: Message("fetched again, with the same bytes"),
    Mend.CHANGED: Message("fetched again; the origin has another picture now"),
    Mend.RESCUED: Message("rescued from elsewhere"),
    Mend.CLEARED: Message("the row was cleared"),
    Mend.ROW: Message("the row was written again"),
    Mend.OTHERWISE: Message("right again by itself"),
}


def verify_text(report: VerifyReport, style: Style, *, is_repair: bool) -> str:
    """Return what a call of `rehost verify` has done and found, for a person."""
    parts = [_summary(report)]
    parts += [_block(kind, report, is_repair=is_repair) for kind in Fault if kind in report.found]
    parts += [_exposed(report.exposed)] if report.exposed else []
    return "\n\n".join(fold(part, style.columns) for part in parts)


def _summary(report: VerifyReport) -> str:
    copies = ngettext("{number} copy", "{number} copies", report.copies).format(number=count(report.copies))
    verified = _("{copies}, {size} read, in {duration}").format(
        copies=copies, size=size(report.size), duration=duration(report.seconds)
    )
    going = _("complete")
    if not report.is_complete:
        done = share(min(report.copies, report.total), report.total)
        going = _("stopped after {share}; the next call goes on there").format(share=done)
    lines = [(_("verified"), verified), (_("pass"), going)]
    if report.found:
        found = _("{found} faults: {mended} mended, {left} left").format(
            found=count(report.faults), mended=count(sum(report.mended.values())), left=count(sum(report.left.values()))
        )
        lines.append((_("found"), found))
    elif not report.exposed:
        lines.append((_("found"), _("nothing wrong")))
    if report.run is not None:
        undo = _("{run}; `rehost undo {run}` takes back what it wrote into rows").format(run=report.run)
        lines.append((_("run"), undo))
    return "\n".join(_line(name, text) for name, text in lines)


def _block(kind: Fault, report: VerifyReport, *, is_repair: bool) -> str:
    """Return one kind of fault: what is so, with examples, what cures it, and where to read about it."""
    examples = [each for each in report.findings if each.kind is kind]
    lines = [_line(_("status"), translated(STATUS[kind]).format(number=count(report.found[kind])))]
    lines += [_line("", _example(each)) for each in examples[:EXAMPLES]]
    if (more := report.found[kind] - EXAMPLES) > 0:
        lines.append(_line("", _("and {number} more (--json lists them)").format(number=count(more))))
    lines.append(_line(_("action"), _action(kind, report.left.get(kind, 0), is_repair=is_repair)))
    return "\n".join([*lines, _line(_("see"), f"{PAGE}#verify")])


def _exposed(url: str) -> str:
    """Return what is wrong where anybody can read what lies in the store beside the copies, and what cures it."""
    home = url.rpartition("/")[0]
    action = _(
        "Have the server or CDN in front of the store refuse all that begins with {home}/. If the bucket itself is "
        "public, let its policy allow the folder of the copies and nothing else."
    )
    lines = [
        _line(_("status"), _("Pictures that were taken down, decoys and the trash can be read by anybody:")),
        _line("", plain(url)),
        _line(_("action"), action.format(home=plain(home))),
    ]
    return "\n".join([*lines, _line(_("see"), f"{SERVING_PAGE}#serve-the-copies")])


def _action(kind: Fault, left: int, *, is_repair: bool) -> str:
    if not left:
        return _("None: all were mended.")
    if kind in FILE_FAULTS:
        return translated(_AGAIN if is_repair else _REPAIR)
    if is_repair or kind in {Fault.COPY_WITHOUT_ROW, Fault.STRAY, Fault.SERVED}:
        return translated(_ACTION.get(kind, _AGAIN))
    return translated(_ROW_REPAIR)


def _example(finding: Finding) -> str:
    words = f"{finding.source} {plain(finding.row_key)}: {plain(finding.key)}: {plain(finding.evidence)}"
    if finding.mended_by is None:
        return words
    return _("{words}; {mend}").format(words=words, mend=translated(MENDS[finding.mended_by]))


def _line(name: str, text: str) -> str:
    return f"{pad(name, 9)} {text}" if name else f"{'':10}{text}"


def verified_words(report: VerifyReport) -> str:
    """Return how far a verification is."""
    return _("{share} verified, {copies} of {total} copies, {size}, {found} faults").format(
        share=share(min(report.copies, report.total), report.total),
        copies=count(report.copies),
        total=count(report.total),
        size=size(report.size),
        found=count(report.faults),
    )


class LineProgress(Generic[T]):
    """Shows how far a work is: one line that is redrawn on a terminal, or a line every ten seconds."""

    def __init__(self, stream: TextIO, clock: Clock, words: Callable[[T], str], *, is_quiet: bool) -> None:
        """Write to this stream what `words` makes of a report; nothing if `is_quiet`, nor in the first two seconds."""
        self._stream = stream
        self._clock = clock
        self._words = words
        self._is_quiet = is_quiet
        self._is_terminal = stream.isatty()
        self._due = clock.monotonic() + QUIET_SECONDS
        self._is_drawn = False

    def __call__(self, report: T) -> None:
        """Show the report so far, if it is time."""
        now = self._clock.monotonic()
        if self._is_quiet or now < self._due:
            return
        self._due = now + (_REDRAW_SECONDS if self._is_terminal else LINE_SECONDS)
        start, end = ("\r\x1b[K", "") if self._is_terminal else ("", "\n")
        self._stream.write(f"{start}{self._words(report)}{end}")
        self._stream.flush()
        self._is_drawn = self._is_terminal

    def close(self) -> None:
        """Remove the line from the terminal."""
        if self._is_drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
