"""What a run's plan mends; and `rehost plan`, which finds the same and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.databases import CASES, execute, open_database
from tests.origin import Origin
from tests.run.test_run import make_world

from rehost.catalogue import TableCatalogue
from rehost.db import Database
from rehost.errors import CatalogueError, LedgerError
from rehost.events import Planned
from rehost.ledger import migrate
from rehost.ledger.migrations import LATEST, version
from rehost.settings import Settings, load
from rehost.upkeep.undo import Undone
from rehost.wiring import databases, upkeep
from rehost.wiring.run import open_run


@pytest.fixture
def apart_world(tmp_path):
    """A world with something in its rows already."""
    with Origin() as origin:
        world = make_world(tmp_path, origin, {"REHOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"})
        world.add(*(world.link("permissive", f"{number}.jpg") for number in range(3)))
        world.sql("UPDATE ad_cases SET main_image_local = '/old/pics/' || case_id WHERE case_id < 3")
        world.sql("UPDATE ad_cases SET main_image_local = '' WHERE case_id = 3")
        yield world


async def fail(*_arguments):
    raise CatalogueError("It is away.")


async def test_a_row_that_was_recorded_and_not_written_is_mended_without_a_request(apart_world, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(TableCatalogue, "write_back", fail)
        with pytest.raises(CatalogueError):
            await apart_world.run()
    before, asked = apart_world.locals(), apart_world.origin.count()
    assert before == {1: "/old/pics/1", 2: "/old/pics/2", 3: ""}

    ended = await apart_world.run()

    assert (ended.mended, apart_world.origin.count()) == (3, asked)
    assert [apart_world.path_of(url).exists() for url in apart_world.locals().values()] == [True] * 3
    assert await upkeep.undo(apart_world.settings, run=2) == {"cases": Undone(restored=3, left=0)}
    assert apart_world.locals() == before


async def test_a_row_that_was_changed_later_is_left_alone(apart_world):
    await apart_world.run()
    apart_world.sql("UPDATE ad_cases SET main_image_local = '/theirs.jpg'")

    await apart_world.run()

    assert set(apart_world.locals().values()) == {"/theirs.jpg"}


async def test_rows_left_out_are_named_in_a_line_that_acts_on_no_terminal(tmp_path, caplog):
    with Origin() as origin:
        world = make_world(tmp_path, origin, {})
        world.sql("DROP TABLE ad_cases")
        world.sql("CREATE TABLE ad_cases (case_id TEXT PRIMARY KEY, source_url, main_image, main_image_local)")
        for key in ("\x1b[2J\x07\nforged" + "k" * 3000, "2"):
            world.sql("INSERT INTO ad_cases (case_id, main_image) VALUES (?, ?)", key, world.link("permissive"))

        ended = await world.run()

    assert (ended.held, ended.failed) == (1, {})
    [record] = [each for each in caplog.records if each.levelname == "WARNING"]
    assert record.getMessage().startswith("Rows left out, because their keys have more than 2000 bytes: 1;")
    assert r"\x1b[2J\x07\nforgedkkk" in record.getMessage()
    assert record.getMessage().isprintable()


# --- rehost plan: the same figures, and nothing changes

AT = "key = row_key || '/main_image.png', local_url = '/static/images/' || row_key || '/main_image.png'"
HELD = f"state = 'held', held_url = url, digest = 'd', size = 1, held_at = {{before}}, {AT}"
POINTS = "main_image_local = '/static/images/' || case_id || '/main_image.png'"

# What befell a link since it was noted: its entry, its row, and whether a file is at its place.
FATES = [
    ("", "", False),
    (HELD, POINTS, True),
    (HELD, POINTS, False),  # its file is missing
    (HELD, "main_image_local = NULL", True),
    (HELD.replace("'/static/images/'", "'/old/'"), "main_image_local = '/old/' || case_id || '/main_image.png'", True),
    (HELD, "main_image_local = '/theirs.png'", True),
    (HELD, f"{POINTS}, main_image = 'http://b.example/new.png'", True),
    (HELD, f"{POINTS}, main_image = ' '", True),
    ("", "source_url = 'https://www.example.com/new'", False),
    ("state = 'deferred', reason = 'timed-out', due_at = {later}", "", False),
    ("state = 'refused', reason = 'gone', due_at = {before}", "", False),
    ("state = 'refused', reason = 'gone', due_at = {never}", "", False),  # by a wrong clock
    ("state = 'leased', worker = '{alive}', due_at = {later}", "", False),
    ("state = 'leased', worker = '{dead}', due_at = {later}, attempts = 1", "", False),
    ("state = 'leased', worker = 'other', due_at = {before}", "", False),
    ("", "", True),
]  # fmt: skip
ALIVE = databases.identity.name()
DEAD = ":".join([*ALIVE.split(":")[:2], "0", "dead"])


@dataclass
class Estate:
    """An operator's table, ledger and store; no link of it can be requested."""

    settings: Settings
    folder: Path
    catalogue: Database
    ledger: Database

    async def plan(self) -> Planned:
        [planned] = await databases.plan(self.settings)
        return planned

    async def plan_of_a_run(self) -> Planned:
        async with open_run(self.settings, source=None, listen=lambda _event: None) as run:
            planned, _ = await run._sources[0].parts.planner.plan()
            return planned

    async def add(self, number: int) -> None:
        page, link = "https://www.example.com/1", "http://a.example/1.png"
        await execute(self.catalogue, f"INSERT INTO ad_cases VALUES ({number}, '{page}', 'title', '{link}', NULL)")

    async def befall(self, *fates) -> None:
        """Note a row for each fate, and let it come."""
        for number, _ in enumerate(fates, 1):
            await self.add(number)
        await self.plan_of_a_run()
        words = {"alive": ALIVE, "dead": DEAD}
        for word, seconds in (("before", -3600), ("later", 3600), ("never", 400 * 86400)):
            now = "now() + interval '{} seconds'" if not self.ledger.is_sqlite else "unixepoch() + {}"
            words[word] = now.format(seconds)
        for worker in (ALIVE, DEAD):
            await execute(self.ledger, f"INSERT INTO rehost_workers VALUES ('{worker}', {words['later']})")
        for number, (entry, row, has_file) in enumerate(fates, 1):
            if entry:
                set_to = entry.format(**words)
                await execute(self.ledger, f"UPDATE rehost_links SET {set_to} WHERE row_key = '{number}'")
            if row:
                await execute(self.catalogue, f"UPDATE ad_cases SET {row} WHERE case_id = {number}")
            if has_file:
                self.file(number).parent.mkdir()
                self.file(number).write_bytes(b"p")

    def file(self, number: int) -> Path:
        return self.settings.storage_dir / f"{number}/main_image.png"

    async def everything(self) -> list[object]:
        """All rows of all tables, and all files with their times; SQLite's of readers' locks aside."""
        found: list[object] = [
            (each.name, each.stat().st_mtime_ns, each.stat().st_size)
            for each in sorted(self.folder.rglob("*"))
            if not each.name.endswith("-shm")
        ]
        for database in (each for each in {self.catalogue, self.ledger} if not each.is_missing()):
            names = "SELECT name FROM sqlite_master WHERE type = 'table'"
            if not database.is_sqlite:
                names = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            for [name] in sorted(await execute(database, names)):
                found.append((name, sorted(await execute(database, f"SELECT * FROM {name}"), key=repr)))
        return found


