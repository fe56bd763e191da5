"""Which file has which key: place files, set aside what they replace, bring it back, recover after a kill.

Keys change files only under the store's lock, which other processes and machines take as well. So what is set aside is
exactly what the rename replaced, and a folder is not removed between its creation and its use. Everything here blocks;
call it in threads. Methods that change names return the folders that need a sync.

Each process keeps its unfinished files in a work folder of its own, which it locks for as long as it lives:

    root/.rehost/store-id                 the store's marker: the ledger knows the random id in it
    root/.rehost/lock                     held while keys change files and work folders come and go
    root/.rehost/gone/                    what was taken down (gone.py)
    root/.rehost/quarantine/KEY           copies that turned out to be decoys
    root/.rehost/work/MACHINE.KERNEL.PID.RANDOM/ one process's work folder
        lock                              held until the process ends, however it ends
        spool/                            untrusted bodies
        replaced/KEY                      the file that had a key before `place` gave the key to another file

If the lock of a work folder can be taken, its process has ended. On some network file systems a lock that another
machine holds is not visible: a work folder of another machine counts as abandoned only after a day without a sign of
life.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

from rehost import process_identity
from rehost.errors import StoreError
from rehost.language import Message
from rehost.model import KnownStore
from rehost.store.base import Cause, FileIds, Placement, Unconfirmed
from rehost.store.filesystem import (
    PRIVATE_FOLDER_MODE,
    exclusive_lock,
    link_or_copy,
    list_keys,
    list_keys_in_groups,
    make_folders,
    open_lock,
    remove_empty_folders,
    try_lock,
)
from rehost.store.trash import discard

HOME = ".rehost"
MARKER = "store-id"
TRASH = "trash"
REMOTE_ABANDONED_AFTER = timedelta(days=1)


def read_marker(root: Path) -> str | None:
    """Return the id of the store in a folder; None if there is no store.

    Raises:
        PermissionError: this user may not look: nothing is known.
        OSError: the disk failed.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        return (root / HOME / MARKER).read_text(encoding="ascii", errors="replace").strip() or None
    return None


