import asyncio
import gzip
import time
import zlib

import pytest
from tests.fetch.conftest import fetcher_to
from tests.misbehaviours import BEHAVIOURS
from tests.origin import Origin

from rehost.errors import Permanent, Transient
from rehost.fetch.robots import MAX_BYTES, parse, tag_forbids
from rehost.model import Reason, Request


@pytest.mark.parametrize(
    ("text", "target", "allowed"),
    [
        ("", "/a.png", True),
        ("User-agent: *\nDisallow:", "/a.png", True),
        ("User-agent: *\nDisallow: /", "/a.png", False),
        ("\ufeffuser-AGENT: *\r\ndisALLOW: / # all of it\r\n", "/a.png", False),
        ("User-agent: *\nDisallow: /private", "/private/a.png", False),
        ("User-agent: *\nDisallow: /private", "/a.png", True),
        ("User-agent: *\nDisallow: /\nAllow: /pictures/", "/pictures/a.png", True),
        ("User-agent: *\nAllow: /a\nDisallow: /a", "/a", True),
        ("User-agent: *\nDisallow: /*.png$", "/x/a.png", False),
        ("User-agent: *\nDisallow: /*.png$", "/x/a.png?size=1", True),
        ("User-agent: *\nDisallow: /*.png", "/x/a.png?size=1", False),
        ("User-agent: *\nDisallow: /a*b*c", "/a-c-b-c", False),
        ("User-agent: *\nDisallow: /a*b*c", "/a-c-b-", True),
        ("User-agent: *\nDisallow: /a$", "/a", False),
        ("User-agent: *\nDisallow: /a$", "/ab", True),
        ("User-agent: *\nDisallow: /*a$", "/aba", False),
        ("User-agent: other\nDisallow: /", "/a.png", True),
        ("User-agent: re\nDisallow: /", "/a.png", True),
        ("User-agent: rehost\nAllow: /\n\nUser-agent: *\nDisallow: /", "/a.png", True),
        ("User-agent: *\nAllow: /\n\nUser-agent: Rehost\nDisallow: /", "/a.png", False),
        ("User-agent: other\nUser-agent: rehost\nDisallow: /", "/a.png", False),
        ("User-agent: rehost\nDisallow: /a\nUser-agent: rehost\nDisallow: /b", "/b", False),
        ("Disallow: /", "/a.png", True),
        ("<html>no such page</html>", "/a.png", True),
    ],
)
def test_rules_follow_rfc_9309(text, target, allowed):
    assert parse(text).allows(target) is allowed


SECONDS_FOR_ALL_CHECKS = 3.0  # of which a hundred take 0.02 s


def test_line_of_stars_costs_no_more_than_one_star():
    rules = parse("User-agent: *\nDisallow: /" + "*" * (MAX_BYTES - 40) + "x")
    began = time.perf_counter()

    allowed = [rules.allows(f"http://a.example/{'a' * 30_000}{end}") for end in ("x", "") for _ in range(50)]

    assert allowed == [False] * 50 + [True] * 50
    assert time.perf_counter() - began < SECONDS_FOR_ALL_CHECKS


def test_long_url_under_thousands_of_patterns_is_not_allowed():
    rules = parse("User-agent: *\n" + "".join(f"Disallow: /*a{n}x\n" for n in range(5000)))

    assert rules.allows("http://a.example/a")
    assert not rules.allows(f"http://a.example/{'a' * 30_000}")


@pytest.mark.parametrize(("text", "size"), [("", 1), ("Disallow: /a\n" * 10, 1), ("Disallow: /a\n" * 5000, 20)])
def test_size_of_rules_counts_what_they_hold(text, size):
    assert parse(f"User-agent: *\n{text}").size == size


async def test_rules_of_many_origins_hold_little_memory(origin):
    large = parse("User-agent: *\n" + "".join(f"Disallow: /{n:090}\n" for n in range(5000)))
    async with fetcher_to(origin) as fetcher:
        kept = fetcher._rules._answers
        for number in range(100):
            kept[str(number)] = large

    assert len(kept) * large.size <= 1000


