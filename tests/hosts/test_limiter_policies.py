"""The effect of the operator's settings for single origins: whole runs over real sockets."""

from __future__ import annotations

import contextlib

import pytest
from tests.fetch.test_fetcher_proxy import Proxy
from tests.origin import Origin
from tests.run.test_run import HOST, World, make_world

from rehost.model import Reason
from rehost.settings import load

CDN = "cdn.example"

TABLES = f"""
[origin."*.pics.example"]
user_agent = "Mozilla/5.0 (compatible; our-catalogue)"
headers = {{ "Accept-Language" = "zh-CN" }}
cookies = {{ session = "s3cret", lang = "zh" }}
referer = "https://www.pics.example/gallery"

[origin."http://{CDN}"]
robots = false
"""


def asked(world: World, host: str) -> list[dict[str, str]]:
    return [request.headers for request in world.origin.requests if request.host == host]


@contextlib.contextmanager
def opened(folder, play, environment=(), text=""):
    """Yield a world whose settings come from a file and an environment."""
    with Origin(play) as origin:
        world = make_world(folder, origin, {})
        (folder / "rehost.toml").write_text(text)
        given = {
            "DATABASE_URL": f"sqlite:///{folder}/c.db",
            "IMAGE_STORAGE_DIR": str(folder / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_CONNECT_TO": origin.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
            **dict(environment),
        }
        world.settings = load(folder, {name: value for name, value in given.items() if value}, {})
        yield world


async def test_each_origin_gets_only_its_own_headers(tmp_path):
    def play(host, path, _headers):
        if path != "/moved/1.jpg":
            return None
        return lambda exchange: exchange.reply(302, b"", f"Location: http://{CDN}/permissive/moved.jpg")

    with opened(tmp_path, play, {"IMAGE_CONTACT": "ops@catalogue.example"}, TABLES) as world:
        world.add(world.link("permissive"), world.link("moved"), world.link("permissive", host=CDN))

        ended = await world.run()

        assert (ended.held, ended.failed) == (3, {})
        ours = {(each["user-agent"], each["cookie"], each["accept-language"]) for each in asked(world, HOST)}
        assert ours == {("Mozilla/5.0 (compatible; our-catalogue)", "session=s3cret; lang=zh", "zh-CN")}
        assert {each["referer"] for each in asked(world, HOST)} == {"https://www.pics.example/gallery"}
        for each in asked(world, CDN):
            assert each["user-agent"].startswith("rehost/")
            assert "(ops@catalogue.example)" in each["user-agent"]
            assert not {"cookie", "accept-language"} & each.keys()


@pytest.mark.parametrize("is_obeyed", [True, False])
async def test_robots_txt_is_read_only_where_the_operator_says_so(tmp_path, is_obeyed):
    def play(_host, path, _headers):
        if path == "/robots.txt":
            return lambda exchange: exchange.reply(200, b"User-agent: *\nDisallow: /private/\n")
        if path.startswith("/tagged/"):
            return lambda exchange: exchange.reply(200, exchange.body, "X-Robots-Tag: noimageindex")
        return None

    names = ("permissive", "private", "tagged")
    with opened(tmp_path, play, {"IMAGE_ROBOTS": "on" if is_obeyed else ""}, TABLES) as world:
        world.add(*(world.link(name, host=host) for host in ("free.example", CDN) for name in names))

        ended = await world.run()

        assert sorted(world.locals()) == ([1, 4, 5, 6] if is_obeyed else [1, 2, 3, 4, 5, 6])
        assert ended.failed == ({Reason.ROBOTS_REFUSED: 2} if is_obeyed else {})
        assert world.origin.count("/robots.txt", host="free.example") == is_obeyed
        assert world.origin.count("/private/1.jpg", host="free.example") == (0 if is_obeyed else 1)
        assert world.origin.count("/robots.txt", host=CDN) == 0  # its own section says no


async def test_run_through_a_proxy_connects_to_nothing_else_and_checks_each_hop(tmp_path, monkeypatch):
    def play(_host, path, _headers):
        if path == "/inward/1.jpg":
            return lambda exchange: exchange.reply(302, b"", "Location: http://10.0.0.1/permissive/1.jpg")
        return None

    with opened(tmp_path, play, {"IMAGE_CONNECT_TO": "", "IMAGE_ALLOW_NETWORKS": ""}) as world:
        async with Proxy(world.origin).serving() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("http_proxy", proxy.url)
            world.add(
                world.link("permissive", host="93.184.216.34"),
                world.link("inward", host="93.184.216.34"),
                world.link("permissive", host="169.254.169.254"),
            )

            ended = await world.run()

        assert (ended.held, ended.failed) == (1, {Reason.ADDRESS_REFUSED: 2})
        assert world.bytes_of(1) == world.origin.picture(world.link("permissive", host="93.184.216.34"))
        assert {line.split()[1].split("/")[2] for line in proxy.asked} == {"93.184.216.34"}


async def test_validators_of_a_truncated_picture_are_recorded_once_it_is_complete(tmp_path):
    with opened(tmp_path, None) as world:
        world.add(world.link("cut-once"))

        ended = await world.run()

        assert (ended.held, world.bytes_of(1)) == (1, world.origin.picture(world.link("cut-once")))
        ranges = [each["range"] for each in asked(world, HOST) if "range" in each]
        assert len(ranges) == 1
        [(etag, digest, size, width, height, kind)] = world.sql(
            "SELECT etag, digest, size, width, height, format FROM rehost_links"
        )
        assert etag.startswith('"')
        assert (len(digest), size, width, height) == (64, len(world.bytes_of(1)), 96, 72)
        assert kind == "jpg"
