"""The options that all benchmarks share, and the folder that they work in."""

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

from harness.report import RESULTS


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for the common options; from now on SIGTERM exits with all cleanup."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    common = argparse.ArgumentParser(description=description.split("\n", maxsplit=1)[0])
    common.add_argument("--scale", type=float, default=0.25, help="share of the whole workload (default 0.25)")
    common.add_argument("--rounds", type=int, default=3, help="rounds that count (default 3)")
    common.add_argument(
        "--folder", type=Path, default=None, help="parent of the working folder (default: the temporary folder)"
    )
    common.add_argument("--results", type=Path, default=RESULTS, help="folder for the result (default: results/)")
    return common


@contextmanager
def work_folder(parent: Path | None, size: int, files: int = 0) -> Iterator[Path]:
    """Yield a new folder that is removed afterwards; exit with a message if its disk has too little space."""
    folder = Path(tempfile.mkdtemp(prefix="rehost-bench-", dir=parent))
    try:
        free, inodes = shutil.disk_usage(folder).free, os.statvfs(folder).f_favail
        if free < size:
            sys.exit(f"{folder} has {free / 1e9:.1f} GB free; this run needs {size / 1e9:.1f} GB.")
        if inodes < files:
            sys.exit(f"{folder} has {inodes} inodes free; this run needs {files}.")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
