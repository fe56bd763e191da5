"""Who this process is, among all workers there ever were, and whether another one of this machine is no more."""

from __future__ import annotations

import getpass
import os
import platform
import uuid
from pathlib import Path


def name() -> str:
    """Return this process's name as a worker: never given twice."""
    pid = os.getpid()
    return f"{_machine() or platform.node()}:{pid}:{_started(pid)}:{uuid.uuid4().hex[:8]}"


def is_gone(worker: str) -> bool:
    """Return whether the worker of that name was a process of this machine that is no more.

    False where that cannot be known: on other machines, after this one was started anew, and where there is no /proc.
    """
    machine, pid, started, _ = worker.rsplit(":", 3)
    return machine == _machine() and started != _started(int(pid))


def user() -> str:
    """Return the name of who runs this process, or the number of a user without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def kernel() -> str:
    """Return what tells this machine, since it was started, from all others; nothing where there is no /proc.

    Its name does not, of machines made from one image; nor do its namespaces: the first one has the same number
    everywhere (linux/proc_ns.h, PROC_PID_INIT_INO).
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _machine() -> str | None:
    """Return what tells this machine from others, and this container from its neighbours, with its name to read."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None
    return f"{platform.node()}/{kernel()}/{namespace}" if kernel() else None


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks (proc(5), stat, field 22); nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
