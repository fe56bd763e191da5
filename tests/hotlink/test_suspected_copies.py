"""Held copies that may be decoys, in whole runs: replaced, or removed once a second control agrees (invariant 5)."""

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest
from tests.misbehaviours import NOTICE
from tests.origin import Origin
from tests.pictures import picture
from tests.run.test_run import HOST, make_world

from rehost.errors import StoreError
from rehost.hotlink.repository import CONFIRM_SECONDS
from rehost.model import Format
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
    assert second.decoys >= 1
    assert second.total_held == len(links)
    assert [world.bytes_of(case_id) for case_id in range(1, 7)] == [world.origin.picture(link) for link in links]


async def test_decoy_of_the_same_run_is_replaced(world, links):
    world.add(*links)
    ended = await world.run()

    assert (ended.decoys, ended.total_held) == (1, len(links))
    assert [world.bytes_of(case_id) for case_id in range(1, 7)] == [world.origin.picture(link) for link in links]


def later(world):
    """Let the time pass after which a second control may confirm a decoy."""
    world.sql("UPDATE rehost_decoys SET learned_at = learned_at - ?", CONFIRM_SECONDS)
    world.sql("UPDATE rehost_links SET due_at = due_at - ? WHERE state = 'deferred'", 2 * CONFIRM_SECONDS)


async def test_invariant_5_decoy_without_a_replacement_is_removed_once_a_second_control_agrees(tmp_path, links):
    notices = {}
    with Origin(lambda *_asked: notices.get("*")) as origin:
        world = make_world(tmp_path, origin, {})
        world.add(*links[:3])
        await world.run()
        notices["*"] = NOTICE  # overnight, for everything
        world.add(*links[3:])

        first = await world.run()

        assert (first.suspected, first.decoys) == (1, 0)
        assert len(world.locals()) == 4  # the first notice was like any other picture
        assert missing(world) == {}
        assert world.sql("SELECT DISTINCT reason FROM rehost_links WHERE row_key > '3'") == [("decoy",)]
        assert (await world.run()).decoys == 0  # too early
        assert len(world.locals()) == 4

        later(world)
        second = await world.run()

        assert (second.suspected, second.decoys, second.total_held) == (0, 1, 3)
        assert sorted(world.locals()) == [1, 2, 3]
        assert [world.bytes_of(case_id) for case_id in (1, 2, 3)] == [origin.picture(link) for link in links[:3]]
        assert sorted(path.parent.name for path in (tmp_path / "images").glob("[0-9]*/*")) == ["1", "2", "3"]


@pytest.mark.parametrize("second", ["not-found", "fails", None])
async def test_invariant_5_suspected_copy_stays_if_the_second_control_does_not_agree(tmp_path, links, second):
    turns = {"*": NOTICE}
    with Origin(lambda *_asked: turns["*"]) as origin:
        world = make_world(tmp_path, origin, {})
        world.add(*links[:2])
        lie_about(world, 1, 2)
        assert (await world.run()).suspected == 2
        turns["*"] = second
        later(world)

        ended = await world.run()

        assert sorted(world.locals()) == [1, 2]
        assert missing(world) == {}
        assert ended.decoys == (2 if second is None else 0)  # an image replaces the decoy


@pytest.mark.parametrize("remaining", [1, 2])
async def test_stop_between_clearing_and_quarantine_brings_no_decoy_back(tmp_path, links, monkeypatch, remaining):
    async def die(*_arguments):
        raise StoreError("the disk fails")

    with Origin(lambda *_asked: NOTICE) as origin:
        world = make_world(tmp_path, origin, {})
        world.add(*links[:2])
        lie_about(world, 1, 2)
        await world.run()
        later(world)
        with monkeypatch.context() as patched:
            patched.setattr(LocalStore, "quarantine", die)
            with pytest.raises(StoreError):
                await world.run()
        assert 1 not in world.locals()
        world.sql("DELETE FROM ad_cases WHERE case_id > ?", remaining)
        later(world)

        await world.run(retry="all")

        assert world.locals() == {}
        assert not [path for row in range(1, 1 + remaining) for path in (tmp_path / f"images/{row}").glob("*")]


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
async def test_invariant_5_confirmed_decoy_of_an_older_script_is_cleared_if_no_image_comes(tmp_path, links, turn):
    turns = {"*": NOTICE}
    with Origin(lambda *_asked: turns["*"]) as origin:
        world = make_world(tmp_path, origin, {})
        world.add(*links[:2])
        lie_about(world, 1, 2)
        await world.run()
        later(world)
        await world.run()
        assert world.locals() == {}
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

    assert (ended.decoys, ended.total_held) == (6, 6)
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


@pytest.fixture
def walled(tmp_path, links):
    """As `world`, but the notice comes for paths where nothing is, too."""
    missing = f"http://{HOST}/a/gone.jpg".removeprefix(f"http://{HOST}")

    def play(_host, path, headers):
        if path == missing:
            return "not-found"
        return None if HOST in headers.get("referer", "") else NOTICE

    with Origin(play) as origin:
        yield make_world(tmp_path, origin, {})


async def test_invariant_1_row_of_a_suspected_copy_leads_to_its_file_though_the_link_changes_meanwhile(world, links):
    world.add(links[0])
    await world.run()
    assert world.bytes_of(1) == NOTICE
    world.add(*links[1:])

    changes = []

    def change(_event):  # in a thread: a transaction of the run may be open, and ends only if the loop goes on
        query = "UPDATE ad_cases SET main_image = ? WHERE case_id = 1"
        changes.append(asyncio.create_task(asyncio.to_thread(world.sql, query, f"http://{HOST}/a/gone.jpg")))

    await world.run(listen=change)
    await asyncio.gather(*changes)
    await world.run()

    assert missing(world) == {}
    assert sorted(world.locals()) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("noted", "host"), [("with", HOST), ("before", HOST), ("before", "else.example")])
async def test_invariant_5_decoy_is_removed_though_its_link_has_changed_and_the_new_one_gives_no_image(
    walled, links, noted, host
):
    walled.add(links[0])
    lie_about(walled, 1)
    await walled.run()
    assert walled.bytes_of(1) == NOTICE
    walled.sql("UPDATE ad_cases SET main_image = ? WHERE case_id = 1", f"http://{host}/a/gone.jpg")
    if noted == "before":
        await walled.run()  # it fails, and waits
        assert walled.bytes_of(1) == NOTICE
    walled.add(*links[1:])

    await walled.run()
    later(walled)
    await walled.run()

    assert sorted(walled.locals()) == [2, 3, 4, 5, 6]
    assert missing(walled) == {}
    assert not (walled.folder / "images/1").exists()


async def test_decoys_are_removed_if_the_ledger_is_in_another_database(tmp_path, links):
    with Origin(lambda *_asked: NOTICE) as origin:
        world = make_world(tmp_path, origin, {"REHOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"})
        ledger = replace(world, database="ledger.db")
        world.add(*links[:2])
        lie_about(world, 1, 2)
        assert (await world.run()).suspected == 2
        assert sorted(world.locals()) == [1, 2]
        later(ledger)
        assert (await world.run()).decoys == 2
        world.add(*links[2:])
        lie_about(world, 3, 4, 5, 6)

        await world.run()

        assert world.locals() == {}
        assert not list((tmp_path / "images").glob("[0-9]*/*"))


# strangers: whoever writes links, and answers for folders and hosts of their own

VICTIM = f"http://{HOST}/~alice/photo.jpg"
HERS = picture(99, Format.JPEG)


def is_hers(host, path):
    return host == HOST and path.startswith("/~alice/")


@asynccontextmanager
async def strangers(folder, play):
    """A world whose first link is a victim's, at a host where a stranger answers for everything else by `play`."""

    def played(host, path, headers):
        if is_hers(host, path):
            return HERS if path == "/~alice/photo.jpg" else "not-found"
        return play(host, path, headers)

    with Origin(played) as origin:
        yield make_world(folder, origin, {})


def victim(world):
    """Return the victim's row, the state of her link, and her copy."""
    ((row,),) = world.sql("SELECT main_image_local FROM ad_cases WHERE main_image = ?", VICTIM)
    ((state,),) = world.sql("SELECT state FROM rehost_links WHERE url = ?", VICTIM)
    return row, state, row and world.path_of(row).read_bytes()


async def attack(world, links, *, runs=2):
    """Let the stranger's links be visited, and the time pass that a second control waits for."""
    world.add(*links)
    for _ in range(runs):
        await world.run(retry="all")
        later(world)


def rules(world):
    return dict(world.sql("SELECT origin, referer FROM rehost_origins"))


def bobs(number, start=1):
    return [f"http://{HOST}/~bob/{n}.jpg" for n in range(start, start + number)]