def test_long_url_under_thousands_of_plain_rules_is_judged():
    rules = parse("User-agent: *\n" + "".join(f"Disallow: /b{n}\n" for n in range(5000)))

    assert rules.allows(f"http://a.example/{'a' * 30_000}")
    assert not rules.allows(f"http://a.example/b7{'a' * 30_000}")


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("/图片/", "/%E5%9B%BE%E7%89%87/x.png"),
        ("/%e5%9b%be/", "/%E5%9B%BE/x.png"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%2Fb", "/a%2fb"),
        ("/%7Euser/", "/~user/"),
        ("/~user/", "/%7euser/"),
        ("/a b/", "/a%20b/"),
        ("/a|b", "/a%7Cb"),
        ("/*.PNG%24", "/1.PNG$"),
        ("/a$b$", "/a$b"),
        ("/a%2A", "/a*"),
        ("/*?size=%e5$", "/1.png?size=%E5"),
    ],
)
def test_paths_match_in_any_encoding(pattern, target):
    assert not parse(f"User-agent: *\nDisallow: {pattern}").allows(target)


@pytest.mark.parametrize(("pattern", "target"), [("/a%2Fb", "/a/b"), ("/a%2A", "/ab"), ("/a%24", "/a"), ("/%", "/")])
def test_encoded_reserved_character_is_another_path(pattern, target):
    assert parse(f"User-agent: *\nDisallow: {pattern}").allows(target)


async def test_robots_txt_in_a_national_encoding_is_matched_by_its_bytes(spool):
    site = Site("User-agent: *\nDisallow: /图/\n".encode("gbk"))

    reasons, _ = await outcomes(site, spool, "http://a.example/%CD%BC/1.png", "http://a.example/%E5%9B%BE/1.png")

    assert reasons == [Reason.ROBOTS_REFUSED, None]


def test_pattern_made_to_be_slow_is_fast():
    rules = parse("User-agent: *\nDisallow: /" + "*a" * 1000 + "*b$")

    assert rules.allows("/" + "a" * 3000)


def test_group_of_many_agents_and_many_rules_is_read_in_linear_time():
    agents = "".join(f"User-agent: {number}\n" for number in range(15_000))
    rules = "".join(f"Disallow: /{number}\n" for number in range(15_000))

    assert parse(agents + rules).allows("/1")
    assert not parse(f"{agents}User-agent: rehost\n{rules}").allows("/1")


@pytest.mark.parametrize(
    ("fields", "forbidden"),
    [
        ([], False),
        (["all"], False),
        (["noindex"], True),
        (["nofollow, NoImageIndex"], True),
        (["none"], True),
        (["otherbot: noindex"], False),
        (["rehost: noindex"], True),
        (["otherbot: noindex", "noimageai"], True),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST"], False),
        (["nofollow, unavailable_after: 25 Jun 2010 15:00:00 PST, noindex"], True),
    ],
)
def test_tag_forbids_keeping_the_image(fields, forbidden):
    assert tag_forbids(fields) is forbidden


class Site:
    """An origin with a robots.txt."""

    def __init__(self, robots=b"", status=200):
        self.robots = robots
        self.status = status

    def __call__(self, _host, path, _headers):
        return self._answer if path == "/robots.txt" else None

    async def _answer(self, exchange):
        await exchange.reply(self.status, self.robots, "Content-Type: text/plain")


async def outcomes(site, spool, *urls, **settings):
    """Fetch URLs one after the other; return the reasons (None: fetched) and the requested paths."""
    found = []
    with Origin(site) as origin:
        async with fetcher_to(origin, **({"obeys_robots": lambda _origin: True} | settings)) as opened:
            for url in urls:
                try:
                    await opened.fetch(Request(url, spool))
                    found.append(None)
                except (Permanent, Transient) as error:
                    found.append(error.reason)
        return found, [asked.path for asked in origin.requests]


FORBIDDEN = Site(b"User-agent: *\nDisallow: /private/\n")


async def test_forbidden_path_is_not_requested(spool):
    reasons, asked = await outcomes(FORBIDDEN, spool, "http://a.example/private/1.png", "http://a.example/2.png")

    assert reasons == [Reason.ROBOTS_REFUSED, None]
    assert asked == ["/robots.txt", "/2.png"]


async def test_every_origin_has_its_own_robots_txt(spool):
    _, asked = await outcomes(FORBIDDEN, spool, *(f"http://{name}.example/1.png" for name in "aab"))

    assert asked == ["/robots.txt", "/1.png", "/1.png", "/robots.txt", "/1.png"]


async def test_robots_rules_are_ignored_unless_the_operator_enables_them(spool):
    urls = ["http://a.example/private/1.png", "http://a.example/asks-no-robots/1.png"]

    assert await outcomes(FORBIDDEN, spool, *urls, obeys_robots=lambda _origin: False) == (
        [None, None],
        ["/private/1.png", "/asks-no-robots/1.png"],
    )
    reasons, asked = await outcomes(FORBIDDEN, spool, *urls, obeys_robots=lambda origin: origin != "http://a.example")
    assert reasons == [None, None]
    assert "/robots.txt" not in asked


