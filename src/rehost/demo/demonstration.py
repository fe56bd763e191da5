"""The demonstration, step by step; the command line prints the result of each step.

Every start is a fresh one: only the pictures of the hosts are kept.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rehost.demo.cases import Case, Result, create_table, local_urls, make_cases
from rehost.demo.origins import ADDRESS, Origins, Shown
from rehost.demo.pictures import Pictures
from rehost.errors import SettingsError, StoreError, cause_of
from rehost.language import Message
from rehost.model import State
from rehost.settings import Settings, load

MARK = "README.txt"
MARK_TEXT = "This folder belongs to `rehost demo`, which empties it whenever it starts. Keep nothing here.\n"
DATABASE = "demo.db"
IMAGES = "images"
PICTURES = "posters"


@dataclass(frozen=True, slots=True)
class Difference:
    """A link whose result is not the expected one."""

    case_id: int
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One demonstration, in a folder of its own."""

    folder: Path
    cases: Sequence[Case]
    pictures: Pictures
    origins: Origins
    lock: int | None = None  # descriptor of a file of the folder, which is locked until it is closed

    @classmethod
    def prepare(cls, folder: Path) -> Demonstration:
        """Prepare a folder: an empty store, a new table, and the pictures of the hosts.

        Raises:
            SettingsError: the folder holds files that are not the demonstration's, or another one uses it now.
            StoreError: the folder cannot be written.
        """
        try:
            lock = _clear(folder)
            cases = make_cases()
            pictures = Pictures(folder / PICTURES)
            pictures.create(cases)
            create_table(folder / DATABASE, cases)
        except OSError as error:
            path = error.filename or folder
            raise StoreError(
                "{path} cannot be written ({cause}); name another folder with --dir.", path=path, cause=cause_of(error)
            ) from error
        return cls(folder, cases, pictures, Origins(cases, pictures), lock)

    def settings(self, port: int, token: str = "") -> Settings:
        """Return the settings of the run, which send every request for port 80 to the simulated hosts at `port`.

        The token (REHOST_TOKEN) allows actions on the dashboard; without one it is read-only.
        """
        flags = {
            "database_url": f"sqlite:///{self.folder.absolute() / DATABASE}",
            "storage_dir": str(self.folder.absolute() / IMAGES),
            "allow_networks": "127.0.0.0/8",
            "connect_to": f"*:80:{ADDRESS}:{port}",
            "min_free_bytes": "64MiB",
        }
        return load(self.folder, {"REHOST_TOKEN": token}, flags)

    def shown_directly(self, page: str) -> dict[int, Shown]:
        """Return what a browser shows for each link in a page at this URL, by case id."""
        shown = {case.case_id: self.origins.shown(case, page) for case in self.cases if case.link is not None}
        self.origins.reset()
        return shown

    def local_urls(self) -> dict[int, str | None]:
        """Return the local URL in each row that has a link, by case id."""
        return local_urls(self.folder / DATABASE)

    def differences(self, results: Mapping[int, Result]) -> list[Difference]:
        """Compare the ledger's result (by case id), the row and the file of each link with what is expected."""
        urls = self.local_urls()
        compared = (
            Difference(case.case_id, str(case.expected), self._found(case, results.get(case.case_id), urls))
            for case in self.cases
            if case.expected
        )
        return [each for each in compared if each.found != each.expected]

    def _found(self, case: Case, result: Result | None, urls: Mapping[int, str | None]) -> str:
        if result is None:
            return Message("not in the ledger")
        url = urls.get(case.case_id)
        if result.state is not State.HELD:
            points = Message("{result}, but the row points at {url}", result=result, url=url)
            return str(result) if url is None else points
        if url is None:
            return Message("held, but the row points at nothing")
        file = self.folder / IMAGES / str(case.case_id) / url.rpartition("/")[2]
        if file.suffix != f".{case.format.value}":
            return Message("held, but as {file}", file=file.name)
        is_same = file.is_file() and file.read_bytes() == self.pictures.path(case).read_bytes()
        return str(result) if is_same else Message("held, but {file} is not the picture", file=file)


def _clear(folder: Path) -> int:
    """Remove the results of the last demonstration, keep the pictures of the hosts; return a lock on the folder."""
    mark = folder / MARK
    if folder.is_dir() and any(folder.iterdir()) and not (mark.is_file() and mark.read_bytes() == MARK_TEXT.encode()):
        raise SettingsError(
            "{folder} holds files that are not the demonstration's; name another folder with --dir.", folder=folder
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(mark, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SettingsError(
            "Another demonstration is using the folder {folder}: end it, or name another folder with --dir.",
            folder=folder,
        ) from error
    os.write(lock, MARK_TEXT.encode())
    for file in folder.glob(f"{DATABASE}*"):
        file.unlink()
    with suppress(FileNotFoundError):
        shutil.rmtree(folder / IMAGES)
    return lock
