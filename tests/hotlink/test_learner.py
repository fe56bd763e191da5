"""Hot-link rules and decoys, one test per case; the origin counts the requests."""

import asyncio
import re
import zlib
from hashlib import sha256

import pytest
from tests.hotlink.learning import HOST, PAGE, link, urls, worker
from tests.misbehaviours import BEHAVIOURS, NOTICE
from tests.pictures import picture

from rehost.attempt import CopyIsCurrent, VisitLog
from rehost.errors import Permanent, Transient, VisitError
from rehost.events import OriginChanged, OriginLearned
from rehost.hotlink.origin_state import (
    EXTRA_REQUESTS,
    FRESH_SECONDS,
    MOST_EXTRA_REQUESTS,
    MOST_PATIENCE,
    REPEATS_IN_A_ROW,
)
from rehost.hotlink.referers import Referers
from rehost.hotlink.repository import KnownGoodLink
from rehost.model import Format, Reason, Validator

LOGO = picture(50, Format.PNG, 64, 64)


def digest(body):
    return sha256(body).hexdigest()


def only(names, otherwise="not-found"):
    """Return an origin's behaviour at which only these paths exist."""

    def wrap(play):
        def played(host, path, headers):
            return play(path, headers) if path in names else otherwise

        return played

    return wrap


def paths(links):
    return {"/" + link.split("/", 3)[3] for link in links}


def refused(headers):
    """Return whether a Referer is not the origin's own site."""
    return HOST not in headers.get("referer", "")


# links that mean more than one URL


async def test_link_without_a_scheme_has_that_of_its_page(tmp_path):
    async with worker(tmp_path) as at:
        got = await at.obtain(f"//{HOST}/permissive/1.jpg", PAGE)

        assert got == at.origin.picture(f"http://{HOST}/permissive/1.jpg")
        assert at.origin.connections == 1


async def test_other_scheme_is_tried_where_that_of_the_page_fails_and_remembered_for_the_host(tmp_path):
    links = [f"//{HOST}/permissive/{number}.jpg" for number in range(3)]
    async with worker(tmp_path) as at:  # its certificate is not trusted
        got = [await at.obtain(each, "https://www.cases.test/") for each in links]

        assert got == [at.origin.picture(f"http:{each}") for each in links]
        assert at.origin.connections == 2
        assert await at.outcome(f"https://{HOST}/permissive/1.jpg") is Reason.TLS_FAILED  # that one has a scheme
        assert at.left_behind() == []


async def test_escaped_ampersand_is_tried_as_one_where_the_link_fails(tmp_path):
    def play(_host, path, _headers):
        return "not-found" if "&amp;" in path else "permissive"

    async with worker(tmp_path, play) as at:
        got = await at.obtain(f"http://{HOST}/1.jpg?x=1&amp;y=2&amp;z=3")

        assert got == at.origin.picture(f"http://{HOST}/1.jpg")
        asked = [each.target for each in at.origin.requests if each.path == "/1.jpg"]
        assert asked == ["/1.jpg?x=1&amp;y=2&amp;z=3", "/1.jpg?x=1&y=2&z=3"]


async def test_escaped_ampersand_that_works_is_left_alone(tmp_path):
    async with worker(tmp_path, lambda *_: "permissive") as at:
        await at.obtain(f"http://{HOST}/1.jpg?x=1&amp;y=2")

        asked = [each.target for each in at.origin.requests if each.path == "/1.jpg"]
        assert asked == ["/1.jpg?x=1&amp;y=2"]


@pytest.mark.parametrize(
    ("behaviour", "requests", "reason"), [("not-found", 2, Reason.GONE), ("fails", 1, Reason.ORIGIN_ERROR)]
)
async def test_link_with_an_escaped_ampersand_keeps_its_own_failure(tmp_path, behaviour, requests, reason):
    def play(_host, path, _headers):
        return behaviour if "&amp;" in path else "forbidden"

    async with worker(tmp_path, play, referers=Referers("none")) as at:
        assert await at.outcome(f"http://{HOST}/1.jpg?x=1&amp;y=2") is reason
        assert at.origin.count() == requests


# rules


@pytest.mark.parametrize(
    ("behaviour", "rule", "most"),
    [
        ("permissive", "none", 1),
        ("refuses-foreign-referer", "none", 1),
        ("decoy-to-foreign-referer", "none", 1),
        ("demands-own-site", "origin", 2),
        ("html-without-own-site", "origin", 2),
        ("notice-redirect-without-own-site", "origin", 3),
        ("decoy-without-own-site", "origin", 3),
        ("demands-www-page", "site", 3),
        ("demands-any-page", "page", 4),
    ],
)
async def test_rule_is_learned_from_the_first_links(tmp_path, behaviour, rule, most):
    links = urls(behaviour, 12)
    async with worker(tmp_path) as at:
        got = await at.outcomes(links)

        assert got == [at.origin.picture(link) for link in links]
        assert at.rule() == rule
        assert at.extra(*links) <= most
        assert at.left_behind() == []
        assert [(event.origin, event.referer) for event in at.events] == [(f"http://{HOST}", rule)]


