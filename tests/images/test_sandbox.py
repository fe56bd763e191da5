"""Each attempt of hostile.py is made by a real decoder process, and against each layer of the sandbox alone."""

import asyncio
import ctypes
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.images import hostile
from tests.images.conftest import verifier
from tests.pictures import picture

from rehost.errors import Permanent
from rehost.images import sandbox
from rehost.images.verifier import Thumbnailer
from rehost.model import Format, Reason

SECRET = "postgresql://user:secret@db/prod"
MISSING = sandbox.probe()

# what each layer prevents by itself; Landlock's rules for ports and signals depend on its version
ALONE = {
    "namespaces": "read_environment read_memory read_memory_by_call attach connect",
    "Landlock": "read_environment read_memory attach read_settings delete_a_copy overwrite_a_copy reopen_the_picture",
    "seccomp": " ".join(hostile.ATTEMPTS),
}
STEPS = {"namespaces": "enter_namespaces", "Landlock": "forbid_files", "seccomp": "forbid_calls"}


def needs(*layers):
    absent = [each for each in MISSING if each.split(":")[0] in layers]
    return pytest.mark.skipif(bool(absent), reason=f"not on this system: {absent}")


@pytest.fixture
def victim(tmp_path):
    """A process that holds a secret, a file, and a listening socket."""
    path = tmp_path / ".env"
    path.write_text(f"DATABASE_URL={SECRET}\n")
    code = "import ctypes; b = ctypes.create_string_buffer(b'secret'); print(ctypes.addressof(b), flush=True); input()"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"DATABASE_URL": SECRET},
        ) as process,
    ):
        yield {
            "pid": process.pid,
            "secret": SECRET,
            "address": int(process.stdout.readline()),
            "file": str(path),
            "port": listener.getsockname()[1],
        }
        assert process.poll() is None
        process.kill()


def intact(victim):
    return Path(victim["file"]).read_text() == f"DATABASE_URL={SECRET}\n"


