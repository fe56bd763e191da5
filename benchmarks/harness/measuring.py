"""Measure one command from outside: wall time, the CPU time of everything that it starts, and memory while it runs.

`ru_maxrss` does not work here: a child inherits the peak of the process that forked it (Linux, exec's
`setmax_mm_hiwater_rss`), so curl would seem to need what this Python needs. VmHWM belongs to the program itself.
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
DECODER = "rehost.images.decoder_main"  # part of the command line of a decoder process


@dataclass(frozen=True)
class Figures:
    """The figures of one command and of everything that it started."""

    wall: float  # seconds, including the sync
    cpu: float  # seconds, user and system
    main: int  # bytes, the peak of the largest process apart from decoders
    largest: int  # bytes, the peak of the largest process
    began: float  # seconds since the epoch
    status: int
    curve: Sequence[tuple[float, int]] = ()  # seconds, and bytes of all processes except decoders


@dataclass
class Sampler:
    """Samples a process and its descendants at intervals."""

    root: int
    seconds: dict[int, float] = field(default_factory=dict)  # CPU seconds of each process
    peaks: dict[int, int] = field(default_factory=dict)
    decoders: set[int] = field(default_factory=set)
    curve: list[tuple[float, int]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Sample until `ended` is set."""
        started = time.perf_counter()
        while not self.ended.wait(LOOK_SECONDS):
            now = 0
            for pid in {*tree(self.root), *self.peaks}:
                with suppress(OSError):  # it has ended
                    now += self._sample(pid)
            self.curve.append((time.perf_counter() - started, now))

    def _sample(self, pid: int) -> int:
        """Record what a process has used; return its current bytes, 0 for a decoder."""
        self.seconds[pid] = cpu_seconds(pid)
        if DECODER in Path(f"/proc/{pid}/cmdline").read_text():
            self.decoders.add(pid)
        peak, now = memory(pid)
        self.peaks[pid] = max(peak, self.peaks.get(pid, 0))
        return 0 if pid in self.decoders else now


def measure(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float = LIMIT_SECONDS
) -> Figures:
    """Run a command and then `sync -f` on its folder, and return what both took; the output goes to FOLDER.log."""
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
    watch = Sampler(process.pid)
    looking = threading.Thread(target=watch.run, daemon=True)
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
    # The first counts descendants that were waited for, the second those that were not.
    cpu = max(usage.ru_utime + usage.ru_stime, sum(watch.seconds.values()))
    main = max((peak for pid, peak in watch.peaks.items() if pid not in watch.decoders), default=0)
    largest = max(watch.peaks.values(), default=0)
    return Figures(wall, cpu, main, largest, began, process.returncode, watch.curve)


def plain(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without proxies and without a path to our modules."""
    return {
        name: value
        for name, value in environment.items()
        if not name.lower().endswith("_proxy") and name != "PYTHONPATH"
    }


def last_words(folder: Path, most: int = 300) -> str:
    """Return the last line of a side's output."""
    lines = Path(f"{folder}.log").read_text(errors="replace").strip().splitlines()
    return " ".join(" ".join(lines[-3:]).split())[-most:]


def tree(root: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        with suppress(OSError):  # it has ended
            for task in Path(f"/proc/{pid}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process without its children (proc_pid_stat(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> tuple[int, int]:
    """Return the peak and the current memory of a process in bytes; 0 for a process that is ending."""
    words = {
        line.split(":")[0]: line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if "kB" in line
    }
    return int(words.get("VmHWM", 0)) * 1024, int(words.get("VmRSS", 0)) * 1024
