import asyncio
import hashlib
import os
import socket
from contextlib import ExitStack, suppress

import pytest
from tests.fetch.conftest import fetcher_to
from tests.misbehaviours import BEHAVIOURS
from tests.origin import Origin

from rehost.errors import Permanent, SlowToAnswer, StoreError, Transient, VisitError
from rehost.http import pool
from rehost.http.address_policy import AddressPolicy
from rehost.http.url import origin_of
from rehost.model import Download, NotModified, Partial, Reason, Request, Validator


async def failing(fetch, url, **settings):
    with pytest.raises((Permanent, Transient)) as caught:
        await fetch(url, **settings)
    return caught.value


# a well-behaved origin


async def test_download_has_every_byte_and_all_metadata(origin, spool, fetch):
    url = origin.url("picture", "1.png", host="pics.example")
    body = origin.picture(url)

    download = await fetch(url)

    assert spool.read_bytes() == body
    assert download == Download(
        spool=spool,
        size=len(body),
        digest=hashlib.sha256(body).hexdigest(),
        final_url=url,
        validator=Validator(download.validator.etag, "Sun, 28 Jun 2020 08:00:00 GMT"),
        status=200,
        media_type="image/png",
    )
    assert download.validator.etag is not None


async def test_large_image_is_fetched_whole(origin, spool, fetch):
    url = origin.url("picture", "1.bmp", host="pics.example", query="width=1200&height=800")

    await fetch(url, max_bytes=1 << 23)

    assert spool.stat().st_size > 2_000_000
    assert spool.read_bytes() == origin.picture(url)


async def test_https_url_is_fetched_over_tls(origin, spool, fetch):
    await fetch("https://oss.adquan.com/upload/20200628/a.png")

    [asked] = origin.requests
    assert asked.tls
    assert asked.host == "oss.adquan.com"
    assert spool.read_bytes() == origin.picture("https://oss.adquan.com/upload/20200628/a.png")


async def test_request_names_the_user_agent_and_accepts_no_coding(origin, fetch):
    await fetch(origin.url())

    asked = origin.requests[0].headers
    assert asked["user-agent"] == "rehost-tests/1 (tests@rehost.example)"
    assert asked["accept-encoding"] == "identity"
    assert "referer" not in asked
    assert "cookie" not in asked


@pytest.mark.parametrize("name", ["other-name", "unknown-ca"])
async def test_certificate_of_another_host_or_authority_is_refused(name, fetch):
    error = await failing(fetch, f"https://{name}.bad-tls.example/1.jpg")

    assert isinstance(error, Permanent)
    assert error.reason is Reason.TLS_FAILED


async def test_closed_port_is_unreachable(origin, fetch):
    error = await failing(fetch, "http://a.example/1.jpg", connect_to=[("*", None, "127.0.0.1", 1)])

    assert isinstance(error, Transient)
    assert error.reason is Reason.UNREACHABLE


async def test_runtime_error_of_uvloop_is_unreachable(fetch, monkeypatch):
    async def fail(*_, **__):
        raise RuntimeError("unable to connect")

    monkeypatch.setattr(pool, "start_connection", fail)
    error = await failing(fetch, "http://a.example/1.jpg")

    assert (type(error), error.reason, error.evidence) == (Transient, Reason.UNREACHABLE, "unable to connect")


async def test_name_without_an_address_is_permanent(fetch):
    error = await failing(fetch, "http://a.example/1.jpg", connect_to=[])

    assert isinstance(error, Permanent)
    assert error.reason is Reason.UNRESOLVED


# the address policy


async def test_connect_to_a_private_address_is_refused(origin, fetch):
    error = await failing(fetch, origin.url(host="a.example"), address_policy=AddressPolicy())

    assert error.reason is Reason.ADDRESS_REFUSED
    assert origin.connections == 0


