"""Read-through: a requested picture is fetched once, however many clients request it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.databases import CASES, add_cases, execute, open_database
from tests.misbehaviours import BEHAVIOURS
from tests.origin import Origin
from tests.s3 import BUCKET
from tests.server.conftest import by_granian, by_uvicorn, free_socket, listens
from tests.server.lint import complaints
from tests.server.wire import ask

from rehost.errors import SettingsError
from rehost.server.files.response import IMMUTABLE
from rehost.settings import load
from rehost.wiring.run import open_run
from rehost.wiring.server import build_server
from rehost.wiring.upkeep import open_takedowns

HOST = "pics.example"


@dataclass
class Place:
    """A catalogue of links to one origin, in SQLite."""

    folder: Path
    origin: Origin

    def sql(self, statement, *values):
        """Run a statement; in a thread if it writes while a server in this event loop may write too."""
        with contextlib.closing(sqlite3.connect(self.folder / "c.db", timeout=30)) as connection, connection:
            return list(connection.execute(statement, values))

    def add(self, behaviour, name="1.jpg", host=HOST, key=None):
        url = self.origin.url(behaviour, name, host=host)
        self.sql(
            "INSERT INTO ad_cases (case_id, source_url, main_image) VALUES (?, ?, ?)",
            key, "https://www.pages.example/1", url,
        )  # fmt: skip
        return url

    def given(self, **more):
        return {
            "DATABASE_URL": f"sqlite:///{self.folder}/c.db",
            "IMAGE_STORAGE_DIR": str(self.folder / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_DOWNLOAD_TIMEOUT": "30",
            "IMAGE_DOWNLOAD_RETRY": "1",
            "IMAGE_CONNECT_TO": self.origin.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
            "IMAGE_READ_THROUGH": "on",
            **more,
        }

    def settings(self, **more):
        return load(self.folder, self.given(**more), {})

    def server(self, **more):
        return build_server(self.settings(**more))

    def local(self, key=1):
        return self.sql("SELECT main_image_local FROM ad_cases WHERE case_id = ?", key)[0][0]

    def states(self):
        return dict(self.sql("SELECT row_key, state FROM rehost_links"))


@pytest.fixture
def mood():
    """The behaviour of the origin for all paths, where it changes during a test."""
    return {}


@pytest.fixture
def place(tmp_path, mood):
    with Origin(lambda _host, _path, _headers: mood.get("*")) as origin:
        place = Place(tmp_path, origin)
        place.sql("CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url, main_image, main_image_local)")
        yield place


@pytest.mark.parametrize("serve", [by_uvicorn, by_granian])
async def test_fifty_concurrent_requests_cost_the_origin_one(place, serve):
    url = place.add("permissive")
    async with serve(place.server(IMAGE_CACHE_CONTROL="max-age=60")) as port:
        replies = await asyncio.gather(*(ask(port, "/image/cases/1") for _ in range(50)))
        later = await ask(port, "/image/cases/1", "HEAD")

    assert {(reply.status, reply["content-type"]) for reply in replies} == {(200, "image/jpeg")}
    assert {reply.body for reply in replies} == {place.origin.picture(url)}
    assert (later.status, later["cache-control"]) == (200, "max-age=60")
    assert place.origin.count("/permissive/1.jpg") == 1
    assert [*complaints(replies[0]), *complaints(later, "HEAD")] == []


async def test_fetched_picture_is_held_and_recorded_in_row_and_run(place):
    url = place.add("permissive")
    async with by_uvicorn(place.server()) as port:
        await ask(port, "/image/cases/1")
        public = await ask(port, "/static/images/1/main_image.jpg")
    asked = place.origin.count()

    assert public.body == place.origin.picture(url)
    assert place.local() == "/static/images/1/main_image.jpg"
    assert place.states() == {"1": "held"}
    [(held, failed, ended)] = place.sql("SELECT held, failed, ended_at IS NOT NULL FROM rehost_runs")
    assert (held, failed, ended) == (1, 0, 1)
    async with open_run(place.settings(), source=None, listen=lambda _event: None) as run:
        assert (await run.execute()).held == 0
    assert place.origin.count() == asked


@pytest.mark.parametrize(
    ("behaviour", "status", "word"),
    [
        ("not-found", 404, "gone"),
        ("hang", 504, "timed-out"),
        ("html-page", 502, "not-an-image"),
        ("fails", 502, "origin-error"),
        ("forbidden", 502, "hotlink-refused"),
        ("cut-in-transit", 502, ""),
    ],
)
async def test_placeholder_names_the_failure_and_the_origin_is_not_asked_again(place, behaviour, status, word):
    place.add(behaviour)
    seconds = "1" if behaviour == "hang" else "30"
    async with by_uvicorn(place.server(IMAGE_DOWNLOAD_TIMEOUT=seconds)) as port:
        first = await ask(port, "/image/cases/1")
        while place.states()["1"] == "leased":
            await asyncio.sleep(0.05)
        asked = place.origin.count("/" + behaviour + "/1.jpg")
        second = await ask(port, "/image/cases/1")
        head = await ask(port, "/image/cases/1", "HEAD")

    assert second.status == head.status == status
    assert first.status in {status, 504}
    assert word in second.body.decode()
    assert second["content-type"] == "image/svg+xml"
    assert second["cache-control"] == "no-store"
    assert second["x-content-type-options"] == "nosniff"
    assert int(second["retry-after"]) > 300
    assert complaints(second) == []
    assert place.origin.count("/" + behaviour + "/1.jpg") == asked
    assert place.local() is None


async def test_failed_link_is_fetched_again_only_when_it_is_due(place, mood):
    url = place.add("permissive")
    mood["*"] = "fails"
    async with by_uvicorn(place.server()) as port:
        await ask(port, "/image/cases/1")
        mood.clear()
        waiting = await ask(port, "/image/cases/1")
        await asyncio.to_thread(place.sql, "UPDATE rehost_links SET due_at = due_at - 86400")
        due = await ask(port, "/image/cases/1")

    assert (waiting.status, due.status) == (502, 200)
    assert due.body == place.origin.picture(url)
    assert place.origin.count("/permissive/1.jpg") == 2


STRANGE = [
    "/image/cases/2", "/image/cases/01", "/image/cases/", "/image/cases", "/image/others/1", "/image/",
    "/image/cases/1?position=1", "/image/cases/1%00", "/image/cases/1%ff", "/image/cases/https://pics.example/x.jpg",
    "/image/cases/" + "1" * 2001, "/image/cases/../1", "/image/cases/%2e%2e%2f1", "/image/%00/1",
]  # fmt: skip


@pytest.mark.parametrize(("is_legal", "status"), [(False, 410), (True, 451)])
async def test_a_picture_that_was_taken_down_is_refused_without_a_request(place, is_legal, status):
    url = place.add("permissive")
    settings = place.settings()
    async with open_takedowns(settings) as (takedowns, targets):
        await takedowns.take_down(url, await targets.find(url), legal=is_legal)
    place.add("permissive", key=2)

    async with by_uvicorn(place.server()) as port:
        replies = [await ask(port, f"/image/cases/{key}") for key in (1, 2)]

    assert [reply.status for reply in replies] == [status, status]
    assert [reply["cache-control"] for reply in replies] == ["no-store", "no-store"]
    assert b"taken-down" in replies[1].body
    assert not place.origin.requests
    assert (place.local(1), place.local(2)) == (None, None)


@pytest.mark.parametrize("serve", [by_uvicorn, by_granian])
async def test_links_outside_the_catalogue_are_404_without_a_request(place, serve):
    place.add("permissive")
    async with serve(place.server()) as port:
        replies = {target: await ask(port, target) for target in STRANGE}

    assert {target: reply.status for target, reply in replies.items()} == dict.fromkeys(STRANGE, 404)
    assert {reply["cache-control"] for reply in replies.values()} == {"no-store"}
    assert place.origin.count() == 0


@pytest.mark.parametrize("query", ["position=x", "position=-1", "position=99999999999"])
async def test_invalid_position_is_400(place, query):
    place.add("permissive")
    async with by_uvicorn(place.server()) as port:
        reply = await ask(port, f"/image/cases/1?{query}")

    assert (reply.status, place.origin.count()) == (400, 0)


async def test_other_methods_are_refused(place):
    place.add("permissive")
    async with by_uvicorn(place.server()) as port:
        reply = await ask(port, "/image/cases/1", "POST")

    assert (reply.status, reply["allow"], place.origin.count()) == (405, "GET, HEAD", 0)


async def test_read_through_is_off_by_default(place):
    place.add("permissive")
    async with by_uvicorn(place.server(IMAGE_READ_THROUGH="off")) as port:
        reply = await ask(port, "/image/cases/1")

    assert (reply.status, place.origin.count()) == (404, 0)


async def test_any_text_as_row_key_is_one_path(place, tmp_path):
    keys = ["a/b", "图 片?", "50%", "x#y", "a+b&c"]
    place.sql("CREATE TABLE things (name TEXT PRIMARY KEY, pic TEXT, here TEXT)")
    for number, key in enumerate(keys):
        url = place.origin.url("permissive", f"{number}.jpg", host=HOST)
        place.sql("INSERT INTO things (name, pic) VALUES (?, ?)", key, url)
    (tmp_path / "rehost.toml").write_text(
        '[source.things]\ntable = "things"\nkey = "name"\nlink = "pic"\nlocal = "here"\n'
        '[source.cases]\ntable = "ad_cases"\nkey = "case_id"\nlink = "main_image"\nlocal = "main_image_local"\n'
    )
    async with by_uvicorn(place.server()) as port:
        replies = [await ask(port, f"/image/things/{quote(key, safe='')}") for key in keys]
        slashed = await ask(port, "/image/things/a/b")

    assert [reply.status for reply in (*replies, slashed)] == [200] * 6
    wanted = [place.origin.picture(place.origin.url("permissive", f"{n}.jpg", host=HOST)) for n in range(5)]
    assert [reply.body for reply in replies] == wanted


async def test_new_row_is_fetched_without_a_run(place):
    place.add("permissive", "old.jpg")
    async with by_uvicorn(place.server()) as port:
        await ask(port, "/image/cases/1")
        new = await asyncio.to_thread(place.add, "permissive", "new.jpg")
        fresh = await ask(port, "/image/cases/2")

    assert fresh.body == place.origin.picture(new)


async def test_missing_file_is_fetched_again(place):
    url = place.add("permissive")
    async with by_uvicorn(place.server()) as port:
        await ask(port, "/image/cases/1")
        (place.folder / "images/1/main_image.jpg").unlink()
        again = await ask(port, "/image/cases/1")

    assert again.body == place.origin.picture(url)
    assert place.origin.count("/permissive/1.jpg") == 2


async def test_row_of_a_missing_file_is_cleared_unless_the_whole_store_is_missing(place, mood):
    place.add("permissive")
    images = place.folder / "images"
    async with by_uvicorn(place.server()) as port:
        await ask(port, "/image/cases/1")
        images.rename(place.folder / "elsewhere")
        away = await ask(port, "/image/cases/1")
        pointing = place.local()
        (place.folder / "elsewhere").rename(images)
        (images / "1/main_image.jpg").unlink()
        mood["*"] = "not-found"
        gone = await ask(port, "/image/cases/1")

    assert (away.status, pointing) == (503, "/static/images/1/main_image.jpg")
    assert (gone.status, place.local()) == (404, None)


async def test_two_servers_and_a_run_fetch_it_once(place):
    url = place.add("slow")
    running = open_run(place.settings(), source=None, listen=lambda _event: None)
    async with by_uvicorn(place.server()) as one, by_uvicorn(place.server()) as other, running as run:
        asking = asyncio.gather(*(ask(port, "/image/cases/1") for port in (one, other) * 5))
        replies, ended = await asyncio.gather(asking, run.execute())

    assert {reply.body for reply in replies} == {place.origin.picture(url)}
    assert ended.failed == {}
    assert place.origin.count("/slow/1.jpg") == 1


async def test_two_servers_on_postgresql_fetch_it_once(place, postgres, postgres_database):
    url = place.origin.url("slow", host=HOST)
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, CASES)
        await add_cases(database, [url])
        given = {"DATABASE_URL": postgres.url(postgres_database)}
        async with by_uvicorn(place.server(**given)) as one, by_uvicorn(place.server(**given)) as other:
            replies = await asyncio.gather(*(ask(port, "/image/cases/1") for port in (one, other) * 10))
            odd = await ask(one, "/image/cases/one")
        [(local,)] = await execute(database, "SELECT main_image_local FROM ad_cases")

    assert {reply.body for reply in replies} == {place.origin.picture(url)}
    assert (odd.status, local) == (404, "/static/images/1/main_image.jpg")
    assert place.origin.count("/slow/1.jpg") == 1


@asynccontextmanager
async def serving(place, port, *options):
    """`rehost serve` as a process, killed at the end if it is still running."""
    environment = {
        **place.given(),
        "PATH": os.environ["PATH"],
        "API_PORT": str(port),
    }
    command = [sys.executable, "-m", "rehost", "serve", "--base", str(place.folder), *options]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
    try:
        while not await listens(port):
            assert process.returncode is None
            await asyncio.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_killed_server_leaves_a_consistent_state_and_the_next_one_continues(place, mood):
    url = place.add("permissive")
    mood["*"] = "hang-in-body"
    with free_socket() as chosen:
        port = chosen.getsockname()[1]
    async with serving(place, port) as process:
        asking = asyncio.create_task(ask(port, "/image/cases/1"))
        while not place.origin.count("/permissive/1.jpg"):
            assert not asking.done(), asking  # rather than wait for a request that will not come
            await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asking
    between = place.local(), place.states(), [path for path in place.folder.glob("images/*") if path.name[0] != "."]
    mood.clear()
    async with serving(place, port):
        reply = await ask(port, "/image/cases/1")

    assert between == (None, {"1": "leased"}, [])
    assert (reply.status, reply.body) == (200, place.origin.picture(url))
    assert place.local() == "/static/images/1/main_image.jpg"
    assert place.origin.count("/permissive/1.jpg") == 2


async def test_fetch_is_logged_to_the_log_file(place):
    place.add("permissive")
    log = place.folder / "serve.log"
    with free_socket() as chosen:
        port = chosen.getsockname()[1]

    async with serving(place, port, "--log-file", str(log)) as process:
        reply = await ask(port, "/image/cases/1")
        process.terminate()
        status = await process.wait()

    assert (reply.status, status) == (200, 0)
    assert log.read_text("utf-8").count(" INFO visit stored row=1 ") == 1


async def test_paused_host_is_not_asked(place):
    place.add("permissive")
    async with by_uvicorn(place.server()) as port:
        await ask(port, "/image/cases/2")  # opens the ledger
        await asyncio.to_thread(
            place.sql, "INSERT INTO rehost_hosts (host, paused_until) VALUES (?, unixepoch() + 86400)", HOST
        )
        replies = [await ask(port, "/image/cases/1") for _ in range(2)]

    assert {(reply.status, reply["cache-control"]) for reply in replies} == {(503, "no-store")}
    assert int(replies[1]["retry-after"]) > 3600
    assert place.origin.count() == 0
    assert place.states() == {"1": "wanted"}


async def hangs_once(exchange):
    if exchange.asked.number == 1:
        await exchange.hang()
    else:
        await BEHAVIOURS["picture"](exchange)


async def test_request_times_out_and_the_fetch_continues(place, mood):
    url = place.add("permissive")
    mood["*"] = hangs_once
    async with by_uvicorn(place.server(IMAGE_DOWNLOAD_TIMEOUT="1", IMAGE_DOWNLOAD_RETRY="3")) as port:
        early = await ask(port, "/image/cases/1")
        while place.local() is None:
            await asyncio.sleep(0.05)
        late = await ask(port, "/image/cases/1")

    assert (early.status, early["cache-control"], early["retry-after"]) == (504, "no-store", "5")
    assert (late.status, late.body) == (200, place.origin.picture(url))
    assert place.origin.count("/permissive/1.jpg") == 2


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"IMAGE_DOWNLOAD_CONCURRENCY": "1"}, "IMAGE_DOWNLOAD_CONCURRENCY"),
        ({"IMAGE_STATIC_URL_PREFIX": "/image"}, "IMAGE_STATIC_URL_PREFIX"),
        ({"IMAGE_STATIC_URL_PREFIX": "/image/files"}, "IMAGE_STATIC_URL_PREFIX"),
    ],
)
def test_settings_without_room_for_read_through_are_refused(place, more, word):
    with pytest.raises(SettingsError, match=word):
        place.server(**more)


async def test_unreachable_database_is_503(place, tmp_path):
    async with by_uvicorn(place.server(DATABASE_URL=f"sqlite:///{tmp_path}/none/c.db")) as port:
        reply = await ask(port, "/image/cases/1")

    assert (reply.status, reply["cache-control"]) == (503, "no-store")


async def test_requests_cannot_forge_a_line_of_the_log(place, tmp_path, caplog):
    place.sql("CREATE TABLE things (name TEXT PRIMARY KEY, pic TEXT, here TEXT)")
    (tmp_path / "rehost.toml").write_text(
        '[source.things]\ntable = "things"\nkey = "name"\nlink = "pic"\nlocal = "here"\n'
    )
    async with by_uvicorn(place.server()) as port:
        await ask(port, "/image/things/none")
        place.sql("DROP TABLE things")
        reply = await ask(port, "/image/things/1%0a2026-01-01%20INFO%20visit%20stored%20row=2%1b%5b2J")

    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert reply.status == 503
    assert len(lines) == 2
    assert all(line.startswith("picture not ") and line.isprintable() for line in lines)


async def test_copies_in_a_bucket_are_fetched_served_and_shown_as_those_on_a_disk_are(place, s3_server):
    url = place.add("permissive")
    prefix = s3_server.fresh_prefix()
    bucket = {**s3_server.env(), "IMAGE_STORAGE_DIR": f"s3://{BUCKET}/{prefix}"}
    async with by_granian(place.server(**bucket, IMAGE_BUCKET_SERVING="redirect")) as port:
        fetched = await ask(port, "/image/cases/1")
        redirected = await ask(port, place.local())
        key = place.local().removeprefix("/static/images/")
        shown = [await ask(port, f"/{folder}/{key}") for folder in ("copies", "thumbs")]
        figures = {path: await ask(port, path) for path in ("/ready", "/metrics", "/api/usage", "/api/trash")}
        s3_server.delete(BUCKET, f"{prefix}/.rehost/store-id")
        away = await ask(port, "/ready")
    async with by_uvicorn(place.server(**bucket)) as port:
        passed = await ask(port, place.local())

    picture = place.origin.picture(url)
    digest = hashlib.sha256(picture).hexdigest()
    assert key == f"1/main_image.{digest[:16]}.jpg"
    assert (fetched.status, redirected.status) == (307, 307)
    assert redirected["location"].startswith(f"{s3_server.endpoint}/{BUCKET}/{prefix}/{key}?")
    assert [reply.status for reply in shown] == [200, 200]
    assert shown[0].body == picture
    assert (passed.status, passed.body, passed["cache-control"]) == (200, picture, IMMUTABLE)
    assert {path: reply.status for path, reply in figures.items()} == dict.fromkeys(figures, 200)
    assert json.loads(figures["/api/usage"].body)["free_size"] is None
    assert json.loads(figures["/api/usage"].body)["held_size"] == len(picture)
    assert b"rehost_held_bytes" in figures["/metrics"].body
    assert b"rehost_disk" not in figures["/metrics"].body
    assert (away.status, json.loads(away.body)["type"]) == (503, "urn:rehost:problem:no-store")
