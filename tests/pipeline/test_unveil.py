"""Decoys that were held before anybody could know, through whole runs."""

import pytest
from tests.misbehaviours import NOTICE
from tests.origin import Origin
from tests.pipeline.test_run import HOST, make_world

from rehost.errors import StoreError
from rehost.model import Reason
from rehost.store.local import LocalStore


@pytest.fixture
def links():
    return [f"http://{HOST}/a/picture-{n}.jpg" for n in range(1, 7)]


@pytest.fixture
def world(tmp_path, links):
    """An origin that sends a notice to whoever has no Referer of its own, and 404 for what is not there."""
    names = {link.removeprefix(f"http://{HOST}") for link in links}

    def play(_host, path, headers):
        if path not in names:
            return "not-found"
        return None if HOST in headers.get("referer", "") else NOTICE

    with Origin(play) as origin:
        yield make_world(tmp_path, origin, {})


async def test_a_decoy_of_an_earlier_run_gives_way_once_a_second_link_unmasks_it(world, links):
    world.add(links[0])
    first = await world.run()
    assert first.held == 1
    assert world.bytes_of(1) == NOTICE  # one link alone proves nothing

    world.add(*links[1:])
    second = await world.run()
    assert second.unveiled >= 1
    assert second.total_held == len(links)
    assert [world.bytes_of(case_id) for case_id in range(1, 7)] == [world.origin.picture(link) for link in links]


async def test_a_decoy_of_the_same_run_gives_way_too(world, links):
    world.add(*links)
    ended = await world.run()

    assert (ended.unveiled, ended.total_held) == (1, len(links))
    assert [world.bytes_of(case_id) for case_id in range(1, 7)] == [world.origin.picture(link) for link in links]


async def test_a_decoy_that_nothing_gives_way_to_is_quarantined_and_its_row_cleared(tmp_path, links):
    notices = {}
    with Origin(lambda *_asked: notices.get("*")) as origin:
        world = make_world(tmp_path, origin, {})
        world.add(*links[:3])
        await world.run()
        assert len(world.locals()) == 3

        notices["*"] = NOTICE  # overnight, for everything
        world.add(*links[3:])
        ended = await world.run()

        assert ended.total_held == 3
        assert sorted(world.locals()) == [1, 2, 3]
        assert [world.bytes_of(case_id) for case_id in (1, 2, 3)] == [origin.picture(link) for link in links[:3]]
        assert {Reason.DECOY} == set(ended.failed)
        assert sorted(path.parent.name for path in (tmp_path / "images").glob("[0-9]*/*")) == ["1", "2", "3"]


@pytest.mark.parametrize("others", [0, 5])
async def test_a_stop_between_the_clearing_and_the_quarantine_brings_no_decoy_back(world, links, monkeypatch, others):
    async def die(*_arguments):
        raise StoreError("the disk fails")

    world.add(links[0])
    await world.run()
    assert world.bytes_of(1) == NOTICE
    world.add(*links[1:])
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "quarantine", die)
        with pytest.raises(StoreError):
            await world.run()
    assert 1 not in world.locals()
    world.sql("DELETE FROM ad_cases WHERE case_id > ?", 1 + others)

    await world.run()

    kept = {number: list((world.folder / f"images/{number}").iterdir()) for number in range(1, 2 + others)}
    assert NOTICE not in [path.read_bytes() for paths in kept.values() for path in paths]
    assert [world.bytes_of(case_id) for case_id in range(1, 2 + others)] == [
        world.origin.picture(link) for link in links[: 1 + others]
    ]