async def test_name_with_private_addresses_only_is_refused(origin, fetch):
    async def inside(_host):
        return ["127.0.0.1", "10.0.0.1", "::1"]

    error = await failing(
        fetch, "http://a.example/1.jpg", address_policy=AddressPolicy(), connect_to=[], resolver=inside
    )

    assert isinstance(error, Permanent)
    assert error.reason is Reason.ADDRESS_REFUSED
    assert "10.0.0.1" in error.evidence


async def test_connect_to_does_not_allow_a_private_literal_address(origin, fetch):
    error = await failing(fetch, "http://10.0.0.1/1.jpg")

    assert error.reason is Reason.ADDRESS_REFUSED
    assert origin.connections == 0


async def test_connect_to_applies_to_a_public_literal_address(origin, spool, fetch):
    await fetch("http://8.8.8.8:8080/1.jpg")

    [asked] = origin.requests
    assert asked.headers["host"] == "8.8.8.8:8080"
    assert spool.read_bytes() == origin.picture("http://8.8.8.8/1.jpg")


async def test_every_new_fetcher_resolves_and_checks_a_name_again(origin, fetch):
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def rebinding(_host):
        return answers.pop(0)

    url = f"http://a.example:{origin.port}/picture/1.jpg"
    await fetch(url, connect_to=[], resolver=rebinding)
    error = await failing(fetch, url, connect_to=[], resolver=rebinding)

    assert error.reason is Reason.ADDRESS_REFUSED
    assert origin.count() == 1


# Referer, cookies, headers of an origin


async def test_every_hop_sends_the_given_referer(origin, fetch):
    await fetch(origin.url("redirect-elsewhere", host="a.example"), referer="https://www.a.example/page")

    assert [asked.host for asked in origin.requests] == ["a.example", "elsewhere.example"]
    assert {asked.headers["referer"] for asked in origin.requests} == {"https://www.a.example/page"}


@pytest.mark.parametrize(
    ("referer", "sent"),
    [("https://www.a.example/page", None), ("http://www.a.example/page", "http://www.a.example/page")],
)
async def test_https_referer_is_not_sent_after_a_redirect_to_http(origin, fetch, referer, sent):
    await fetch(origin.url("redirect-elsewhere", host="a.example", scheme="https"), referer=referer)

    assert [asked.tls for asked in origin.requests] == [True, False]
    assert [asked.headers.get("referer") for asked in origin.requests] == [referer, sent]


async def test_no_cookie_is_kept(origin, spool):
    async with fetcher_to(origin) as fetcher:
        for _ in range(2):
            await fetcher.fetch(Request(origin.url("sets-cookies", host="a.example"), spool))

    assert not any("cookie" in asked.headers for asked in origin.requests)


async def test_headers_of_an_origin_are_sent_to_that_origin_only(origin, fetch):
    own = {"Cookie": "seen=1", "Authorization": "Basic c2VjcmV0", "User-Agent": "Mozilla/5.0"}

    await fetch(
        origin.url("redirect-elsewhere", host="a.example"),
        headers_for=lambda asked: own if asked == "http://a.example" else {},
    )

    first, second = (asked.headers for asked in origin.requests)
    assert (first["cookie"], first["authorization"]) == ("seen=1", "Basic c2VjcmV0")
    assert first["user-agent"] == "Mozilla/5.0"
    assert "cookie" not in second
    assert "authorization" not in second
    assert second["user-agent"] == "rehost-tests/1 (tests@rehost.example)"


async def test_configured_cookie_is_accepted_by_its_origin(origin, fetch):
    download = await fetch(origin.url("demands-cookie"), headers_for=lambda _origin: {"Cookie": "seen=1"})

    assert download.status == 200


# redirects


async def test_download_has_the_url_after_redirects(origin, fetch):
    download = await fetch(origin.url("redirect", host="a.example"))

    assert download.final_url == "http://a.example/picture/moved.jpg"


@pytest.mark.parametrize(("limit", "ended"), [(0, Reason.TOO_MANY_REDIRECTS), (1, None)])
async def test_no_more_redirects_are_followed_than_allowed(origin, fetch, limit, ended):
    if ended is None:
        await fetch(origin.url("redirect"), max_redirects=limit)
    else:
        assert (await failing(fetch, origin.url("redirect"), max_redirects=limit)).reason is ended

    assert origin.count() == limit + 1


