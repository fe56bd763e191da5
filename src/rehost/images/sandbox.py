"""Confines a decoder process: a picture that takes control of it can use its memory and answer, and nothing else.

Three layers of the Linux kernel, each of which holds where another is missing: a user namespace of its own with no
network (user_namespaces(7)), no file by its name (landlock(7)), and few system calls (seccomp(2)). They are called by
ctypes and need no privilege; docs/decisions/0015-confined-decoders.md says why no library does this. What is open
before stays usable. This module imports only the standard library: as a program it prints what this machine lacks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterator

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC, _CLONE_THREAD = 0x10000000, 0x40000000, 0x08000000, 0x10000  # sched.h
_OPEN_FILES = 16  # the channel, the answers, a picture, and what libraries duplicate

# linux/landlock.h: numbers of the calls (the same on all machines), and what each version of the ABI can forbid:
# files (13 rights, then REFER, TRUNCATE, IOCTL_DEV), TCP ports, abstract sockets and signals outside.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF, _LANDLOCK_VERSION = 444, 446, 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_ABI, _SCOPE_ABI = 4, 6

# Machine -> its name for seccomp (linux/audit.h), and its column in the tables below
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Name and numbers of system calls on x86_64 and aarch64 (-1: there is none), from the kernel's syscall tables
_ALLOWED = """
    read 0 63             write 1 64           close 3 57             fstat 5 80            lseek 8 62
    munmap 11 215         brk 12 214           rt_sigaction 13 134    rt_sigprocmask 14 135 rt_sigreturn 15 139
    pread64 17 67         readv 19 65          writev 20 66           sched_yield 24 124    mremap 25 216
    madvise 28 233        dup 32 23            setitimer 38 103       getpid 39 172         recvmsg 47 212
    exit 60 93            gettimeofday 96 169  sigaltstack 131 132    gettid 186 178        futex 202 98
    restart_syscall 219 128                    clock_gettime 228 113  clock_getres 229 114
    clock_nanosleep 230 115                    exit_group 231 94      set_robust_list 273 99
    getrandom 318 278     rseq 334 293
"""
# What the C library and Python can do without: refused with EACCES, and not the end of the process
_REFUSED = """
    open 2 -1             stat 4 -1            lstat 6 -1             ioctl 16 29           access 21 -1
    readlink 89 -1        getrlimit 97 163     sysinfo 99 179         prctl 157 167         sched_getaffinity 204 123
    tgkill 234 131        openat 257 56        readlinkat 267 78      faccessat 269 48      prlimit64 302 261
    membarrier 324 283    statx 332 291        faccessat2 439 439
"""
_MMAP, _MPROTECT, _FSTATAT, _FCNTL, _CLONE, _CLONE3 = (9, 222), (10, 226), (262, 79), (72, 25), (56, 220), (435, 435)
_PROT_EXEC, _AT_EMPTY_PATH, _F_DUPFD_CLOEXEC = 4, 0x1000, 1030

# linux/filter.h, linux/seccomp.h
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data; the low half of each argument of 8 bytes
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

LAYERS = ("namespaces", "Landlock", "seccomp")
"""The layers by the names that they have in messages, in the order in which they are put on."""


def confine(*, threads: bool = False) -> list[str]:
    """Confine this process for ever; return what the system lacks: the name of each missing layer, and why.

    The process must have one thread, and have imported what it needs.

    Args:
        threads: it may start threads, which libde265 needs.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if not threads:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # without effect for root: seccomp forbids processes as well
    steps: tuple[Callable[[], None], ...] = (enter_namespaces, forbid_files, lambda: forbid_calls(threads=threads))
    if sys.platform != "linux":
        return [f"{layer}: only Linux has it" for layer in LAYERS]
    missing = []
    for layer, step in zip(LAYERS, steps, strict=True):
        try:
            step()
        except OSError as error:
            missing.append(f"{layer}: {error.strerror}")
    return missing


def enter_namespaces() -> None:
    """Move this process into namespaces of its own: without capabilities outside, network, or shared memory.

    Raises:
        OSError: they are not allowed here, or this process has threads.
    """
    _check(_libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC))