def other_picture_with_referer(_host, path, headers):
    """Give the victim's bytes without a Referer, and for what exists a picture of its own with one."""
    if not re.fullmatch(r"/~bob/\d{1,3}\.jpg", path):
        return "not-found"
    return None if "referer" in headers else HERS


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", [2, 3, 12])
@pytest.mark.parametrize("play", [lambda *_: HERS, other_picture_with_referer], ids=["for anything", "by Referer"])
async def test_stranger_beside_the_victim_on_a_shared_host_changes_nothing_of_hers(tmp_path, play, number):
    async with strangers(tmp_path, play) as world:
        world.add(VICTIM)
        await world.run()
        before = victim(world)
        assert before[1:] == ("held", HERS)

        await attack(world, bobs(number))

        assert victim(world) == before


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", [2, 3, 12])
@pytest.mark.parametrize("play", [lambda *_: HERS, other_picture_with_referer], ids=["for anything", "by Referer"])
async def test_stranger_who_comes_first_on_a_shared_host_does_not_have_the_victims_image_refused(
    tmp_path, play, number
):
    async with strangers(tmp_path, play) as world:
        await attack(world, bobs(number))
        world.add(VICTIM)
        await world.run()

        assert victim(world)[1:] == ("held", HERS)
        await attack(world, bobs(number, start=20))
        assert victim(world)[1:] == ("held", HERS)


async def test_stranger_who_overwrites_files_with_the_victims_bytes_changes_nothing_of_hers(tmp_path):
    overwritten = False

    def play(_host, path, _headers):
        if not re.fullmatch(r"/~bob/\d{1,3}\.jpg", path):
            return "not-found"
        return HERS if overwritten else None

    async with strangers(tmp_path, play) as world:
        world.add(VICTIM, *bobs(3))
        await world.run()
        before = victim(world)
        overwritten = True

        await attack(world, bobs(12, start=10))

        assert victim(world) == before


@pytest.mark.sampled(1)
@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.parametrize("number", [2, 3, 12])
async def test_open_redirect_on_the_victims_host_changes_neither_her_row_nor_the_rule(tmp_path, status, number):
    def play(host, path, headers):
        if host == HOST and path.startswith("/go?to="):
            target = f"Location: http://evil.test/{path.partition('=')[2]}.jpg"
            return lambda exchange: exchange.reply(status, b"", target)
        if host == HOST:
            return "not-found"
        return None if HOST in headers.get("referer", "") else HERS

    async with strangers(tmp_path, play) as world:
        world.add(VICTIM, f"http://{HOST}/~alice/none.jpg")
        await world.run()
        before, rule = victim(world), rules(world)
        assert rule == {f"http://{HOST}": "none"}

        await attack(world, [f"http://{HOST}/go?to={n}" for n in range(number)])

        assert victim(world) == before
        assert rules(world) == rule
        assert world.sql("SELECT count(*) FROM rehost_decoys WHERE folder NOT LIKE '% evil.test'") == [(0,)]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("status", [301, 302, 307])
async def test_redirects_of_a_strangers_host_to_the_victims_image_change_nothing_of_hers(tmp_path, status):
    def play(_host, _path, _headers):
        return lambda exchange: exchange.reply(status, b"", f"Location: {VICTIM}")

    async with strangers(tmp_path, play) as world:
        world.add(VICTIM)
        await world.run()
        before, rule = victim(world), rules(world)

        await attack(world, [f"http://evil.test/{n}.jpg" for n in range(3)] + bobs(3))

        assert victim(world) == before
        assert rules(world) == rule


async def test_no_answers_of_a_stranger_outside_the_victims_folder_change_her_row(tmp_path, sample):
    for seed in sample(range(6), 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        await any_answers(folder, seed)


async def any_answers(folder, seed):
    """Have a stranger's links answered at random, and check her row after each of three runs."""
    random = Random(seed)
    status = random.choice((301, 302, 307))

    def redirect(target):
        return lambda exchange: exchange.reply(status, b"", f"Location: {target}")

    def play(_host, path, headers):
        own = Random(f"{seed} {path} {headers.get('referer') if random.random() < 0.7 else ''}")
        return own.choice(
            [HERS, HERS, HERS, NOTICE, None, "not-found", "forbidden", "html-page", redirect(VICTIM),
             redirect(f"http://evil.test{path}"), redirect(f"http://{HOST}/~bob{path}")]
        )  # fmt: skip

    shapes = [
        *(f"http://{HOST}/~bob/{{}}.jpg", f"http://{HOST}/{{}}.jpg", f"http://{HOST}/go?to={{}}"),
        *(f"http://{HOST}/2020/{{}}.jpg", f"http://{HOST}/~{{}}/photo.jpg", f"http://{HOST}:81/~alice/{{}}.jpg"),
        *("http://evil.test/{}.jpg", f"https://{HOST}/~bob/{{}}.jpg"),
    ]
    async with strangers(folder, play) as world:
        world.add(VICTIM)
        await world.run()
        before = victim(world)

        for turn in range(3):
            links = [shape.format(10 * turn + n) for shape in random.sample(shapes, 3) for n in range(3)]
            await attack(world, links, runs=1)

            assert victim(world) == before
