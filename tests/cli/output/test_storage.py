"""What prune and usage print, and the progress of reading the store."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from tests.fakes import FakeClock

from rehost.cli.output.findings import LineProgress
from rehost.cli.output.storage import files_words, pruned_text, usage_text
from rehost.cli.output.tables import Style
from rehost.ledger.usage import Duplicates, LedgerUsage, Month, Part
from rehost.upkeep.prune import Amount, Pruned
from rehost.upkeep.usage import Files, StoreUsage, TrashUsage, Usage

PLAIN = Style(is_on=False)


def pruned(**changes: object) -> Pruned:
    usual = {"dry": False, "strays": Amount(40, 5_000_000), "copies": Amount(2, 9_000), "held": 200, "run": 7}
    return Pruned(**usual | changes)


def test_a_dry_prune_names_the_command_that_goes_on():
    text = pruned_text(pruned(dry=True, run=None, expired={"removed": Amount(3, 10)}), PLAIN)

    assert text.startswith("status  No row needs 42 files, 17.5% of all copies. Nothing was removed.")
    assert "3       10 B  due to be deleted from the trash (no row needed it)" in text
    assert "action  to move them to the trash, and delete there what is due: rehost prune --yes" in text


@pytest.mark.parametrize(("strays", "percent"), [(40, 20), (66, 30), (2000, 95), (10**6, 100)])
def test_a_stop_names_the_exact_command_which_then_is_enough(strays, percent):
    stopped = pruned(strays=Amount(strays, 5), stopped=True, run=None)

    assert f"if they may go: rehost prune --yes --most {percent}%\n" in pruned_text(stopped, PLAIN)
    assert stopped.share <= percent / 100


def test_a_prune_says_how_to_take_it_back_while_that_is_possible():
    assert "rehost undo 7" in pruned_text(pruned(), PLAIN)
    assert "rehost undo" not in pruned_text(pruned(), PLAIN, timedelta(0))
    assert pruned_text(pruned(strays=Amount(), copies=Amount(), run=None), PLAIN) == (
        "status  No file is there that no row needs."
    )


def usage(**changes: object) -> Usage:
    ledger = LedgerUsage(
        copies=5,
        size=5000,
        sources=[Part("cases", 5, 5000)],
        hosts=[Part("a.example", 4, 4000), Part("", 1, 1000)],
        formats=[Part("jpg", 5, 5000)],
        without_row=Part("without_row", 1, 1000),
        rescued=Part("rescued", 0, 0),
        duplicates=Duplicates(1, 1, 1000),
        tombstones=0,
        months=[Month("2026-10", 0, 0), Month("2026-11", 5, 5000)],
        bytes_per_day=50,
    )
    store = StoreUsage(copies=Files(3, 3000, 4096), strays=Files(2, 2000, 8192), missing=2, resized=1, free=10**9)
    store.trash = {"removed": TrashUsage(), "replaced": TrashUsage(4, 400, 3)}
    return Usage(**{"ledger": ledger, "store": store, "full_in_days": 100.0} | changes)


def test_usage_names_each_difference_with_its_cure():
    text = usage_text(usage(), PLAIN)

    assert text.startswith("5 copies, 5.00 kB\n")
    for part in (
        "2 copies of the ledger have no file: rehost verify --repair",
        "1 file has another size than the ledger says: rehost verify --repair",
        "No row needs 3 files: rehost prune",
        "3 files in the trash are due to be deleted: rehost prune --yes",
        "trash: another picture took its place      4  400 B",
        "2026-11              5  5.00 kB",
        "free on the disk: 1.00 GB, enough for 100 d at the rate",
    ):
        assert part in text
    assert "2026-10" not in text
    assert "more than ten years" in usage_text(usage(full_in_days=1e6), PLAIN)


def test_usage_of_a_store_that_is_not_there_says_so():
    text = usage_text(usage(store=None, problem="/images does not exist", full_in_days=None), PLAIN)

    assert "store: /images does not exist" in text


def test_progress_begins_after_two_seconds():
    stream, clock = io.StringIO(), FakeClock()
    progress = LineProgress(stream, clock, files_words, is_quiet=False)
    for seconds, files in ((1.0, 10), (1.5, 20), (0.5, 30), (10.0, 1)):
        clock.time += seconds
        progress(files)
    progress.close()

    assert stream.getvalue() == "20 files looked at\n1 file looked at\n"