class PermissiveScheduler:
    """Permits every unscheduled request, and records them."""

    def __init__(self):
        self.begun, self.ended = [], []

    async def unscheduled(self, url):
        self.begun.append(origin_of(url))

    def unscheduled_succeeded(self, url):
        self.ended.append(origin_of(url))


@pytest.mark.parametrize(
    ("name", "origin_of_error", "ended"),
    [
        ("picture", None, ["http://b.example", "http://c.example"]),
        ("not-found", "http://c.example", ["http://b.example"]),
        ("closes-at-once", "http://c.example", ["http://b.example"]),
        ("cut-in-transit", "http://c.example", ["http://b.example"]),
        ("hang", "http://c.example", ["http://b.example"]),
    ],
)
async def test_error_names_the_origin_of_its_hop(spool, name, origin_of_error, ended):
    def play(asked, _path, _headers):
        if asked == "c.example":
            return name
        return lambda exchange: exchange.reply(302, b"", f"Location: http://{chr(ord(asked[0]) + 1)}.example/x/1.jpg")

    scheduler, said = PermissiveScheduler(), (None, "/x/")
    with Origin(play) as origin:
        async with fetcher_to(origin, scheduler=scheduler, timeout_seconds=0.5) as fetcher:
            try:
                await fetcher.fetch(Request("http://a.example/1.jpg", spool))
            except VisitError as error:
                said = error.origin, error.folder

    assert (said, scheduler.begun, scheduler.ended) == (
        (origin_of_error, "/x/"),
        ["http://b.example", "http://c.example"],
        ended,
    )


@pytest.mark.parametrize("name", ["not-found", "redirect-circle", "unavailable-date"])
async def test_error_at_the_origin_of_the_link_names_no_other(origin, fetch, name):
    assert (await failing(fetch, origin.url(name, host="a.example"))).origin is None


# conditional requests


async def test_unchanged_image_is_not_sent_again(origin, spool, fetch):
    url = origin.url()
    first = await fetch(url)
    spool.unlink()

    again = await fetch(url, validator=first.validator)

    assert again == NotModified(url, first.validator)
    assert not spool.exists()


async def test_changed_image_is_sent(origin, spool, fetch):
    download = await fetch(origin.url(), validator=Validator('"another"', None))

    assert isinstance(download, Download)
    assert spool.read_bytes() == origin.picture(origin.url())


# resuming a body that was cut


async def test_cut_body_is_resumed_where_it_stopped(origin, spool, tmp_path, fetch):
    url = origin.url("cut-once", host="a.example")
    cut = await failing(fetch, url)
    had = cut.partial.spool.rename(tmp_path / "kept").stat().st_size

    download = await fetch(url, partial=_moved(cut.partial, tmp_path / "kept"))

    body = origin.picture(url)
    assert spool.read_bytes() == body
    assert (download.size, download.digest) == (len(body), hashlib.sha256(body).hexdigest())
    assert download.status == 206
    assert 0 < had < len(body)
    second = origin.requests[1].headers
    assert (second["range"], second["if-range"]) == (f"bytes={had}-", cut.partial.validator.etag)
    assert origin.count() == 2
    assert not (tmp_path / "kept").exists()


async def test_body_that_is_cut_three_times_is_joined(origin, spool, fetch):
    url = origin.url("cut-thrice")
    partial, requests = None, 0
    while requests < 10:
        requests += 1
        try:
            await fetch(url, partial=partial)
        except Transient as error:
            partial = error.partial
        else:
            break

    assert spool.read_bytes() == origin.picture(url)
    assert origin.count() == requests == 4


async def test_changed_image_is_fetched_from_the_start(origin, spool, fetch):
    url = origin.url("cut-then-changed", host="a.example")
    cut = await failing(fetch, url)

    await fetch(url, partial=cut.partial)

    assert spool.read_bytes() == origin.picture("http://a.example/changed/cut-then-changed/1.jpg")
    assert origin.count() == 2


