import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.databases import database, database_url

from rehost.clock import Clock
from rehost.store.local import LocalStore

__all__ = ["database", "database_url"]

ONE_GROUP = Path(__file__).with_name("one_group.py")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data" / "images"


@pytest.fixture
async def store(root):
    async with LocalStore(root, clock=Clock()) as store:
        yield store


@pytest.fixture
def one_group(root):
    """Run one_group.py under a command such as strace; return the completed process."""

    def run(count, content, *step, under=()):
        command = [*under, sys.executable, str(ONE_GROUP), str(root), str(count), content, *step]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def strace(tmp_path):
    """Return a command line that traces these calls; the trace is at `strace.trace`."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")

    def command(*expressions, calls):
        selected = [word for expression in (f"trace={calls}", *expressions) for word in ("-e", expression)]
        return ["strace", "-f", "-y", "-qq", "-s", "64", "-o", str(command.trace), *selected]

    command.trace = tmp_path / "trace"
    return command


@pytest.fixture
def tmpfs(tmp_path):
    """Mount a small file system; return its folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "tmpfs"
    folder.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("no file system can be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