@pytest.fixture(params=["postgresql", "sqlite", "apart"])
async def estate(request, tmp_path):
    folder = tmp_path / "estate"
    folder.mkdir()
    given = {"DATABASE_URL": f"sqlite:///{folder}/c.db", "IMAGE_STORAGE_DIR": str(folder / "images")}
    if request.param == "apart":
        given["REHOST_LEDGER_URL"] = f"sqlite:///{folder}/ledger.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        given["DATABASE_URL"] = server.url(request.getfixturevalue("postgres_database"))
    settings = load(folder, {**given, "IMAGE_MIN_FREE_BYTES": "0"}, {})
    async with open_database(settings.database_url) as catalogue:
        await execute(catalogue, CASES)
        if request.param != "apart":
            yield Estate(settings, folder, catalogue, catalogue)
            return
        async with open_database(settings.ledger_url) as ledger:
            yield Estate(settings, folder, catalogue, ledger)


@pytest.mark.parametrize(
    "fates",
    [FATES, [FATES[2], FATES[2]], [FATES[3], FATES[3], FATES[9]]],
    ids=["of every kind", "all files are missing", "the column was emptied"],
)
async def test_a_plan_finds_what_the_next_run_finds_and_changes_nothing(estate, fates):
    await estate.befall(*fates)
    await estate.add(len(fates) + 1)
    before = await estate.everything()

    planned = await estate.plan()

    assert await estate.everything() == before
    assert planned == await estate.plan_of_a_run()
    assert planned.present >= len(fates)


