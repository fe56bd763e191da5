"""Whole runs whose ledger is in a database of its own: rows and entries change in two steps."""

import pytest
from tests.origin import Origin
from tests.run.test_run import make_world

from rehost.catalogue import TableCatalogue
from rehost.errors import CatalogueError
from rehost.run.undo import Undone
from rehost.wiring.databases import undo


@pytest.fixture
def apart(tmp_path):
    """A world with something in its rows already."""
    with Origin() as origin:
        world = make_world(tmp_path, origin, {"REHOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"})
        world.add(*(world.link("permissive", f"{number}.jpg") for number in range(3)))
        world.sql("UPDATE ad_cases SET main_image_local = '/old/pics/' || case_id WHERE case_id < 3")
        world.sql("UPDATE ad_cases SET main_image_local = '' WHERE case_id = 3")
        yield world


async def fail(*_arguments):
    raise CatalogueError("It is away.")


async def test_an_undo_brings_back_what_the_rows_held_before(apart):
    before = apart.locals()
    await apart.run()
    assert [apart.path_of(url).exists() for url in apart.locals().values()] == [True] * 3

    undone = await undo(apart.settings, source=None, run=1)

    assert undone == Undone(restored=3, left=0)
    assert apart.locals() == before


async def test_what_was_settled_and_not_written_is_mended_without_a_request(apart, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(TableCatalogue, "write_back", fail)
        with pytest.raises(CatalogueError):
            await apart.run()
    before, asked = apart.locals(), apart.origin.count()
    assert before == {1: "/old/pics/1", 2: "/old/pics/2", 3: ""}

    ended = await apart.run()

    assert (ended.mended, apart.origin.count()) == (3, asked)
    assert [apart.path_of(url).exists() for url in apart.locals().values()] == [True] * 3
    assert await undo(apart.settings, source=None, run=2) == Undone(restored=3, left=0)
    assert apart.locals() == before


async def test_what_somebody_wrote_after_us_is_left_alone(apart):
    await apart.run()
    apart.sql("UPDATE ad_cases SET main_image_local = '/theirs.jpg'")

    await apart.run()

    assert set(apart.locals().values()) == {"/theirs.jpg"}
