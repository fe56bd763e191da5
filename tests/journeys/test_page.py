"""The demonstration and the dashboard in a real browser."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.databases import execute, open_database
from tests.demo.drawn import make_folder
from tests.ledger.test_upkeep_reports import plant
from tests.ports import free_port

BROWSER = shutil.which("chromium-headless-shell")
TIMEOUT = 120
TOKEN = "a-token-of-the-tests"

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="chromium-headless-shell is not installed"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("page") / "demo", tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def demonstration(folder):
    """The address of a demonstration that has run."""
    port = free_port()
    command = [sys.executable, "-m", "rehost", "demo", "--dir", str(folder), "--port", str(port)]
    environment = {"PATH": os.environ["PATH"], "REHOST_TOKEN": TOKEN}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert any("Serving at" in line for line in process.stderr)
            yield f"http://localhost:{port}"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, demonstration):
    """Open an address of the demonstration; at the end, check errors on the page and the hosts it requested."""
    contexts, errors, requested = [], [], []

    def open_(path, **options):
        context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.on("request", lambda asked: requested.append(asked.url))
        page.goto(demonstration + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []
    assert requested
    assert [url for url in requested if not url.startswith((demonstration, "data:"))] == []


WIDTHS = """async (selector) => {
    const images = [...document.querySelectorAll(selector)];
    images.forEach((image) => { image.loading = "eager"; });
    await Promise.all(images.map((image) => image.decode().catch(() => {})));
    return images.map((image) => image.naturalWidth);
}"""


def test_direct_links_are_broken_and_held_pictures_show(open_page):
    page = open_page("/")

    direct = page.evaluate(WIDTHS, "figure.direct img")
    held = page.evaluate(WIDTHS, "figure.held img")

    assert direct.count(0) > 50
    assert len(held) == 185
    assert min(held) > 0


def test_overview_shows_the_share_of_held_pictures_and_the_reasons(open_page):
    page = open_page("/rehost/")

    assert page.locator(".hero strong").text_content() == "93.9%"
    assert page.locator(".reasons code").first.text_content() == "gone"
    assert page.get_by_text("oss.ownsite.example").is_visible()
    page.get_by_text("No run is in progress").wait_for()  # live
    page.locator(".curve canvas").wait_for()
    assert page.locator(".bars canvas").is_visible()
    assert "null" not in page.locator("main").inner_text()


def column(page, number):
    """Return the texts of one column of the table of origins, top down."""
    return page.locator(f"[aria-label=Origins] tbody td:nth-child({number})").all_inner_texts()


def test_click_on_a_heading_sorts_the_table(open_page):
    page = open_page("/rehost/")
    page.locator("[aria-label=Origins] tbody tr").first.wait_for()
    names = column(page, 1)

    page.get_by_role("button", name="Origin", exact=True).click()
    upward = column(page, 1)
    page.get_by_role("button", name="Origin", exact=True).click()

    assert upward == sorted(names, key=lambda name: name if "://" in name else "")
    assert column(page, 1) == upward[::-1]
    assert page.locator("th[aria-sort=descending]").inner_text() == "Origin"


def test_markup_in_data_stays_text_in_tables(open_page, demonstration):
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    page = open_page("/rehost/#/gallery")

    def worse(value):
        if isinstance(value, dict):
            return {name: worse(each) for name, each in value.items()}
        if isinstance(value, list):
            return [worse(each) for each in value]
        return bad if isinstance(value, str) and not value.startswith("20") else value

    def answer(route):
        body = route.fetch().json()
        if "reasons" in body:
            route.fulfill(json={**body, "reasons": {bad: 3}})
        else:
            route.fulfill(json=worse(body))

    for name in ("origins", "runs", "standing"):
        page.route(f"**/api/{name}?*", answer)
    page.goto(f"{demonstration}/rehost/#/")
    page.locator("[aria-label=Runs] tbody tr").wait_for()
    page.locator(".reasons li").first.wait_for()

    for place in ("[aria-label=Origins]", "[aria-label=Runs]"):
        assert bad in page.locator(place).inner_text()
        assert page.locator(f"{place} img, {place} script").count() == 0
    assert page.locator(".reasons img, .reasons script").count() == 0


def test_slow_view_does_not_replace_the_one_chosen_later(open_page):
    page = open_page("/rehost/#/")
    page.locator("[aria-label=Runs]").wait_for()
    late = []
    page.route("**/api/origins?*", lambda route: route.continue_() if late else late.append(route))
    page.evaluate("location.hash = '#/gallery'")  # loads the origins first
    while not late:
        page.wait_for_timeout(20)
    page.evaluate("location.hash = '#/'")
    page.locator("[aria-label=Runs]").wait_for()

    late[0].continue_()
    page.wait_for_timeout(500)

    assert page.locator("[aria-label=Runs]").count() == 1
    assert page.locator(".wall").count() == 0


def test_error_on_opening_a_picture_is_shown(open_page):
    page = open_page("/rehost/#/gallery?state=held")
    page.route("**/api/link?*", lambda route: route.fulfill(status=503, json={"detail": "The database is away."}))

    page.locator(".tile").first.click()

    page.locator("#toast.shown", has_text="The database is away.").wait_for()
    assert not page.locator("#sheet").evaluate("(sheet) => sheet.open")


def test_every_thumbnail_shows(open_page):
    page = open_page("/rehost/#/gallery?state=held")
    page.locator(".tile").first.wait_for()

    widths = page.evaluate(WIDTHS, ".tile img")

    assert len(widths) == 60
    assert min(widths) > 0
    asked = page.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)")
    assert sum("/rehost/thumbs/" in path for path in asked) >= 60
    assert not any("/rehost/copies/" in path for path in asked)


def test_gallery_continues_after_the_last_picture_shown(open_page):
    expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
    page = open_page("/rehost/#/gallery")
    for shown in (60, 120, 180, 197):
        expect(page.locator(".tile")).to_have_count(shown, timeout=60_000)
        if shown < 197:
            page.get_by_role("button", name="Show more").press("Enter")  # a click may miss: pictures still load

    keys = page.eval_on_selector_all(".tile", "tiles => tiles.map(tile => tile.dataset.key)")
    assert len(set(keys)) == 197


def test_gallery_filters_by_state_reason_origin_and_title(open_page):
    page = open_page("/rehost/#/gallery")

    def count(number):
        page.wait_for_function("count => document.querySelectorAll('.tile').length === count", arg=number)

    count(60)
    page.locator("select[name=reason]").select_option("decoy")
    count(4)
    page.goto(page.url.split("#")[0] + "#/gallery?state=deferred")
    count(1)
    page.goto(page.url.split("#")[0] + "#/gallery?origin=http%3A%2F%2Fphoto.lapsed.example")
    count(4)
    page.goto(page.url.split("#")[0] + "#/gallery")
    count(60)
    page.locator("input[type=search]").fill("slower morning")
    page.locator("input[type=search]").press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.tile').length < 60")
    assert page.locator(".tile .name").first.text_content() == "慢一点的早晨 A Slower Morning"


def test_script_in_a_title_stays_text(open_page):
    page = open_page("/rehost/#/gallery?text=297008")
    page.locator(".tile").click()

    title = page.locator("dialog h2")
    title.wait_for()

    assert '<script>alert("a title' in title.text_content()
    assert page.locator("dialog h2 *").count() == 0
    assert page.locator(".tile b, .tile script").count() == 0


def test_missing_picture_shows_reason_and_advice(open_page):
    page = open_page("/rehost/#/gallery?reason=gone")
    page.locator(".tile").first.click()

    page.locator("dialog .trouble").wait_for()

    assert "What you can do: Replace the link in the row" in page.locator("dialog").text_content()
    assert page.locator("dialog .act").count() == 0  # no token, no actions


def test_token_allows_pause_resume_and_retry(open_page):
    page = open_page("/rehost/")
    page.get_by_role("button", name="Unlock actions").click()
    page.locator("dialog input").fill(TOKEN)
    page.locator("dialog input").press("Enter")
    row = page.locator("tr", has_text="cdn.detour.example")
    row.get_by_role("button", name="Pause for a day").click()
    row.get_by_text("paused for").wait_for()
    row.get_by_role("button", name="Resume").click()
    row.get_by_role("button", name="Pause for a day").wait_for()

    page.locator(".reasons a", has_text="decoy").click()
    page.locator(".tile").first.click()
    page.locator("dialog").get_by_role("button", name="Retry").click()
    page.get_by_text("Done: 1 due now.").wait_for()


def test_picture_shows_its_history(open_page):
    page = open_page("/rehost/#/gallery?state=held")
    page.locator(".tile").first.click()

    lines = page.locator(".history li")
    lines.first.wait_for()

    assert [line.split("\n")[1] for line in lines.all_inner_texts()] == ["Row updated", "Picture stored"]
    assert "· run 1" in lines.first.inner_text()


@pytest.fixture(scope="module")
def kept(demonstration, folder):
    """The demonstration's ledger after upkeep found three faults and a refresh froze two origins."""

    async def write():
        async with open_database(f"sqlite:///{folder / 'demo.db'}") as database:
            [[digest]] = await execute(database, "SELECT digest FROM rehost_links WHERE row_key = '297001'")
            await plant(database, row_key="297001", digest=digest)

    with ThreadPoolExecutor(1) as apart:  # the browser's own event loop runs in this thread
        apart.submit(lambda: asyncio.run(write())).result()