async def test_unsatisfiable_range_leads_to_a_full_request_at_once(origin, spool, fetch):
    url = origin.url("cut-then-unsatisfiable")
    cut = await failing(fetch, url)

    await fetch(url, partial=cut.partial)

    assert spool.read_bytes() == origin.picture(url)
    assert ["range" in asked.headers for asked in origin.requests] == [False, True, False]


@pytest.mark.parametrize(
    "name", ["cut-then-mixed", "cut-then-wrong-start", "cut-then-wrong-total", "cut-then-multipart"]
)
async def test_rest_that_does_not_fit_is_never_joined(origin, spool, fetch, name):
    url = origin.url(name)
    cut = await failing(fetch, url)

    again = await failing(fetch, url, partial=cut.partial)

    assert again.reason is Reason.TRUNCATED
    assert origin.picture(url).startswith(spool.read_bytes())
    assert again.partial.size == spool.stat().st_size
    assert ["range" in asked.headers for asked in origin.requests] == [False, True, False]


@pytest.mark.parametrize(
    ("sent", "reason", "kept"),
    [(10, Reason.TRUNCATED, 15), (96, Reason.MALFORMED, None)],
    ids=["less", "more"],
)
async def test_rest_without_a_length_must_fill_the_announced_range(spool, sent, reason, kept):
    async def rest(exchange):
        exchange.close()
        await exchange.head(206, "Content-Range: bytes 5-99/100", 'ETag: "a"')
        await exchange.send(b"r" * sent)

    partial = Partial(spool.with_name("kept"), 5, Validator('"a"'))
    partial.spool.write_bytes(b"begin")
    with Origin(lambda _host, _path, _headers: rest) as origin:
        async with fetcher_to(origin) as fetcher:
            with pytest.raises(Transient) as caught:
                await fetcher.fetch(Request(origin.url(), spool, partial=partial))

    assert caught.value.reason is reason
    assert kept == (caught.value.partial and caught.value.partial.size)
    assert spool.exists() == bool(kept)


@pytest.mark.parametrize("name", ["cut-once-weak", "cut-in-transit", "gzip-cut-in-transit", "gzip-cut"])
async def test_cut_body_without_a_strong_etag_of_uncoded_bytes_is_dropped(origin, spool, fetch, name):
    cut = await failing(fetch, origin.url(name))

    assert cut.partial is None
    assert not spool.exists()


async def test_partial_body_survives_errors_of_later_attempts(spool):
    said = iter(["cut-once", "bad-gateway", "closes-at-once", "cut-once"])
    partial, reasons = None, []
    with Origin(lambda _host, _path, _headers: next(said)) as origin:
        url = origin.url("any")
        for _ in range(3):
            async with fetcher_to(origin) as fetcher:
                with pytest.raises(Transient) as caught:
                    await fetcher.fetch(Request(url, spool, partial=partial))
            partial = caught.value.partial
            reasons.append(caught.value.reason)
        async with fetcher_to(origin) as fetcher:
            await fetcher.fetch(Request(url, spool, partial=partial))

    assert reasons == [Reason.TRUNCATED, Reason.ORIGIN_ERROR, Reason.UNREACHABLE]
    assert spool.read_bytes() == Origin.picture(url)


async def test_partial_body_is_kept_after_a_timeout(spool):
    async def stalls(exchange):
        if "range" in exchange.asked.headers:
            await BEHAVIOURS["picture"](exchange)
            return
        await exchange.head(200, f"ETag: {exchange.etag}", f"Content-Length: {len(exchange.body)}")
        await exchange.send(exchange.body[:100])
        await exchange.hang()

    with Origin(lambda _host, _path, _headers: stalls) as origin:
        async with fetcher_to(origin, timeout_seconds=0.3) as fetcher:
            with pytest.raises(Transient) as caught:
                await fetcher.fetch(Request(origin.url(), spool))
        async with fetcher_to(origin) as fetcher:
            await fetcher.fetch(Request(origin.url(), spool, partial=caught.value.partial))

        assert caught.value.reason is Reason.TIMED_OUT
        assert caught.value.partial.size == 100
        assert spool.read_bytes() == origin.picture(origin.url())


async def test_response_that_does_not_begin_in_time_is_given_up(origin, spool):
    async with fetcher_to(origin) as fetcher:
        with pytest.raises(SlowToAnswer) as caught:
            await fetcher.fetch(Request(origin.url("hang"), spool, answer_seconds=0.2))

    assert (caught.value.reason, caught.value.evidence) == (Reason.TIMED_OUT, "no answer in 0.2 s")
    assert not spool.exists()


async def test_answer_limit_does_not_apply_to_the_body(spool):
    async def begins(exchange):
        await exchange.head(200, f"Content-Length: {len(exchange.body)}")
        await asyncio.sleep(0.4)
        await exchange.send(exchange.body)

    with Origin(lambda _host, _path, _headers: begins) as origin:
        async with fetcher_to(origin) as fetcher:
            download = await fetcher.fetch(Request(origin.url(), spool, answer_seconds=0.3))

    assert download.size == spool.stat().st_size
    assert 0 < download.waited_seconds < 0.3


async def test_absent_machine_is_noticed_before_the_attempt_times_out(spool, fetch):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as off, ExitStack() as stack:
        for _ in range(2):  # its queue of one is full: a new connection gets no answer at all
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(off.getsockname())
        error = await failing(
            fetch, "http://off.example/1.jpg", connect_to=[("*", None, *off.getsockname())], connect_seconds=0.2
        )

    assert (error.reason, error.evidence) == (Reason.UNREACHABLE, "no connection in 0.2 s")


async def test_partial_that_has_lost_bytes_is_fetched_from_the_start(origin, spool, fetch):
    url = origin.url("cut-then-unsatisfiable")  # from the second request on, without a range, it is whole
    cut = await failing(fetch, url)
    os.truncate(cut.partial.spool, 3)

    await fetch(url, partial=cut.partial)

    assert spool.read_bytes() == origin.picture(url)


ODD_FRAMINGS = {
    "a length twice": (["Content-Length: {0}", "Content-Length: {0}"], "{1}"),
    "a length and chunks": (["Content-Length: {0}", "Transfer-Encoding: chunked"], "{0:x}\r\n{1}\r\n0\r\n\r\n"),
    "LF in chunks": (["Transfer-Encoding: chunked"], "{0:x}\n{1}\n0\n\n"),
    "a line without a colon": (["Content-Length: {0}", "no colon"], "{1}"),
}


def framed(name, body):
    """Return fields and body in an unusual framing."""
    fields, form = ODD_FRAMINGS[name]
    raw = form.format(len(body), body.decode("latin-1")).encode("latin-1")
    return [field.format(len(body)) for field in fields], raw


@pytest.mark.parametrize("name", ODD_FRAMINGS)
async def test_rest_of_a_body_must_be_framed_exactly(spool, name):
    async def rest(exchange):
        if "range" not in exchange.asked.headers:
            await BEHAVIOURS["cut-once"](exchange)
            return
        start, size = int(exchange.asked.headers["range"][6:-1]), len(exchange.body)
        fields, raw = framed(name, exchange.body[start:])
        await exchange.head(206, f"ETag: {exchange.etag}", f"Content-Range: bytes {start}-{size - 1}/{size}", *fields)
        await exchange.send(raw)
        exchange.close()

    with Origin(lambda *_: rest) as origin:
        async with fetcher_to(origin) as fetcher:
            with pytest.raises(Transient) as cut:
                await fetcher.fetch(Request(origin.url(), spool))
            again = spool.with_name("again")
            with pytest.raises(Transient) as caught:
                await fetcher.fetch(Request(origin.url(), again, partial=cut.value.partial))

    assert caught.value.reason is Reason.MALFORMED
    assert caught.value.partial is None
    assert not again.exists()