@pytest.fixture
def hijacked(tmp_path, monkeypatch):
    """Make every decoder process that is started run hostile.py instead of walking its pictures."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "hostile.py").write_bytes(Path(hostile.__file__).read_bytes())
    (folder / "sitecustomize.py").write_text(
        "import hostile\nimport rehost.images.formats as formats\nformats.examine = hostile.attack\n"
    )
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


@needs(*sandbox.LAYERS)
@pytest.mark.parametrize("name", hostile.ATTEMPTS)
async def test_picture_that_controls_its_decoder_cannot_harm_anything(name, victim, hijacked, tmp_path):
    path = tmp_path / "spool"
    path.write_text(json.dumps([name, victim]))

    async with verifier(processes=1) as subject:
        with pytest.raises(Permanent) as caught:
            await subject.verify(path)

    assert caught.value.reason is Reason.CORRUPT
    assert re.search("sandbox|Error", caught.value.evidence), caught.value.evidence
    assert intact(victim)
    assert path.stat().st_mode & 0o400


@pytest.mark.parametrize(
    "answer",
    [
        *('["unreadable", "a lie"]', '["heic"]', '["thumbnail", "AAAA"]', '["image", "PNG", 1, 1, 1e9]', "{}", ""),
        *('["permanent", "CORRUPT", "\\u0000\\ud800"]', '["image", "JPEG", 99999999999999999999, 1, 1]', "[" * 9999),
    ],
)
async def test_answer_of_a_picture_that_controls_its_decoder_counts_against_that_picture_only(
    answer, hijacked, tmp_path
):
    path = tmp_path / "spool"
    path.write_text(json.dumps(["lie", f"{answer}\n"]))

    async with verifier(processes=1, decode_seconds=5) as subject:
        with pytest.raises(Permanent) as caught:
            await subject.verify(path)

    assert caught.value.reason is Reason.CORRUPT


def attempt(name, victim, folder, confine):
    """Return the ended process that has made an attempt after the statement `confine`."""
    script = (
        "import json, sys\nfrom tests.images.hostile import tried\nfrom rehost.images import sandbox\n"
        f"{confine}\nprint(tried({name!r}, json.loads(sys.argv[1])), flush=True)"
    )
    with (folder / "picture").open("a") as file:
        return subprocess.run(
            [sys.executable, "-c", script, json.dumps(victim | {"picture": file.fileno()})],
            capture_output=True,
            check=False,
            text=True,
            pass_fds=[file.fileno()],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )


@pytest.mark.parametrize(
    ("layer", "name"),
    [pytest.param(layer, name, marks=needs(layer)) for layer, names in ALONE.items() for name in names.split()],
)
def test_layer_alone_prevents(layer, name, victim, tmp_path):
    done = attempt(name, victim, tmp_path, f"sandbox.{STEPS[layer]}()")

    assert done.returncode == -signal.SIGSYS or "Error" in done.stdout, done
    assert intact(victim)


@pytest.mark.parametrize("name", hostile.ATTEMPTS)
def test_attempt_succeeds_in_a_process_that_is_not_confined(name, victim, tmp_path):
    assert attempt(name, victim, tmp_path, "").stdout in {"escaped\n", "ran\n"}


@needs("seccomp")
@pytest.mark.parametrize("name", ["fork", "run_a_shell"])
def test_decoder_that_may_start_threads_can_start_no_process(name, victim, tmp_path):
    script = (
        "import threading\nsandbox.confine(threads=True)\n"
        "t = threading.Thread(); t.start(); t.join(); print('thread', flush=True)"
    )
    done = attempt(name, victim, tmp_path, script)

    assert "thread" in done.stdout
    assert done.returncode == -signal.SIGSYS or "Error" in done.stdout, done


def test_32_bit_system_calls_end_the_process():
    filter_ = b"".join(sandbox._filter(*sandbox._MACHINES["x86_64"], threads=False))

    load, test, kill = (filter_[at : at + 8] for at in (0, 8, 16))
    assert load == sandbox._instruction(0x20, 4)
    assert test == sandbox._instruction(0x15, 0xC000003E, 1, 0)
    assert kill == filter_[-8:] == sandbox._instruction(0x06, 0x80000000)


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")],
)
def test_system_calls_have_the_numbers_of_the_kernel(column, header):
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not installed")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", Path(header).read_text()))
    words = (sandbox._ALLOWED + sandbox._REFUSED).split()

    ours = {name: number for name, number in zip(words[::3], words[1 + column :: 3], strict=True) if number != "-1"}
    ours |= {"mmap": str(sandbox._MMAP[column]), "mprotect": str(sandbox._MPROTECT[column])}
    ours |= {"fcntl": str(sandbox._FCNTL[column]), "clone": str(sandbox._CLONE[column])}

    assert ours == {name: known[name] for name in ours}


async def test_missing_layer_is_logged_once_and_pictures_are_verified(tmp_path, monkeypatch, caplog):
    (tmp_path / "sitecustomize.py").write_text(
        "from rehost.images import sandbox\n"
        "def refuse():\n    raise OSError(1, 'Operation not permitted')\n"
        "sandbox.enter_namespaces = refuse\n"
    )
    (tmp_path / "spool").write_bytes(picture(1))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    with caplog.at_level(logging.WARNING):
        async with verifier(processes=2) as subject:
            await asyncio.gather(*(subject.verify(tmp_path / "spool") for _ in range(8)))

    (record,) = caplog.records
    assert "namespaces: Operation not permitted" in record.getMessage()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; for others, MISSING says it")
def test_ordinary_user_is_confined_as_root_is():
    script = (
        "import os\nfrom rehost.images import sandbox\n"
        "os.setgroups([])\nos.setresgid(65534, 65534, 65534)\nos.setresuid(65534, 65534, 65534)\n"
        "print(*sandbox.confine(), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert [each for each in done.stdout.split("\n") if each and "namespaces" not in each] == [
        each for each in MISSING if "namespaces" not in each
    ]


@needs("Landlock")
def test_what_the_kernel_refuses_is_reported_and_not_fatal():
    script = (
        "from rehost.images import sandbox\n"
        "for _ in range(16): sandbox.forbid_files()\n"  # the most that the kernel allows (landlock(7))
        "print(sandbox.confine())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "Landlock: Argument list too long" in done.stdout
    assert "seccomp" not in done.stdout


def test_machine_whose_system_calls_are_unknown_is_reported(monkeypatch):
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(machine="riscv64"))

    with pytest.raises(OSError, match="not known on riscv64"):
        sandbox.forbid_calls()


async def test_thumbnails_are_made_by_confined_processes(tmp_path):
    (tmp_path / "copy").write_bytes(picture(1, Format.PNG, 200, 100))

    limits = {"max_pixels": 10**6, "max_frames": 10, "max_total_pixels": 10**7}
    async with Thumbnailer(**limits, decode_memory_bytes=1 << 29, processes=1) as subject:
        assert await subject.make(tmp_path / "copy", 64)
        (pid,) = (decoder._process.pid for decoder in subject._pool._all)
        about = Path(f"/proc/{pid}/status").read_text()

    assert ("Seccomp:\t2" in about) != any(each.startswith("seccomp") for each in MISSING)
    assert "NoNewPrivs:\t1" in about


def test_memory_and_environment_are_hidden_from_other_processes_of_the_user():
    script = (
        "import ctypes\nfrom rehost.process_identity import hide_memory\n"
        "dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"  # PR_GET_DUMPABLE
        "before = dumpable()\nhide_memory()\nprint(before, dumpable())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["1", "0"]


async def test_process_with_secrets_hides_them_before_its_first_decoder(tmp_path):
    (tmp_path / "spool").write_bytes(picture(1))
    prctl = ctypes.CDLL(None).prctl
    prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE

    async with verifier(processes=1) as subject:
        await subject.verify(tmp_path / "spool")

    assert prctl(3, 0, 0, 0, 0) == 0