def write_marker(home: Path) -> str:
    """Return the store's id, after giving it one, durably, if it has none. The caller holds the store's lock."""
    if (found := read_marker(home.parent)) is not None:
        return found
    identity, unfinished = secrets.token_hex(16), home / f"{MARKER}.new"
    with unfinished.open("w", encoding="ascii") as file:
        file.write(f"{identity}\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(home / MARKER)
    return identity


def check_identity(found: str | None, root: str, known: Sequence[KnownStore], *, is_there: bool = True) -> None:
    """Check that the store with this id at this place is one of those that the ledger knows, if it knows any.

    Raises:
        StoreError: it is another one, or none.
    """
    if not known or found in {each.store for each in known}:
        return
    marker = f"{HOME}/{MARKER}"
    what = Message("{root} has no marker ({marker})", root=root, marker=marker)
    if found is not None:
        what = Message("{root} is another store ({marker} holds {id})", root=root, marker=marker, id=found[:8])
    elif not is_there:
        what = Message("{root} does not exist", root=root)
    raise StoreError(
        "{what}, but the ledger has copies in the store {id}, last seen in {folder} on {machine}: mount it, "
        "or correct IMAGE_STORAGE_DIR. If the copies are lost, a run with `--accept-loss` goes on without them: it "
        "clears their rows and fetches them again.",
        what=what,
        id=known[0].store[:8],
        folder=known[0].folder,
        machine=known[0].machine,
    )


class WorkDir:
    """One process's work folder. Only the process that holds its lock has this object."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        """Take a folder whose lock we hold by `descriptor`; `close` releases it."""
        self.spools = folder / "spool"
        self.replaced = folder / "replaced"
        self._folder = folder
        self._descriptor = descriptor

    def touch(self) -> None:
        """Show machines that cannot see our lock that this process is alive."""
        os.utime(self._descriptor)

    def remove_spools(self) -> None:
        """Remove every spool."""
        shutil.rmtree(self.spools, ignore_errors=True)

    def has_replaced_files(self) -> bool:
        """Return whether files are set aside here."""
        return next(list_keys(self.replaced), None) is not None

    def close(self) -> None:
        """Release the lock, and remove the folder unless files are set aside in it."""
        try:
            if not self.has_replaced_files():
                shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            os.close(self._descriptor)


class Spools:
    """Gives paths to untrusted bodies, unless the disk is nearly full."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        """Refuse spools while the disk of this folder has less than `min_free_bytes`."""
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._numbers = count(1)
        self._refusal = ""  # empty while the disk has room

    def new(self, workdir: WorkDir) -> Path:
        """Return a new path in a work folder.

        Raises:
            StoreError: the disk has less than `min_free_bytes` left. What is in flight can still be recorded.
        """
        if self._refusal:
            raise StoreError(self._refusal)
        return workdir.spools / str(next(self._numbers))

    def check_space(self) -> None:
        """Refuse spools from now on if the disk has too little space left; allow them again if it has enough."""
        free = free_bytes(self._root)
        self._refusal = ""
        if free < self._min_free_bytes:
            self._refusal = Message(
                "The disk of the store {root} has {free:,} bytes left, less than IMAGE_MIN_FREE_BYTES ({least:,}): "
                "free some space, or lower that setting.",
                root=self._root,
                free=free,
                least=self._min_free_bytes,
            )


def free_bytes(root: Path) -> int:
    """Return how many bytes a user without privileges can still write."""
    state = os.statvfs(root)
    return state.f_bavail * state.f_frsize


def create_workdir(home: Path) -> WorkDir:
    """Return a new work folder for this process. The caller holds the store's lock."""
    folder = home / "work" / f"{_machine()}.{os.getpid()}.{secrets.token_hex(4)}"
    folder.mkdir(PRIVATE_FOLDER_MODE, parents=True)
    descriptor = open_lock(folder / "lock")
    if not try_lock(descriptor):
        raise StoreError("{folder} cannot be locked: mount the store's file system with locks.", folder=folder)
    workdir = WorkDir(folder, descriptor)
    workdir.spools.mkdir(PRIVATE_FOLDER_MODE)
    workdir.replaced.mkdir(PRIVATE_FOLDER_MODE)
    return workdir


def take_over_abandoned(home: Path, now: datetime) -> list[WorkDir]:
    """Return the work folders of processes that have ended, locked by us. The caller holds the store's lock."""
    found = (_take_over(folder, now) for folder in (home / "work").glob("*.*.*.*"))
    return [workdir for workdir in found if workdir is not None]


def _take_over(folder: Path, now: datetime) -> WorkDir | None:
    """Return a work folder if its process has ended."""
    descriptor = open_lock(folder / "lock")
    taken = False
    try:
        age = now.timestamp() - os.fstat(descriptor).st_mtime
        same_machine = bool({*folder.name.split(".")[:2]} & {*_machine().split(".")})
        taken = (same_machine or age > REMOTE_ABANDONED_AFTER.total_seconds()) and try_lock(descriptor)
    finally:
        if not taken:
            os.close(descriptor)
    return WorkDir(folder, descriptor) if taken else None


def _machine() -> str:
    """Return the names of this machine and of its running kernel: if either is the same, locks are visible here.

    The machine's name outlives a restart; the containers of one machine share the kernel's number.
    """
    kernel = re.sub(r"[^a-z0-9]", "", process_identity.kernel()) or "unknown"
    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:60] or "unnamed"
    return f"{name}.{kernel}"


_GROUP = 200


@dataclass(frozen=True, slots=True)
class FileId:
    """What identifies one file, whatever its name."""

    device: int
    inode: int
    modified_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class _Placed:
    file_id: FileId
    replaced: Path | None  # where the file is that had the key before


def file_id(path: Path) -> FileId | None:
    """Return what identifies the file at `path`, or None if there is none."""
    try:
        return _id_of(os.lstat(path))
    except FileNotFoundError:
        return None


def _id_of(state: os.stat_result) -> FileId:
    return FileId(state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)


def file_ids(paths: Mapping[str, Path]) -> FileIds:
    """Return what identifies these files, without the files that do not exist."""
    found = ((key, file_id(path)) for key, path in paths.items())
    return {key: seen for key, seen in found if seen is not None}