def test_frozen_origin_shows_before_and_after_with_one_decision(open_page, kept):
    page = open_page("/rehost/#/upkeep")
    frozen = page.get_by_role("region", name="https://a.example is frozen")
    frozen.locator("img").first.wait_for()
    assert "rehost origins --keep a.example" in frozen.inner_text()
    came, *others = frozen.locator(".hole").all_inner_texts()
    assert (came[-5:], others) == ("900 B", ["No copy yet", "no picture"])
    page.get_by_role("button", name="Unlock actions").click()
    page.locator("dialog input").fill(TOKEN)
    page.locator("dialog input").press("Enter")

    frozen.get_by_role("button", name="Keep the held copies").focus()
    page.keyboard.press("Enter")

    frozen.wait_for(state="detached")
    assert "copies kept, not asked any more" in page.get_by_role("table", name="Decided origins").inner_text()


def test_findings_and_takedowns_show_with_their_cure_and_receipt(open_page, kept):
    page = open_page("/rehost/#/upkeep")
    findings = page.get_by_role("table", name="Findings")
    findings.wait_for()
    assert "The file ends early cut" in findings.inner_text()
    assert "rehost verify --repair" in findings.inner_text()
    page.get_by_role("link", name="Mended (1)").click()
    page.get_by_text("Mended from the trash").wait_for()

    page.get_by_role("button", name="https://a.example/3.png").click()

    page.locator("dialog pre").wait_for()
    assert '"rows": 2' in page.locator("dialog pre").inner_text()


