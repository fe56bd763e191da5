"""Promise 2, in a whole run: bytes, pixels, frames and time are bounded, and the main process stays small."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

from tests.origin import Origin
from tests.run.test_run import make_world

MOST_MEGABYTES = 150
PROGRAM = """
import sys
from pathlib import Path
from rehost.cli.main import main
try:
    sys.exit(main(["run"]))
finally:
    words = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
    print("peak", int(words[0]) // 1024, file=sys.stderr)
"""
ENDLESS = {
    "endless": "too-large",
    "endless-chunked": "too-large",
    "gzip-bomb": "too-large",
    "announces-too-much": "too-large",
    "drip": "timed-out",  # as slow as 16 bytes a second
    "drip-headers": "timed-out",
    "header-flood": "malformed",
    "chunked-endless-size": "malformed",
}


def test_promise_2_bombs_and_endless_bodies_leave_the_main_process_small(shared, sample, tmp_path):
    with (shared / "corpus" / "manifest.csv").open(newline="") as file:
        bombs = [row["file"] for row in csv.DictReader(file) if row["expected"] == "bomb"]
    paths = {f"/bomb/{number}": shared / "corpus" / name for number, name in enumerate(sample(bombs, 8))}

    def play(_host, path, _headers):
        return paths[path].read_bytes() if path in paths else None

    with Origin(play) as origin:
        world = make_world(tmp_path, origin, {})
        world.add(*(f"http://bombs.example{path}" for path in paths))
        world.add(*(world.link(name, host=f"{name}.example") for name in ENDLESS))
        said = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env=os.environ
            | {
                "DATABASE_URL": f"sqlite:///{tmp_path}/c.db",
                "IMAGE_STORAGE_DIR": str(tmp_path / "images"),
                "IMAGE_MIN_FREE_BYTES": "0",
                "IMAGE_MAX_BYTES": "2MiB",
                "IMAGE_DOWNLOAD_TIMEOUT": "3",
                "IMAGE_DOWNLOAD_RETRY": "1",
                "IMAGE_CONNECT_TO": origin.connect_to,
                "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    assert said.returncode == 1, said.stderr  # the run ended; some links were refused
    assert world.locals() == {}
    reasons = dict(world.sql("SELECT host, reason FROM rehost_links WHERE host <> 'bombs.example'"))
    assert reasons == {f"{name}.example": reason for name, reason in ENDLESS.items()}
    found = dict(world.sql("SELECT reason, count(*) FROM rehost_links WHERE host = 'bombs.example' GROUP BY reason"))
    assert found.keys() <= {"too-large", "corrupt", "not-an-image", "unsupported-format", "truncated"}
    assert sum(found.values()) == len(paths)
    assert int(said.stderr.rpartition("peak ")[2].split()[0]) < MOST_MEGABYTES