async def test_tag_of_the_response_is_obeyed(spool):
    reasons, _ = await outcomes(Site(), spool, "http://a.example/asks-no-robots/1.png")

    assert reasons == [Reason.ROBOTS_REFUSED]
    assert not spool.exists()


async def test_redirect_to_a_forbidden_path_is_not_followed(spool):
    site = Site(b"User-agent: *\nDisallow: /picture/\n")

    reasons, asked = await outcomes(site, spool, "http://a.example/redirect/1.png")

    assert reasons == [Reason.ROBOTS_REFUSED]
    assert asked == ["/robots.txt", "/redirect/1.png"]


@pytest.mark.parametrize(("status", "reason"), [(404, None), (403, None), (503, Reason.ROBOTS_REFUSED)])
async def test_missing_robots_txt_allows_all_and_a_server_error_nothing(spool, status, reason):
    reasons, _ = await outcomes(Site(b"Disallow: /", status), spool, "http://a.example/1.png")

    assert reasons == [reason]


async def test_endless_robots_txt_is_read_to_the_limit(spool):
    def site(_host, path, _headers):
        return BEHAVIOURS["endless"] if path == "/robots.txt" else None

    reasons, _ = await outcomes(site, spool, "http://a.example/1.png")

    assert MAX_BYTES >= 500 * 1024
    assert reasons == [None]


async def test_concurrent_fetches_read_robots_txt_once(tmp_path):
    with Origin(FORBIDDEN) as origin:
        async with fetcher_to(origin, obeys_robots=lambda _origin: True) as opened:
            await asyncio.gather(
                *(
                    opened.fetch(Request(f"http://a.example/{number}.png", tmp_path / f"{number}"))
                    for number in range(9)
                )
            )

        assert origin.count("/robots.txt") == 1
        assert origin.count() == 10


async def test_error_of_robots_txt_names_its_own_origin(spool):
    def site(host, path, _headers):
        if path != "/robots.txt":
            return lambda exchange: exchange.reply(302, b"", "Location: http://b.example/1.png")
        return "not-found" if host == "a.example" else "closes-at-once"

    with Origin(site) as origin:
        async with fetcher_to(origin, obeys_robots=lambda _origin: True) as opened:
            for name, failed in (("a", "http://b.example"), ("b", None)):
                with pytest.raises(Transient) as caught:
                    await opened.fetch(Request(f"http://{name}.example/1.png", spool))
                assert (caught.value.reason, caught.value.origin) == (Reason.UNREACHABLE, failed)


async def asked_after(spool, status, body, *fields):
    """Fetch a path with this response to robots.txt; return the error, and how often the path was requested."""

    async def answer(exchange):
        exchange.close()
        await exchange.head(status, *fields)
        await exchange.send(body)

    error = None
    with Origin(lambda _host, path, _headers: answer if path == "/robots.txt" else None) as origin:
        async with fetcher_to(origin, obeys_robots=lambda _origin: True) as opened:
            try:
                await opened.fetch(Request("http://a.example/private/1.png", spool))
            except (Permanent, Transient) as caught:
                error = caught
        return error, origin.count("/private/1.png")


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_coded_robots_txt_is_obeyed(spool, name, pack):
    error, asked = await asked_after(spool, 200, pack(FORBIDDEN.robots), f"Content-Encoding: {name}")

    assert (type(error), error.reason, error.evidence, asked) == (Permanent, Reason.ROBOTS_REFUSED, "robots.txt", 0)


@pytest.mark.parametrize(
    ("field", "body", "evidence"),
    [
        ("Content-Encoding: gzip", gzip.compress(FORBIDDEN.robots, mtime=0)[:-9], "the gzip body ends before its end"),
        ("Content-Encoding: gzip", b"not packed", "not gzip: "),
        ("Transfer-Encoding: gzip", b"?", "transfer encoding gzip"),
        ("Content-Length: 99", b"User-agent: *", "cut off after 13 bytes"),
    ],
    ids=["cut", "corrupt", "transfer", "short"],
)
async def test_unreadable_robots_txt_allows_nothing_for_now(spool, field, body, evidence):
    error, asked = await asked_after(spool, 200, body, field)

    assert (type(error), error.reason, asked) == (Transient, Reason.ROBOTS_REFUSED, 0)
    assert error.evidence.startswith(f"robots.txt: {evidence}")


async def test_body_of_a_404_for_robots_txt_is_not_read(spool):
    assert await asked_after(spool, 404, b"?", "Content-Encoding: br") == (None, 1)
