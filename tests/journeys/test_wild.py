"""What a current Chromium and Firefox both show is held, and what neither shows is not (../shared/wild).

The answers are sent as they were recorded, before the connection is closed; those that depend on the request are played
here. `either`: the browsers disagree, or a setting or a policy decides.
"""

import csv
from contextlib import asynccontextmanager

import pytest
from tests.fetch.conftest import fetcher_to
from tests.hotlink.learning import worker
from tests.origin import Origin
from tests.pictures import picture

from rehost.clock import Clock
from rehost.errors import VisitError
from rehost.images.verifier import ImageVerifier
from rehost.model import Format, Request

EXCEPTIONS: dict[str, str] = {}  # name -> why it ends otherwise than with both browsers; at most 3 of all of wild
PLAIN = picture(7, Format.JPEG, 160, 120)


def rows(shared, name):
    if not (shared / "wild").is_dir():
        pytest.skip("../shared/wild is absent")
    with (shared / "wild" / name).open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["expected"] != "either"]


async def cookie_307(exchange):
    """A 307 to itself that sets a cookie, until this comes back."""
    if "seen=1" in exchange.asked.headers.get("cookie", ""):
        await exchange.reply(200, PLAIN)
    else:
        await exchange.reply(307, b"", f"Location: {exchange.asked.target}", "Set-Cookie: seen=1")


async def cookie_hop(exchange):
    """A 302 that sets a cookie for its target, which refuses others."""
    if "pass=1" in exchange.asked.headers.get("cookie", ""):
        await exchange.reply(200, PLAIN)
    elif exchange.asked.path == "/cookie_hop/in":
        await exchange.reply(403)
    else:
        await exchange.reply(302, b"", "Location: /cookie_hop/in", "Set-Cookie: pass=1; path=/; HttpOnly")


async def cookie_200_wall(exchange):
    """A page that sets the cookie with which the picture would come."""
    if "cookie" in exchange.asked.headers:
        await exchange.reply(200, PLAIN)
    else:
        await exchange.reply(200, b"<!doctype html><p>one moment", "Content-Type: text/html", "Set-Cookie: wall=1")


async def reset_after(exchange):
    """A reset behind the whole announced body."""
    await exchange.reply(200, PLAIN, "Connection: close")
    exchange.reset()


async def reset_after_nolen(exchange):
    """A reset behind a body of no announced length."""
    await exchange.head(200, "Connection: close")
    await exchange.send(PLAIN[: len(PLAIN) // 2])
    exchange.reset()


PLAYED = {each.__name__: each for each in (cookie_307, cookie_hop, cookie_200_wall, reset_after, reset_after_nolen)}


@asynccontextmanager
async def reader(folder, raws):
    """Yield a function that returns the picture under a case's URL, or why there is none."""

    def play(_host, path, _headers):
        case = path.strip("/").partition("/")[0]
        if case in raws:
            return sent(raws[case])
        return PLAYED.get(case) or (PLAIN if path.startswith(("/b/plain", "/f2/")) else "not-found")

    def sent(raw):
        async def send(exchange):
            await exchange.send(raw)
            exchange.close()

        return send

    verifier = ImageVerifier(
        verify="decode",
        max_pixels=10**6,
        max_frames=10,
        max_total_pixels=10**8,
        decode_memory_bytes=1 << 29,
        decode_seconds=30.0,
        processes=1,
        clock=Clock(),
    )
    with Origin(play) as origin:
        async with fetcher_to(origin, timeout_seconds=60.0) as fetcher, verifier:

            async def read(case):
                try:
                    download = await fetcher.fetch(
                        Request(f"http://{case.replace('_', '-')}.example/{case}", folder / case)
                    )
                    return await verifier.verify(download.spool, "a.example")
                except VisitError as error:
                    return error

            yield read


async def test_answers_that_both_browsers_show_are_held_and_no_others(shared, tmp_path):
    cases = rows(shared, "answers.csv")
    raws = {row["case"]: (shared / "wild" / "answers" / row["file"]).read_bytes() for row in cases if row["file"]}

    async with reader(tmp_path, raws) as read:
        ends = {row["case"]: await read(row["case"]) for row in cases}

    wrong = {
        row["case"]: str(ends[row["case"]])
        for row in cases
        if isinstance(ends[row["case"]], VisitError) is (row["expected"] == "hold")
    }
    assert len(cases) > 70
    assert wrong.keys() == EXCEPTIONS.keys() & ends.keys(), wrong
    assert {(end.width, end.height) for end in ends.values() if not isinstance(end, VisitError)} == {(160, 120)}


async def test_links_that_both_browsers_read_are_held_and_no_others(shared, tmp_path):
    cases, wrong = rows(shared, "links.csv"), {}

    async with worker(tmp_path) as at:
        for row in cases:
            at.restart()
            end = await at.outcome(row["link"], "http://www.wild.test/page")
            if isinstance(end, bytes) is not (row["expected"] == "hold"):
                wrong[row["case"]] = str(end)

    assert len(cases) > 35
    assert wrong.keys() == EXCEPTIONS.keys() & {row["case"] for row in cases}, wrong


@pytest.mark.parametrize("name", ["answers.csv", "links.csv"])
def test_exceptions_are_cases(shared, name):
    assert len(EXCEPTIONS) <= 3
    assert {row["expected"] for row in rows(shared, name)} == {"hold", "refuse"}
