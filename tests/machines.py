"""Machines of their own, played in namespaces: each with a network card, a host name, processes and a file system.

They share a network, which is the namespace of the test's own thread while a `Network` is open: what listens there on
SERVICES or ORIGIN is reached by every machine. Nothing of this is visible outside, and all of it ends with the test's
process, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

SERVICES = "10.77.0.1"  # where databases and stores listen
ORIGIN = "10.77.0.2"
FIRST_MACHINE = 11
NETWORK = "10.77.0.0/24"
CLONE_NEWNET = 0x40000000  # linux/sched.h
SECONDS = 60  # that a command on the way may take
NOWHERE = "02:00:00:00:00:01"  # a network card that no machine has

# What is mounted over the folder that all machines name alike is what only this machine has; libfaketime shares its
# state by names made of process numbers. After an outage TCP waits up to two minutes by itself.
MACHINE = """
hostname "$1" && mount -t tmpfs machine "$2" && mount -t tmpfs machine /dev/shm && ip link set lo up || exit
echo 1000 2>/dev/null >/proc/sys/net/ipv4/tcp_rto_max_ms
echo up
exec cat
"""


@dataclass
class Machine:
    """A computer: the processes on it see no others, and its disk goes with it."""

    name: str
    address: str
    folder: Path  # of the same name on all machines, with other files on each
    process: subprocess.Popen[bytes] = field(repr=False)
    pid: int  # of its first process; all others end with it

    @property
    def disk(self) -> Path:
        """Its folder as it is reached from outside."""
        return Path(f"/proc/{self.pid}/root{self.folder}")

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a command that runs these arguments there."""
        return ["nsenter", f"--target={self.pid}", "--net", "--uts", "--mount", "--pid", *map(str, arguments)]

    def cut_off_services(self) -> None:
        """Lose every packet to the services, silently, as a broken switch does; the origin can be reached still."""
        run(*self.command("ip", "neigh", "replace", SERVICES, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent"))

    def join_services(self) -> None:
        """Undo `cut_off_services`."""
        run(*self.command("ip", "neigh", "del", SERVICES, "dev", "eth0"))

    def cut_off(self) -> None:
        """Pull the network cable."""
        run("ip", "link", "set", "dev", self.name, "down")

    def join(self) -> None:
        """Put the cable back."""
        run("ip", "link", "set", "dev", self.name, "up")

    def switch_off(self) -> None:
        """End all processes at once, with the machine."""
        self.process.kill()
        self.process.wait(SECONDS)


class Network:
    """The network; a context manager for the test's thread."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that is each machine's disk."""
        self._folder = folder
        self._closing = ExitStack()
        self._number = FIRST_MACHINE

    def __enter__(self) -> Self:
        skip_without_namespaces()
        self._folder.mkdir()
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._closing.callback(os.close, before)
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        self._closing.callback(libc.setns, before, CLONE_NEWNET)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "name", "switch", "type", "bridge")
        for address in (SERVICES, ORIGIN):
            run("ip", "address", "add", f"{address}/24", "dev", "switch")
        run("ip", "link", "set", "dev", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def machine(self, name: str) -> Machine:
        """Switch a machine on; its name has at most 15 characters, as that of its cable (IFNAMSIZ)."""
        process = subprocess.Popen(
            [
                *("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"),
                *("sh", "-c", MACHINE, "machine", name, self._folder),
            ],
            stdin=subprocess.PIPE,  # `cat` ends with its other end, which this process has
            stdout=subprocess.PIPE,
        )
        self._closing.callback(_end, process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n", f"the machine {name} has not come up"
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        address, self._number = f"10.77.0.{self._number}", self._number + 1
        run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        run("ip", "link", "set", "dev", name, "master", "switch", "up")
        machine = Machine(name, address, self._folder, process, pid)
        run(*machine.command("ip", "address", "add", f"{address}/24", "dev", "eth0"))
        run(*machine.command("ip", "link", "set", "eth0", "up"))
        return machine


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with process:
        process.wait(SECONDS)


def run(*command: str | Path) -> None:
    """Run a command of the system to its end, which has to be a good one."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def skip_without_namespaces() -> None:
    """Skip the test where machines cannot be made."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip", "hostname", "mount"))):
        pytest.skip("needs unshare and nsenter (util-linux), ip (iproute2), hostname and mount")
    namespaces = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"]
    if os.geteuid() or subprocess.run(namespaces, capture_output=True, check=False).returncode:
        pytest.skip("this user may not make namespaces for machines")
