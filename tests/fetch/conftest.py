from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
from tests.origin import Origin

from rehost.clock import Clock
from rehost.fetch.fetcher import Fetcher
from rehost.http.address_policy import AddressPolicy
from rehost.http.errors import NameNotFound
from rehost.model import Request

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))


@pytest.fixture
def origin():
    with Origin() as started:
        yield started


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


async def no_names(host):
    """Stand in for a resolver that knows no name, so that nothing leaves this machine."""
    raise NameNotFound(host)


@asynccontextmanager
async def fetcher_to(origin, *, address_policy=LOOPBACK, **settings):
    """Open a fetcher that connects to the given origin for every host name."""
    usual = {
        "clock": Clock(),
        "timeout_seconds": 20.0,
        "max_bytes": 1 << 20,
        "max_redirects": 5,
        "user_agent": "rehost-tests/1 (tests@rehost.example)",
        "concurrency": 10,
        "connect_to": [("*", None, origin.address, origin.port)],
        "resolver": no_names,
    }
    async with Fetcher(address_policy, **(usual | settings)) as opened:
        yield opened


@pytest.fixture
def fetch(origin, spool, monkeypatch):
    """Fetch one URL with a fresh fetcher; settings by name."""
    monkeypatch.setenv("SSL_CERT_FILE", str(origin.ca_file))

    async def once(url, *, referer=None, validator=None, partial=None, **settings):
        async with fetcher_to(origin, **settings) as opened:
            return await opened.fetch(Request(url, spool, referer, validator, partial))

    return once
