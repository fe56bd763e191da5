"""All commands at once over one table that another program is editing: no edit is lost, and runs converge."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.journeys.world import LIMIT, World

HOSTS = ("one.example", "two.example")
SETTINGS = {"IMAGE_DOWNLOAD_CONCURRENCY": "4"}


@contextmanager
def edited(world: World, number: int) -> Iterator[dict[int, str]]:
    """Change, delete and add rows until the block ends, as another program would; yield the links by case id."""
    dice = random.Random(5)
    links = dict(enumerate(world.urls, 1))
    is_over = threading.Event()

    def edit() -> None:
        while not is_over.wait(0.05):
            made = world.origin.url("picture", f"new-{dice.randrange(10**9)}.jpg", host=dice.choice(HOSTS))
            case_id = dice.randint(1, number)
            world.urls = [*world.urls, made]
            if dice.random() < 0.1:
                world.sql(f"DELETE FROM ad_cases WHERE case_id = {case_id}")
                links.pop(case_id, None)
            elif case_id in links:
                also = ", main_image_local = NULL" if dice.random() < 0.3 else ""
                world.sql(f"UPDATE ad_cases SET main_image = '{made}'{also} WHERE case_id = {case_id}")
                links[case_id] = made
            else:
                world.add(case_id, made)
                links[case_id] = made

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        yield links
    finally:
        is_over.set()
        editor.join()


@pytest.mark.timeout(900)
def test_runs_plan_status_and_undo_at_the_same_time_lose_no_edit(world, request) -> None:
    rounds, number = (10, 400) if request.config.getoption("full") else (1, 24)
    world.fill([world.origin.url("picture", f"{index}.jpg", host=HOSTS[index % 2]) for index in range(number)])
    first = world.run()
    assert first.returncode == 0, first.stdout + first.stderr

    with edited(world, number) as links:
        for _ in range(rounds):
            [(last,)] = world.sql("SELECT max(run) FROM rehost_runs WHERE held > 0")
            commands = {
                name: world.start(verb=verb, options=options)
                for name, verb, options in [
                    ("run", "run --quiet", ()),
                    ("run again", "run --quiet", ()),
                    ("plan", "plan", ()),
                    ("status", "status", ()),
                    ("undo", "undo", (last,)),
                ]
            }
            for name, command in commands.items():
                with command:
                    out, err = command.communicate(timeout=LIMIT)
                assert (command.returncode, err) == (0, ""), f"{name}: {out}{err}"

    world.check_rows()
    assert dict(world.sql("SELECT case_id, main_image FROM ad_cases")) == {str(key): links[key] for key in links}
    done = world.run()
    assert done.returncode == 0, done.stdout + done.stderr
    again = world.run()
    assert again.returncode == 0, again.stdout + again.stderr
    world.check_end(deleted=set(range(1, number + 1)) - links.keys())
    assert dict(world.sql("SELECT case_id, main_image FROM ad_cases")) == {str(key): links[key] for key in links}
