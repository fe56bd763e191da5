"""Where a benchmark works, and the options that all of them have."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arena.report import RESULTS


def options(description: str) -> argparse.ArgumentParser:
    """Return the options that every benchmark has; from here on SIGTERM ends it as an error does, tidily."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=description.split("\n", maxsplit=1)[0])
    parser.add_argument("--scale", type=float, default=0.25, help="share of the whole workload (default 0.25)")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds (default 3)")
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: a temporary folder)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the result goes (default: results/)")
    return parser


@contextmanager
def workplace(parent: Path | None, size: int, files: int = 0) -> Iterator[Path]:
    """Give a fresh folder that is gone afterwards; end with a sentence where its disk has too little to spare."""
    ground = Path(tempfile.mkdtemp(prefix="rehost-bench-", dir=parent))
    try:
        free, inodes = shutil.disk_usage(ground).free, os.statvfs(ground).f_favail
        if free < size:
            sys.exit(f"{ground} has {free / 1e9:.1f} GB free; this run needs {size / 1e9:.1f} GB.")
        if inodes < files:
            sys.exit(f"{ground} has {inodes} inodes free; this run needs {files}.")
        yield ground
    finally:
        shutil.rmtree(ground, ignore_errors=True)
