import asyncio
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image as Pillow
from tests.fakes import FakeClock
from tests.images.conftest import MEBIBYTE, verifier
from tests.pictures import picture

from rehost.clock import Clock
from rehost.errors import OperatorError, Permanent, StoreError, Transient
from rehost.images.decoder_main import OUT_OF_MEMORY, Bounds
from rehost.images.verifier import DecoderDied, DecoderPool, FairQueue, visit_error
from rehost.model import Format, Image, Reason

BOUNDS = Bounds(
    decode=True,
    max_pixels=10**6,
    max_frames=10,
    max_total_pixels=10**8,
    memory_bytes=512 * MEBIBYTE,
    picture_seconds=20,
)


OTHER_CHILDREN = set()


@pytest.fixture(autouse=True)
def other_children():
    """Remember the processes that fixtures of other tests run."""
    OTHER_CHILDREN.clear()
    OTHER_CHILDREN.update(children())


def children():
    """Return the process ids of the child processes that this test has started."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends meanwhile
            found.update(map(int, (task / "children").read_text().split()))
    return found - OTHER_CHILDREN


def status(pid):
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def signals(mask):
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


@pytest.fixture
def spool(tmp_path):
    """A function that writes bytes into a file and returns its path."""

    def put(data, name="spool"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put


def blank(side):
    """Return a GIF with few bytes and many pixels."""
    file = io.BytesIO()
    Pillow.new("L", (side, side)).save(file, "GIF")
    return file.getvalue()


async def test_picture_that_needs_too_much_memory_is_too_large_and_the_next_one_is_verified(spool):
    bomb, good = spool(blank(7000), "bomb"), spool(picture(1), "good")

    async with verifier(decode_memory_bytes=80 * MEBIBYTE, processes=1) as subject:
        with pytest.raises(Permanent, match="IMAGE_DECODE_MEMORY") as caught:
            await subject.verify(bomb)
        assert caught.value.reason is Reason.TOO_LARGE
        assert (await subject.verify(good)).format is Format.JPEG


@pytest.mark.parametrize("kind", [Format.WEBP, Format.AVIF, Format.JPEG2000])
async def test_lack_of_memory_is_recognised_where_the_library_does_not_report_it(kind, spool):
    path = spool(picture(1, kind, 2400, 1600))

    async with verifier(decode_memory_bytes=56 * MEBIBYTE, processes=1) as subject:
        with pytest.raises(Permanent) as caught:
            await subject.verify(path)

    assert caught.value.reason is Reason.TOO_LARGE


async def test_picture_that_takes_too_long_is_too_large_and_the_next_one_is_verified(spool):
    bomb, good = spool(blank(7000), "bomb"), spool(picture(1), "good")

    async with verifier(decode_seconds=0.02, processes=1) as subject:
        with pytest.raises(Permanent, match=r"0\.02 s") as caught:
            await subject.verify(bomb)
        assert caught.value.reason is Reason.TOO_LARGE
        assert (await subject.verify(good)).format is Format.JPEG


async def test_process_that_hangs_is_killed_and_replaced(spool):
    path = spool(picture(1))

    async with DecoderPool(BOUNDS, 1, timeout_seconds=0.3, clock=Clock()) as pool:
        await pool.ask(path)
        (hanging,) = children()
        os.kill(hanging, signal.SIGSTOP)
        with pytest.raises(DecoderDied, match="in time"):
            await pool.ask(path)
        assert await pool.ask(path) == Image(Format.JPEG, 64, 48, 1)
        assert hanging not in children()


async def test_picture_is_verified_although_an_idle_process_has_died(spool):
    path = spool(picture(1))

    async with verifier(processes=1) as subject:
        await subject.verify(path)
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)

        assert (await subject.verify(path)).format is Format.JPEG


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        (DecoderDied(-signal.SIGSEGV, "SIGSEGV"), Reason.CORRUPT),
        (DecoderDied(-signal.SIGKILL, "SIGKILL"), Reason.TOO_LARGE),
        (DecoderDied(-signal.SIGPROF, "SIGPROF"), Reason.TOO_LARGE),
        (DecoderDied(OUT_OF_MEMORY, "exit status 77"), Reason.TOO_LARGE),
        (DecoderDied(1, "exit status 1"), Reason.CORRUPT),
    ],
)
def test_death_of_a_decoder_is_an_error_of_its_picture(death, reason):
    error = visit_error(death, decode_seconds=20.0)

    assert isinstance(error, Permanent)
    assert error.reason is reason


async def test_processes_start_when_needed_and_only_as_many_as_allowed(spool):
    path = spool(picture(1))

    async with verifier(processes=2) as subject:
        assert children() == set()
        for _ in range(3):
            await subject.verify(path)
        assert len(children()) == 1
        await asyncio.gather(*(subject.verify(path) for _ in range(20)))
        assert len(children()) == 2
    assert children() == set()


async def test_structure_alone_needs_a_process_only_for_formats_with_offsets(spool):
    async with verifier(verify="structure") as subject:
        for kind in (Format.JPEG, Format.PNG, Format.GIF, Format.WEBP, Format.BMP):
            assert (await subject.verify(spool(picture(1, kind)))).format is kind
        assert children() == set()
        for kind in (Format.AVIF, Format.HEIC, Format.TIFF, Format.ICO, Format.JPEG2000):
            assert (await subject.verify(spool(picture(1, kind)))).format is kind
        assert len(children()) == 1


async def test_cancelled_call_ends_its_process(spool):
    bomb, good = spool(blank(7000), "bomb"), spool(picture(1), "good")

    async with verifier(processes=1) as subject:
        await subject.verify(good)
        asked = asyncio.create_task(subject.verify(bomb))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert (await subject.verify(good)).format is Format.JPEG
        assert len(children()) == 1


async def test_process_inherits_no_files_or_secrets_and_has_its_limits(spool, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    path = spool(picture(1))

    with (tmp_path / "ledger").open("w") as ledger:
        async with verifier(processes=1) as subject:
            await subject.verify(path)
            (pid,) = children()
            open_files = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            limits = Path(f"/proc/{pid}/limits").read_text()
            about = status(pid)

    assert ledger.name not in open_files
    assert {name.split(":")[0] for name in open_files} <= {"pipe", "socket", "/dev/null"}
    assert b"secret" not in environment
    assert f"Max address space         {512 * MEBIBYTE}" in limits
    assert "Max file size             0 " in limits
    assert {signal.SIGINT, signal.SIGTERM} <= signals(about["SigIgn"])
    assert os.getsid(0) != int(about["NSsid"])


async def test_unreadable_file_does_not_count_against_the_picture(tmp_path, monkeypatch):
    async with verifier(processes=1) as subject:
        with pytest.raises(StoreError, match="cannot be read"):
            await subject.verify(tmp_path / ("long" * 100))
        with pytest.raises(Transient):
            await subject.verify(tmp_path / "gone")


async def test_file_that_is_not_regular_is_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")

    async with verifier(processes=1) as subject:
        for path in (tmp_path / "pipe", tmp_path / "socket", tmp_path):
            with pytest.raises(Permanent) as caught:
                await subject.verify(path)
            assert caught.value.reason is Reason.NOT_AN_IMAGE


async def test_file_names_can_contain_any_character(spool):
    async with verifier(processes=1) as subject:
        for name in ("a\nb", "图片.jpg", os.fsdecode(b"\xff\xfe.jpg"), '"quoted"'):
            assert (await subject.verify(spool(picture(1), name))).format is Format.JPEG


async def test_too_little_memory_to_start_is_reported_in_a_sentence(spool):
    async with verifier(decode_memory_bytes=8 * MEBIBYTE, processes=1) as subject:
        with pytest.raises(OperatorError, match=r"IMAGE_DECODE_MEMORY \(8 MiB\)"):
            await subject.verify(spool(picture(1)))


async def test_plugin_for_heic_is_loaded_by_the_first_heic(spool):
    good, heic = spool(picture(1), "good"), spool(picture(1, Format.HEIC), "heic")

    async with verifier(processes=1) as subject:
        await subject.verify(good)
        (without,) = children()
        assert "pillow_heif" not in Path(f"/proc/{without}/maps").read_text()
        assert (await subject.verify(heic)).format is Format.HEIC
        (loaded,) = children()
        assert "pillow_heif" in Path(f"/proc/{loaded}/maps").read_text()
        assert (await subject.verify(good)).format is Format.JPEG
        assert children() == {loaded}


def modules_of_a_process(*, decode):
    bounds = Bounds(decode, 10**6, 10, 10**8, 512 * MEBIBYTE, 20).to_text()
    script = (
        "import json, sys\n"
        f"sys.argv[1:] = [{bounds!r}]\n"
        "from rehost.images.decoder_main import main\n"
        "main()\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    parent, child = socket.socketpair()
    parent.close()
    with child:
        done = subprocess.run([sys.executable, "-c", script], stdin=child, capture_output=True, check=True)
    return set(json.loads(done.stderr))


def test_process_imports_only_what_it_needs_and_ends_with_its_input():
    modules = modules_of_a_process(decode=True)

    assert "PIL.Image" in modules
    assert modules.isdisjoint({"brotli", "sqlalchemy", "asyncio", "uvloop", "multiprocessing", "ssl"})


def test_structure_alone_does_not_import_pillow():
    assert not any(name.startswith("PIL") for name in modules_of_a_process(decode=False))


def test_verifier_does_not_import_a_decoder_into_the_main_process():
    script = "import sys, rehost.images.verifier; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)

    assert not any(name.startswith("PIL") for name in done.stdout.split())


ASKING = """
import os, sys, uvloop
from contextlib import suppress
from pathlib import Path
from rehost.clock import Clock
from rehost.images.verifier import DecoderPool
from rehost.images.decoder_main import Bounds

