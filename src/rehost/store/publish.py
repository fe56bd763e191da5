"""Who has which name in a store: giving names, keeping aside what had one, and giving it back. Blocking, for threads.

Names change only under the store's lock, which other processes and machines take too. So what is kept aside is what the
rename replaced, and a folder is not removed between its making and its use.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rehost.store.base import FileIds, Placement
from rehost.store.workdir import exclusive

_FOLDER_MODE = 0o755  # less the umask: other servers read them
_NO_SECOND_NAME = {errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}  # link(2); some file systems have none


@dataclass(frozen=True, slots=True)
class FileId:
    """What one file is recognised by, whatever its name."""

    device: int
    inode: int
    modified_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class _Placed:
    file_id: FileId
    aside: Path | None  # where the file is that had the name before


def file_id(path: Path) -> FileId | None:
    """Return what the file of that name is recognised by, None if there is none."""
    try:
        return _file_id(os.lstat(path))
    except FileNotFoundError:
        return None


def _file_id(state: os.stat_result) -> FileId:
    return FileId(state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)


def file_ids_of(paths: Mapping[str, Path]) -> FileIds:
    """Return the marks of these files, without those that are not there."""
    found = ((key, file_id(path)) for key, path in paths.items())
    return {key: seen for key, seen in found if seen is not None}


class NameRegistry:
    """The names below `root`, as one process changes them. Folders that need a sync are returned."""

    def __init__(self, root: Path, lock: Path, replaced: Path, mode: int) -> None:
        """Change names below `root` under `lock`; keep aside in `replaced`; what gets a name gets this mode."""
        self._root = root
        self._lock = lock
        self._replaced = replaced
        self._mode = mode
        self._placed: dict[str, _Placed] = {}

    def place(self, placements: Sequence[Placement]) -> set[Path]:
        """Give files their names, all or none; what had a name is kept aside."""
        folders: set[Path] = set()
        with exclusive(self._lock):
            try:
                for placement in placements:
                    folders |= self._place(placement)
            except OSError:
                with suppress(OSError):
                    self._undo(placement.key for placement in placements)
                raise
        return folders

    def above(self, files: Iterable[Path]) -> set[Path]:
        """Return all folders that need a sync for these names, whoever made them: theirs may not be synced yet."""
        folders = {self._root}
        for file in files:
            folder = file.parent
            while folder not in folders:
                folders.add(folder)
                folder = folder.parent
        return folders

    def confirm(self, keys: Iterable[str]) -> None:
        """Remove what is kept aside for these keys."""
        for key in keys:
            placed = self._placed.pop(key, None)
            if placed is not None and placed.aside is not None:
                self._drop(placed.aside)

    def undo(self, keys: Iterable[str]) -> set[Path]:
        """Give these names back to what had them, unless somebody else has given them away since."""
        with exclusive(self._lock):
            return self._undo(keys)

    def claim(self, key: str) -> bool:
        """Give the file of that name another mark; return whether there is one."""
        with exclusive(self._lock):
            path = self._root / key
            seen = file_id(path)
            if seen is not None:
                with suppress(PermissionError):  # another user's file: none that a worker of ours has placed
                    times = (time.time_ns(), max(time.time_ns(), seen.modified_ns + 1))
                    os.utime(path, ns=times, follow_symlinks=False)
        return seen is not None

    def remove(self, file_ids: FileIds) -> set[Path]:
        """Remove files that have these marks still, and folders that are empty then."""
        with exclusive(self._lock):
            return {
                self._unlink(self._root / key) for key, seen in file_ids.items() if file_id(self._root / key) == seen
            }

    def move(self, file_ids: FileIds, aside: Path) -> set[Path]:
        """Move files that have these marks still to the same names below another folder, beside what lies there."""
        folders: set[Path] = set()
        with exclusive(self._lock):
            for key, seen in file_ids.items():
                if file_id(self._root / key) != seen:
                    continue
                target = _free(aside / key)
                make_folders(target.parent, 0o700)
                with suppress(FileNotFoundError):
                    (self._root / key).rename(target)
                    folders |= {target.parent, prune((self._root / key).parent, self._root)}
        return folders

    def put_back(self, key: str, kept: Path, seen: object) -> set[Path]:
        """Give a name to a file that was kept aside, if the name still has the file that was seen there."""
        target = self._root / key
        with exclusive(self._lock):
            if file_id(target) != seen:
                return set()
            make_folders(target.parent)
            kept.rename(target)
        return {target.parent, self._root}

    def _place(self, placement: Placement) -> set[Path]:
        target = self._root / placement.key
        is_new = make_folders(target.parent)
        ours = os.lstat(placement.spool)
        if stat.S_IMODE(ours.st_mode) != self._mode:
            placement.spool.chmod(self._mode)
        aside = None if is_new else self._keep_aside(target, placement.key)
        self._placed[placement.key] = _Placed(_file_id(ours), aside)
        placement.spool.rename(target)
        return self.above([target])

    def _keep_aside(self, target: Path, key: str) -> Path | None:
        """Give the file that has the name a second one; return that, or None if there is no such file."""
        if not os.path.lexists(target):
            return None
        if target.is_dir() and not target.is_symlink():
            raise IsADirectoryError(errno.EISDIR, "a folder", str(target))
        aside = self._replaced / key
        make_folders(aside.parent, 0o700)
        aside.unlink(missing_ok=True)  # of an earlier group, and settled since
        try:
            os.link(target, aside, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_SECOND_NAME:
                raise
            shutil.copyfile(target, aside, follow_symlinks=False)
        return aside

    def _undo(self, keys: Iterable[str]) -> set[Path]:
        folders: set[Path] = set()
        for key in keys:
            placed = self._placed.pop(key, None)
            target = self._root / key
            if placed is None:
                continue
            if file_id(target) == placed.file_id:
                folders.add(self._give_back(target, placed.aside))
            if placed.aside is not None:
                self._drop(placed.aside)
        return folders

    def _give_back(self, target: Path, aside: Path | None) -> Path:
        if aside is None:
            return self._unlink(target)
        aside.rename(target)
        return target.parent

    def _drop(self, aside: Path) -> None:
        aside.unlink(missing_ok=True)
        prune(aside.parent, self._replaced)

    def _unlink(self, target: Path) -> Path:
        with suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()
        return prune(target.parent, self._root)


def make_folders(folder: Path, mode: int = _FOLDER_MODE) -> bool:
    """Make a folder and those above it that are missing; return whether it was made here, and so is empty."""
    try:
        folder.mkdir(mode)
    except FileNotFoundError:
        if folder.parent.is_dir():
            raise  # no file system to make folders in, such as /proc
        make_folders(folder.parent, mode)
        return make_folders(folder, mode)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    return True


def prune(folder: Path, root: Path) -> Path:
    """Remove a folder below `root` if it is empty, and those above it likewise; return the lowest that is left."""
    while folder != root:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            break
        folder = folder.parent
    return folder


def _free(path: Path) -> Path:
    """Return a path of which nothing has the name yet."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate
