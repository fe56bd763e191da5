"""A worker and one misbehaving origin: real sockets, real verification; the origin counts the requests."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_network
from itertools import count
from random import Random

from tests.fakes import FakeClock, FakeOriginRepository
from tests.origin import Origin

from rehost.attempt import ImageFetcher, VisitLog
from rehost.clock import Clock
from rehost.fetch.fetcher import Fetcher
from rehost.hotlink.learner import Learner
from rehost.hotlink.referers import Referers
from rehost.http.address_policy import AddressPolicy
from rehost.http.errors import NameNotFound
from rehost.images.verifier import ImageVerifier
from rehost.model import Link

HOST = "pics.example"
PAGE = "http://www.cases.test/post-1.html"


async def no_names(host):
    raise NameNotFound(host)


class Spools:
    """A store of which only spools are used."""

    def __init__(self, folder):
        self.folder = folder
        self._numbers = count()

    def spool(self):
        return self.folder / str(next(self._numbers))


class FakeScheduler:
    """Gives every request a slot at once; remembers pauses."""

    def __init__(self):
        self.pauses = []

    @asynccontextmanager
    async def slot(self, _host):
        yield

    def pause(self, pause):
        self.pauses.append(pause)


class Worker:
    """One process; it shares with others only what is in `origins`."""

    def __init__(self, origin, client, verifier, store, *, origins=None, referers=None):
        self.origin = origin
        self.origins = origins or FakeOriginRepository()
        self.clock = FakeClock(hurry=True)  # a test need not wait for another worker
        self.events = []
        self._client = client
        self._verifier = verifier
        self._store = store
        self._scheduler = FakeScheduler()
        self._random = Random(7)
        self._referers = referers or Referers()
        self.learner = self._learner()

    def _learner(self):
        images = ImageFetcher(
            self._client, self._verifier, self._store, self._scheduler, self.clock, self._random, attempts=1
        )
        return Learner(
            self.origins, self._referers, images, self._scheduler, self._random, self.clock, self.events.append
        )

    @property
    def pauses(self):
        return self._scheduler.pauses

    def beside(self, origins):
        """Return another process at the same origin, with its own connection to the ledger."""
        return Worker(self.origin, self._client, self._verifier, self._store, origins=origins)

    def restart(self):
        self.learner = self._learner()

    async def obtain(self, url, page_url=PAGE):
        """Return the bytes that are accepted for a link."""
        download, _ = await self.learner.obtain(link(url, page_url), VisitLog(HOST))
        body = download.spool.read_bytes()
        download.spool.unlink()
        return body

    async def outcome(self, url, page_url=PAGE):
        """Return the bytes, or the reason why there are none."""
        try:
            return await self.obtain(url, page_url)
        except Exception as error:  # noqa: BLE001 - the test compares it
            return getattr(error, "reason", error)

    async def outcomes(self, urls):
        return await asyncio.gather(*map(self.outcome, urls))

    async def examine(self, urls, digest):
        return await self.learner.examine([link(url, PAGE) for url in urls], digest, HOST)

    def rule(self, host=HOST):
        rule = self.origins.rules.get(f"http://{host}")
        return rule and rule.referer

    def extra(self, *urls):
        """Return how many requests were sent beyond one for each of these links; hops of redirects do not count."""
        hops = self.origin.count("/notice/no-hotlinking.jpg")
        return self.origin.count() - hops - len(urls)

    def left_behind(self):
        return [path.name for path in self._store.folder.iterdir()]


def link(url, page_url):
    return Link("cases", "1", 0, url, page_url, None)


def urls(behaviour, number, *, start=1, host=HOST):
    return [f"http://{host}/{behaviour}/picture-{n}.jpg" for n in range(start, start + number)]


@asynccontextmanager
async def worker(folder, play=None, **parts):
    with Origin(play) as origin:
        client = Fetcher(
            AddressPolicy((ip_network("127.0.0.0/8"),)),
            clock=Clock(),
            timeout_seconds=20.0,
            max_bytes=1 << 20,
            max_redirects=5,
            user_agent="rehost-tests/1 (tests@rehost.example)",
            concurrency=10,
            connect_to=[("*", None, origin.address, origin.port)],
            resolver=no_names,
        )
        verifier = ImageVerifier(
            verify="structure",
            max_pixels=10**6,
            max_frames=10,
            max_total_pixels=10**8,
            decode_memory_bytes=1 << 29,
            decode_seconds=10.0,
            processes=1,
            clock=Clock(),
        )
        async with client, verifier:
            yield Worker(origin, client, verifier, Spools(folder), **parts)