def test_takedown_shows_first_what_it_would_remove(open_page):
    page = open_page("/rehost/#/upkeep")
    page.get_by_role("button", name="Unlock actions").click()
    page.locator("dialog input").fill(TOKEN)
    page.locator("dialog input").press("Enter")
    page.get_by_label("URL, row key, store key").fill("297001")

    page.get_by_role("button", name="Take down").click()

    page.get_by_text("This removes 1 copy (26 KB)").wait_for()
    assert page.locator("dialog pre").inner_text() == "297001/main_image.jpg"
    assert page.get_by_role("button", name="Remove for good").is_visible()


def test_language_follows_the_browser_and_the_button(open_page):
    page = open_page("/rehost/", locale="zh-CN")
    page.get_by_text("的图片能正常显示").wait_for()
    assert page.locator("html").get_attribute("lang") == "zh-CN"

    page.locator("#language").click()

    page.get_by_text("of the pictures are displayed").wait_for()
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("path", ["/rehost/", "/rehost/#/gallery", "/rehost/#/upkeep", "/rehost/docs"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_needs_no_horizontal_scrolling(open_page, path, scheme):
    page = open_page(path, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page.locator(".tile, .hero h1, section.card").first.wait_for()

    assert page.evaluate("document.documentElement.scrollWidth") == 360
