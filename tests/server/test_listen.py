"""Listening on an address or a host name, and the errors if that is not possible."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from tests.server.conftest import free_socket
from tests.server.wire import receive, request

from rehost.errors import SettingsError
from rehost.server.app import NotFound
from rehost.server.listen import Listening


def free_number():
    with free_socket() as chosen:
        return chosen.getsockname()[1]


async def connected(host, port):
    """Return a connection once the server listens."""
    while True:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(host, port)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_server_listens_on_an_address_or_a_host_name(host):
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    port = free_number()
    listening = Listening(NotFound(), host, port)

    serving = asyncio.create_task(listening.serve())
    async with asyncio.timeout(20):
        reader, writer = await connected(host, port)
        writer.write(request("/"))
        reply = await receive(reader)
        writer.close()
        listening.stop()
        await serving

    assert reply.status == 404


@pytest.mark.parametrize("host", ["a..b", "192.0.2.1", "x" * 70])
def test_foreign_address_is_an_error_that_names_the_setting(host):
    with pytest.raises(SettingsError, match=r"Cannot listen on .*API_HOST"):
        Listening(NotFound(), host, free_number())


def test_taken_port_is_an_error_that_names_the_setting():
    with free_socket() as taken:
        taken.listen(1)
        with pytest.raises(SettingsError, match=r"Cannot listen on .*: Address already in use.*API_PORT"):
            Listening(NotFound(), "127.0.0.1", taken.getsockname()[1])
