"""What a plan mends, with the ledger in a database of its own: rows and entries change in two steps."""

from __future__ import annotations

import pytest
from tests.origin import Origin
from tests.run.test_run import make_world

from rehost.catalogue import TableCatalogue
from rehost.errors import CatalogueError
from rehost.run.undo import Undone
from rehost.wiring import databases


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
    assert await databases.undo(apart_world.settings, source=None, run=2) == Undone(restored=3, left=0)
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
