"""One command over several sources, as an operator starts it: two columns of one table in PostgreSQL."""

from __future__ import annotations

import json

import pytest
from tests.journeys.world import LIMIT, World

SETTINGS = {"IMAGE_DOWNLOAD_CONCURRENCY": "6"}
SOURCE = """
[source.{name}]
table = "goods"
key = "id"
link = "{name}"
local = "{name}_local"
path = "{name}/{{key}}"
"""


def call(world: World, *arguments: str) -> tuple[int, str, str]:
    verb, *options = arguments
    with world.start(verb=verb, options=options) as command:
        out, err = command.communicate(timeout=LIMIT)
    return command.returncode, out, err


@pytest.mark.timeout(600)
def test_every_verb_works_on_all_sources_or_on_the_named_ones(world) -> None:
    (world.folder / "rehost.toml").write_text("".join(map(SOURCE.format_map, [{"name": "photo"}, {"name": "thumb"}])))
    world.sql("CREATE TABLE goods (id integer PRIMARY KEY, photo text, photo_local text, thumb text, thumb_local text)")
    links = [tuple(world.origin.url("picture", f"{kind}{n}.jpg", host="a.example") for kind in "pt") for n in range(80)]
    rows = ",".join(f"({number}, '{photo}', '{thumb}')" for number, (photo, thumb) in enumerate(links, 1))
    world.sql(f"INSERT INTO goods (id, photo, thumb) VALUES {rows}")

    plan = call(world, "plan")
    status, out, err = call(world, "run", "--workers", "2", "--json")
    ended = json.loads(out)
    of_thumb = call(world, "status", "--source", "thumb", "--json")
    undone = call(world, "undo", str(json.loads(of_thumb[1])["runs"][0]["run"]))

    assert [line.split()[:4] for line in plan[1].splitlines()] == [
        ["source", "links", "held", "due"],
        ["photo", "80", "0", "80"],
        ["thumb", "80", "0", "80"],
        ["total", "160", "0", "160"],
    ]
    assert status == 0, err
    assert [(each["source"], each["held"]) for each in ended["sources"]] == [("photo", 80), ("thumb", 80)]
    assert (ended["total"]["held"], ended["total"]["total_present"]) == (160, 160)
    assert json.loads(of_thumb[1])["standing"]["states"]["held"] == 80
    assert "total: Restored 160 rows" in undone[1]
    assert world.sql("SELECT count(photo_local), count(thumb_local) FROM goods") == [("0", "0")]
    assert call(world, "run", "--source", "thumb", "--source", "nope")[0] == 2