class NameRegistry:
    """The keys below `root`, and what this process has placed there without confirming it yet."""

    def __init__(self, root: Path, lock: Path, replaced: Path, mode: int) -> None:
        """Change names below `root` under `lock`; set files aside in `replaced`; give placed files this mode."""
        self._trash = root / HOME / TRASH
        self._root = root
        self._lock = lock
        self._replaced = replaced
        self._mode = mode
        self._placed: dict[str, _Placed] = {}

    def place(self, placements: Sequence[Placement]) -> set[Path]:
        """Give files their keys, all or none; set aside the files that had them."""
        folders: set[Path] = set()
        with exclusive_lock(self._lock):
            try:
                for placement in placements:
                    folders |= self._place(placement)
            except OSError:
                with suppress(OSError):
                    self._undo(placement.key for placement in placements)
                raise
        return folders

    def place_free(self, placements: Sequence[Placement]) -> tuple[set[str], set[Path]]:
        """Give files their keys where no file has them; return these keys."""
        folders: set[Path] = set()
        with exclusive_lock(self._lock):
            free = [each for each in placements if not os.path.lexists(self._root / each.key)]
            for placement in free:
                folders |= self._place(placement)
                del self._placed[placement.key]  # it replaced nothing: there is nothing to confirm or to undo
        return {each.key for each in free}, folders

    def folders_above(self, files: Iterable[Path]) -> set[Path]:
        """Return all folders from these files up to the root: one that another process created may not be synced."""
        folders = {self._root}
        for file in files:
            folder = file.parent
            while folder not in folders:
                folders.add(folder)
                folder = folder.parent
        return folders

    def confirm(self, keys: Iterable[str]) -> set[Path]:
        """Move what is set aside for these keys to the trash."""
        folders: set[Path] = set()
        for key in keys:
            placed = self._placed.pop(key, None)
            if placed is not None and placed.replaced is not None:
                with suppress(FileNotFoundError):
                    folders |= {discard(placed.replaced, self._trash, Cause.REPLACED)}
                remove_empty_folders(placed.replaced.parent, self._replaced)
        return folders

    def undo(self, keys: Iterable[str]) -> set[Path]:
        """Give these keys back to the files that had them, unless another process has placed a file there since."""
        with exclusive_lock(self._lock):
            return self._undo(keys)

    def claim(self, key: str) -> bool:
        """Give the file with this key a new identity, by its time of modification; return whether there is one."""
        with exclusive_lock(self._lock):
            path = self._root / key
            seen = file_id(path)
            if seen is not None:
                with suppress(PermissionError):  # another user's file: none of our workers has placed it
                    times = (time.time_ns(), max(time.time_ns(), seen.modified_ns + 1))
                    os.utime(path, ns=times, follow_symlinks=False)
        return seen is not None

    def remove(self, file_ids: FileIds) -> set[Path]:
        """Remove the files that are still the same, and the folders that this empties."""
        with exclusive_lock(self._lock):
            same = [self._root / key for key, seen in file_ids.items() if file_id(self._root / key) == seen]
            return {self._unlink(path) for path in same}

    def trash(self, file_ids: FileIds, cause: Cause) -> set[Path]:
        """Move the files that are still the same to the trash."""
        folders: set[Path] = set()
        with exclusive_lock(self._lock):
            for key, seen in file_ids.items():
                path = self._root / key
                if file_id(path) != seen:
                    continue
                with suppress(FileNotFoundError):
                    folders |= {discard(path, self._trash, cause), remove_empty_folders(path.parent, self._root)}
        return folders

    def move(self, file_ids: FileIds, target_root: Path) -> set[Path]:
        """Move the files that are still the same below `target_root`, next to what has the same name there."""
        folders: set[Path] = set()
        with exclusive_lock(self._lock):
            for key, seen in file_ids.items():
                path = self._root / key
                if file_id(path) != seen:
                    continue
                target = _unused_path(target_root / key)
                make_folders(target.parent, PRIVATE_FOLDER_MODE)
                with suppress(FileNotFoundError):
                    path.rename(target)
                    folders |= {target.parent, remove_empty_folders(path.parent, self._root)}
        return folders

    def recover(self, files: Sequence[Unconfirmed], held: Mapping[str, str | None]) -> set[Path]:
        """Bring back the files whose digest is held, and move the others to the trash.

        A file whose link is leased (None) stays set aside: that worker may be about to commit the new bytes.
        """
        folders: set[Path] = set()
        for file in files:
            if file.key in held and held[file.key] is None:
                continue
            if held.get(file.key) == file.digest:
                folders |= self._bring_back(file)
                file.set_aside.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                folders |= {discard(file.set_aside, self._trash, Cause.REPLACED)}
        return folders

    def _bring_back(self, file: Unconfirmed) -> set[Path]:
        """Give a key back to a file that was set aside, if the key still has the file that was seen."""
        target = self._root / file.key
        with exclusive_lock(self._lock):
            if file_id(target) != file.current:
                return set()
            make_folders(target.parent)
            file.set_aside.rename(target)
        return {target.parent, self._root}

    def _place(self, placement: Placement) -> set[Path]:
        target = self._root / placement.key
        is_new_folder = make_folders(target.parent)
        state = os.lstat(placement.spool)
        if stat.S_IMODE(state.st_mode) != self._mode:
            placement.spool.chmod(self._mode)
        replaced = None if is_new_folder else self._set_aside(target, placement.key)
        self._placed[placement.key] = _Placed(_id_of(state), replaced)
        placement.spool.rename(target)
        return self.folders_above([target])

    def _set_aside(self, target: Path, key: str) -> Path | None:
        """Give the file at `target` a second name; return that, or None if there is no file."""
        if not os.path.lexists(target):
            return None
        if target.is_dir() and not target.is_symlink():
            raise IsADirectoryError(errno.EISDIR, "a folder", str(target))
        replaced = self._replaced / key
        make_folders(replaced.parent, PRIVATE_FOLDER_MODE)
        replaced.unlink(missing_ok=True)  # of an earlier group, which has been confirmed or undone
        link_or_copy(target, replaced)
        return replaced

    def _undo(self, keys: Iterable[str]) -> set[Path]:
        folders: set[Path] = set()
        for key in keys:
            placed = self._placed.pop(key, None)
            if placed is None:
                continue
            target = self._root / key
            if file_id(target) == placed.file_id:
                if placed.replaced is None:
                    folders.add(self._unlink(target))
                else:
                    placed.replaced.rename(target)
                    folders.add(target.parent)
            if placed.replaced is not None:
                self._discard(placed.replaced)
        return folders

    def _discard(self, replaced: Path) -> None:
        replaced.unlink(missing_ok=True)
        remove_empty_folders(replaced.parent, self._replaced)

    def _unlink(self, target: Path) -> Path:
        """Remove a file and the folders that this empties; return the lowest folder that remains."""
        with suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()
        return remove_empty_folders(target.parent, self._root)