async def test_rule_is_stored_with_its_evidence(tmp_path):
    async with worker(tmp_path) as at:
        await at.obtain(*urls("demands-www-page", 1))

        evidence = at.origins.rules[f"http://{HOST}"].evidence
        assert evidence == "no Referer: status 403; origin: status 403; site: picture"
        assert at.events == [OriginLearned(f"http://{HOST}", "site", evidence)]


async def test_learned_rule_costs_the_next_run_no_extra_requests(tmp_path):
    links = urls("demands-www-page", 6)
    async with worker(tmp_path) as at:
        await at.outcomes(links[:2])
        before = at.origin.count()
        at.restart()
        got = await at.outcomes(links[2:])

        assert got == [at.origin.picture(link) for link in links[2:]]
        assert at.origin.count() - before == 4


async def test_rule_of_another_worker_is_used_at_once(tmp_path):
    links = urls("demands-www-page", 3)
    async with worker(tmp_path) as at:
        await at.obtain(links[0])
        first = at.origin.count()
        at.restart()
        await at.obtain(links[1])

        assert at.origin.count() - first == 1


@pytest.mark.parametrize("all_wait_from_the_start", [False, True])
async def test_first_links_are_asked_for_one_at_a_time_and_later_ones_together(tmp_path, all_wait_from_the_start):
    first, later = urls("slow", 2), urls("permissive", 10, start=3)
    all_there = asyncio.Event()

    async def wait_for_all(exchange):
        if exchange.origin.count() == 3 + len(later):  # two links, a control
            all_there.set()
        await all_there.wait()
        await BEHAVIOURS["permissive"](exchange)

    async with worker(tmp_path, lambda _, path, __: wait_for_all if path.startswith("/permissive") else None) as at:
        if all_wait_from_the_start:
            got = (await at.outcomes(first + later))[2:]
        else:
            await at.outcomes(first)
            assert at.origin.peak() == 1
            got = await at.outcomes(later)

        assert got == [at.origin.picture(link) for link in later]
        assert at.origin.peak() == len(later)


@pytest.mark.parametrize("behaviour", ["not-found", "gone", "fails", "cut-at-origin", "teapot"])
async def test_error_that_no_referer_cures_costs_one_request(tmp_path, behaviour):
    links = urls(behaviour, 4)
    async with worker(tmp_path) as at:
        await at.outcomes(links)

        assert at.extra(*links) == 0
        assert at.rule() is None


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("forbidden", Reason.HOTLINK_REFUSED),
        ("unauthorised", Reason.HOTLINK_REFUSED),
        ("legal-reasons", Reason.HOTLINK_REFUSED),
        ("html-page", Reason.NOT_AN_IMAGE),
        ("notice", Reason.DECOY),
        ("notice-redirect", Reason.DECOY),
    ],
)
async def test_origin_that_refuses_everything_costs_at_most_five_extra_requests(tmp_path, behaviour, reason):
    links = urls(behaviour, 30)
    async with worker(tmp_path) as at:
        got = await at.outcomes(links)

        assert set(got) == {reason}
        assert at.extra(*links) <= EXTRA_REQUESTS
        assert at.rule() is None
        assert at.left_behind() == []


async def test_forbidden_links_do_not_hide_the_rule_of_images_that_exist(tmp_path):
    missing, there = urls("forbidden", 5), urls("permissive", 5)
    async with worker(tmp_path) as at:
        got = [await at.outcome(link) for link in missing + there]

        assert got == [Reason.HOTLINK_REFUSED] * 5 + [at.origin.picture(link) for link in there]
        assert at.rule() == "none"
        assert at.extra(*missing, *there) <= EXTRA_REQUESTS


async def test_links_of_a_strangers_folder_do_not_hide_the_rule_of_another_folder(tmp_path):
    strangers, good = urls("forbidden", 40), urls("demands-any-page", 5)
    async with worker(tmp_path) as at:
        got = [await at.outcome(link) for link in strangers + good]

        assert got == [Reason.HOTLINK_REFUSED] * 40 + [at.origin.picture(link) for link in good]
        assert at.rule() == "page"
        assert at.extra(*strangers, *good) <= 2 * EXTRA_REQUESTS


async def test_a_link_that_others_left_no_extra_request_is_deferred_and_says_what_was_not_tried(tmp_path):
    strangers = [f"http://{HOST}/forbidden/{number}/picture.jpg" for number in range(30)]
    good, later = urls("demands-any-page", 2)
    async with worker(tmp_path) as at:
        await at.outcomes(strangers)
        with pytest.raises(Transient) as failed:
            await at.obtain(good)

        assert (failed.value.reason, failed.value.retry_after) == (Reason.HOTLINK_REFUSED, FRESH_SECONDS)
        assert failed.value.evidence.startswith(
            "no Referer: status 403; not tried: origin, site, page, because no extra"
        )
        assert at.extra(*strangers, good) <= MOST_EXTRA_REQUESTS
        assert at.origins.fresh_in[f"http://{HOST}"] == FRESH_SECONDS

        at.origins.refresh(f"http://{HOST}")
        at.restart()
        assert await at.outcome(later) == at.origin.picture(later)


async def test_evidence_says_that_a_page_is_not_sent_from_https_to_http(tmp_path):
    [link] = urls("forbidden", 1)
    async with worker(tmp_path) as at:
        with pytest.raises(Permanent) as failed:
            await at.obtain(link, PAGE.replace("http:", "https:"))

        tried, *notes = failed.value.evidence.split("; page: ")
        assert tried == "no Referer: status 403; origin: status 403; site: status 403"
        assert notes == ["not tried, because an https page sends no Referer to http"]


async def test_an_origin_that_is_dropped_while_it_is_learned_is_learned_once(tmp_path, monkeypatch):
    monkeypatch.setattr("rehost.hotlink.learner.MOST_ORIGINS", 1)
    links, others = urls("demands-own-site", 6), urls("permissive", 6, host="other.example")
    async with worker(tmp_path) as at:
        got = await at.outcomes([link for pair in zip(links, others, strict=True) for link in pair])

        assert got[::2] == [at.origin.picture(link) for link in links]
        assert [event.origin for event in at.events].count(f"http://{HOST}") == 1
        assert at.origin.count(host=HOST) <= len(links) + EXTRA_REQUESTS


async def test_rule_set_by_the_operator_overrides_learning(tmp_path):
    links = urls("demands-own-site", 3)
    async with worker(tmp_path, referers=Referers(patterns=[(HOST, f"http://www.{HOST}/")])) as at:
        got = await at.outcomes(links)

        assert got == [at.origin.picture(link) for link in links]
        assert {request.headers["referer"] for request in at.origin.requests} == {f"http://www.{HOST}/"}
        assert at.rule() is None  # a forced rule is not stored


async def test_refusal_under_a_forced_rule_costs_no_extra_requests(tmp_path):
    links = urls("demands-own-site", 3)
    async with worker(tmp_path, referers=Referers("none")) as at:
        assert set(await at.outcomes(links)) == {Reason.HOTLINK_REFUSED}
        assert at.extra(*links) == 0


# decoys


@pytest.mark.parametrize("behaviour", ["notice", "notice-redirect"])
async def test_decoy_under_the_only_link_of_an_origin_is_refused(tmp_path, behaviour):
    async with worker(tmp_path) as at:
        assert await at.outcome(*urls(behaviour, 1)) == Reason.DECOY
        assert list(at.origins.notices[f"http://{HOST}"]) == [digest(NOTICE)]


async def test_known_decoy_is_refused_in_the_next_run_without_extra_requests(tmp_path):
    links = urls("notice", 5)
    async with worker(tmp_path, referers=Referers("none")) as at:
        await at.outcome(links[0])
        before = at.origin.count()
        at.restart()

        assert set(await at.outcomes(links[1:])) == {Reason.DECOY}
        assert at.origin.count() - before == 4


@pytest.mark.parametrize("redirected", [False, True])
async def test_second_link_proves_a_decoy_where_impossible_paths_give_404(tmp_path, redirected):
    links = urls("a", 20)
    decoy = "notice-redirect" if redirected else NOTICE

    @only(paths(links) | {"/notice/no-hotlinking.jpg"})
    def play(path, headers):
        if path.startswith("/notice/"):
            return NOTICE
        return decoy if refused(headers) else None

    async with worker(tmp_path, play) as at:
        got = await at.outcomes(links)

        assert got[0] == NOTICE  # one link alone proves nothing; the copy is found by its digest later
        assert got[1:] == [at.origin.picture(link) for link in links[1:]]
        assert at.rule() == "origin"
        assert digest(NOTICE) in await at.origins.decoys(f"http://{HOST}")
        assert at.extra(*links) <= EXTRA_REQUESTS
        assert await at.outcome(links[0]) == at.origin.picture(links[0])
        assert at.left_behind() == []


async def test_decoy_under_every_referer_but_the_rows_page_is_proven_within_the_budget(tmp_path):
    links = urls("a", 8)

    @only(paths(links))
    def play(path, headers):
        return None if headers.get("referer") == PAGE else NOTICE

    async with worker(tmp_path, play) as at:
        got = [await at.outcome(link) for link in links]

        assert got[1:] == [at.origin.picture(link) for link in links[1:]]
        assert at.rule() == "page"
        assert at.extra(*links) <= EXTRA_REQUESTS


@pytest.mark.parametrize("behaviour", ["permissive", "refuses-foreign-referer", "demands-own-site", "demands-www-page"])
async def test_logo_under_fifty_links_is_examined_once_and_never_refused(tmp_path, behaviour):
    links = urls("logos", 50)

    async def answer(exchange):
        exchange.body = LOGO
        await BEHAVIOURS[behaviour](exchange)

    @only(paths(links))
    def play(path, headers):
        return answer

    async with worker(tmp_path, play) as at:
        got = await at.outcomes(links)

        assert got == [LOGO] * 50
        assert at.extra(*links) <= EXTRA_REQUESTS
        assert not await at.origins.decoys(f"http://{HOST}")
        assert at.left_behind() == []


async def test_many_shared_images_of_one_origin_are_accepted_within_its_budget(tmp_path):
    links = [f"http://{HOST}/brand/{brand}/logo.png?size={size}" for brand in range(10) for size in range(6)]

    @only(paths(links))
    def play(path, headers):
        return picture(1000 + int(path.split("/")[2]), Format.PNG)

    async with worker(tmp_path, play) as at:
        got = await at.outcomes(links)

        assert not [answer for answer in got if isinstance(answer, Reason)]
        assert at.extra(*links) <= EXTRA_REQUESTS
        assert not await at.origins.decoys(f"http://{HOST}")


async def test_shared_image_is_accepted_where_a_foreign_referer_gets_a_decoy(tmp_path):
    links = urls("logos", 10)

    @only(paths(links))
    def play(path, headers):
        return NOTICE if "referer" in headers else LOGO

    async with worker(tmp_path, play) as at:
        assert await at.outcomes(links) == [LOGO] * 10
        assert at.rule() == "none"


async def test_shared_logo_is_accepted_beside_decoys_of_the_same_origin(tmp_path):
    logos, pictures = urls("logos", 6), urls("a", 6)

    @only(paths(logos) | paths(pictures), otherwise="notice")
    def play(path, headers):
        if refused(headers):
            return NOTICE
        return LOGO if path.startswith("/logos") else None

    async with worker(tmp_path, play) as at:
        got = [await at.outcome(link) for pair in zip(logos, pictures, strict=True) for link in pair]

        assert got[0::2] == [LOGO] * 6
        assert got[1::2] == [at.origin.picture(link) for link in pictures]
        assert at.rule() == "origin"


async def test_default_image_of_an_origin_is_a_decoy_where_an_image_is_missing(tmp_path):
    there, missing = urls("a", 5), urls("b", 5)

    @only(paths(there), otherwise="notice")
    def play(path, headers):
        return None

    async with worker(tmp_path, play) as at:
        got = [await at.outcome(link) for pair in zip(there, missing, strict=True) for link in pair]

        assert got[0::2] == [at.origin.picture(link) for link in there]
        assert set(got[1::2]) == {Reason.DECOY}
        assert at.rule() == "none"


async def test_default_image_is_recognised_even_if_missing_images_come_first(tmp_path):
    there, missing = urls("a", 5), urls("b", 5)

    @only(paths(there), otherwise="notice")
    def play(path, headers):
        return None

    async with worker(tmp_path, play) as at:
        got = [await at.outcome(link) for link in missing + there]

        assert got == [Reason.DECOY] * 5 + [at.origin.picture(link) for link in there]
        assert at.extra(*missing, *there) <= 2 * EXTRA_REQUESTS  # two folders


async def test_same_link_in_many_rows_is_not_suspect(tmp_path):
    links = urls("permissive", 1) * 10
    async with worker(tmp_path) as at:
        await at.outcomes(links)

        assert at.extra(*links) == 1


async def test_size_at_the_end_of_a_path_is_not_taken_for_a_name(tmp_path):
    """As at qpic.cn: the folder names the image, and an unknown size gives the original."""
    links = [f"http://{HOST}/mmbiz_png/Ab{n}xYz0123456789abcdef{n}/640" for n in range(4)]

    def play(host, path, headers):
        known = {link.split("/")[4]: n for n, link in enumerate(links)}
        name = path.split("/")[2]
        return picture(known[name]) if name in known else "not-found"

    async with worker(tmp_path, play) as at:
        assert await at.outcomes(links) == [picture(n) for n in range(4)]


@pytest.mark.parametrize(
    "path",
    [
        "/photo/ab12cd34ef{}/some-title-{}.jpg",  # the name is for search engines
        "/image.4815162{}.8172/flat.jpg",
        "/media/some-title.4815162{}.jpg",  # a number in the name decides
        "/?id=48{}",
        "/show.php/a-title.jpg?pic=4815162{}&size=big",  # the path is ignored
    ],
)
async def test_part_of_a_link_that_the_origin_ignores_does_not_prove_a_decoy(tmp_path, path):
    links = [f"http://{HOST}{path.format(n, n)}" for n in range(4)]

    def play(host, path, headers):
        number = re.search(r"(?:ab12cd34ef|4815162|id=48)(\d)(?!\d)", path)
        return picture(int(number[1])) if number else "not-found"

    async with worker(tmp_path, play) as at:
        assert await at.outcomes(links) == [picture(n) for n in range(4)]
        assert not await at.origins.decoys(f"http://{HOST}")


@pytest.mark.parametrize("lifted_by", ["site", "page"])
async def test_decoy_for_everything_in_dated_folders_is_proven_within_the_budget(tmp_path, lifted_by):
    links = [f"http://{HOST}/upload/20200628/{n}a57de84188551c.png" for n in range(6)]
    referer = {"site": "https://www.pics.example/", "page": PAGE}[lifted_by]

    def play(host, path, headers):
        return None if headers.get("referer") == referer else NOTICE

    async with worker(tmp_path, play) as at:
        assert await at.outcomes(links) == [at.origin.picture(link) for link in links]
        assert at.rule() == lifted_by
        assert at.extra(*links) <= EXTRA_REQUESTS


async def test_control_that_fails_for_a_passing_cause_proves_nothing(tmp_path):
    links = urls("a", 2)

    @only(paths(links), otherwise="fails")
    def play(path, headers):
        return None

    async with worker(tmp_path, play) as at:
        assert await at.outcomes(links) == [at.origin.picture(link) for link in links]


async def test_shared_bytes_of_earlier_runs_are_examined_on_demand(tmp_path):
    decoys, logos = urls("a", 2), urls("logos", 2)

    @only(paths(decoys) | paths(logos))
    def play(path, headers):
        if path.startswith("/logos"):
            return LOGO
        return NOTICE if refused(headers) else None

    async with worker(tmp_path, play) as at:
        assert await at.examine(decoys, digest(NOTICE))
        asked = at.origin.count()
        assert await at.examine(decoys, digest(NOTICE))
        assert at.origin.count() == asked

        at.restart()
        assert not await at.examine(logos, digest(LOGO))
        asked = at.origin.count()
        assert not await at.examine(logos, digest(LOGO))
        assert at.origin.count() == asked
        assert at.left_behind() == []


@pytest.mark.parametrize(
    "body", [b"\xff\x0a\xfa\x7f" + b"jxl" * 50, b"8BPS\0\1" + bytes(50), b"\0\0\0\x1cftypisom\0\0\0\0mp41avc1"]
)
async def test_unsupported_format_is_not_a_refusal(tmp_path, body):
    foreign, pictures = urls("foreign", 12), urls("permissive", 3)

    async with worker(tmp_path, lambda _, path, __: body if path.startswith("/foreign") else None) as at:
        first = [await at.outcome(link) for link in foreign[:2]]
        assert at.extra(*foreign[:2]) == 0
        assert await at.outcomes(pictures) == [at.origin.picture(link) for link in pictures]
        got = [await at.outcome(link) for link in foreign[2:]]

        assert set(first + got) == {Reason.UNSUPPORTED_FORMAT}
        assert at.rule() == "none"
        assert at.extra(*foreign, *pictures) == 1  # the control
        assert at.origins.forgotten == at.pauses == []


# redirects, folders


def led_to(host, *, refuses=lambda _headers: False):
    """Return an origin whose links redirect to a host, which answers 403 to what it refuses, and to made-up names."""

    def play(asked, path, headers):
        if asked == HOST:
            return lambda exchange: exchange.reply(302, b"", f"Location: http://{host}{path}")
        return "not-found" if len(path) > len("/a/picture-99.jpg") else "forbidden" if refuses(headers) else None

    return play


def at_cdn(links, host):
    return [link.replace(HOST, host) for link in links]


async def test_images_that_another_site_gives_are_accepted_together_and_teach_nothing(tmp_path):
    first, later = urls("a", 1), urls("a", 8, start=2)
    all_there = asyncio.Event()

    async def wait_for_all(exchange):
        if exchange.origin.count(host="cdn.test") == 2 + len(later):  # with the control of the first link
            all_there.set()
        await all_there.wait()
        await BEHAVIOURS["permissive"](exchange)

    play = led_to("cdn.test")

    def played(host, path, headers):
        is_later = host == "cdn.test" and path in paths(later)
        return wait_for_all if is_later else play(host, path, headers)

    async with worker(tmp_path, played) as at:
        got = await at.outcomes(first + later)

        assert got == [at.origin.picture(link) for link in at_cdn(first + later, "cdn.test")]
        assert at.rule() is None
        assert at.events == []
        assert at.origin.peak("cdn.test") == len(later)


async def test_rule_that_another_site_wants_costs_one_more_request_for_each_link_and_is_not_the_origins(tmp_path):
    links = urls("a", 12)
    async with worker(tmp_path, led_to("cdn.test", refuses=lambda headers: headers.get("referer") != PAGE)) as at:
        got = await at.outcomes(links)

        assert got == [at.origin.picture(link) for link in at_cdn(links, "cdn.test")]
        assert at.rule() is None
        assert at.origin.count(host=HOST) <= 2 * len(links) + EXTRA_REQUESTS


async def test_rule_is_learned_across_a_redirect_to_another_host_of_the_same_site(tmp_path):
    links, host = urls("a", 6), "www.cases.test"
    play = led_to("cdn.cases.test", refuses=lambda headers: "referer" not in headers)
    async with worker(tmp_path, lambda asked, *how: play(HOST if asked == host else asked, *how)) as at:
        got = await at.outcomes([link.replace(HOST, host) for link in links])

        assert got == [at.origin.picture(link) for link in at_cdn(links, "cdn.cases.test")]
        assert at.rule(host) == "origin"


async def test_refusals_of_another_site_do_not_make_the_origin_doubted(tmp_path):
    links, away = urls("a", 3), urls("b", 60)

    def play(asked, path, headers):
        if asked == HOST and path.startswith("/b/"):
            return lambda exchange: exchange.reply(302, b"", f"Location: http://evil.test{path}")
        return "html-page" if asked != HOST else None

    async with worker(tmp_path, play) as at:
        await at.outcomes(links)
        assert {await at.outcome(link) for link in away} == {Reason.NOT_AN_IMAGE}

        assert at.origins.forgotten == at.pauses == []
        assert at.origin.count(host=HOST) <= len(links + away) + EXTRA_REQUESTS
        assert at.origin.count("/a/picture-1.jpg") == 1  # it was not asked for again as a check


async def test_decoy_of_one_folder_is_refused_in_another_after_a_control_there(tmp_path):
    decoys, alike = urls("a", 3), urls("b", 3)

    def play(host, path, headers):
        if path.startswith("/b/") and path not in paths(alike):
            return "not-found"
        return NOTICE

    async with worker(tmp_path, play) as at:
        assert {await at.outcome(link) for link in decoys} == {Reason.DECOY}
        at.origins.spent[f"http://{HOST}"] = EXTRA_REQUESTS  # these controls are the links' own

        assert [await at.outcome(link) for link in alike] == [NOTICE] * 3
        assert {await at.outcome(link) for link in urls("c", 3)} == {Reason.DECOY}
        assert (await at.origins.decoys(f"http://{HOST}"))[digest(NOTICE)] == {"/a/", "/c/"}


# change


class ChangingOrigin:
    """An origin that changes its behaviour."""

    def __init__(self, before="permissive"):
        self.behaviour = before

    def __call__(self, *_asked):
        return self.behaviour


@pytest.mark.parametrize(
    ("after", "rule"),
    [("demands-own-site", "origin"), ("html-without-own-site", "origin"), ("demands-www-page", "site")],
)
async def test_new_rule_is_learned_when_an_origin_changes(tmp_path, after, rule):
    play = ChangingOrigin()
    links = urls("a", 40)
    async with worker(tmp_path, play) as at:
        await at.outcomes(links[:10])
        play.behaviour = after
        got = [await at.outcome(link) for link in links[10:]]

        assert got == [at.origin.picture(link) for link in links[10:]]
        assert at.rule() == rule
        assert at.pauses == []
        assert at.extra(*links) <= 2 * EXTRA_REQUESTS


async def test_decoys_are_recognised_when_an_origin_starts_to_send_them(tmp_path):
    play = ChangingOrigin()
    links = urls("a", 40)
    async with worker(tmp_path, play) as at:
        await at.outcomes(links[:10])
        play.behaviour = "notice"
        got = [await at.outcome(link) for link in links[10:]]

        assert got[0] == NOTICE  # the first of them is like any other picture; it is found by its digest later
        assert set(got[1:]) == {Reason.DECOY}
        assert digest(NOTICE) in await at.origins.decoys(f"http://{HOST}")


async def test_one_extra_request_is_kept_to_recognise_new_decoys(tmp_path):
    links = urls("a", 40)
    logos = urls("logos", 12)
    names = paths(links) | paths(logos)
    turned = False

    def play(host, path, headers):
        if path not in names:
            return "not-found"
        if turned:
            return NOTICE
        return LOGO if path.startswith("/logos") else None

    async with worker(tmp_path, play) as at:
        await at.outcomes(links[:4] + logos)
        assert at.extra(*links[:4], *logos) == EXTRA_REQUESTS - 1
        turned = True
        got = [await at.outcome(link) for link in links[4:]]

        assert got.count(Reason.DECOY) >= len(got) - REPEATS_IN_A_ROW
        assert got[-10:] == [Reason.DECOY] * 10
        assert at.extra(*links, *logos) == EXTRA_REQUESTS


async def test_new_decoys_are_accepted_for_few_links_if_no_extra_request_is_left(tmp_path):
    turned = False
    links = urls("a", 80)

    @only(paths(links))
    def play(path, headers):
        return NOTICE if turned else None

    async with worker(tmp_path, play) as at:
        await at.outcomes(links[:4])
        at.origins.spent[f"http://{HOST}"] = EXTRA_REQUESTS
        turned = True
        got = [await at.outcome(link) for link in links[4:]]

        assert got.index(Reason.DECOY) <= MOST_PATIENCE + 1
        assert got[-20:] == [Reason.DECOY] * 20
        assert at.extra(*links) == 1  # of the first link
        assert at.origins.fresh_in[f"http://{HOST}"] == FRESH_SECONDS

        at.clock.advance(FRESH_SECONDS)
        at.origins.refresh(f"http://{HOST}")
        assert await at.outcome(links[-1]) == Reason.DECOY
        assert digest(NOTICE) in await at.origins.decoys(f"http://{HOST}")
        assert at.learner.new_decoys(link(links[-1], PAGE), set()) == {digest(NOTICE)}


@pytest.mark.parametrize("after", ["forbidden", "html-page"])
async def test_origin_that_suddenly_refuses_everything_is_left_alone_and_its_links_wait(tmp_path, after):
    play = ChangingOrigin()
    links = urls("a", 40)
    async with worker(tmp_path, play) as at:
        await at.outcomes(links[:10])
        play.behaviour = after
        before = at.origin.count()
        for link in links[10:]:
            await at.outcome(link)
            if at.pauses:
                break

        assert at.origin.count() - before <= 3 + 2 * EXTRA_REQUESTS
        assert [(pause.host, pause.seconds) for pause in at.pauses] == [(HOST, 3600.0)]
        assert "it worked, and refuses everything now" in at.pauses[0].evidence
        assert at.origins.forgotten
        (changed,) = [event for event in at.events if isinstance(event, OriginChanged)]
        assert (changed.origin, changed.referer) == (f"http://{HOST}", "none")
        assert "links in a row are refused under none" in changed.evidence
        assert at.rule() is None

        play.behaviour = "demands-own-site"
        got = await at.outcomes(links[30:])
        assert got == [at.origin.picture(link) for link in links[30:]]
        assert at.rule() == "origin"


async def test_pauses_grow_while_an_origin_refuses_everything(tmp_path):
    play = ChangingOrigin()
    async with worker(tmp_path, play) as at:
        await at.outcomes(urls("a", 5))
        play.behaviour = "forbidden"
        for link in urls("a", 30, start=6):
            await at.outcome(link)
            if at.pauses:
                at.clock.advance(at.pauses[-1].seconds)
                at.origins.refresh(f"http://{HOST}")

        assert [pause.seconds for pause in at.pauses[:3]] == [3600.0, 7200.0, 14400.0]
        assert max(pause.seconds for pause in at.pauses) == 86400.0


async def test_links_in_flight_do_not_prolong_a_pause(tmp_path):
    play = ChangingOrigin()
    async with worker(tmp_path, play) as at:
        await at.outcomes(urls("a", 5))
        play.behaviour = "forbidden"
        got = await at.outcomes(urls("a", 30, start=6))

        assert set(got) == {Reason.HOTLINK_REFUSED}
        assert [pause.seconds for pause in at.pauses] == [3600.0]


async def test_refused_links_wait_for_hours_at_a_doubted_origin_and_for_weeks_at_a_confirmed_one(tmp_path):
    good, bad = urls("permissive", 3), urls("forbidden", 8)
    async with worker(tmp_path) as at:
        await at.outcomes(good)
        kinds = []
        for link in bad:
            with pytest.raises(VisitError) as caught:
                await at.obtain(link)
            kinds.append(caught.type)

        assert kinds == [Permanent, Transient, *[Permanent] * 6]


async def test_group_of_refused_links_does_not_make_a_working_origin_forget_its_rule(tmp_path):
    good, bad = urls("permissive", 10), urls("forbidden", 12)
    async with worker(tmp_path) as at:
        await at.outcomes(good[:5])
        got = [await at.outcome(link) for link in bad]
        assert set(got) == {Reason.HOTLINK_REFUSED}

        assert await at.outcomes(good[5:]) == [at.origin.picture(link) for link in good[5:]]
        assert at.pauses == []
        assert at.origins.forgotten == []
        assert at.extra(*good, *bad) <= EXTRA_REQUESTS


