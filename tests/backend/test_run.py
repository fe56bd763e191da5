"""`python run.py`: the backend started as in the manual."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.backend.conftest import BACKEND, Api, plain_environment
from tests.databases import CASES
from tests.origin import Origin
from tests.server.conftest import free_socket


def test_fetched_picture_is_logged_to_stderr(tmp_path: Path) -> None:
    with free_socket() as chosen:
        port = str(chosen.getsockname()[1])
    with Origin() as origin:
        with contextlib.closing(sqlite3.connect(tmp_path / "c.db")) as database, database:
            database.execute(CASES)
            insert = "INSERT INTO ad_cases VALUES (1, 'http://p.example/', 't', ?, NULL)"
            database.execute(insert, [origin.url("permissive", host="pics.example")])
        settings = {
            **origin.environment(),
            "DATABASE_URL": f"sqlite:///{tmp_path}/c.db",
            "IMAGE_STORAGE_DIR": str(tmp_path / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_VERIFY": "structure",
            "IMAGE_READ_THROUGH": "on",
            "API_PORT": port,
        }
        said = []
        with subprocess.Popen(
            [sys.executable, BACKEND / "run.py"], env=plain_environment(**settings), stderr=subprocess.PIPE, text=True
        ) as process:
            for line in process.stderr or ():
                said.append(line)
                if "running on" in line:
                    break
            reply = Api(f"http://127.0.0.1:{port}").get("/image/cases/1")
            process.terminate()
            said += process.stderr or ()

    assert reply.status == 200
    assert re.search(r"^\S+Z INFO visit stored row=1 origin=pics.example ", "".join(said), re.MULTILINE)
