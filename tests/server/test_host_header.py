"""Which hosts a request can name, and that no redirect repeats them."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route
from tests.server.conftest import by_granian, by_uvicorn
from tests.server.test_app import rest
from tests.server.wire import ask

from rehost.server.app import mount
from rehost.server.host_header import KnownHosts, RelativeRedirects

OWN = (
    *("localhost", "LOCALHOST:8000", "localhost.", "shop.localhost", "127.0.0.1", "127.0.0.1:8000", "192.0.2.7:80"),
    *("[::1]", "[::1]:8000", "[2001:db8::7]", "www.shop.example", "www.shop.example:8443", "WWW.shop.example."),
)
FOREIGN = (
    *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost", "", ":80"),
    *("shop.example", "x.www.shop.example", "localhost:8000:8000", "localhost@evil.example", "[::1].evil.example"),
    *("127.0.0.1, evil.example", "evil.example/localhost", "[localhost", "0x7f.1", "2130706433", "."),
)


def guarded(*names, public=()):
    return KnownHosts(rest, frozenset(names), lambda sentence: PlainTextResponse(sentence, 421), public)


async def statuses(application, hosts, target="/"):
    async with by_uvicorn(application) as port:
        return {host: (await ask(port, target, host=host)).status for host in hosts}


async def test_own_names_and_addresses_are_accepted():
    assert set((await statuses(guarded("www.shop.example"), OWN)).values()) == {200}


async def test_other_names_are_refused():
    found = await statuses(guarded("www.shop.example"), FOREIGN)

    assert not [host for host, status in found.items() if status == 200]


async def test_any_name_is_accepted_if_the_operator_wants_it():
    assert set((await statuses(guarded("*"), ("evil.example", "localhost"))).values()) == {200}


async def test_any_name_is_accepted_below_public_paths():
    application = guarded(public=("/copies/",))

    assert await statuses(application, ["evil.example"], "/copies/1.png") == {"evil.example": 200}
    assert await statuses(application, ["evil.example"], "/copies") == {"evil.example": 421}


@pytest.mark.parametrize("serve", [by_uvicorn, by_granian])
async def test_refusal_names_the_setting(serve):
    async with serve(guarded()) as port:
        reply = await ask(port, "/", host="evil.example")

    assert reply.status == 421
    assert b"API_ALLOWED_HOSTS" in reply.body


async def go(request):
    return RedirectResponse(request.query_params["to"])


@pytest.mark.parametrize(
    ("to", "location"),
    [
        ("http://evil.example/a/?b=c", "/a/?b=c"),
        ("https://evil.example", "/"),
        ("//evil.example/a", "/a"),
        ("/a?b", "/a?b"),
        ("http://localhost//evil.example/", "/evil.example/"),
        ("http://localhost/\\\\evil.example/", "/%5C%5Cevil.example/"),
    ],
)
async def test_redirects_stay_on_this_server(to, location):
    async with by_uvicorn(RelativeRedirects(Starlette(routes=[Route("/go", go)]))) as port:
        reply = await ask(port, f"/go?to={to}")

    assert (reply.status, reply["location"]) == (307, location)


@pytest.mark.parametrize("target", ["/rehost", "//rehost", "/rehost?a=b"])
async def test_mounted_application_does_not_repeat_the_host(target):
    async with by_uvicorn(mount(Starlette(routes=[Mount("/x", rest)]), "/rehost")) as port:
        reply = await ask(port, target, host="evil.example")

    assert "evil" not in str(reply.fields)