async def main():
    async with DecoderPool(Bounds(True, 10**6, 10, 10**8, 512 << 20, 20), 1, 20, Clock()) as pool:
        print(await pool.ask(Path(sys.argv[1])), flush=True)
        sys.stdin.read()

uvloop.run(main())
"""


def asking(path):
    """Start a program that has one picture verified, on uvloop, and then waits for the end of its input."""
    command = [sys.executable, "-W", "error", "-c", ASKING, path]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_pool_works_with_uvloop(spool):
    with asking(spool(picture(1))) as parent:
        output, errors = parent.communicate()

    assert "Format.JPEG" in output
    assert errors == ""


def test_process_ends_when_its_parent_is_killed(spool):
    with asking(spool(picture(1))) as parent:
        assert "Format.JPEG" in parent.stdout.readline()
        (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        watch = os.pidfd_open(int(child))
        parent.kill()
        ended, _, _ = select.select([watch], [], [], 20)
        os.close(watch)

    assert ended


async def test_large_png_needs_no_memory_for_its_pixels(spool):
    file = io.BytesIO()
    Pillow.new("L", (7000, 7000)).save(file, "PNG")
    path = spool(file.getvalue())

    async with verifier(decode_memory_bytes=80 * MEBIBYTE, processes=1) as subject:
        assert (await subject.verify(path)).width == 7000


async def served(slots, pictures):
    """Return the order in which pictures (domain, seconds) that came at the same time got their slots."""
    clock, order = FakeClock(), []
    queue = FairQueue(slots, clock)

    async def decode(domain, seconds):
        async with queue.slot(domain):
            order.append(domain)
            await clock.sleep(seconds)

    async with asyncio.TaskGroup() as group:
        decoding = [group.create_task(decode(*picture)) for picture in pictures]
        while not all(task.done() for task in decoding):
            await asyncio.sleep(0)
            clock.advance(0.5)
    return "".join(order)


@pytest.mark.parametrize(
    ("slots", "pictures", "order"),
    [
        (1, [("h", 20)] * 3 + [("g", 1)] * 5, "hggggghh"),  # all good ones after the first heavy one
        (2, [("h", 20)] * 4 + [("g", 1)] * 5, "hhggggghh"),
        (2, [("h", 20)] * 4, "hhhh"),  # alone, it gets all slots
        (1, [("a", 1)] * 3 + [("b", 1)] * 3, "ababab"),
        (1, [("a", 2)] * 3 + [("b", 1)] * 4, "abbabba"),  # time counts, not pictures
        (2, [("g", 1), ("h", 20), ("h", 20), *[("g", 1)] * 9], "ghggggggggg" + "h"),  # not all slots to one of two
    ],
)
async def test_decoder_time_is_shared_fairly_between_domains(slots, pictures, order):
    assert await served(slots, pictures) == order


async def test_used_time_counts_half_after_a_minute():
    clock = FakeClock()
    queue = FairQueue(1, clock)
    async with queue.slot("a"):
        clock.time += 8

    clock.time += FairQueue.HALF_LIFE_SECONDS

    assert queue.seconds("a") == pytest.approx(4)
    assert queue.seconds("b") == 0


async def test_picture_that_is_cancelled_while_it_waits_loses_no_slot():
    queue = FairQueue(1, FakeClock())

    async def decode():
        async with queue.slot("a"):
            await asyncio.sleep(0)

    for turns in range(6):  # before, while and after the slot is passed on
        first, second = asyncio.create_task(decode()), asyncio.create_task(decode())
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

        async with asyncio.timeout(10):
            await decode()


async def test_pictures_that_take_long_do_not_hold_up_those_of_other_domains(spool):
    heavy = spool(blank(7000), "heavy")
    good = [spool(picture(seed), f"good {seed}") for seed in range(10)]

    async with verifier(processes=1, decode_seconds=0.3) as subject:
        attack = [asyncio.create_task(subject.verify(heavy, f"{n}.attacker.com")) for n in range(24)]
        await asyncio.sleep(0)
        found = await asyncio.gather(*(subject.verify(path, "cdn.good.com") for path in good * 20))
        assert {image.format for image in found} == {Format.JPEG}
        ended = sum(task.done() for task in attack)
        for task in attack:
            task.cancel()
        await asyncio.gather(*attack, return_exceptions=True)

    assert ended < len(attack) / 2
