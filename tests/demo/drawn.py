"""The demonstration's pictures for all tests: to draw them takes seconds."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from rehost.demo.cases import make_cases
from rehost.demo.demonstration import MARK, MARK_TEXT, PICTURES
from rehost.demo.pictures import Pictures


def drawn_pictures(temporary: Path) -> Pictures:
    """Return the pictures, which the first process of the tests draws below the base of its temporary folders."""
    folder = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "demo-pictures"
    pictures = Pictures(folder)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pictures.create(make_cases())
    return pictures


def make_folder(folder: Path, temporary: Path) -> Path:
    """Make the folder of a demonstration that has drawn its pictures before; return it."""
    shutil.copytree(drawn_pictures(temporary).folder, folder / PICTURES)
    (folder / MARK).write_text(MARK_TEXT)
    return folder
