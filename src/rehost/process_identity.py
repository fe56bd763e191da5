"""A name for this process that no other worker ever has, whether a worker has ended, and what others can see of it."""

from __future__ import annotations

import ctypes
import getpass
import os
import platform
import uuid
from pathlib import Path

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def name() -> str:
    """Return a name for this process as a worker; each call returns another one, and no name is ever used twice."""
    pid = os.getpid()
    return f"{_machine() or platform.node()}:{pid}:{_started(pid)}:{uuid.uuid4().hex[:8]}"


def is_gone(worker: str) -> bool:
    """Return whether the worker of that name was a process of this machine that has ended.

    False where this cannot be known: of other machines, after a reboot of this one, and without /proc.
    """
    machine, pid, started, _ = worker.rsplit(":", 3)
    return machine == _machine() and started != _started(int(pid))


def user() -> str:
    """Return the name of the user that runs this process, or the user's number if it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def hide_memory() -> None:
    """Hide the memory and the environment of this process, which hold secrets, from its user's other processes.

    Only root can attach a debugger then, and there are no core dumps (prctl(2), PR_SET_DUMPABLE; Linux only).
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def kernel() -> str:
    """Return the boot id of this machine, which differs from all others and after each boot; empty without /proc.

    Machines made from one image share their name, and the first namespace has the same number everywhere
    (linux/proc_ns.h, PROC_PID_INIT_INO).
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _machine() -> str | None:
    """Return host name, boot id and PID namespace, which together differ for each machine and container."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None
    return f"{platform.node()}/{kernel()}/{namespace}" if kernel() else None


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks (proc(5), stat, field 22); empty if there is none, or it has ended.

    One that has ended stays listed, as a zombie, until its parent has read how.
    """
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return "" if state in {"Z", "X"} else others[18]
    except (OSError, ValueError, IndexError):
        return ""
