"""What a picture would try that has taken control of its decoder: `attack` runs in place of a walk (test_sandbox.py).

Each attempt returns what it got, or raises; TARGETS names its victims. This module is copied beside a sitecustomize.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

from rehost.errors import Permanent
from rehost.model import Reason

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_DETACH, PROCESS_VM_READV = 16, 17, {"x86_64": 310, "aarch64": 270}[os.uname().machine]


def called(result):
    """Return the result of a call of the C library, or raise its error."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read_environment(it):
    return it["secret"].encode() in Path(f"/proc/{it['pid']}/environ").read_bytes()


def read_memory(it):
    with Path(f"/proc/{it['pid']}/mem").open("rb", buffering=0) as memory:
        memory.seek(it["address"])
        return memory.read(1)


def read_memory_by_call(it):
    buffer = ctypes.create_string_buffer(1)
    local = struct.pack("@PN", ctypes.addressof(buffer), 1)
    remote, one, no_flags = struct.pack("@PN", it["address"], 1), ctypes.c_ulong(1), ctypes.c_ulong(0)
    return called(LIBC.syscall(PROCESS_VM_READV, ctypes.c_long(it["pid"]), local, one, remote, one, no_flags))


def attach(it):
    called(LIBC.ptrace(PTRACE_ATTACH, it["pid"], 0, 0))
    os.waitpid(it["pid"], 0x40000000)  # __WALL
    return called(LIBC.ptrace(PTRACE_DETACH, it["pid"], 0, 0))


def read_settings(it):
    return Path(it["file"]).read_text()


def connect(it):
    with socket.socket() as connection:
        return connection.connect(("127.0.0.1", it["port"]))


def run_a_shell(it):
    return subprocess.run(["/bin/sh", "-c", "echo ran"], capture_output=True, check=True).stdout


def become_a_shell(it):
    os.execv("/bin/sh", ["sh", "-c", "echo ran; exit 3"])


def delete_a_copy(it):
    return Path(it["file"]).unlink()


def overwrite_a_copy(it):
    with Path(it["file"]).open("r+b") as file, mmap.mmap(file.fileno(), 0) as held:
        held[0] = 0
        return "overwritten"


def reopen_the_picture(it):
    return os.open(f"/proc/self/fd/{it['picture']}", os.O_RDWR)


def change_the_mode(it):
    return os.fchmod(it["picture"], 0)


def fork(it):
    child = os.fork()
    if not child:
        os._exit(0)
    return os.waitpid(child, 0)


def signal_the_parent(it):
    return os.kill(it["pid"], 0)


def limit_the_parent(it):
    return resource.prlimit(it["pid"], resource.RLIMIT_CORE)


def make_code(it):
    return len(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC))


ATTEMPTS = {
    each.__name__: each
    for each in (
        *(read_environment, read_memory, read_memory_by_call, attach, read_settings, connect, run_a_shell),
        *(become_a_shell, delete_a_copy, overwrite_a_copy, reopen_the_picture, change_the_mode, fork),
        *(signal_the_parent, limit_the_parent, make_code),
    )
}


def tried(name, targets):
    """Return "escaped" if an attempt succeeds, else the name of its error."""
    try:
        ATTEMPTS[name](targets)
    except (OSError, subprocess.SubprocessError) as error:
        return type(error).__name__
    return "escaped"


def attack(data, limits):
    """Stand for `examine` in a decoder process: the picture names an attempt and its victims."""
    picture = max(int(each) for each in range(3, 16) if is_open(each))
    name, targets = json.loads(bytes(data))
    if name == "lie":
        for descriptor in range(3, 16):  # one of them leads to the parent
            with suppress(OSError):
                os.write(descriptor, targets.encode())
        signal.pause()
    raise Permanent(Reason.CORRUPT, tried(name, targets | {"picture": picture}))


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