async def test_checks_of_a_working_origin_come_out_of_its_five_extra_requests(tmp_path):
    """Many images are missing, and the origin answers 403 (as S3 does): in stretches, and hundreds at once."""
    good = urls("permissive", 12)
    stretches = [urls("forbidden", 10, start=10 * n) for n in range(10)]
    many = urls("forbidden", 300, start=200)
    async with worker(tmp_path) as at:
        await at.outcomes(good[:2])
        for there, missing in zip(good[2:], stretches, strict=True):
            assert {await at.outcome(link) for link in missing} == {Reason.HOTLINK_REFUSED}
            assert await at.outcome(there) == at.origin.picture(there)
        assert at.pauses == []
        assert set(await at.outcomes(many)) == {Reason.HOTLINK_REFUSED}

        assert at.origins.forgotten == []
        assert at.extra(*good, *many, *(link for some in stretches for link in some)) == EXTRA_REQUESTS


async def test_refused_links_wait_if_no_extra_request_is_left_to_check_the_origin(tmp_path):
    good, bad = urls("a", 3), urls("a", 60, start=10)
    play = ChangingOrigin()
    async with worker(tmp_path, play) as at:
        await at.outcomes(good)
        at.origins.spent[f"http://{HOST}"] = EXTRA_REQUESTS
        play.behaviour = "demands-own-site"
        errors = []
        for link in bad:
            with pytest.raises(VisitError) as caught:
                await at.obtain(link)
            errors.append(caught.value)
            if at.pauses:
                break

        assert [type(error) for error in errors[1:]] == [Transient] * (len(errors) - 1)  # none of them for weeks
        assert len(errors) == MOST_PATIENCE
        assert [pause.seconds for pause in at.pauses] == [3600.0]
        assert "no extra request is left" in at.pauses[0].evidence
        assert at.extra(*good, *bad[: len(errors)]) == 1  # the control of the first link

        at.clock.advance(3600.0)
        at.origins.refresh(f"http://{HOST}")
        assert await at.outcome(bad[-1]) == at.origin.picture(bad[-1])
        assert at.rule() == "origin"


async def test_links_that_worked_before_this_process_began_serve_for_checks(tmp_path):
    """A new process has seen nothing work: held links show whether the origin still does."""
    good, bad = urls("permissive", 3), urls("forbidden", 6)
    async with worker(tmp_path) as at:
        await at.outcomes(good)
        elsewhere = KnownGoodLink(f"http://{HOST}:81/x.jpg", None, "0" * 64)
        at.origins.held[HOST] = [elsewhere, *(KnownGoodLink(url, PAGE, digest(at.origin.picture(url))) for url in good)]
        at.restart()
        got = [await at.outcome(link) for link in bad]

        assert set(got) == {Reason.HOTLINK_REFUSED}
        assert at.origins.forgotten == at.pauses == []
        assert at.origin.count("/permissive/picture-1.jpg") == 2
        assert at.extra(*good, *bad) <= EXTRA_REQUESTS


async def test_new_process_finds_by_held_links_that_an_origin_has_changed(tmp_path):
    play = ChangingOrigin()
    links = urls("a", 40)
    async with worker(tmp_path, play) as at:
        await at.outcomes(links[:3])
        at.origins.held[HOST] = [KnownGoodLink(url, PAGE, digest(at.origin.picture(url))) for url in links[:3]]
        at.origins.refresh(f"http://{HOST}")
        at.restart()
        play.behaviour = "demands-own-site"
        got = [await at.outcome(link) for link in links[3:]]

        assert got[2:] == [at.origin.picture(link) for link in links[5:]]
        assert at.rule() == "origin"


async def test_new_process_recognises_decoys_by_held_links(tmp_path):
    turned = False
    links = urls("a", 40)

    @only(paths(links))
    def play(path, headers):
        return NOTICE if turned else None

    async with worker(tmp_path, play) as at:
        await at.outcomes(links[:3])
        at.origins.held[HOST] = [KnownGoodLink(url, PAGE, digest(at.origin.picture(url))) for url in links[:3]]
        at.origins.spent[f"http://{HOST}"] = EXTRA_REQUESTS - 1
        at.restart()
        turned = True
        got = [await at.outcome(link) for link in links[3:]]

        assert got[-20:] == [Reason.DECOY] * 20
        assert digest(NOTICE) in await at.origins.decoys(f"http://{HOST}")


# links whose copies are current


async def test_links_whose_copies_are_current_are_asked_together_once_two_of_them_differ(tmp_path):
    links = urls("slow", 10)
    async with worker(tmp_path) as at:
        for each in links[:2]:
            await at.obtain(each)
        at.restart()
        await asyncio.gather(*(is_current(at, each) for each in links))

        assert at.origin.peak(HOST) > 2
        assert at.origin.count() == 2 + len(links) + 1  # one control, while the rule was learned
        assert at.left_behind() == []


async def is_current(at, url):
    body = at.origin.picture(url)
    log = VisitLog(HOST, validator=Validator(f'"{zlib.crc32(body):08x}"'), digest=digest(body))
    with pytest.raises(CopyIsCurrent):
        await at.learner.obtain(link(url, PAGE), log)