def total(folder: Path) -> tuple[int, int, int]:
    """Return how many files are below a folder, their bytes, and how many of the disk's bytes they take up."""
    files = size = blocks = 0
    for key in list_keys(folder):
        with suppress(FileNotFoundError):
            state = os.lstat(folder / key)
            files, size, blocks = files + 1, size + state.st_size, blocks + state.st_blocks
    return files, size, 512 * blocks


def find_unconfirmed(root: Path, workdir: WorkDir, abandoned: Collection[WorkDir]) -> Iterator[list[Unconfirmed]]:
    """Yield in groups the files that one of the abandoned work folders has set aside and that need a decision.

    Keys of which a living process has set a file aside are left for a later run: it has just placed a file there.
    """
    dead = {each.replaced for each in abandoned}
    for keys in list_keys_in_groups(workdir.replaced, _GROUP):
        found = (_inspect_replaced(root, workdir, key) for key in keys if not _is_busy(root, key, dead))
        yield [file for file in found if file is not None]


def _is_busy(root: Path, key: str, dead: Collection[Path]) -> bool:
    folders = (folder / "replaced" for folder in (root / HOME / "work").iterdir())
    return any(os.path.lexists(folder / key) for folder in folders if folder not in dead)


def _inspect_replaced(root: Path, workdir: WorkDir, key: str) -> Unconfirmed | None:
    set_aside = workdir.replaced / key
    current = file_id(root / key)
    if current is not None and current == file_id(set_aside):  # killed before the rename: one file with two names
        set_aside.unlink()
        return None
    digest = ""
    with suppress(FileNotFoundError), set_aside.open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Unconfirmed(key, digest, set_aside, current)


def _unused_path(path: Path) -> Path:
    """Return `path`, or the path with the first number appended that makes a name which does not exist."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate
