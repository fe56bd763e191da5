import re

import pytest
from starlette.requests import Request

from rehost.demo.cases import HELD
from rehost.demo.origins import Shown
from rehost.demo.site import CasePage, DemoSite, language
from rehost.model import Reason


@pytest.fixture
def page(all_cases):
    linked = [case for case in all_cases if case.link]
    urls = {case.case_id: f"/static/images/{case.case_id}/main_image.png" for case in linked if case.expected == HELD}
    results = {case.case_id: case.expected for case in linked}
    direct = dict.fromkeys(results, Shown.BROKEN)
    return CasePage(all_cases, direct, urls, results, {"oss.ownsite.example": "origin"})


@pytest.mark.parametrize("language", ["en", "zh"])
def test_markup_in_titles_is_escaped(page, language):
    html = page.render(language)

    assert "<script" not in html
    assert "&lt;script&gt;" in html or language == "zh"
    assert "<b>" not in html


def test_every_case_shows_its_original_and_its_copy(page, all_cases):
    html = page.render("en")

    assert len(re.findall(r'src="/direct/\d+"', html)) == sum(case.link is not None for case in all_cases)
    assert len(re.findall(r'src="/static/images/', html)) == sum(case.expected == HELD for case in all_cases)


def test_case_without_copy_shows_the_reason(page):
    html = page.render("en")

    assert all(f"<code>{word}</code>" in html for word in (Reason.GONE, Reason.DECOY, Reason.NOT_A_URL))


def test_page_loads_nothing_from_other_sites(page):
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.render("en"))

    assert addresses
    assert all(address.startswith(("/", "?", "data:,")) for address in addresses)


@pytest.mark.parametrize(
    ("query", "accepted", "chosen"),
    [
        ("", "", "en"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "en-GB,en;q=0.9,zh;q=0.1", "en"),
        ("", "fr,zh;q=0.5", "zh"),
        ("lang=zh", "en", "zh"),
        ("lang=klingon", "zh", "zh"),
    ],
)
def test_language_is_the_one_asked_for_or_preferred(query, accepted, chosen):
    headers = [(b"accept-language", accepted.encode())]

    assert language(Request({"type": "http", "query_string": query.encode(), "headers": headers})) == chosen


async def copies(scope, receive, send):
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"a copy"})


async def ask(site, path, method="GET", headers=(), query=b""):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": list(headers)}
    await site(scope, None, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.fixture
def site(page, origins):
    return DemoSite(page, origins, copies)


async def test_page_forbids_scripts(site):
    status, headers, body = await ask(site, "/")

    assert status == 200
    assert headers[b"content-security-policy"].startswith(b"default-src 'none'")
    assert body.startswith(b"<!doctype html>")


async def test_original_is_what_its_host_sends_to_this_browser(site, all_cases, pictures):
    case = next(case for case in all_cases if case.host and case.host.name == "oss.ownsite.example" and not case.fault)

    refused = await ask(site, f"/direct/{case.case_id}", headers=[(b"referer", b"http://localhost:8000/")])
    welcome = await ask(site, f"/direct/{case.case_id}", headers=[(b"referer", b"http://www.ownsite.example/")])

    assert refused[0] == 403
    assert welcome[2] == pictures.path(case).read_bytes()


async def test_redirect_stays_within_the_host(site, all_cases, pictures):
    case = next(case for case in all_cases if case.host and case.host.name == "cdn.detour.example")

    status, headers, _ = await ask(site, f"/direct/{case.case_id}")
    notice = await ask(site, headers[b"location"].decode())

    assert status == 302
    assert notice[2] == pictures.placeholder.read_bytes()


@pytest.mark.parametrize("path", ["/direct/", "/direct/1", "/direct/../secret", "/direct/x/y"])
async def test_original_of_an_unknown_case_is_404(site, path):
    assert (await ask(site, path))[0] == 404


@pytest.mark.parametrize(
    ("path", "method"), [("/static/images/1/main_image.png", "GET"), ("/", "POST"), ("/docs", "GET")]
)
async def test_other_requests_go_to_the_application_behind(site, path, method):
    assert (await ask(site, path, method))[0] == 299


async def test_head_has_no_body(site):
    status, headers, body = await ask(site, "/", "HEAD")

    assert (status, body) == (200, b"")
    assert int(headers[b"content-length"]) > 1000
