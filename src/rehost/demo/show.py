"""The demonstration from its beginning to its end, step by step; the command line says what each step came to.

It starts afresh every time: only the painted pictures stay from the last one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rehost.demo import library
from rehost.demo.cases import Case, Plan, cases
from rehost.demo.direct import Direct, Reader
from rehost.demo.origin import ADDRESS, origin
from rehost.demo.page import CasePage, ShownCase
from rehost.demo.posters import Posters
from rehost.demo.world import World
from rehost.errors import SettingsError, StoreError
from rehost.model import State
from rehost.settings import Settings, load

MARK = "README.txt"
MARK_TEXT = "This folder belongs to `rehost demo`, which empties it whenever it starts. Keep nothing here.\n"
DATABASE = "demo.db"
IMAGES = "images"
POSTERS = "posters"
LEAST_FREE = "64MiB"


@dataclass(frozen=True, slots=True)
class Difference:
    """A link whose outcome is not the planned one."""

    case_id: int
    planned: str
    found: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One demonstration, in a folder of its own."""

    folder: Path
    cases: Sequence[Case]
    posters: Posters
    world: World

    @classmethod
    def begin(cls, folder: Path) -> Demonstration:
        """Make the folder ready for a fresh start: an empty store, a new catalogue, the pictures painted.

        Raises:
            SettingsError: the folder holds something that is not the demonstration's.
            StoreError: the folder cannot be written.
        """
        try:
            _clear(folder)
            all_cases = cases()
            posters = Posters(folder / POSTERS)
            posters.make(all_cases)
            library.make(folder / DATABASE, all_cases)
        except OSError as error:
            place = error.filename or folder
            raise StoreError(f"{place} cannot be written ({error.strerror}); name another folder by --dir.") from error
        return cls(folder, all_cases, posters, World(all_cases, posters))

    @contextmanager
    def playing(self) -> Iterator[int]:
        """Play the hosts for as long as the context lasts; yield their port."""
        with origin(self.world) as port:
            yield port

    def settings(self, port: int, token: str = "") -> Settings:
        """Return the settings of the main job: its own folder, and every host led to the played ones.

        Args:
            port: of the played hosts.
            token: lets whoever shows it act on the page; empty lets nobody.
        """
        flags = {
            "database_url": f"sqlite:///{self.folder.absolute() / DATABASE}",
            "storage_dir": str(self.folder.absolute() / IMAGES),
            "allow_networks": "127.0.0.0/8",
            "connect_to": f"*:80:{ADDRESS}:{port}",
            "min_free_bytes": LEAST_FREE,
        }
        return load(self.folder, {"REHOST_TOKEN": token}, flags)

    def look(self, port: int, page: str) -> Direct:
        """Ask for every link as a browser does that shows `page`; afterwards the hosts have forgotten it."""
        direct = Reader(port, page, self.posters).look(self.cases)
        self.world.forget()
        return direct

    def differences(self, outcomes: Mapping[int, Plan]) -> list[Difference]:
        """Compare each link's outcome, as ledger, row and file tell it, with the planned one.

        Args:
            outcomes: by case id, where the ledger says that the link stands.
        """
        local_urls = library.local_urls(self.folder / DATABASE)
        found = {case: self._found(case, outcomes.get(case.case_id), local_urls) for case in self.cases if case.plan}
        return [
            Difference(case.case_id, _words(case.plan), words)
            for case, words in found.items()
            if words != _words(case.plan)
        ]

    def page(self, direct: Direct, outcomes: Mapping[int, Plan], rules: Mapping[str, str]) -> CasePage:
        """Return the page that shows what became of every case."""
        local_urls = library.local_urls(self.folder / DATABASE)
        shown = []
        for case in self.cases:
            outcome = outcomes.get(case.case_id)
            shown.append(ShownCase(case, local_urls.get(case.case_id), outcome.reason if outcome else None))
        return CasePage(shown, direct, rules)

    def _found(self, case: Case, outcome: Plan | None, local_urls: Mapping[int, str | None]) -> str:
        if outcome is None:
            return "not in the ledger"
        local_url = local_urls.get(case.case_id)
        if outcome.state is not State.HELD:
            return _words(outcome) if local_url is None else f"{_words(outcome)}, but the row points at {local_url}"
        if local_url is None:
            return "held, but the row points at nothing"
        file = self.folder / IMAGES / str(case.case_id) / local_url.rpartition("/")[2]
        if file.suffix != f".{case.format.value}":
            return f"held, but as {file.name}"
        is_whole = file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == self.posters.digest(case)
        return _words(outcome) if is_whole else f"held, but {file} is not the picture"


def _words(plan: Plan | None) -> str:
    if plan is None:
        return "nothing"
    return f"{plan.state}: {plan.reason}" if plan.reason else str(plan.state)


def _clear(folder: Path) -> None:
    """Remove what the last demonstration left, the painted pictures aside."""
    mark = folder / MARK
    if folder.is_dir() and any(folder.iterdir()) and not (mark.is_file() and mark.read_bytes() == MARK_TEXT.encode()):
        raise SettingsError(f"{folder} holds files that are not the demonstration's; name another folder by --dir.")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(MARK_TEXT, "utf-8")
    for file in folder.glob(f"{DATABASE}*"):
        file.unlink()
    if (folder / IMAGES).exists():
        shutil.rmtree(folder / IMAGES)
