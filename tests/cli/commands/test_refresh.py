"""`rehost refresh`, and what `rehost origins` and `rehost status` show and decide about origins that froze."""

import asyncio
import json
import sqlite3

import pytest
from tests.databases import open_database
from tests.origin import Origin
from tests.pictures import picture

from rehost.cli.main import main
from rehost.ledger import migrate
from rehost.ledger.freezes import Example, Freeze, Freezes, Picture
from rehost.model import Format

HOST = "a.example"
LINKS = 12
OTHER = picture(77, Format.PNG, 96, 72)


@pytest.fixture
def mood():
    return {}


@pytest.fixture
def folder(tmp_path):
    with sqlite3.connect(tmp_path / "it.db") as database:
        database.execute(
            "CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url, title, main_image, main_image_local)"
        )
        rows = [("https://www.pages.example/1", f"http://{HOST}/permissive/{number}.png") for number in range(LINKS)]
        database.executemany("INSERT INTO ad_cases (source_url, main_image) VALUES (?, ?)", rows)
    return tmp_path


@pytest.fixture
def rehost(folder, mood, monkeypatch, capsys):
    """Call the command line over a table of links; return the exit status, and what was printed where."""
    with Origin(lambda _host, path, _headers: mood.get(path)) as origin:
        environment = {"DATABASE_URL": f"sqlite:///{folder}/it.db", "IMAGE_STORAGE_DIR": f"{folder}/images"}
        for name, value in {**environment, "IMAGE_MIN_FREE_BYTES": "0", **origin.environment()}.items():
            monkeypatch.setenv(name, value)

        def call(*arguments):
            status = main([*arguments, "--base", str(folder)])
            return status, *capsys.readouterr()

        yield call


def freeze(folder, origin=f"http://{HOST}"):
    """Let an origin be frozen."""
    example = Example("cases", "4", 0, "http://a.example/4.png", Picture(9000, "a" * 64, 96, 72), None, "gone", "404")

    async def work():
        async with open_database(f"sqlite:///{folder}/it.db") as database:
            await migrate(database)
            await Freezes(database).add(Freeze(origin, 1, "same-picture 3, gone 1", 40, 4, [example]))

    asyncio.run(work())


def test_a_refresh_replaces_what_has_changed_and_says_how_to_undo_that(rehost, folder, mood):
    rehost("run")
    mood["/permissive/3.png"] = OTHER

    planned = json.loads(rehost("refresh", "--dry-run", "--key", "4", "--key", "5", "--json")[1])
    status, printed, _ = rehost("refresh", "--key", "4", "--key", "5")

    assert planned == {"due": 2, "hosts": {HOST: 2}}
    assert status == 0
    assert "2 links asked" in printed
    assert "replaced              1  changed at their origin" in printed
    assert "rehost undo 2" in printed
    assert (folder / "images/4/main_image.png").read_bytes() == OTHER
    status, printed, _ = rehost("refresh", "--json")
    assert (status, json.loads(printed)["asked"]) == (0, 0)


def test_a_refresh_that_freezes_an_origin_shows_it_and_exits_with_1_until_it_is_decided(rehost, folder, mood):
    rehost("run")
    before = {path: path.read_bytes() for path in folder.glob("images/[0-9]*/*")}
    mood |= {f"/permissive/{number}.png": OTHER for number in range(4)}

    status, printed, _ = rehost("refresh", "--key", "1", *(f"--key={number}" for number in range(2, LINKS + 1)))

    assert status == 1
    assert f"frozen: http://{HOST}" in printed
    assert "4: the same picture for links that had different ones" in printed
    assert f"rehost origins --accept {HOST}" in printed
    assert f"rehost origins --keep {HOST}" in printed
    assert {path: path.read_bytes() for path in folder.glob("images/[0-9]*/*")} == before
    status, printed, warned = rehost("refresh", "--quiet")
    assert (status, printed) == (1, "")
    assert "waiting for your decision: a.example" in warned
    assert rehost("origins", "--accept", HOST)[0] == 0
    status, printed, _ = rehost("refresh", "--json")
    assert (status, json.loads(printed)["replaced"]) == (0, 4)


def test_status_and_origins_show_what_is_frozen(rehost, folder):
    freeze(folder)

    assert f"frozen: http://{HOST}" in rehost("status")[1]
    printed = " ".join(rehost("origins")[1].split())
    assert "4 of 40 answers would make copies worse (10%)" in printed
    assert "96x72, 9.00 kB, aaaaaaaa" in printed
    assert "gone: 404" in printed
    [frozen] = json.loads(rehost("origins", "--json")[1])["freezes"]
    assert (frozen["origin"], frozen["decision"]) == (f"http://{HOST}", None)
    [frozen] = json.loads(rehost("status", "--json")[1])["frozen"]
    assert frozen["bad"] == 4


def test_a_decision_is_shown_and_can_be_changed(rehost, folder):
    freeze(folder)

    status, printed, _ = rehost("origins", "--keep", "A.example")

    assert (status, "the held copies stay" in printed) == (0, True)
    assert "you decided to keep what is held" in rehost("origins")[1]
    assert "frozen" not in rehost("status")[1]
    assert json.loads(rehost("origins", "--accept", HOST, "--json")[1])["decided"] == {f"http://{HOST}": "accept"}
    assert "you accepted what it sends" in rehost("origins")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("origins", "--accept", "b.example"), "No origin of b.example is frozen"),
        (("origins", "--accept", HOST, "--keep", HOST), "a.example: either --accept or --keep."),
        (("refresh", "--older-than", "soon"), "'soon' is not a time: write 90s, 30m, 2h or 90d."),
        (("refresh", "--origin", "no host"), "--origin no host: this is not the name of a host"),
    ],
)
def test_incorrect_usage_changes_nothing(rehost, folder, arguments, said):
    freeze(folder)

    status, _, warned = rehost(*arguments)

    assert status == 2
    assert said in " ".join(warned.split())
    assert json.loads(rehost("origins", "--json")[1])["freezes"][0]["decision"] is None
