"""A worker's way to one misbehaving origin: real sockets, real proofs, everything counted by the origin itself."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_network
from itertools import count
from random import Random

from tests.fakes import FakeClock, FakeOrigins
from tests.origin import Origin

from rehost.clock import Clock
from rehost.errors import Permanent
from rehost.fetch.fetcher import Client
from rehost.hotlink.learner import Learner
from rehost.hotlink.referers import Referers
from rehost.hotlink.seen_digests import SeenDigests
from rehost.http.address_policy import AddressPolicy
from rehost.http.url import normalise
from rehost.images.verifier import ImageVerifier
from rehost.model import Link, Reason, Request

HOST = "pics.example"
PAGE = "http://www.cases.test/post-1.html"


async def no_names(host):
    raise Permanent(Reason.UNRESOLVED, host)


_NUMBERS = count()


class Worker:
    """One process: what it knows dies with it, `origins` is what it shares with others."""

    def __init__(self, origin, client, inspector, folder, *, origins=None, referers=None):
        self.origin = origin
        self.origins = origins or FakeOrigins()
        self.clock = FakeClock(hurry=True)  # who waits for another worker is not to be waited for
        self.told = []
        self.pauses = []
        self.folder = folder
        self._client = client
        self._inspector = inspector
        self._numbers = _NUMBERS
        self._random = Random(7)
        self._referers = referers or Referers()
        self.learner = self._learner()

    def _learner(self):
        return Learner(
            self.origins,
            self._referers,
            SeenDigests(self._random),
            normalise=normalise,
            clock=self.clock,
            listen=self.told.append,
            pause=self.pauses.append,
        )

    def beside(self, origins):
        """Return another process at the same origin, with its own way to the ledger."""
        return Worker(self.origin, self._client, self._inspector, self.folder, origins=origins)

    def restart(self):
        self.learner = self._learner()

    async def prove(self, url, referer, *, once=False):  # noqa: ARG002 - there is one attempt at all
        spool = self.folder / str(next(self._numbers))
        download = await self._client.fetch(Request(url, spool, referer))
        try:
            return download, await self._inspector.inspect(spool)
        except BaseException:
            spool.unlink()
            raise

    async def obtain(self, url, page_url=PAGE):
        """Return the bytes that are kept for a link."""
        download, _ = await self.learner.obtain(link(url, page_url), self.prove)
        body = download.spool.read_bytes()
        download.spool.unlink()
        return body

    async def outcome(self, url, page_url=PAGE):
        """Return the bytes, or the reason why there are none."""
        try:
            return await self.obtain(url, page_url)
        except Exception as error:  # noqa: BLE001 - told apart by the test
            return getattr(error, "reason", error)

    async def outcomes(self, urls):
        return await asyncio.gather(*map(self.outcome, urls))

    async def examine(self, urls, digest):
        return await self.learner.examine([link(url, PAGE) for url in urls], digest, self.prove)

    def rule(self, host=HOST):
        rule = self.origins.rules.get(f"http://{host}")
        return rule and rule.referer

    def extra(self, *urls):
        """Return how many requests were sent beyond one for each of these links; hops of redirects are none."""
        hops = self.origin.count("/notice/no-hotlinking.jpg")
        return self.origin.count() - hops - len(urls)

    def left_behind(self):
        return [path.name for path in self.folder.iterdir()]


def link(url, page_url):
    return Link("cases", "1", 0, url, page_url, None)


def urls(behaviour, number, *, start=1, host=HOST):
    return [f"http://{host}/{behaviour}/picture-{n}.jpg" for n in range(start, start + number)]


@asynccontextmanager
async def worker(folder, play=None, **parts):
    with Origin(play) as origin:
        client = Client(
            AddressPolicy((ip_network("127.0.0.0/8"),)),
            clock=Clock(),
            timeout_seconds=20.0,
            max_bytes=1 << 20,
            max_redirects=5,
            user_agent="rehost-tests/1 (tests@rehost.example)",
            concurrency=10,
            connect_to=[("*", None, origin.address, origin.port)],
            lookup=no_names,
        )
        inspector = ImageVerifier(
            verify="structure",
            max_pixels=10**6,
            max_frames=10,
            decode_memory_bytes=1 << 29,
            decode_seconds=10.0,
            processes=1,
            clock=Clock(),
        )
        async with client, inspector:
            yield Worker(origin, client, inspector, folder, **parts)
