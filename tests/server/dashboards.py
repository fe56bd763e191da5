"""The dashboard over a real ledger with a few links, on either kind of database."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import pytest
from tests.databases import add_cases, database, database_url, execute, make_ledger, peer, stored
from tests.server.conftest import by_uvicorn
from tests.server.wire import ask

from rehost.catalogue import Source, Titles
from rehost.clock import Clock
from rehost.errors import SettingsError
from rehost.hosts.shares import HostShares
from rehost.ledger.reports import Queries
from rehost.model import Deferred, Reason, Refused
from rehost.server.api.actions import RunControl
from rehost.server.api.live import Live
from rehost.server.api.routes import Api
from rehost.server.api.upkeep import Trash, Upkeep
from rehost.server.dashboard.dashboard import Dashboard
from rehost.server.resources import DiskSpace, Lazy, Resources
from rehost.store.base import Cause, Trashed

__all__ = ["database", "database_url", "peer"]

TOKEN = "a-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
LINKS = [f"https://a.example/{number}.png" for number in range(4)] + ["https://b.example/x.png"]
TITLE = "<img src=x onerror=alert(1)> 慢"

TRASHED = [
    Trashed("", Cause.REPLACED, "a" * 64, 700, datetime(2026, 2, 1, tzinfo=UTC)),
    Trashed("", Cause.REPLACED, "b" * 64, 300, datetime(2026, 1, 1, tzinfo=UTC)),
]


class NoFiles:
    async def __call__(self, *_):
        raise AssertionError("no file is requested here")

    async def close(self):
        pass


class NoTakedowns:
    async def finish(self):
        return []

    async def survey(self, _):
        raise AssertionError("nothing was named")

    async def allow(self, takedowns):
        return len(takedowns)


class NoTargets:
    async def find(self, _):
        raise SettingsError("It names nothing.")


@asynccontextmanager
async def opening_nothing():
    yield NoTakedowns(), NoTargets()


def disk_of(space):
    async def disk(_copies, _known=()):
        return space

    return disk


class TrashedFiles:
    async def trashed(self):
        yield TRASHED


@asynccontextmanager
async def opening_trash():
    yield TrashedFiles()


class Runs:
    """Records the runs that were started; each continues until it is stopped."""

    def __init__(self):
        self.started = []
        self.stopped = None

    @asynccontextmanager
    async def open(self, source):
        self.started.append(source)
        self.stopped = asyncio.Event()
        yield self

    async def execute(self):
        await self.stopped.wait()

    def stop(self):
        self.stopped.set()


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.setattr("rehost.server.api.actions.FIRST_SECONDS", 0.05)
    return Runs()


@pytest.fixture
async def site(peer, runs):
    """Two held, one deferred, one refused at a.example; one wanted at b.example."""
    await add_cases(peer.database, LINKS)
    await execute(peer.database, "UPDATE ad_cases SET title = :title WHERE case_id = 2", title=TITLE)
    await peer.note()
    tasks = sorted(await peer.ledger.leases.lease("cases", "a.example", 10), key=lambda task: task.link.row_key)
    await peer.record(1, [
        stored(tasks[0]),
        stored(tasks[1]),
        Deferred(tasks[2], Reason.THROTTLED, "429", 3600.0),
        Refused(tasks[3], Reason.GONE, "404", 7200.0),
    ])  # fmt: skip
    opened = make_dashboard(peer.database, runs)
    yield opened
    await opened.close()


def make_dashboard(database, runs, token=TOKEN, hosts=frozenset()):
    @asynccontextmanager
    async def opening():
        yield Resources(
            Queries(database),
            make_ledger(database, "page"),
            HostShares(database, worker="page", concurrency=4, lease_seconds=60),
            {"cases": await Titles.open(database, Source())},
        )

    api = Api(Lazy(opening), disk_of(DiskSpace(1000, 600)), ("cases",))
    upkeep = Upkeep(api, Trash(opening_trash, Clock()), opening_nothing, Clock())
    live, control, files = Live(api, Clock()), RunControl(runs.open), NoFiles()
    return Dashboard(api, control, live, upkeep, files, files, token=token, version="0", hosts=hosts)


@dataclass(frozen=True)
class Client:
    """A client of the dashboard's server, over a real socket."""

    port: int

    async def get(self, path, *, params=None, headers=None, method="GET"):
        target = quote(path) + (f"?{urlencode(params)}" if params else "")
        reply = await ask(self.port, target, method, **(headers or {}))
        return ClientResponse(reply.status, dict(reply.fields), reply.body)

    async def post(self, path, *, params=None, headers=None):
        target, _, query = path.partition("?")
        given = dict(pair.split("=") for pair in query.split("&")) if query else {}
        sent = {"Content-Length": "0", **(headers or {})}
        return await self.get(target, params={**given, **(params or {})}, headers=sent, method="POST")


@dataclass(frozen=True)
class ClientResponse:
    status_code: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


@asynccontextmanager
async def client_of(application):
    async with by_uvicorn(application) as port:
        yield Client(port)


@pytest.fixture
async def client(site):
    async with client_of(site) as opened:
        yield opened


async def get_json(client, path, **query):
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()