@pytest.mark.parametrize("name", ODD_FRAMINGS)
async def test_nothing_is_joined_to_the_beginning_of_an_unusual_response(spool, name):
    async def cut(exchange):
        fields, raw = framed(name, exchange.body)
        await exchange.head(200, f"ETag: {exchange.etag}", *fields)
        await exchange.send(raw[: len(raw) // 2])
        exchange.close()

    with Origin(lambda *_: cut) as origin:
        async with fetcher_to(origin) as fetcher:
            with pytest.raises(Transient) as caught:
                await fetcher.fetch(Request(origin.url(), spool))

    assert (caught.value.reason, caught.value.partial) == (Reason.TRUNCATED, None)
    assert not spool.exists()


async def test_resumed_body_must_not_exceed_the_limit(origin, spool, fetch):
    url = origin.url("cut-once")
    cut = await failing(fetch, url)

    error = await failing(fetch, url, partial=cut.partial, max_bytes=len(origin.picture(url)) - 1)

    assert error.reason is Reason.TOO_LARGE
    assert not spool.exists()


# cookies


async def test_cookie_of_a_redirect_lives_as_long_as_the_attempt(spool):
    seen = []

    async def gate(exchange):
        seen.append(exchange.asked.headers.get("cookie"))
        if seen[-1] is None:
            await exchange.reply(302, b"", f"Location: {exchange.asked.target}", "Set-Cookie: pass=1; Path=/")
        else:
            await exchange.reply(200, exchange.body)

    with Origin(lambda _host, _path, _headers: gate) as origin:
        async with fetcher_to(origin) as fetcher:
            for _ in range(2):
                download = await fetcher.fetch(Request("http://a.example/1.jpg", spool))
        assert spool.read_bytes() == origin.picture("http://a.example/1.jpg")

    assert download.final_url == "http://a.example/1.jpg"
    assert seen == [None, "pass=1"] * 2


async def test_cookie_of_a_redirect_reaches_no_other_site(spool):
    seen = []

    async def away(exchange):
        seen.append((exchange.asked.host, exchange.asked.headers.get("cookie")))
        if exchange.asked.host == "a.example":
            await exchange.reply(302, b"", "Location: http://b.example/1.jpg", "Set-Cookie: secret=1; Domain=example")
        else:
            await exchange.reply(200, exchange.body)

    with Origin(lambda _host, _path, _headers: away) as origin:
        async with fetcher_to(origin) as fetcher:
            await fetcher.fetch(Request("http://a.example/1.jpg", spool))

    assert seen == [("a.example", None), ("b.example", None)]


# codings


@pytest.mark.parametrize(("name", "seen"), [("Transfer-Encoding", "encoding gzip"), ("Content-Encoding", "not gzip")])
async def test_every_line_of_a_coding_field_counts(spool, name, seen):
    async def coded(exchange):
        exchange.close()
        await exchange.head(200, f"{name}: identity", f"{name}: gzip")
        await exchange.send(exchange.body)

    with Origin(lambda _host, _path, _headers: coded) as origin:
        async with fetcher_to(origin) as fetcher:
            with pytest.raises(Transient, match=seen):
                await fetcher.fetch(Request(origin.url(), spool))


# limits


async def test_slow_body_ends_at_the_limit_of_the_attempt(origin, fetch):
    loop = asyncio.get_running_loop()
    began = loop.time()

    error = await failing(fetch, origin.url("drip"), timeout_seconds=0.4)

    assert error.reason is Reason.TIMED_OUT
    assert 0.4 <= loop.time() - began < 3


async def test_redirects_share_the_time_of_one_attempt(spool):
    async def late(exchange):
        await asyncio.sleep(0.15)
        await exchange.reply(302, b"", f"Location: /{exchange.origin.count()}.jpg")

    with Origin(lambda _host, _path, _headers: late) as origin:
        async with fetcher_to(origin, timeout_seconds=0.4, max_redirects=100) as fetcher:
            with pytest.raises(Transient) as caught:
                await fetcher.fetch(Request(origin.url(), spool))

        assert caught.value.reason is Reason.TIMED_OUT
        assert origin.count() <= 4


async def test_hanging_resolver_ends_at_the_limit_of_the_attempt(fetch):
    async def hangs(_host):
        await asyncio.Event().wait()

    error = await failing(fetch, "http://a.example/", connect_to=[], resolver=hangs, timeout_seconds=0.2)

    assert error.reason is Reason.TIMED_OUT


async def test_body_of_exactly_the_allowed_size_is_accepted(origin, fetch):
    size = len(origin.picture(origin.url("gzipped")))

    download = await fetch(origin.url("gzipped"), max_bytes=size)
    error = await failing(fetch, origin.url("gzipped"), max_bytes=size - 1)

    assert download.size == size
    assert error.reason is Reason.TOO_LARGE


async def test_retry_after_is_reported_in_both_forms(origin, fetch):
    seconds = await failing(fetch, origin.url("throttled-seconds"))
    date = await failing(fetch, origin.url("unavailable-date"))

    assert seconds.retry_after == 7
    assert 3500 < date.retry_after <= 3600


async def test_no_more_connections_than_allowed_are_opened(origin, tmp_path):
    async with fetcher_to(origin, concurrency=3) as fetcher:
        await asyncio.gather(
            *(
                fetcher.fetch(
                    Request(origin.url("slow", f"{number}.jpg", host=f"{number}.example"), tmp_path / f"{number}")
                )
                for number in range(12)
            )
        )

    assert origin.peak() == 3


# connections


@pytest.mark.parametrize(("name", "connections"), [("picture", 1), ("not-found", 1), ("redirect", 1)])
async def test_connection_is_reused(origin, spool, name, connections):
    async with fetcher_to(origin) as fetcher:
        for number in range(5):
            with suppress(Permanent):
                await fetcher.fetch(Request(origin.url(name, f"{number}.jpg"), spool))

    assert origin.count() >= 5
    assert origin.connections == connections


async def test_silently_closed_connection_is_replaced_without_an_error(origin, spool):
    async with fetcher_to(origin) as fetcher:
        for number in range(5):
            await fetcher.fetch(Request(origin.url("closes-kept-alive", f"{number}.jpg"), spool))

    assert origin.connections == 5


async def test_connection_of_an_endless_body_is_closed(spool):
    hung_up = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def endless(exchange):
        try:
            await BEHAVIOURS["endless"](exchange)
        finally:
            loop.call_soon_threadsafe(hung_up.set)

    with Origin(lambda _host, _path, _headers: endless) as origin:
        async with fetcher_to(origin) as fetcher:
            with pytest.raises(Permanent):
                await fetcher.fetch(Request(origin.url(), spool))
            async with asyncio.timeout(10):
                await hung_up.wait()


# the disk


async def test_spool_that_cannot_be_written_stops_the_run(origin, tmp_path):
    async with fetcher_to(origin) as fetcher:
        with pytest.raises(StoreError, match="No such file or directory"):
            await fetcher.fetch(Request(origin.url(), tmp_path / "none" / "spool"))


async def test_cancelled_fetch_leaves_no_file(origin, spool):
    async with fetcher_to(origin) as fetcher:
        fetching = asyncio.create_task(fetcher.fetch(Request(origin.url("hang-in-body"), spool)))
        async with asyncio.timeout(10):
            while not spool.exists():
                await asyncio.sleep(0)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching

    assert not spool.exists()


async def test_no_file_stays_open(origin, spool):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked
    for name in ("picture", "cut-once", "endless", "gzip-corrupt", "forbidden"):
        async with fetcher_to(origin) as fetcher:
            with suppress(Permanent, Transient):
                await fetcher.fetch(Request(origin.url(name), spool))

    async with asyncio.timeout(10):  # the origin's thread closes its ends a moment later
        while len(os.listdir("/proc/self/fd")) > before:  # noqa: PTH208 - counted, not walked
            await asyncio.sleep(0)


def _moved(partial, path):
    return type(partial)(path, partial.size, partial.validator)
