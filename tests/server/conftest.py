import asyncio
import contextlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from tests.pictures import picture
from tests.ports import free_port

from rehost.clock import Clock
from rehost.images.sniff import sniff
from rehost.model import Format
from rehost.server.app import Site
from rehost.server.files.copies import CopyFiles
from rehost.server.files.finder import FileFinder
from rehost.server.listen import Listening
from rehost.store.local import LocalStore

SERVERS = ("uvicorn", "granian")

KEY = "297041/main_image.png"
PREFIX = "/static/images"


def media_type(head):
    known = sniff(head)
    return known.media_type if isinstance(known, Format) else None


def free_socket():
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    return listening


@contextlib.asynccontextmanager
async def by_uvicorn(application):
    with free_socket() as listening:
        listening.listen(512)
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", ws="none", lifespan="on"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield listening.getsockname()[1]
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def by_granian(application):
    port = free_port()
    listening = Listening(application, "127.0.0.1", port)
    serving = asyncio.create_task(listening.serve())
    while not await listens(port):
        assert not serving.done(), "granian has ended"
    yield port
    listening.stop()
    await serving


async def listens(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def content():
    return picture(1, Format.PNG, 400, 300)


@pytest.fixture
def copy(root, content):
    path = root / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - 3600,) * 2)  # so that it has a Last-Modified
    return path


@dataclass(frozen=True)
class Folder:
    """A store on a disk, as tests change it."""

    root: Path

    def put(self, key, content):
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def delete(self, key):
        (self.root / key).unlink()

    def open(self):
        return LocalStore(self.root, clock=Clock())


@pytest.fixture
def place(root):
    return Folder(root)


@pytest.fixture
def application(root):
    return Site(CopyFiles(FileFinder(root, media_type)), PREFIX)


@pytest.fixture(params=SERVERS)
async def port(request, application):
    serve = {"uvicorn": by_uvicorn, "granian": by_granian}[request.param]
    async with serve(application) as port:
        yield port
