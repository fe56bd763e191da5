"""Takes a run over one source back: rows and copies become what they were before, unless they have changed since."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rehost.catalogue.table import Restore, TableCatalogue
from rehost.db import Connection
from rehost.ledger.history import History, RowChange
from rehost.model import Link, RowRefusal
from rehost.upkeep.journal import Journal
from rehost.upkeep.putback import PutBack, Returned


@dataclass(frozen=True, slots=True)
class Undone:
    """What undoing a run has done, in rows and in files."""

    restored: int  # rows
    left: int  # changed since, or their files are missing, and left as they are
    refused: int = 0  # the database refuses to write them
    evidence: str | None = None  # why it refuses the first of these
    files: int = 0  # put back from the trash
    gone: int = 0  # of `left`: files that are not in the trash any more


FindLost = Callable[[Collection[str]], Awaitable[Collection[str]]]


async def undo(
    journal: Journal,
    run: int,
    catalogue: TableCatalogue,
    *,
    put_back: PutBack | None = None,
    find_lost: FindLost | None = None,
) -> Undone:
    """Put rows and copies back as they were before a run, where they have not changed since.

    A second call finds nothing left to do. What a run copied for the first time stays in the store, and the next run
    points the rows at it again. Rows that a run cleared stay cleared if the copies were decoys, which are in
    quarantine, or if their files are still missing.

    Args:
        journal: of the undo, which can be undone as well.
        run: the run's number.
        catalogue: the source that it wrote.
        put_back: puts files of the source back; without it only rows are restored.
        find_lost: returns which of some local URLs lead to no file any more; the column becomes NULL there, because no
            row may point at a file that is gone (invariant 1).

    Raises:
        LedgerError: there is no such run of this source.
        OperatorError: a database or the store cannot be used.
    """
    runs = journal.runs
    await runs.check(run, catalogue.name)
    restored, left, last, files = 0, 0, 0, Returned()
    refused: dict[Restore, RowRefusal] = {}
    while group := await runs.changes(run, catalogue.name, last):
        last = group[-1].number
        rows = [each for each in group if not each.is_replaced and (not each.is_removed or each.before)]
        if put_back is not None:
            returned = await _put_back(put_back, journal, group)
            files += returned
            restored += returned.back - returned.refused
            removed = await put_back.put_files([each for each in group if each.is_removed])
            files += removed
            left += returned.left + removed.left
        lost = await find_lost({each.before for each in rows if each.before}) if find_lost else ()
        rows = [replace(each, before=catalogue.empty) if each.before in lost else each for each in rows]
        restores = {
            each: Restore(each.row_key, each.url, each.before, each.after) for each in rows if each.before or each.after
        }
        written, failed = await _restore(journal, catalogue, restores)
        refused |= failed
        await runs.mark_restored(catalogue.name, [each for each in rows if restores.get(each) not in failed])
        restored += written
        left += len(rows) - written - len(failed)
    if not refused and not files.refused:
        await runs.mark_undone(run, catalogue.name)
    evidence = next((f"row {row.row_key}: {refusal.evidence}" for row, refusal in refused.items()), None)
    return Undone(restored, left, len(refused) + files.refused, evidence, files.back, files.gone)


async def _put_back(put_back: PutBack, journal: Journal, changes: Sequence[RowChange]) -> Returned:
    """Put the copies back that were replaced; those whose links have another copy by now are left."""
    replaced = [each for each in changes if each.is_replaced]
    kept = [each for each in replaced if each.entry is not None]
    returned = Returned(left=len(replaced) - len(kept))
    if kept:
        run = await journal.begin(put_back.recorder.catalogue.name)
        returned += await put_back.put_back(run, kept)
    return returned


async def _restore(
    journal: Journal, catalogue: TableCatalogue, restores: Mapping[RowChange, Restore]
) -> tuple[int, Mapping[Restore, RowRefusal]]:
    """Restore the rows that are still as the run left them; return how many, and which the database refuses to write.

    The journal comes first, so that a kill in between leaves nothing that cannot be undone.
    """
    links = {Link(catalogue.name, each.row_key, each.position, each.url, None, None): each for each in restores}
    there = await catalogue.local_urls(list(links))
    still = [link for link, each in links.items() if link in there and there[link] == each.after]
    if not still:
        return 0, {}
    run, history = await journal.begin(catalogue.name), History(journal.runs.database)

    async def announce(transaction: Connection) -> None:
        changes = [(link, there[link], restores[links[link]].before) for link in still]
        await history.add_changes(transaction, run, changes)

    await journal.runs.database.transact(announce)
    written = await catalogue.restore([restores[links[link]] for link in still])
    return len(written.before), written.refused