def forbid_files() -> None:
    """Forbid every file by its name and, where the kernel can, TCP ports and signals to other processes.

    Raises:
        OSError: the kernel has no Landlock, or it is not enabled.
    """
    call = _libc().syscall
    version = _check(call(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION))
    files = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    rights = struct.pack("=Q", files)
    rights += struct.pack("=Q", 3) if version >= _NETWORK_ABI else b""
    rights += struct.pack("=Q", 3) if version >= _SCOPE_ABI else b""
    ruleset = _check(call(_LANDLOCK_CREATE_RULESET, rights, ctypes.c_size_t(len(rights)), 0))
    try:
        _forbid_new_privileges()
        _check(call(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def forbid_calls(*, threads: bool = False) -> None:
    """Forbid all system calls but those that decoding needs: any other ends the process with SIGSYS.

    Raises:
        OSError: the kernel has no seccomp filters, or the calls of this machine are not known here.
    """
    machine = os.uname().machine
    if machine not in _MACHINES or sys.maxsize < 1 << 32:  # a 32-bit Python makes other calls
        raise OSError(errno.ENOSYS, f"not known on {machine}")
    program = b"".join(_filter(*_MACHINES[machine], threads=threads))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    _forbid_new_privileges()
    _check(_libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0))


def _filter(machine: int, column: int, *, threads: bool) -> Iterator[bytes]:
    """Yield the instructions of the filter (linux/filter.h: code, jumps if true and false, value)."""
    yield _instruction(_LOAD, _ARCH_AT)
    yield from _if(_EQUAL, machine, b"", _instruction(_RETURN, _KILL))
    yield _instruction(_LOAD, _NUMBER_AT)
    for table, verdict in ((_ALLOWED, _ALLOW), (_REFUSED, _ERRNO | errno.EACCES)):
        words = table.split()
        for number in map(int, words[1 + column :: 3]):
            yield from _if(_EQUAL, number & 0xFFFFFFFF, _instruction(_RETURN, verdict))
    refuse, as_thread = _ERRNO | errno.EPERM, _ALLOW if threads else _KILL
    for numbers, argument, test, value, met, otherwise in (
        (_MMAP, 2, _ANY_BIT, _PROT_EXEC, refuse, _ALLOW),
        (_MPROTECT, 2, _ANY_BIT, _PROT_EXEC, refuse, _ALLOW),
        # fstat, as newer C libraries call it. A filter cannot see that the path is empty, but no file is opened.
        (_FSTATAT, 3, _ANY_BIT, _AT_EMPTY_PATH, _ALLOW, refuse),
        (_FCNTL, 1, _EQUAL, _F_DUPFD_CLOEXEC, _ALLOW, refuse),
        (_CLONE, 0, _ANY_BIT, _CLONE_THREAD, as_thread, _KILL),
    ):
        body = _instruction(_LOAD, _ARGUMENTS_AT + 8 * argument)
        body += b"".join(_if(test, value, _instruction(_RETURN, met))) + _instruction(_RETURN, otherwise)
        yield from _if(_EQUAL, numbers[column], body)
    if threads:  # the C library then uses clone, whose flags a filter can see
        yield from _if(_EQUAL, _CLONE3[column], _instruction(_RETURN, _ERRNO | errno.ENOSYS))
    yield _instruction(_RETURN, _KILL)


def _if(test: int, value: int, met: bytes, otherwise: bytes = b"") -> Iterator[bytes]:
    """Yield a test of what was loaded; `met` must end with a verdict unless there is no `otherwise`."""
    yield _instruction(test, value, 0 if met else len(otherwise) // 8, len(met) // 8)
    yield met + otherwise


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _forbid_new_privileges() -> None:
    """Make set-user-ID programs ordinary ones for this process, which both Landlock and seccomp demand."""
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    """Return the result of a call; raise OSError if it is negative."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def probe() -> list[str]:
    """Return what this system lacks to confine decoders: a process confines itself to find out, for some 30 ms."""
    import subprocess  # noqa: PLC0415 -- the process that confines itself needs it not

    try:
        done = subprocess.run([sys.executable, "-I", "-S", __file__], capture_output=True, timeout=20, check=True)  # noqa: S603 - our own program
    except (OSError, subprocess.SubprocessError):
        return [f"{layer}: cannot be tried" for layer in LAYERS]
    return done.stdout.decode().splitlines()


if __name__ == "__main__":
    sys.stdout.writelines(f"{each}\n" for each in confine())
