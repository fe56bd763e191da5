"""A shop whose two tables link to hosts that one origin plays, and that lose their pictures."""

from __future__ import annotations

import asyncio
import re

import pytest
from tests.databases import execute, open_database
from tests.origin import Origin
from tests.pictures import picture

from rehost.model import Format
from rehost.settings import load
from rehost.upkeep.rescue import DeadLinks
from rehost.wiring.run import open_run
from rehost.wiring.upkeep import open_upkeep

SOURCE = """
[source.{name}]
table = "{name}"
key = "id"
link = "photo"
local = "photo_local"
path = "{name}/{{key}}"
"""
ARCHIVE = 'IMAGE_MIN_FREE_BYTES = "0"\n[rescue]\narchive = "http://archive.example/web/{date}im_/{url}"\n'
DEAD = "http://dead.example/gone/1.png"
PICTURE = picture(19, Format.PNG, 64, 48)


def capture(body=PICTURE, then=None):
    """Return a behaviour that has this picture where the URL ends like those of the dead links, and nothing else."""

    async def answer(exchange):
        if not re.search(r"/gone/[0-9]{1,2}\.(png|jpg)$", exchange.asked.target):
            await exchange.reply(404)
            return
        if then is not None:
            await then()
        await exchange.reply(200, body, "Content-Type: image/png")

    return answer


class Shop:
    """Two tables, `goods` and `offers`, with links to hosts that one origin plays."""

    def __init__(self, folder, url, origin):
        self.folder, self.url, self.origin = folder, url, origin
        self.events = []
        self.configure("")

    def configure(self, head):
        text = head + "".join(SOURCE.format(name=name) for name in ("goods", "offers"))
        (self.folder / "rehost.toml").write_text(text, encoding="utf-8")
        self.given = {
            "DATABASE_URL": self.url,
            "IMAGE_STORAGE_DIR": str(self.folder / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_VERIFY": "structure",
            "IMAGE_DOWNLOAD_RETRY": "1",
            "IMAGE_CONNECT_TO": self.origin.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
        }
        self.settings = load(self.folder, self.given, {})

    async def sql(self, statement, **values):
        async with open_database(self.url) as database:
            return await execute(database, statement, **values)

    async def add(self, table, key, url):
        await self.sql(f"INSERT INTO {table} VALUES (:key, :url, NULL)", key=key, url=url)

    async def local(self, table, key):
        return (await self.sql(f"SELECT photo_local FROM {table} WHERE id = :key", key=key))[0][0]

    async def rescued(self):
        return (await self.sql("SELECT rescued FROM rehost_links WHERE source = 'goods'"))[0][0]

    def file(self, local):
        return self.folder / "images" / local.removeprefix("/static/images/")

    async def run(self, *sources):
        async with open_run(self.settings, source=sources, listen=self.events.append) as run:
            return await asyncio.wait_for(run.execute(), 120)

    async def die(self, days=10, times=3):
        """Let the failures of all failed links be several ones, the first of them some days ago."""
        seconds = f"{86400 * days}" if "sqlite" in self.url else f"interval '{days} days'"
        await self.sql(
            f"UPDATE rehost_visits SET times = {times}, first_at = last_at - {seconds} WHERE outcome <> 'held'"
        )

    async def rescue(self, stop=None):
        async with open_upkeep(self.settings) as parts:
            searching = DeadLinks(parts.sources, parts.limits, parts.archive, stop or asyncio.Event())
            return await asyncio.wait_for(searching.rescue(), 120)


@pytest.fixture
def mood():
    """What the origin does for a host and path, where a test changes that."""
    return {}


@pytest.fixture
async def shop(tmp_path, database_url, mood, monkeypatch):
    def play(host, path, _headers):
        return next((mood[name] for name in (host + path, host) if name in mood), None)

    with Origin(play) as origin:
        monkeypatch.setenv("SSL_CERT_FILE", str(origin.ca_file))
        made = Shop(tmp_path, database_url, origin)
        for name in ("goods", "offers"):
            await made.sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, photo TEXT, photo_local TEXT)")
        yield made
