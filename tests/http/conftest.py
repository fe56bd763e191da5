from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
from tests.origin import Origin

from rehost.clock import Clock
from rehost.errors import Permanent
from rehost.fetch.fetcher import Client
from rehost.http.address_policy import AddressPolicy
from rehost.model import Reason, Request

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))


@pytest.fixture
def origin():
    with Origin() as started:
        yield started


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


async def no_names(host):
    """Stand in for a resolver: what no detour leads anywhere has no address, and nothing leaves this machine."""
    raise Permanent(Reason.UNRESOLVED, host)


@asynccontextmanager
async def client(origin, *, guard=LOOPBACK, **settings):
    """Open a client to which every host name is the given origin."""
    usual = {
        "clock": Clock(),
        "timeout_seconds": 20.0,
        "max_bytes": 1 << 20,
        "max_redirects": 5,
        "user_agent": "rehost-tests/1 (tests@rehost.example)",
        "concurrency": 10,
        "connect_to": [("*", None, origin.address, origin.port)],
        "lookup": no_names,
    }
    async with Client(guard, **(usual | settings)) as opened:
        yield opened


@pytest.fixture
def fetch(origin, spool, monkeypatch):
    """Fetch one URL with a fresh client; settings by name."""
    monkeypatch.setenv("SSL_CERT_FILE", str(origin.ca_file))

    async def once(url, *, referer=None, validator=None, partial=None, **settings):
        async with client(origin, **settings) as opened:
            return await opened.fetch(Request(url, spool, referer, validator, partial))

    return once
