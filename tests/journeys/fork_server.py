"""Programs that start at once, because they are forked from a process that has imported everything.

Importing takes a second otherwise. A forked program has its own session, environment and outputs, ends as any Python
program does, and stands for `python -m rehost`. It can be killed at a system call. Run as a program, this module is
the process that forks: `python -m tests.journeys.fork_server SOCKET`.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import platform
import random
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from tests.journeys.killer import Killer, filter_call

STARTED, ENDED = struct.Struct("=i"), struct.Struct("=ii")  # the process; its exit status, and calls
IMPORTED = (
    "rehost.wiring.run",
    "rehost.wiring.rounds",
    "rehost.wiring.server",
    "rehost.wiring.upkeep",
    "rehost.wiring.verification",
    "rehost.cli.commands.forget",
    "rehost.cli.commands.move_store",
    "rehost.cli.commands.prune",
    "rehost.cli.commands.queries",
    "rehost.cli.commands.refresh",
    "rehost.cli.commands.run",
    "rehost.cli.commands.serve",
    "rehost.cli.commands.upkeep",
    "rehost.cli.commands.verify",
    "rehost.cli.loop",
    "rehost.cli.main",
    "rehost.cli.workers",
    "rehost.telemetry.log",
    "rehost.telemetry.progress",
    "aiosqlite",
    "asyncpg",
    "encodings.ascii",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "tldextract",
    "uvloop",
)


class Program:
    """A program that was started; it has the part of subprocess.Popen's interface that the tests use."""

    def __init__(self, args: Sequence[str], outputs: Sequence[int], status_pipe: int, go: int) -> None:
        self.args = args
        self.stdout, self.stderr = (os.fdopen(each, errors="replace") for each in outputs)
        self.returncode: int | None = None
        self.calls = 0  # that one thread made at most of the kind at which it was to be killed
        self._status = status_pipe
        self._go = go
        self.pid = STARTED.unpack(os.read(status_pipe, STARTED.size))[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self.stdout.close()
        self.stderr.close()

    def go(self) -> None:
        """Let a held program begin."""
        os.close(self._go)

    def poll(self) -> int | None:
        if self.returncode is None:
            self._has_ended(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return both outputs once it has ended; a pipe holds more than any of our programs prints."""
        self.wait(timeout)
        with self.stdout, self.stderr:
            return self.stdout.read(), self.stderr.read()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and its parent is about to say how
                os.kill(self.pid, number)

    def _has_ended(self, timeout: float | None) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._status, selectors.EVENT_READ)
            if not selector.select(timeout):
                return False
        self.returncode, self.calls = ENDED.unpack(os.read(self._status, ENDED.size))
        os.close(self._status)
        return True


class ForkServer:
    """The process from which programs are forked; a context manager."""

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            self._process = subprocess.Popen(
                command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait(timeout=10)

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        held: bool = False,
        killed_at: tuple[str, int] | None = None,
        before: str = "",
        machine: int = 0,
    ) -> Program:
        """Start `rehost` with these arguments; a held program begins when `go` is called.

        `killed_at` names a system call, and says at which of a thread's it is killed, counted from 1; `before` is
        Python code that the program runs first. With `machine`, the first process of one (tests/machines.py), it runs
        there.
        """
        pipes = [os.pipe() for _ in range(4)]
        (out, out_end), (err, err_end), (status_pipe, status_end), (go_end, go) = pipes
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "killed_at": killed_at,
            "before": before,
            "machine": machine,
        }
        message = json.dumps(request).encode()
        socket.send_fds(self._socket, [message], [out_end, err_end, status_end, go_end])
        for each in (out_end, err_end, status_end, go_end):
            os.close(each)
        program = Program(["rehost", *arguments], (out, err), status_pipe, go)
        if not held:
            program.go()
        return program


def serve(requests: socket.socket) -> None:
    """Fork a program for each request; return in the programs only."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for the ones that watch programs
    while True:
        message, descriptors, *_ = socket.recv_fds(requests, 1 << 20, 4)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            fork_program(json.loads(message), descriptors)
            return
        for each in descriptors:
            os.close(each)


def fork_program(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Fork a program and return in it; the parent reports how it ended."""
    out, err, status_pipe, go = descriptors
    if request["machine"]:
        enter(f"/proc/{request['machine']}/ns")
    program = os.fork()
    if program:
        for each in (out, err, go):
            os.close(each)
        os.write(status_pipe, ENDED.pack(*watch(program, status_pipe, request["killed_at"])))
        os._exit(0)
    os.setsid()
    os.close(status_pipe)
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (open(each, "w", encoding="utf-8", closefd=False) for each in (1, 2))  # noqa: SIM115
    os.read(go, 1)  # ends when the other end is closed
    for each in (out, err, go):
        os.close(each)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    random.seed()
    exec(request["before"], {})
    if request["killed_at"]:
        filter_call(request["killed_at"][0])


def watch(program: int, status_pipe: int, killed_at: tuple[str, int] | None) -> tuple[int, int]:
    """Report the start of a program, which waits for that, and kill it if need be; return its exit status and calls."""
    if killed_at:
        killer = Killer(program)
        os.write(status_pipe, STARTED.pack(program))
        return killer.kill_at(killed_at[1])
    os.write(status_pipe, STARTED.pack(program))
    return os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]), 0


def enter(namespaces: str) -> None:
    """Enter namespaces; a child of this process is in that of processes too."""
    libc = ctypes.CDLL(None, use_errno=True)
    for each in [os.open(f"{namespaces}/{name}", os.O_RDONLY) for name in ("net", "uts", "pid", "mnt")]:
        if libc.setns(each, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(each)
    platform._uname_cache = None  # the name of the host has changed


def main() -> int:
    for name in IMPORTED:
        importlib.import_module(name)
    from rehost.cli.main import main as rehost  # noqa: PLC0415 - only this process needs it; tests import this module too

    gc.freeze()  # collections in programs leave these objects alone, and so do not copy their memory
    serve(socket.socket(fileno=int(sys.argv[1])))
    return rehost()


if __name__ == "__main__":
    sys.exit(main())
