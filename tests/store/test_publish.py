import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from tests.contracts.store import listing

from rehost.clock import Clock
from rehost.store.base import Placement
from rehost.store.local import LocalStore

KEYS = [f"{number}/x.png" for number in range(3)]


def digests_of(content):
    return dict.fromkeys(KEYS, hashlib.sha256(content).hexdigest())


NOTHING_HELD = {}


def contents(root):
    return [(root / key).read_bytes() for key in KEYS]


def files_of_ours(root):
    """Return the files in the store's own folder, without locks, the marker and the trash."""
    home = root / ".rehost"
    files = [path for path in home.rglob("*") if path.is_file() and path.name not in {"lock", "store-id"}]
    return [path for path in files if not path.is_relative_to(home / "trash")]


def trashed(root):
    """Return the contents of the files that were replaced and are in the trash."""
    return [path.read_bytes() for path in (root / ".rehost/trash/replaced").glob("*/*")]


async def recover(store, held):
    """Recover what killed processes have set aside, as a run does before it begins."""
    async for files in store.unconfirmed():
        await store.recover(files, held)


async def open_and_recover(root, held):
    async with LocalStore(root, clock=Clock()) as store:
        await recover(store, held)
        return await listing(store)


@pytest.fixture
def held_copies(one_group, root):
    """Three copies at rest."""
    ended = one_group(len(KEYS), "old")
    assert ended.returncode == 0, ended.stderr
    assert contents(root) == [b"old"] * 3


@pytest.mark.usefixtures("held_copies")
@pytest.mark.parametrize("step", ["spool", "sync"])
async def test_kill_before_place_changes_nothing(one_group, root, step):
    one_group(3, "new", step)

    keys = await open_and_recover(root, digests_of(b"old"))

    assert sorted(keys) == KEYS
    assert contents(root) == [b"old"] * 3
    assert files_of_ours(root) == []


@pytest.mark.usefixtures("held_copies")
async def test_kill_between_place_and_commit_brings_the_old_bytes_back(one_group, root):
    one_group(3, "new", "place")
    assert contents(root) == [b"new"] * 3

    await open_and_recover(root, digests_of(b"old"))

    assert contents(root) == [b"old"] * 3
    assert files_of_ours(root) == []


@pytest.mark.usefixtures("held_copies")
async def test_kill_after_commit_keeps_the_new_bytes(one_group, root):
    one_group(3, "new", "commit")

    await open_and_recover(root, digests_of(b"new"))

    assert contents(root) == [b"new"] * 3
    assert files_of_ours(root) == []
    assert trashed(root) == [b"old"]  # three files with the same bytes are one in the trash


@pytest.mark.usefixtures("held_copies")
async def test_replaced_file_that_the_ledger_does_not_hold_goes_to_the_trash(one_group, root):
    one_group(3, "new", "place")

    await open_and_recover(root, NOTHING_HELD)

    assert contents(root) == [b"new"] * 3
    assert files_of_ours(root) == []
    assert trashed(root) == [b"old"]


async def test_placed_file_without_a_row_is_whole_and_listed(one_group, root):
    one_group(3, "new", "place")

    keys = await open_and_recover(root, NOTHING_HELD)

    assert keys == KEYS
    assert contents(root) == [b"new"] * 3


@pytest.mark.usefixtures("held_copies")
@pytest.mark.parametrize("call", ["linkat", "rename", "unlink"])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_kill_at_a_system_call_leaves_whole_files_and_converges(one_group, strace, root, call, number):
    kill = strace(f"inject={call}:signal=KILL:when={number}", calls=call)

    ended = one_group(3, "new", under=kill)

    assert ended.returncode == -9
    assert set(contents(root)) <= {b"old", b"new"}
    committed = b"new" if "committed" in ended.stdout else b"old"
    await open_and_recover(root, digests_of(committed))
    assert contents(root) == [committed] * 3
    assert files_of_ours(root) == []


@pytest.mark.usefixtures("held_copies")
async def test_unconfirmed_files_wait_for_the_next_run(one_group, root):
    one_group(3, "new", "place")

    async with LocalStore(root, clock=Clock()):
        pass  # a run that ends before it asks the ledger

    await open_and_recover(root, digests_of(b"old"))
    assert contents(root) == [b"old"] * 3


@pytest.mark.usefixtures("held_copies")
async def test_spools_of_a_living_process_are_left_alone(one_group, root):
    async with LocalStore(root, clock=Clock()) as living:
        spool = living.spool()
        spool.write_bytes(b"in flight")

        await open_and_recover(root, NOTHING_HELD)

        assert spool.read_bytes() == b"in flight"


@pytest.mark.usefixtures("held_copies")
async def test_key_that_a_living_process_has_just_placed_is_not_recovered(one_group, root):
    one_group(3, "dead", "place")
    async with LocalStore(root, clock=Clock()) as recovering, LocalStore(root, clock=Clock()) as living:
        spool = living.spool()
        spool.write_bytes(b"living")
        await living.sync([spool])
        await living.place([Placement(spool, KEYS[0])])

        await recover(recovering, digests_of(b"old"))

        assert contents(root) == [b"living", b"old", b"old"]


class LaterClock(Clock):
    def __init__(self, later):
        self.later = later

    def now(self):
        return datetime.now(UTC) + self.later


@pytest.mark.usefixtures("held_copies")
@pytest.mark.parametrize(("later", "removed"), [(timedelta(hours=1), False), (timedelta(days=2), True)])
async def test_work_folder_of_another_machine_is_kept_for_a_day(one_group, root, later, removed):
    one_group(3, "new", "sync")
    (workdir,) = (root / ".rehost/work").iterdir()
    remote = workdir.rename(workdir.with_name("elsewhere.0123456789abcdef.1.00000000"))

    async with LocalStore(root, clock=LaterClock(later)):
        assert remote.exists() is not removed
