"""`rehost origins`: hosts are paused, resumed and forgotten, and nothing is changed where a host is not known.

`rehost status` loads what it needs.
"""

import asyncio
import json
import sqlite3
import subprocess
import sys

import pytest
from tests.databases import open_database, open_peer

from rehost.cli.main import main
from rehost.ledger import migrate

PAGE, LINK = "https://www.a.example/1", "https://A.example/1.png"


@pytest.fixture
def rehost(tmp_path, monkeypatch, capsys):
    """Call the command line over a table of one link; return the exit status, and what was printed where."""
    with sqlite3.connect(tmp_path / "it.db") as database:
        database.execute(
            "CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url, title, main_image, main_image_local)"
        )
        database.execute("INSERT INTO ad_cases VALUES (1, ?, 't', ?, NULL)", (PAGE, LINK))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/it.db")
    monkeypatch.setenv("IMAGE_CONNECT_TO", "*::127.0.0.1:9")

    def call(*arguments):
        status = main([*arguments, "--base", str(tmp_path)])
        return status, *capsys.readouterr()

    asyncio.run(take_in(f"sqlite:///{tmp_path}/it.db"))
    return call


async def take_in(url):
    async with open_database(url) as database:
        await migrate(database)
        await (await open_peer(database)).note()


def pauses(rehost):
    _, printed, _ = rehost("origins", "--json")
    return {host["host"]: round(host["pause_seconds"] / 3600) for host in json.loads(printed)["hosts"]}


def test_a_host_is_paused_for_a_time_and_resumed(rehost):
    status, printed, _ = rehost("origins", "--pause", "A.example", "--for", "2h")

    assert (status, pauses(rehost)) == (0, {"a.example": 2})
    assert printed == "Paused a.example for 2 h. To end the pause earlier: rehost origins --resume a.example\n"

    assert rehost("origins", "--resume", "https://a.example/1.png")[:2] == (0, "Resumed a.example.\n")
    assert rehost("origins", "--resume", "a.example")[:2] == (0, "a.example was not paused.\n")
    assert pauses(rehost) == {"a.example": 0}


def test_a_pause_lasts_a_day_unless_said_otherwise(rehost):
    rehost("origins", "--pause", "a.example")

    assert pauses(rehost) == {"a.example": 24}


def test_a_run_during_a_pause_says_which_host_waits_and_resuming_makes_its_links_due(rehost):
    rehost("origins", "--pause", "a.example")

    status, printed, _ = rehost("run", "--retry", "all")

    assert status == 1
    printed = " ".join(printed.split())
    assert "waiting for a paused host: a.example" in printed
    assert "rehost origins --resume a.example" in printed
    assert "--retry all" not in printed
    assert "to ask the paused a.example now: rehost origins --resume a.example" in rehost("status")[1]
    _, printed, _ = rehost("origins", "--resume", "a.example")
    assert printed.splitlines() == [
        "Resumed a.example.",
        "Links that waited for it and are due now: 1. `rehost run` visits them.",
    ]
    assert json.loads(rehost("plan", "--json")[1])["due"] == 1


def test_what_was_changed_is_printed_as_json(rehost):
    _, printed, _ = rehost(
        "origins", "--pause", "a.example", "--resume", "a.example", "--forget", "a.example", "--json"
    )

    assert json.loads(printed) == {
        "paused": {"a.example": 86400.0},
        "resumed": {"a.example": {"was_paused": True, "links": 0}},
        "forgotten": {"a.example": {"rules": 0, "decoys": 0}},
        "decided": {},
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pause", "a.example", "--pause", "a.exmaple"], "No link leads to a.exmaple; `rehost origins` lists"),
        (["--forget", "b.example"], "No link leads to b.example"),
        (["--pause", "a b"], "--pause a b: this is not the name of a host"),
        (["--pause", "a.example", "--for", "2 weeks"], "'2 weeks' is not a time: write 90s, 30m, 2h or 7d"),
        (["--pause", "a.example", "--for", "32d"], "at most 31d"),
        (["--for", "2h"], "needs --pause HOST"),
    ],
)
def test_an_unknown_host_or_time_is_an_error_and_changes_nothing(rehost, arguments, said):
    status, printed, error = rehost("origins", *arguments)

    assert (status, printed) == (2, "")
    assert said in " ".join(error.split())
    assert pauses(rehost) == {"a.example": 0}


def test_status_loads_no_orm_and_nothing_that_makes_a_run(rehost, tmp_path):
    unneeded = {
        "sqlalchemy.orm",
        "rehost.events",
        "rehost.ledger.sync",
        "rehost.ledger.results",
        "PIL",
        "brotli",
        "tqdm",
        "wcwidth",
    }
    parts = {f"rehost.{name}" for name in ("catalogue", "store.local", "fetch", "hosts", "hotlink", "run", "upkeep")}
    script = (
        f"import sys; from rehost.cli.main import main; main(['status', '--base', {str(tmp_path)!r}]);"
        f"sys.stderr.write(' '.join({unneeded | parts} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert "cases: 0 of 1 link held" in done.stdout
    assert done.stderr == ""
