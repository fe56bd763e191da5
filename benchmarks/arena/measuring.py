"""One command, measured from outside: wall, the CPU of everything it started, and memory while it runs.

`ru_maxrss` is of no use here: a child inherits the peak of whoever forked it (Linux, exec's `setmax_mm_hiwater_rss`),
so that curl would seem to need what this Python needs. VmHWM belongs to the program itself.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

LOOK_SECONDS = 0.05
LIMIT_SECONDS = 3600.0
TICKS = os.sysconf("SC_CLK_TCK")
DECODER = "rehost.images.decoder_main"  # stands in the command line of a decoder process


@dataclass(frozen=True)
class Figures:
    """One command and everything it started, from start to end."""

    wall: float  # seconds, the sync included
    cpu: float  # seconds, user and system
    main: int  # bytes, the peak of the largest process that is no decoder
    largest: int  # bytes, the peak of the largest process
    began: float  # by the wall clock
    status: int
    curve: Sequence[tuple[float, int]] = ()  # seconds, bytes of all processes but decoders together


@dataclass
class Watch:
    """Looks at a process and its descendants, again and again."""

    root: int
    seconds: dict[int, float] = field(default_factory=dict)  # of CPU, each process's own
    peaks: dict[int, int] = field(default_factory=dict)
    decoders: set[int] = field(default_factory=set)
    curve: list[tuple[float, int]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def look_on(self) -> None:
        """Look until `ended` is set."""
        started = time.perf_counter()
        while not self.ended.wait(LOOK_SECONDS):
            now = 0
            for pid in {*tree(self.root), *self.peaks}:
                with suppress(OSError):  # it has ended
                    now += self._look(pid)
            self.curve.append((time.perf_counter() - started, now))

    def _look(self, pid: int) -> int:
        """Note what a process has used; return the bytes it has now, 0 for a decoder."""
        self.seconds[pid] = cpu_seconds(pid)
        if DECODER in Path(f"/proc/{pid}/cmdline").read_text():
            self.decoders.add(pid)
        peak, now = memory(pid)
        self.peaks[pid] = max(peak, self.peaks.get(pid, 0))
        return 0 if pid in self.decoders else now


def measure(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float = LIMIT_SECONDS
) -> Figures:
    """Run a command, then `sync -f` on its folder, and return what both took; its words go to FOLDER.log."""
    with Path(f"{folder}.log").open("wb") as log:
        began, started = time.time(), time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**plain(os.environ), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    watch = Watch(process.pid)
    looking = threading.Thread(target=watch.look_on, daemon=True)
    looking.start()
    alarm = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
    alarm.start()
    _, status, usage = os.wait4(process.pid, 0)
    alarm.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    subprocess.run(["sync", "-f", folder], check=True)
    wall = time.perf_counter() - started
    watch.ended.set()
    looking.join()
    if process.returncode not in {0, 1}:
        sys.stderr.write(f"{shlex.join(command)[:500]} ended with {process.returncode}: {last_words(folder)}\n")
    # The first counts descendants that were waited for, the second those whose parent did not wait.
    cpu = max(usage.ru_utime + usage.ru_stime, sum(watch.seconds.values()))
    main = max((peak for pid, peak in watch.peaks.items() if pid not in watch.decoders), default=0)
    largest = max(watch.peaks.values(), default=0)
    return Figures(wall, cpu, main, largest, began, process.returncode, watch.curve)


def plain(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which every side goes to the origin itself, and finds no modules of ours."""
    return {
        name: value
        for name, value in environment.items()
        if not name.lower().endswith("_proxy") and name != "PYTHONPATH"
    }


def last_words(folder: Path, most: int = 300) -> str:
    """Return the end of what a side wrote."""
    lines = Path(f"{folder}.log").read_text(errors="replace").strip().splitlines()
    return " ".join(" ".join(lines[-3:]).split())[-most:]


def tree(root: int) -> list[int]:
    """Return a process and its descendants."""
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        with suppress(OSError):  # it has ended
            for task in Path(f"/proc/{pid}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return what a process has used, without its children (proc_pid_stat(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> tuple[int, int]:
    """Return the peak of a process and what it has now, in bytes; a process that is ending has none."""
    words = {
        line.split(":")[0]: line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if "kB" in line
    }
    return int(words.get("VmHWM", 0)) * 1024, int(words.get("VmRSS", 0)) * 1024
