"""Folders of test servers: removed at the end, or by the next process if theirs was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.scratch import scratch_folder

KILLED = """
import os
from tests.scratch import scratch_folder
with scratch_folder("server"):
    os._exit(0)
"""


def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", KILLED], env=environment, check=True)
    left = list(tmp_path.iterdir())

    with scratch_folder("server") as one, scratch_folder("server") as two, scratch_folder("other") as third:
        assert len(left) == 1
        assert set(tmp_path.iterdir()) == {one, two, third}

    assert list(tmp_path.iterdir()) == []
