"""The read operations over HTTP, and readiness while parts of the environment are missing."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import shutil
import sqlite3
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from tests.databases import CASES, add_cases, execute, open_database, stored
from tests.server.dashboards import (
    HEADERS,
    TITLE,
    NoFiles,
    Runs,
    client,
    client_of,
    database,
    database_url,
    disk_of,
    get_json,
    make_dashboard,
    peer,
    runs,
    site,
)
from tests.server.wire import ask

from rehost.clock import Clock
from rehost.errors import LedgerError
from rehost.ledger.filters import LinkOrder
from rehost.model import Deferred, KnownStore, Reason
from rehost.server.api.actions import RunControl
from rehost.server.api.live import Live
from rehost.server.api.routes import Api
from rehost.server.api.upkeep import Trash, Upkeep
from rehost.server.dashboard.dashboard import Dashboard
from rehost.server.resources import DiskSpace, Lazy
from rehost.settings import load
from rehost.wiring.server import build_server

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]


async def test_standing_counts_links_by_state_and_reason(client):
    standing = await get_json(client, "/api/standing")

    assert standing["states"] == {"held": 2, "deferred": 1, "refused": 1, "wanted": 1, "leased": 0}
    assert standing["reasons"] == {"throttled": 1, "gone": 1}


FOUND = [
    ({"state": "held"}, ["1", "2"]),
    ({"reason": "gone"}, ["4"]),
    ({"host": "b.example"}, ["5"]),
    ({"origin": "https://b.example"}, ["5"]),
    ({"origin": "HTTPS://B.example:443/", "source": "cases"}, ["5"]),
    ({"origin": "http://b.example"}, []),
    ({"origin": "https://b.example:8443"}, []),
    ({"origin": "nothing of the kind"}, []),
    ({"text": "ONERROR"}, ["2"]),
    ({"text": "/3.PNG"}, ["4"]),
    ({"text": "慢", "source": "cases"}, ["2"]),
    ({"source": "cases", "host": "b.example", "limit": "2"}, ["5"]),
]


async def test_links_are_filtered_by_state_reason_origin_and_text(client):
    for query, keys in FOUND:
        page = await get_json(client, "/api/links", **query)

        assert sorted(each["link"]["row_key"] for each in page["links"]) == keys, query


async def test_origins_group_links_as_the_fetcher_reads_their_urls(peer, client):
    odd = [
        "HTTP://A.example:80/1.png",
        " //a.example/2.png",
        "http://a.example:8080/3.png",
        "no link",
        "ftp://a.example/x",
    ]
    await add_cases(peer.database, odd, first=10)
    await peer.note()

    origins = {each["origin"]: each["present"] for each in (await get_json(client, "/api/origins"))["origins"]}
    pages = [
        await get_json(client, "/api/links", origin=each) for each in ("http://a.example", "http://a.example:8080")
    ]

    assert origins == {
        "https://a.example": 5, "https://b.example": 1, "http://a.example": 1, "http://a.example:8080": 1, "": 2
    }  # fmt: skip
    assert [[each["link"]["row_key"] for each in page["links"]] for page in pages] == [["10"], ["12"]]


async def test_pages_follow_each_other(client):
    keys, after = [], 0
    while after is not None:
        page = await get_json(client, "/api/links", after=after, limit=2)
        keys += [each["link"]["row_key"] for each in page["links"]]
        after = page["next"]

    assert sorted(keys) == ["1", "2", "3", "4", "5"]


async def test_one_link_comes_with_title_and_history(client):
    link = await get_json(client, "/api/link", row_key="2")

    assert link["title"] == TITLE
    assert (link["link"]["copy_key"], link["link"]["key"]) == ("2/main_image.png", "2/main_image.png")
    assert [change["after_url"] for change in link["history"]] == ["/static/images/2/main_image.png"]
    assert [(visit["outcome"], visit["run"], visit["times"]) for visit in link["visits"]] == [("held", 1, 1)]
    (failed,) = (await get_json(client, "/api/link", row_key="4"))["visits"]
    assert (failed["outcome"], failed["reason"], failed["evidence"]) == ("refused", "gone", "404")
    assert link["alike"] == [{"source": "cases", "row_key": "1", "position": 0}]
    assert (await get_json(client, "/api/link", row_key="4"))["alike"] == []


async def test_usage_estimates_what_is_still_to_come(client):
    usage = await get_json(client, "/api/usage")

    assert (usage["copies"], usage["held_size"], usage["expected_size"]) == (2, 10, 10)
    assert (usage["total_size"], usage["free_size"], usage["days_left"]) == (1000, 600, 600.0)


async def test_deferred_links_that_are_due_are_expected_once(peer, runs):
    await add_cases(peer.database, [f"https://a.example/{number}.png" for number in range(5)])
    await peer.note()
    tasks = await peer.lease_all()
    await peer.record(1, [stored(tasks[0]), *(Deferred(task, Reason.THROTTLED, "429", -1.0) for task in tasks[1:])])
    async with client_of(make_dashboard(peer.database, runs)) as client:
        assert (await get_json(client, "/api/standing"))["due"] == 4
        usage = await get_json(client, "/api/usage")

    assert (usage["held_size"], usage["expected_size"]) == (5, 20)


async def test_hosts_origins_runs_and_sources_are_listed(client):
    assert [host["host"] for host in await get_json(client, "/api/hosts")] == ["a.example", "b.example"]
    origins = await get_json(client, "/api/origins")
    assert (origins["rules"], origins["decoys"]) == ([], {})
    assert [(each["origin"], each["present"], each["held"], each["failed"]) for each in origins["origins"]] == [
        ("https://a.example", 4, 2, 2),
        ("https://b.example", 1, 0, 0),
    ]
    assert await get_json(client, "/api/runs") == []
    assert await get_json(client, "/api/sources") == ["cases"]


async def test_health_and_readiness(client):
    assert await get_json(client, "/health") == {"status": "ok"}
    assert await get_json(client, "/ready") == {"status": "ok"}


WRONG = [
    ("links", {"limit": "0"}),
    ("links", {"limit": "1001"}),
    ("links", {"limit": "-1"}),
    ("links", {"limit": "٣"}),
    ("links", {"limit": "1e3"}),
    ("links", {"after": "9223372036854775808"}),
    ("links", {"limit": ""}),
    ("links", {"state": ""}),
    ("links", {"source": ""}),
    ("links", {"sort": "random()"}),
    ("links", {"stat": "held"}),
    ("sources", {"x": "1"}),
    ("server", {"x": "1"}),
    ("live", {"sources": "cases"}),
    ("links", {"state": "lost"}),
    ("links", {"reason": "held"}),
    ("links", {"text": "a\0b"}),
    ("links", {"text": "a" * 201}),
    ("link", {}),
    ("link", {"key": "1", "position": "2147483648"}),
    ("standing", {"source": "\0"}),
    ("live", {"source": "\0"}),
]


async def test_invalid_parameters_are_400_with_a_sentence(client):
    for path, query in WRONG:
        response = await client.get(f"/api/{path}", params=query)

        assert response.status_code == 400, (path, query)
        problem = response.json()
        assert problem["type"].endswith(("invalid-parameter", "unknown-parameter"))
        assert problem["error"] == problem["detail"]
        assert response.headers["content-type"] == "application/problem+json"


async def test_repeated_parameters_and_bodies_are_400(client):
    repeated = await ask(client.port, "/api/links?limit=1&limit=2")
    both_names = await ask(client.port, "/api/link?key=1&row_key=2")
    body = await ask(client.port, "/api/links", content_length="2")
    chunked = await ask(client.port, "/api/links", transfer_encoding="chunked")

    assert [each.status for each in (repeated, both_names, body, chunked)] == [400] * 4


async def test_former_name_of_a_parameter_goes_on_working(client):
    assert (await get_json(client, "/api/link", key="2"))["link"]["row_key"] == "2"


async def test_unknown_source_is_404(client):
    for path in ("standing?", "links?", "link?row_key=1&", "hosts?", "origins?", "runs?", "live?"):
        response = await ask(client.port, f"/api/{path}source=others")

        assert response.status == 404, path
        assert json.loads(response.body)["type"] == "urn:rehost:problem:unknown-source"


WRONG_METHODS = [
    ("DELETE", "/api/links", "GET, HEAD"),
    ("POST", "/api/links", "GET, HEAD"),
    ("GET", "/api/retry", "POST"),
    ("HEAD", "/api/run", "POST"),
    ("PUT", "/", "GET, HEAD"),
    ("POST", "/app.js", "GET, HEAD"),
    ("POST", "/metrics", "GET, HEAD"),
]


async def test_wrong_method_is_405_with_the_right_ones(client):
    for method, path, allow in WRONG_METHODS:
        response = await client.get(path, method=method, headers={"Content-Length": "0"})

        assert (response.status_code, response.headers["allow"]) == (405, allow), (method, path)


async def test_what_is_not_there_is_404_with_any_method(client):
    assert {(await client.get("/api/nothing", method=method)).status_code for method in ("GET", "POST")} == {404}


async def test_lists_have_a_total_and_an_order(client):
    first = await get_json(client, "/api/links", sort="row_key", limit=2)
    second = await get_json(client, "/api/links", sort="row_key", limit=2, after=first["next"])
    hosts = await client.get("/api/hosts", params={"sort": "host", "limit": 1})
    rest = await get_json(client, "/api/hosts", sort="host", limit=1, after=1)

    keys = [[each["link"]["row_key"] for each in page["links"]] for page in (first, second)]
    assert keys == [["1", "2"], ["3", "4"]]
    assert (first["total"], second["total"]) == (5, None)
    assert (await get_json(client, "/api/links", state="held"))["total"] == 2
    assert hosts.headers["x-total-count"] == "2"
    assert [each["host"] for each in (*hosts.json(), *rest)] == ["a.example", "b.example"]
    assert (await client.get("/api/runs")).headers["x-total-count"] == "0"


async def test_every_order_pages_through_all_links(client):
    for order in LinkOrder:
        keys, after = [], 0
        while after is not None:
            page = await get_json(client, "/api/links", sort=order, after=after, limit=2)
            keys += [each["link"]["row_key"] for each in page["links"]]
            after = page["next"]

        assert sorted(keys) == ["1", "2", "3", "4", "5"], order


async def test_origins_beyond_a_thousand_hosts_are_listed_and_their_links_found(peer, client):
    await add_cases(peer.database, [f"https://h{number:04}.example/x.png" for number in range(1010)], first=100)
    await peer.note()

    first = await get_json(client, "/api/origins")
    rest = await get_json(client, "/api/origins", after=first["next"])
    found = [await get_json(client, "/api/links", origin=f"https://h{number:04}.example") for number in (0, 1009)]
    by_text = await get_json(client, "/api/origins", text="H1009")

    origins = [each["origin"] for each in (*first["origins"], *rest["origins"])]
    assert (len(origins), len(set(origins)), first["total"], rest["next"]) == (1012, 1012, 1012, None)
    assert [page["total"] for page in found] == [1, 1]
    assert [each["origin"] for each in by_text["origins"]] == ["https://h1009.example"]


async def test_origins_of_a_host_with_a_thousand_ports_are_found(peer, client):
    await add_cases(peer.database, [f"https://p.example:{port}/x.png" for port in range(20000, 21010)], first=100)
    await peer.note()

    assert (await get_json(client, "/api/links", origin="https://p.example:21009"))["total"] == 1


async def test_lists_and_files_are_compressed_and_revalidated(client):
    for path in ("/api/links", "/app.js", "/openapi.json"):
        whole = await client.get(path)
        coded = await client.get(path, headers={"Accept-Encoding": "gzip"})
        again = await client.get(path, headers={"If-None-Match": coded.headers["etag"], "Accept-Encoding": "gzip"})

        assert coded.headers["content-encoding"] == "gzip"
        assert gzip.decompress(coded.body) == whole.body
        assert coded.headers["etag"].startswith('W/"')
        assert "accept-encoding" in coded.headers["vary"].lower()
        assert (again.status_code, again.body) == (304, b"")


async def test_changed_list_is_sent_again(client):
    before = await client.get("/api/standing")
    await client.post("/api/retry?all=true", headers=HEADERS)

    after = await client.get("/api/standing", headers={"If-None-Match": before.headers["etag"]})

    assert after.status_code == 200


async def test_unknown_links_and_paths_are_404(client):
    assert (await client.get("/api/link", params={"key": "99"})).status_code == 404
    assert (await client.get("/api/nothing")).status_code == 404
    assert (await client.get("/../pyproject.toml")).status_code == 404
    assert (await client.get("/api/links", method="DELETE")).status_code == 405


class Relay:
    """A TCP relay to the database that can be cut."""

    def __init__(self, port):
        self.port = port
        self.open = []

    async def pass_on(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.open += [writer, far_writer]
        await asyncio.gather(self.copy(reader, far_writer), self.copy(far_reader, writer))

    @staticmethod
    async def copy(reader, writer):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                writer.write(piece)
        writer.close()


async def test_ready_is_503_while_the_database_is_unreachable(postgres, postgres_database, tmp_path, monkeypatch):
    monkeypatch.setattr("rehost.wiring.server.OUTAGE_SECONDS", 0.5)
    url = urlsplit(postgres.url(postgres_database))
    relay = Relay(url.port)
    server = await asyncio.start_server(relay.pass_on, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    through = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{port}")).geturl()
    async with open_database(postgres.url(postgres_database)) as database:
        await execute(database, CASES)
    settings = load(tmp_path, {"DATABASE_URL": through, "IMAGE_STORAGE_DIR": str(tmp_path)}, {})

    async with client_of(build_server(settings)) as client:
        there = (await client.get("/ready")).status_code
        server.close()
        for writer in relay.open:
            writer.transport.abort()
        away = (await client.get("/ready")).status_code, (await client.get("/health")).status_code
        server = await asyncio.start_server(relay.pass_on, "127.0.0.1", port)
        back = (await client.get("/ready")).status_code
    server.close()

    assert (there, away, back) == (200, (503, 200), 200)


async def test_ready_is_503_while_the_sqlite_file_is_missing_and_a_restored_file_is_used(tmp_path):
    url = f"sqlite:///{tmp_path}/cases.db"
    async with open_database(url) as database:
        await execute(database, CASES)
    settings = load(tmp_path, {"DATABASE_URL": url, "IMAGE_STORAGE_DIR": str(tmp_path)}, {})
    file, aside = tmp_path / "cases.db", tmp_path / "aside.db"

    async with client_of(build_server(settings)) as client:
        there = (await client.get("/ready")).status_code
        shutil.copy(file, tmp_path / "restored.db")
        file.rename(aside)
        away = await client.get("/ready")
        aside.rename(file)
        back = (await client.get("/ready")).status_code
        (tmp_path / "restored.db").rename(file)
        with contextlib.closing(sqlite3.connect(file)) as restored, restored:
            restored.execute("INSERT INTO rehost_origins VALUES ('https://new.example', 'none', 'given', 0)")
        replaced = (await client.get("/ready")).status_code
        rules = (await get_json(client, "/api/origins"))["rules"]

    assert (there, away.status_code, back, replaced) == (200, 503, 200, 200)
    assert away.json()["type"] == "urn:rehost:problem:unavailable"
    assert [rule["origin"] for rule in rules] == ["https://new.example"]


async def test_ready_is_503_while_the_store_has_lost_its_marker(peer, database_url, tmp_path, caplog):
    await add_cases(peer.database, ["https://a.example/1.png"])
    await peer.note()
    await peer.hold_all()
    await peer.ledger.stores.use(KnownStore("f" * 32, "/srv/images", "web1"))
    settings = load(tmp_path, {"DATABASE_URL": database_url, "IMAGE_STORAGE_DIR": str(tmp_path)}, {})
    (tmp_path / ".rehost").mkdir()

    async with client_of(build_server(settings)) as client:
        away = await client.get("/ready")
        (tmp_path / ".rehost/store-id").write_text("f" * 32)
        there = await client.get("/ready")

    assert (away.status_code, there.status_code) == (503, 200)
    assert away.json()["type"] == "urn:rehost:problem:no-store"
    assert f"{tmp_path} has no marker (.rehost/store-id)" in caplog.text


async def test_ready_is_503_while_the_folder_of_the_copies_is_missing(peer, database_url, tmp_path):
    await add_cases(peer.database, ["https://a.example/1.png"])
    await peer.note()
    folder = tmp_path / "disk" / "images"
    settings = load(tmp_path, {"DATABASE_URL": database_url, "IMAGE_STORAGE_DIR": str(folder)}, {})
    paths = ("/ready", "/metrics", "/api/usage")

    async with client_of(build_server(settings)) as client:
        for path in paths:
            await _becomes(client, path, 200)
        await peer.hold_all()
        for path in paths:
            await _becomes(client, path, 503)
        folder.mkdir(parents=True)
        for path in paths:
            await _becomes(client, path, 200)


async def _becomes(client, path, status):
    """Return when the path answers so: the figures of /metrics are measured anew only after some time."""
    async with asyncio.timeout(60):
        while (await client.get(path)).status_code != status:
            assert path == "/metrics", f"{path} is not {status}"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("place", ["file", "file/images", "x" * 300])
async def test_ready_is_503_if_the_folder_cannot_be_made(tmp_path, place):
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{tmp_path}/cases.db"
    async with open_database(url) as database:
        await execute(database, CASES)
    settings = load(tmp_path, {"DATABASE_URL": url, "IMAGE_STORAGE_DIR": place}, {})

    async with client_of(build_server(settings)) as client:
        replies = [(await client.get(path)).status_code for path in ("/ready", "/metrics", "/api/usage")]

    assert replies == [503] * 3


async def test_health_is_200_and_ready_503_without_the_database():
    @asynccontextmanager
    async def opening():
        raise LedgerError("The database at db.internal refuses the password of user secret.")
        yield

    api = Api(Lazy(opening), disk_of(DiskSpace(1, 1)), ("cases",))
    page = Dashboard(
        api,
        RunControl(Runs().open),
        Live(api, Clock()),
        Upkeep(api, Trash(opening, Clock()), opening, Clock()),
        NoFiles(),
        NoFiles(),
        token="t",
        version="0",
        hosts=frozenset(),
    )
    async with client_of(page) as client:
        assert (await client.get("/health")).status_code == 200
        for path in ("/ready", "/api/links", "/metrics"):
            response = await client.get(path)
            assert response.status_code == 503
            assert "secret" not in response.text
