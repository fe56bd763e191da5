"""What kills programs at system calls in other tests."""

import pytest
from tests.journeys.world import World


@pytest.fixture
def world(kill_world) -> World:
    world, _ = kill_world
    world.fill([world.origin.url("picture", "1.jpg", host="pics.example")])
    world.keep()
    return world


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_program_is_killed_before_the_nth_call(world: World) -> None:
    assert world.run_killed("run --quiet", "mkdir", 1) == 1
    assert not world.store.exists()

    assert world.run_killed("run --quiet", "mkdir", 2) == 2
    assert [path.name for path in world.store.rglob("*")] == []

    world.restore()
    made = world.run_killed("run --quiet", "mkdir", 10_000)  # which it does not make

    assert made > 2
    world.check_end()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_world_is_restored_as_it_was(world: World) -> None:
    tables = "SELECT url, state FROM rehost_links", "SELECT run FROM rehost_runs", "SELECT * FROM ad_cases"
    assert world.run().returncode == 0
    world.keep()
    before = [world.sql(table) for table in tables]
    world.fill([world.origin.url("picture", "2.jpg", host="pics.example")])
    assert world.run().returncode == 0
    assert [world.sql(table) for table in tables] != before

    world.restore()

    assert [world.sql(table) for table in tables] == before
    assert not (world.store / "2").exists()
    assert world.run().returncode == 0
    assert world.sql("SELECT count(*) FROM rehost_links") == [("1",)]