async def test_a_plan_where_rehost_never_ran_makes_no_table_and_no_folder(estate):
    for number in range(1, 4):
        await estate.add(number)
    before = await estate.everything()

    planned = await estate.plan()

    assert (planned.new, planned.due, planned.held) == (3, 3, 0)
    assert await estate.everything() == before
    assert not estate.settings.storage_dir.exists()
    assert planned == await estate.plan_of_a_run()


async def test_a_plan_needs_a_user_who_may_only_read(estate, request, caplog):
    if estate.catalogue.is_sqlite:
        url = f"sqlite:///file:{estate.folder}/c.db?mode=ro&uri=true"
    else:
        server, name = (request.getfixturevalue(each) for each in ("postgres", "postgres_database"))
        url = server.url(name).replace("postgresql://postgres@", "postgresql://reader@")
    await estate.befall(*FATES)
    if not estate.catalogue.is_sqlite:
        server.run(
            "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;"
            "ALTER ROLE reader SET default_transaction_read_only = on",
            name,
        )
    ledger_url = url if estate.ledger is estate.catalogue else estate.settings.ledger_url

    [planned] = await databases.plan(replace(estate.settings, database_url=url, ledger_url=ledger_url))

    warned = [each.getMessage() for each in caplog.records if each.name == "rehost.catalogue.table"]
    if not estate.catalogue.is_sqlite:
        assert len(warned) == 1
        assert "A run would stop: " in warned[0]
        assert "permission denied for table ad_cases. Have its owner GRANT" in warned[0]
        server.run("DROP OWNED BY reader; DROP ROLE reader", name)
    assert planned == await estate.plan_of_a_run()


async def test_a_plan_leaves_the_tables_of_an_older_rehost_as_they_are(estate):
    await migrate(estate.ledger, 4)
    await estate.add(1)
    await estate.add(2)
    now = "julianday('now')" if estate.ledger.is_sqlite else "now()"
    await execute(
        estate.ledger,
        "INSERT INTO rehost_links (source, row_key, position, url, host, due_at, noted_at)"
        f" VALUES ('cases', '1', 0, 'http://a.example/old.png', 'a.example', {now}, {now})",
    )

    planned = await estate.plan()

    assert await version(estate.ledger) == 4
    assert (planned.present, planned.new, planned.changed) == (2, 1, 1)
    assert planned == await estate.plan_of_a_run()


async def test_a_plan_refuses_the_tables_of_a_later_rehost(estate):
    await migrate(estate.ledger)
    await execute(estate.ledger, f"INSERT INTO rehost_migrations (number) VALUES ({LATEST + 1})")

    with pytest.raises(LedgerError, match=f"its tables have number {LATEST + 1}, this version knows {LATEST}"):
        await estate.plan()


async def test_a_database_that_is_only_read_refuses_to_be_written(estate):
    async with open_database(estate.settings.database_url, reads_only=True) as database:
        with pytest.raises(LedgerError):
            await execute(database, "DELETE FROM ad_cases")


async def test_a_plan_without_room_for_temporary_files_says_so(estate, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))

    with pytest.raises(LedgerError, match="set TMPDIR"):
        await estate.plan()
