"""How a fetch ends for each thing that an origin may do (tests/misbehaviours.py)."""

import asyncio
from contextlib import suppress

import pytest
import uvloop
from tests.fetch.conftest import fetcher_to
from tests.misbehaviours import MISBEHAVIOURS

from rehost.errors import Permanent, Transient, VisitError
from rehost.model import Reason, Request

WHOLE = {  # the image, byte for byte
    *("asks-no-robots", "chunked", "closes-kept-alive", "deflated", "deflated-raw", "early-hints", "gzipped"),
    *(
        "chunked-trailers",
        "header-folded",
        "length-with-zeros",
        "missing-type",
        "ranges-on-whole",
        "sets-cookies",
        "until-close",
        "wrong-type",
    ),
    *("refuses-foreign-referer", "decoy-to-foreign-referer", "refuses-browsers"),
    *("gzip-corrupt", "gzip-members", "gzip-twice", "negative-length", "partial-unasked", "partial-without-range"),
    *("brotli-coded", "zstd-coded", "coded-in-no-coding", "status-226"),
}

OTHER_BYTES = {  # another body: the verifier, or the Referer learner, judges it
    *(
        "brotli-misnamed",
        "changes-every-time",
        "cut-at-origin",
        "decoy-without-own-site",
        "html-as-picture",
        "html-page",
    ),
    *("html-without-own-site", "notice", "notice-redirect", "notice-redirect-without-own-site", "redirect"),
    *(
        "longer-than-announced",
        "redirect-elsewhere",
        "redirect-non-ascii",
        "redirect-two-locations",
        "svg-as-png",
        "webp-as-jpeg",
    ),
}

CUT = {
    *("chunked-ended-early", "cut-in-transit", "cut-once", "cut-once-weak", "cut-then-changed", "cut-then-mixed"),
    *("cut-then-multipart", "cut-then-unsatisfiable", "cut-then-wrong-start", "cut-then-wrong-total", "cut-thrice"),
    *("gzip-cut", "gzip-cut-in-transit", "reset-in-body"),
}

MALFORMED = {
    *("chunk-extension-for-each-byte", "chunk-extensions", "chunked-broken", "chunked-broken-late"),
    *("chunked-endless-size", "chunked-trailer-flood", "chunks-of-one-byte", "gzip-misnamed", "header-flood"),
    *("header-long", "header-many", "http09", "informational-body", "informational-flood", "not-http"),
    *("not-modified-unasked", "partial-multipart", "status-below-100", "two-lengths"),
}

SLOW = {"drip", "drip-headers", "hang", "hang-in-body"}

REFUSED = {
    "announces-too-much": Reason.TOO_LARGE,
    "demands-any-page": Reason.HOTLINK_REFUSED,
    "demands-cookie": Reason.HOTLINK_REFUSED,
    "demands-own-site": Reason.HOTLINK_REFUSED,
    "demands-www-page": Reason.HOTLINK_REFUSED,
    "empty": Reason.EMPTY,
    "endless": Reason.TOO_LARGE,
    "endless-chunked": Reason.TOO_LARGE,
    "forbidden": Reason.HOTLINK_REFUSED,
    "gone": Reason.GONE,
    "gzip-bomb": Reason.TOO_LARGE,
    "legal-reasons": Reason.HOTLINK_REFUSED,
    "no-content": Reason.EMPTY,
    "not-found": Reason.GONE,
    "redirect-bad-port": Reason.PORT_REFUSED,
    "redirect-credentials": Reason.MALFORMED,
    "redirect-data": Reason.MALFORMED,
    "redirect-mapped": Reason.ADDRESS_REFUSED,
    "redirect-number": Reason.ADDRESS_REFUSED,
    "redirect-websocket": Reason.MALFORMED,
    "redirect-circle": Reason.TOO_MANY_REDIRECTS,
    "redirect-file": Reason.MALFORMED,
    "redirect-for-ever": Reason.TOO_MANY_REDIRECTS,
    "redirect-nowhere": Reason.UNEXPECTED_STATUS,
    "redirect-private": Reason.ADDRESS_REFUSED,
    "redirect-unparsable": Reason.MALFORMED,
    "refuses-robots": Reason.HOTLINK_REFUSED,
    "switches-protocols": Reason.UNEXPECTED_STATUS,
    "teapot": Reason.UNEXPECTED_STATUS,
    "unauthorised": Reason.HOTLINK_REFUSED,
}

PASSING = {
    "bad-gateway": Reason.ORIGIN_ERROR,
    "closes-at-once": Reason.UNREACHABLE,
    "fails": Reason.ORIGIN_ERROR,
    "fails-once": Reason.ORIGIN_ERROR,
    "request-timeout": Reason.ORIGIN_ERROR,
    "reset": Reason.UNREACHABLE,
    "throttled-date": Reason.THROTTLED,
    "throttled-once": Reason.THROTTLED,
    "throttled-seconds": Reason.THROTTLED,
    "too-early": Reason.ORIGIN_ERROR,
    "unavailable-date": Reason.THROTTLED,
    "unavailable-seconds": Reason.THROTTLED,
    **dict.fromkeys(CUT, Reason.TRUNCATED),
    **dict.fromkeys(MALFORMED, Reason.MALFORMED),
    **dict.fromkeys(SLOW, Reason.TIMED_OUT),
}


def test_every_misbehaviour_has_an_expected_end():
    assert {*WHOLE, *OTHER_BYTES, *REFUSED, *PASSING} == MISBEHAVIOURS.keys()
    assert len(MISBEHAVIOURS) >= 40


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def ended(request, origin, spool):
    """Return a function that fetches a URL on one of the two event loops: a Download or the VisitError."""

    def run(url, timeout_seconds):
        async def once():
            async with fetcher_to(origin, timeout_seconds=timeout_seconds) as opened:
                try:
                    return await opened.fetch(Request(url, spool))
                except VisitError as error:
                    return error

        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(once())

    return run


@pytest.mark.parametrize("name", sorted(MISBEHAVIOURS))
def test_misbehaviour_ends_as_expected(name, origin, spool, ended):
    url = origin.url(name, host="pics.example")

    end = ended(url, 0.25 if name in SLOW else 20.0)

    if name in WHOLE | OTHER_BYTES:
        assert (spool.read_bytes() == origin.picture(url)) is (name in WHOLE)
        assert end.size == spool.stat().st_size
        return
    assert type(end) is (Permanent if name in REFUSED else Transient)
    assert end.reason is (REFUSED | PASSING)[name]
    assert spool.exists() is (end.partial is not None)


@pytest.mark.parametrize(
    ("name", "referer"),
    [
        ("refuses-foreign-referer", None),
        ("refuses-foreign-referer", "http://pics.site.example/"),
        ("decoy-to-foreign-referer", None),
        ("demands-own-site", "http://pics.site.example/"),
        ("demands-own-site", "https://www.site.example/"),
        ("demands-www-page", "https://www.site.example/"),
        ("demands-any-page", "https://elsewhere.example/page"),
        ("html-without-own-site", "https://www.site.example/"),
        ("notice-redirect-without-own-site", "https://www.site.example/"),
        ("decoy-without-own-site", "https://www.site.example/"),
    ],
)
async def test_demanded_referer_gets_the_image(name, referer, origin, spool, fetch):
    url = origin.url(name, host="pics.site.example")

    await fetch(url, referer=referer)

    assert spool.read_bytes() == origin.picture(url)


@pytest.mark.parametrize("name", ["refuses-foreign-referer", "decoy-to-foreign-referer"])
async def test_foreign_referer_gets_no_image_from_an_origin_that_refuses_it(name, origin, spool, fetch):
    url = origin.url(name, host="pics.site.example")

    with suppress(Permanent):
        await fetch(url, referer="https://elsewhere.example/page")

    assert not spool.exists() or spool.read_bytes() != origin.picture(url)
