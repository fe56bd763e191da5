"""Decoys that were held before they could be recognised, in whole runs."""

import pytest
from tests.misbehaviours import NOTICE
from tests.origin import Origin
from tests.run.test_run import HOST, make_world

from rehost.errors import StoreError
from rehost.model import Reason
from rehost.store.local import LocalStore


@pytest.fixture
def links():
    return [f"http://{HOST}/a/picture-{n}.jpg" for n in range(1, 7)]


@pytest.fixture
def world(tmp_path, links):
    """An origin that sends a notice unless the Referer is its own, and 404 for paths where nothing is."""
    names = {link.removeprefix(f"http://{HOST}") for link in links}

    def play(_host, path, headers):
        if path not in names:
            return "not-found"
        return None if HOST in headers.get("referer", "") else NOTICE

    with Origin(play) as origin:
        yield make_world(tmp_path, origin, {})


async def test_decoy_of_an_earlier_run_is_replaced_once_a_second_link_proves_it(world, links):
    world.add(links[0])
    first = await world.run()
    assert first.held == 1
    assert world.bytes_of(1) == NOTICE  # one link alone proves nothing

    world.add(*links[1:])
    second = await world.run()
    assert second.unveiled >= 1
    assert second.total_held == len(links)
    assert [world.bytes_of(case_id) for case_id in range(1, 7)] == [world.origin.picture(link) for link in links]


async def test_decoy_of_the_same_run_is_replaced(world, links):
    world.add(*links)
    ended = await world.run()

    assert (ended.unveiled, ended.total_held) == (1, len(links))
    assert [world.bytes_of(case_id) for case_id in range(1, 7)] == [world.origin.picture(link) for link in links]


async def test_decoy_without_a_replacement_is_quarantined_and_its_row_cleared(tmp_path, links):
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
async def test_stop_between_clearing_and_quarantine_brings_no_decoy_back(world, links, monkeypatch, others):
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


def missing(world) -> dict[int, str]:
    """Return the local URLs of rows that point at no file."""
    return {row: url for row, url in world.locals().items() if not world.path_of(url).exists()}


def lie_about(world, *rows: int) -> None:
    """Put an older script's notices where the copies of these rows belong, and point the rows at them."""
    for row in rows:
        url = f"/static/images/{row}/main_image.jpg"
        world.path_of(url).parent.mkdir(parents=True, exist_ok=True)
        world.path_of(url).write_bytes(NOTICE)
        world.sql("UPDATE ad_cases SET main_image_local = ? WHERE case_id = ?", url, row)


@pytest.mark.parametrize("turn", [NOTICE, "not-found", "forbidden"])
async def test_invariant_5_known_decoy_of_an_older_script_is_cleared_if_no_image_comes(tmp_path, links, turn):
    turns = {"*": NOTICE}
    with Origin(lambda *_asked: turns["*"]) as origin:
        world = make_world(tmp_path, origin, {})
        world.add(*links[:2])
        lie_about(world, 1, 2)
        await world.run()
        world.add(*links[2:])
        lie_about(world, 3, 4, 5)
        world.sql("UPDATE ad_cases SET main_image_local = 'https://cdn.example/mine.jpg' WHERE case_id = 6")
        turns["*"] = turn

        await world.run()

        assert world.locals() == {6: "https://cdn.example/mine.jpg"}
        assert not list((tmp_path / "images").glob("[0-9]*/*"))
        assert len(list((tmp_path / "images/.rehost/quarantine").rglob("*.jpg"))) == 5
        assert world.sql("SELECT before_url FROM rehost_changes WHERE row_key = '3' AND after_url IS NULL") == [
            ("/static/images/3/main_image.jpg",)
        ]


async def test_decoys_that_an_older_script_kept_prove_each_other(world, links):
    world.add(*links)
    lie_about(world, 1, 2, 3, 4, 5, 6)

    ended = await world.run()

    assert (ended.unveiled, ended.total_held) == (6, 6)
    assert [world.bytes_of(case_id) for case_id in range(1, 7)] == [world.origin.picture(link) for link in links]


async def test_known_decoy_of_an_older_script_is_replaced_by_the_image(world, links):
    world.add(*links[:3])
    await world.run()
    world.add(*links[3:])
    lie_about(world, 4, 5, 6)

    await world.run()

    assert [world.bytes_of(case_id) for case_id in range(1, 7)] == [world.origin.picture(link) for link in links]


async def test_known_decoy_stays_if_its_link_was_not_asked_for(tmp_path, links):
    answers = {"*": NOTICE}
    with Origin(lambda *_asked: answers["*"]) as origin:
        world = make_world(tmp_path, origin, {})
        world.add(*links[:2])
        await world.run()
        world.add(*links[2:])
        lie_about(world, 3, 4, 5, 6)
        answers["*"] = lambda exchange: exchange.reply(429, b"", "Retry-After: 3600")

        await world.run()

        assert missing(world) == {}


async def test_invariant_1_row_of_a_decoy_is_cleared_though_its_link_has_changed_meanwhile(world, links):
    world.add(links[0])
    await world.run()
    assert world.bytes_of(1) == NOTICE
    world.add(*links[1:])

    def change(event):
        world.sql("UPDATE ad_cases SET main_image = ? WHERE case_id = 1", f"http://{HOST}/a/gone.jpg")

    await world.run(listen=change)

    assert missing(world) == {}
    assert sorted(world.locals()) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(("noted", "host"), [("with", HOST), ("before", HOST), ("before", "else.example")])
async def test_invariant_5_decoy_is_removed_though_its_link_has_changed_and_the_new_one_gives_no_image(
    world, links, noted, host
):
    world.add(links[0])
    await world.run()
    world.sql("UPDATE ad_cases SET main_image = ? WHERE case_id = 1", f"http://{host}/a/gone.jpg")
    if noted == "before":
        await world.run()  # it fails, and waits
        assert world.bytes_of(1) == NOTICE
    world.add(*links[1:])

    await world.run()

    assert sorted(world.locals()) == [2, 3, 4, 5, 6]
    assert missing(world) == {}
    assert not (world.folder / "images/1").exists()


async def test_decoys_are_removed_if_the_ledger_is_in_another_database(tmp_path, links):
    turns = {"*": NOTICE}
    with Origin(lambda *_asked: turns["*"]) as origin:
        world = make_world(tmp_path, origin, {"REHOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"})
        world.add(*links[:2])
        lie_about(world, 1, 2)
        ended = await world.run()
        assert ended.unveiled == 2
        world.add(*links[2:])
        lie_about(world, 3, 4, 5, 6)
        turns["*"] = "not-found"

        await world.run()

        assert world.locals() == {}
        assert not list((tmp_path / "images").glob("[0-9]*/*"))
