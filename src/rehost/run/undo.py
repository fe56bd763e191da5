"""Takes a run over one source back: rows it wrote get the local URL from before, unless they have changed since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rehost.catalogue.table import Restore, TableCatalogue
from rehost.ledger.history import Runs
from rehost.model import RowRefusal


@dataclass(frozen=True, slots=True)
class Undone:
    """What undoing a run has done, in rows."""

    restored: int
    left: int  # changed since, or cleared for a file that is still missing, and left as they are
    refused: int = 0  # the database refuses to write them
    evidence: str | None = None  # why it refuses the first of these


async def undo(
    runs: Runs, run: int, catalogue: TableCatalogue, *, is_there: Callable[[str], bool] = lambda _url: True
) -> Undone:
    """Put the column back as it was before a run, row by row where the row has not changed since.

    A second call finds nothing left to do. The copies stay, and the next run points the rows at them again. Rows that a
    run cleared stay cleared if the copies were decoys, which are in quarantine, or if their files are still missing.

    Args:
        runs: the ledger's.
        run: the run's number.
        catalogue: the source that it wrote.
        is_there: returns whether a local URL still leads to a file; if not, the column becomes NULL, because no row
            may point at a file that is gone (invariant 1).

    Raises:
        LedgerError: there is no such run of this source.
        OperatorError: a database cannot be used.
    """
    await runs.check(run, catalogue.name)
    restored, seen, last = 0, 0, 0
    refused: dict[Restore, RowRefusal] = {}
    while group := await runs.changes(run, catalogue.name, last):
        last = group[-1].number
        group = [
            replace(change, before=catalogue.empty) if change.before and not is_there(change.before) else change
            for change in group
        ]
        restores = {
            each: Restore(each.row_key, each.url, each.before, each.after)
            for each in group
            if each.before or each.after
        }
        written = await catalogue.restore(list(restores.values()))
        refused |= written.refused
        await runs.mark_restored(catalogue.name, [each for each in group if restores.get(each) not in written.refused])
        restored += len(written.before)
        seen += len(group)
    if not refused:
        await runs.mark_undone(run, catalogue.name)
    evidence = next((f"row {row.row_key}: {refusal.evidence}" for row, refusal in refused.items()), None)
    return Undone(restored, seen - restored - len(refused), len(refused), evidence)
