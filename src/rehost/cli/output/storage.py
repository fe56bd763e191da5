"""What `rehost undo`, `rehost prune`, `rehost move-store` and `rehost usage` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from rehost.cli.output.programs import total_undone
from rehost.cli.output.tables import Style, fold, pad, table
from rehost.language import Message, ngettext, translated
from rehost.language import gettext as _
from rehost.telemetry.format import count, duration, share, size

if TYPE_CHECKING:
    from rehost.ledger.usage import LedgerUsage
    from rehost.upkeep.move import MoveReport
    from rehost.upkeep.prune import Amount, Pruned
    from rehost.upkeep.undo import Undone
    from rehost.upkeep.usage import StoreUsage, Usage

PAGE = "docs/howto/keep-right.md"
_MANY_DAYS = 3650.0
_FEW_LISTED = 10  # missing copies
_CAUSES = {"removed": Message("no row needed it"), "replaced": Message("another picture took its place")}


def files_words(files: int) -> str:
    """Return how many files were looked at so far."""
    return ngettext("{number} file looked at", "{number} files looked at", files).format(number=count(files))


# --- undo


def undone_text(undone: Mapping[str, Undone], run: int) -> str:
    """Return what undoing a run has done in each of several sources, and in all."""

    def sentence(each: Undone) -> str:
        restored = ngettext(
            "Restored {number} row to what it was before run {run}.",
            "Restored {number} rows to what they were before run {run}.",
            each.restored,
        ).format(number=count(each.restored), run=run)
        files = ngettext(
            "{number} file is back from the trash.", "{number} files are back from the trash.", each.files
        ).format(number=count(each.files))
        gone = ngettext(
            "{number} file is not in the trash any more.", "{number} files are not in the trash any more.", each.gone
        ).format(number=count(each.gone))
        left = ngettext(
            "{number} row was left as it is: it has changed since, or its file is missing.",
            "{number} rows were left as they are: they have changed since, or their files are missing.",
            each.left,
        ).format(number=count(each.left))
        refused = ngettext(
            "The database refuses to write {number} row: {evidence}.",
            "The database refuses to write {number} rows, the first of them: {evidence}.",
            each.refused,
        ).format(number=count(each.refused), evidence=each.evidence)
        further = ((each.files, files), (each.left, left), (each.gone, gone), (each.refused, refused))
        texts = [text for number, text in further if number]
        if each.files and not each.restored:  # of no row
            restored, *texts = texts
        for more in texts:
            restored = _("{restored} {left}").format(restored=restored, left=more)
        return restored

    if len(undone) == 1:
        return sentence(total_undone(undone))
    every = [*undone.items(), (_("total"), total_undone(undone))]
    return "\n".join(_("{source}: {text}").format(source=name, text=sentence(each)) for name, each in every)


# --- prune


def pruned_text(pruned: Pruned, style: Style, grace: timedelta | None = None) -> str:
    """Return what a prune found and did; `grace` is the one that was given."""
    lines = [(_("status"), _pruned_status(pruned))]
    for amount, words in (
        (pruned.strays, _("strays: at the place of a copy, and no link's copy")),
        (pruned.copies, _("copies whose rows are gone")),
    ):
        lines += [("", f"{_amount(amount)}  {words}")] if amount.files else []
    lines += _trash_lines(pruned)
    if pruned.young:
        young = ngettext(
            "{number} stray is less than a day old, and stays",
            "{number} strays are less than a day old, and stay",
            pruned.young,
        )
        lines.append(("", young.format(number=count(pruned.young))))
    if pruned.kept:
        kept = ngettext(
            "{number} file was left: it has changed meanwhile, or cannot be read",
            "{number} files were left: they have changed meanwhile, or cannot be read",
            pruned.kept,
        )
        lines.append(("", kept.format(number=count(pruned.kept))))
    lines += [(_("action"), action) for action in [_pruned_action(pruned, grace)] if action]
    lines += [(_("see"), PAGE)] if pruned.stopped or (pruned.dry and pruned.found) else []
    return fold("\n".join(f"{pad(name, 7)} {words}" for name, words in lines), style.columns)


def _pruned_status(pruned: Pruned) -> str:
    if not pruned.found:
        return _("No file is there that no row needs.")
    number, of = count(pruned.found), share(pruned.found, max(1, pruned.held + pruned.strays.files))
    if pruned.stopped:
        text = ngettext(
            "No row needs {number} file, {share} of all copies. Nothing was removed: so many at once may be a mistake.",
            "No row needs {number} files, {share} of all copies. Nothing was removed: so many at once may be a "
            "mistake.",
            pruned.found,
        )
    elif pruned.dry:
        text = ngettext(
            "No row needs {number} file, {share} of all copies. Nothing was removed.",
            "No row needs {number} files, {share} of all copies. Nothing was removed.",
            pruned.found,
        )
    else:
        text = ngettext(
            "Moved {number} file to the trash that no row needed.",
            "Moved {number} files to the trash that no row needed.",
            pruned.found,
        )
    return text.format(number=number, share=of)


def _trash_lines(pruned: Pruned) -> list[tuple[str, str]]:
    words = _("due to be deleted from the trash") if pruned.dry or pruned.stopped else _("deleted from the trash")
    return [
        ("", f"{_amount(amount)}  {words} ({translated(_CAUSES[cause])})")
        for cause, amount in pruned.expired.items()
        if amount.files
    ]


def _pruned_action(pruned: Pruned, grace: timedelta | None) -> str:
    """Return the command that goes on from here; an empty text if nothing is left to do."""
    if pruned.stopped:
        percent = min(100, 5 * (int(pruned.share * 20) + 1))
        return _("if they may go: rehost prune --yes --most {percent}%").format(percent=percent)
    if pruned.dry and (pruned.found or any(each.files for each in pruned.expired.values())):
        return _("to move them to the trash, and delete there what is due: rehost prune --yes")
    if pruned.run is not None and not pruned.dry and (grace is None or grace):
        return _("to put them back while they are in the trash: rehost undo {run}").format(run=pruned.run)
    return ""


def _amount(amount: Amount) -> str:
    return f"{count(amount.files):>9}  {size(amount.size):>9}"


# --- move-store


def moving_words(report: MoveReport) -> str:
    """Return how far a move is."""
    if report.phase == "emptied":
        return ngettext("{number} copy deleted", "{number} copies deleted", report.copies).format(
            number=count(report.copies)
        )
    if report.visited:
        text = ngettext("waiting for {number} visit to end", "waiting for {number} visits to end", report.visited)
        return text.format(number=count(report.visited))
    return _("{there} of {copies} copies are at {place}, {switched} rows changed").format(
        there=count(report.there), copies=count(report.copies), place=report.to_place, switched=count(report.switched)
    )


def move_text(report: MoveReport, style: Style) -> str:
    """Return what a move has done, and what is left to do."""
    lines = [(_("status"), _move_status(report))]
    if report.copied:
        text = _("{number} copied now, {size}; {there} were there already")
        there = count(max(0, report.there - report.copied))
        lines.append(("", text.format(number=count(report.copied), size=size(report.copied_size), there=there)))
    if report.refused:
        text = ngettext(
            "the database refuses to write {number} row; runs try again",
            "the database refuses to write {number} rows; runs try again",
            report.refused,
        )
        lines.append(("", text.format(number=count(report.refused))))
    lines += [(_("lacks") if not n else "", _missing_words(each)) for n, each in enumerate(report.listed[:_FEW_LISTED])]
    if report.missing > _FEW_LISTED:
        lines.append(("", _("and {number} more: --json").format(number=count(report.missing - _FEW_LISTED))))
    lines += [(_("action"), action) for action in [_move_action(report)] if action]
    return fold("\n".join(f"{pad(name, 7)} {words}" for name, words in lines), style.columns)


def _missing_words(each: Mapping[str, str]) -> str:
    return _("{source} {key}: {file}: {evidence}").format(**each)


def _move_status(report: MoveReport) -> str:
    places = {"origin": report.from_place, "target": report.to_place}
    there, copies, all_size = count(report.there), count(report.copies), size(report.size)
    if report.phase == "ended" and not report.dry:
        text = ngettext(
            "Moved {copies} copy, {size}, from {origin} to {target}.",
            "Moved {copies} copies, {size}, from {origin} to {target}.",
            report.copies,
        )
    elif report.phase == "emptied" and report.dry:
        text = ngettext(
            "Would delete {copies} copy, {size}, in {origin}.",
            "Would delete {copies} copies, {size}, in {origin}.",
            report.copies,
        )
    elif report.phase == "emptied":
        text = ngettext(
            "Deleted {copies} copy, {size}, in {origin}. What is below .rehost there is left.",
            "Deleted {copies} copies, {size}, in {origin}. What is below .rehost there is left.",
            report.copies,
        )
    elif report.phase == "abandoned":
        text = _("The move to {target} is given up. All copies are in {origin}, as before.")
    elif report.dry:
        text = ngettext(
            "{copies} copy, {size}, would move from {origin} to {target}; {there} of that are known to be there.",
            "{copies} copies, {size}, would move from {origin} to {target}; {there} of these are known to be there.",
            report.copies,
        )
    elif report.missing and report.phase == "copying":
        text = ngettext(
            "Not moved yet: {origin} lacks {missing} of the {copies} copies. {there} are in {target}, no row changed.",
            "Not moved yet: {origin} lacks {missing} of the {copies} copies. {there} are in {target}, no row changed.",
            report.missing,
        )
    else:
        text = _("Not complete: {there} of {copies} copies are in {target}.")
    return text.format(there=there, copies=copies, size=all_size, missing=count(report.missing), **places)


def _move_action(report: MoveReport) -> str:
    """Return what to do next."""
    places = {"origin": report.from_place, "target": report.to_place}
    if report.phase in {"abandoned", "emptied"} or report.dry:
        return ""
    if report.phase == "ended":
        text = _(
            "set IMAGE_STORAGE_DIR to {target} now, and start servers and runs again. {origin} is left as it is: "
            "`rehost move-store {origin}` moves back, `rehost move-store --delete-old` deletes what is there."
        )
    elif report.missing and report.phase == "copying":
        text = _(
            "rehost verify --repair, then rehost move-store {target} again; or go on without them: rehost move-store "
            "{target} --accept-loss"
        )
    else:
        text = _("to go on: rehost move-store {target}; to take it back: rehost move-store {origin}")
    return text.format(**places)


# --- usage


def usage_text(usage: Usage, style: Style) -> str:
    """Return the report on what the copies take up."""
    ledger = usage.ledger
    parts = [
        table(
            [_("source"), _("copies"), _("bytes")],
            [(each.name, each.copies, size(each.size)) for each in ledger.sources],
            style,
        ),
        table(
            [_("host"), _("copies"), _("bytes")],
            [(each.name or _("(no valid URL)"), each.copies, size(each.size)) for each in ledger.hosts],
            style,
        ),
        table(
            [_("format"), _("copies"), _("bytes")],
            [(each.name or _("unknown"), each.copies, size(each.size)) for each in ledger.formats],
            style,
        ),
        _side_by_side(usage, style),
        _others(ledger, style),
        _growth(usage, style),
    ]
    head = ngettext("{number} copy, {size}", "{number} copies, {size}", ledger.copies)
    parts.insert(0, style("strong", head.format(number=count(ledger.copies), size=size(ledger.size))))
    return "\n\n".join(part for part in parts if part)


def _side_by_side(usage: Usage, style: Style) -> str:
    store, ledger = usage.store, usage.ledger
    if store is None:
        return fold(f"{_('store')}: {translated(usage.problem or '')}", style.columns)
    rows: list[tuple[str, str | int, str, str]] = [
        (_("ledger: copies"), ledger.copies, size(ledger.size), ""),
        (_("store: copies"), store.copies.files, size(store.copies.size), size(store.copies.disk_size)),
    ]
    further = (
        (store.strays, _("store: strays, which no link has")),
        (store.found, _("store: found, to be examined by the next run")),
        (store.others, _("store: other files")),
        (store.quarantine, _("quarantine")),
    )
    rows += [(name, each.files, size(each.size), size(each.disk_size)) for each, name in further if each.files]
    rows += [
        (_("trash: {cause}").format(cause=translated(_CAUSES[cause])), each.files, size(each.size), "")
        for cause, each in store.trash.items()
        if each.files
    ]
    listed = table(["", _("files"), _("bytes"), _("on disk")], rows, style)
    return "\n".join([listed, *_differences(store, ledger, style)])


def _differences(store: StoreUsage, ledger: LedgerUsage, style: Style) -> Sequence[str]:
    """Return what the difference between ledger and store consists of, each with the command that cures it."""
    texts = []
    if store.missing:
        text = ngettext(
            "{number} copy of the ledger has no file: rehost verify --repair",
            "{number} copies of the ledger have no file: rehost verify --repair",
            store.missing,
        )
        texts.append(text.format(number=count(store.missing)))
    if store.resized:
        text = ngettext(
            "{number} file has another size than the ledger says: rehost verify --repair",
            "{number} files have another size than the ledger says: rehost verify --repair",
            store.resized,
        )
        texts.append(text.format(number=count(store.resized)))
    if number := store.strays.files + ledger.without_row.copies:
        text = ngettext("No row needs {number} file: rehost prune", "No row needs {number} files: rehost prune", number)
        texts.append(text.format(number=count(number)))
    if due := sum(each.due for each in store.trash.values()):
        text = ngettext(
            "{number} file in the trash is due to be deleted: rehost prune --yes",
            "{number} files in the trash are due to be deleted: rehost prune --yes",
            due,
        )
        texts.append(text.format(number=count(due)))
    if not store.missing and not store.resized and not store.strays.files:
        texts.insert(0, _("Ledger and store agree."))
    return ["", *(fold(text, style.columns) for text in texts)]


def _others(ledger: LedgerUsage, style: Style) -> str:
    same = ledger.duplicates
    rows: list[tuple[str, int, str]] = [
        (_("with the same bytes as another"), same.copies, size(same.size)),
        (_("whose rows are gone"), ledger.without_row.copies, size(ledger.without_row.size)),
        (_("rescued from elsewhere"), ledger.rescued.copies, size(ledger.rescued.size)),
        (_("taken down, and never to come back"), ledger.tombstones, ""),
    ]
    return table([_("of the copies"), _("number"), _("bytes")], [row for row in rows if row[1]], style)


def _growth(usage: Usage, style: Style) -> str:
    months = usage.ledger.months
    first = next((number for number, each in enumerate(months) if each.copies), len(months))
    rows = [(each.month, each.copies, size(each.size)) for each in months[first:]]
    listed = table([_("month"), _("copies stored"), _("bytes")], rows, style)
    return "\n".join(part for part in (listed, fold(_forecast(usage), style.columns)) if part)


def _forecast(usage: Usage) -> str:
    if usage.store is None or usage.store.free is None:
        return ""
    free = _("free on the disk: {free}").format(free=size(usage.store.free))
    if usage.full_in_days is None:
        return free
    if usage.full_in_days > _MANY_DAYS:
        text = _("{free}, enough for more than ten years at the rate of the last 90 days ({rate} a day)")
    else:
        text = _("{free}, enough for {time} at the rate of the last 90 days ({rate} a day)")
    time_left = duration(usage.full_in_days * 86_400.0)
    return text.format(free=free, time=time_left, rate=size(usage.ledger.bytes_per_day))
