"""Kills a program when one of its threads makes the n-th system call of one kind, as `strace -e inject` does.

The program filters the call by seccomp(2), and its parent traces it by ptrace(2), so that nothing but this call stops
it. strace cannot do that with a program that it did not start, and costs more than the program itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections import Counter
from pathlib import Path

# Numbers on x86_64 and aarch64, from the kernel's tables of system calls; -1: there is none
NUMBERS = {
    "write": (1, 64), "fsync": (74, 82), "fdatasync": (75, 83), "linkat": (265, 37), "rename": (82, -1),
    "unlink": (87, -1), "unlinkat": (263, 35), "mkdir": (83, -1), "rmdir": (84, -1), "pwrite64": (18, 68),
    "sendto": (44, 206), "writev": (20, 66),
}  # fmt: skip
SENDS = ("sendto", "writev")  # how obstore sends requests
CALLS = [
    (engine, call)
    for engine in ("sqlite", "postgresql")
    for call in NUMBERS
    if call not in (SENDS if engine == "sqlite" else (*SENDS, "pwrite64"))  # SQLite commits by it, uvloop by write
]  # at which programs are killed, by the engine of the database
CALLS_WITH_BUCKET = [
    *[(engine, call) for engine in ("sqlite", "postgresql") for call in (*SENDS, "write", "unlink", "mkdir")],
    ("sqlite", "pwrite64"),
]
MACHINES = ("x86_64", "aarch64")

# linux/prctl.h, linux/seccomp.h, linux/filter.h
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN, _TRACE, _ALLOW = 0x20, 0x15, 0x06, 0x7FF00000, 0x7FFF0000

# linux/ptrace.h, linux/wait.h
_CONTINUE, _SEIZE, _EVENT_SECCOMP, _ALL_CHILDREN = 7, 0x4206, 7, 0x40000000
_OPTIONS = 0x02 | 0x04 | 0x08 | 0x80 | 0x100000  # new processes and threads too; seccomp; all end with the tracer


def number_of(call: str) -> int:
    """Return the number of a system call on this machine."""
    return NUMBERS[call][MACHINES.index(os.uname().machine)]


def filter_call(call: str) -> None:
    """Have this process and all that it starts stop for the tracer at each of these calls."""
    steps = ((_LOAD, 0, 0, 0), (_EQUAL, 0, 1, number_of(call) & 0xFFFFFFFF), (_RETURN, 0, 0, _TRACE))
    code = ctypes.create_string_buffer(
        b"".join(struct.pack("=HBBI", *step) for step in (*steps, (_RETURN, 0, 0, _ALLOW)))
    )
    header = struct.pack("@HP", len(steps) + 1, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "the call cannot be filtered")


def _is_wake_up(thread: int) -> bool:
    """Return whether a thread that stopped at a call only wakes another one up, by an eventfd: that changes nothing."""
    try:
        file = int(Path(f"/proc/{thread}/syscall").read_text().split()[1], 16)
        return str(Path(f"/proc/{thread}/fd/{file}").readlink()) == "anon_inode:[eventfd]"
    except (OSError, ValueError, IndexError):  # the call has no file, or the thread is gone
        return False


class Killer:
    """The tracer of a child process, which must have one thread when it is made."""

    def __init__(self, program: int) -> None:
        """Trace a child process."""
        self._program = program
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
        if self._libc.ptrace(_SEIZE, program, 0, _OPTIONS):
            raise OSError(ctypes.get_errno(), "the program cannot be traced")

    def kill_at(self, number: int) -> tuple[int, int]:
        """Kill the process of the thread that makes its call of this number, from 1 on; return when all have ended.

        Returns:
            The program's exit status (negative: the signal), and how many calls one thread has made at most.
        """
        made, exit_status = Counter[int](), 0
        while True:
            try:
                thread, status = os.waitpid(-1, _ALL_CHILDREN)
            except ChildProcessError:
                return exit_status, max(made.values(), default=0)
            if not os.WIFSTOPPED(status):
                exit_status = os.waitstatus_to_exitcode(status) if thread == self._program else exit_status
                continue
            event = status >> 16
            if event == _EVENT_SECCOMP and not _is_wake_up(thread):
                made[thread] += 1
                if made[thread] == number:
                    os.kill(thread, signal.SIGKILL)  # the kernel skips the call then
            # A thread that was killed while it stopped cannot go on, and need not.
            self._libc.ptrace(_CONTINUE, thread, 0, 0 if event else os.WSTOPSIG(status))
