"""The dashboard and read-through, mounted in the backend."""

from __future__ import annotations

import re

import pytest
from tests.pictures import picture
from tests.server.conftest import by_uvicorn
from tests.server.wire import ask

import rehost
from app.site import create_app
from rehost.model import Format
from rehost.server.dashboard.dashboard import POLICY


async def test_dashboard_is_mounted_at_rehost(tmp_path):
    settings = rehost.load_settings(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}, {})
    async with by_uvicorn(create_app(settings)) as port:
        page = await ask(port, "/rehost/")
        bare = await ask(port, "/rehost")
        health = await ask(port, "/rehost/health")

    assert page.status == 200
    assert b'<link rel="stylesheet" href="style.css">' in page.body
    assert (bare.status, bare["location"]) == (307, "/rehost/")
    assert (health.status, health.body) == (200, b'{"status":"ok"}')


async def test_read_through_is_mounted_at_image_if_it_is_on(tmp_path):
    given = {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}
    replies = {}
    for word in ("on", "off"):
        settings = rehost.load_settings(tmp_path, {**given, "IMAGE_READ_THROUGH": word}, {})
        async with by_uvicorn(create_app(settings)) as port:
            replies[word] = await ask(port, "/image/cases/297041")

    assert (replies["on"].status, replies["on"]["content-type"]) == (503, "image/svg+xml")  # there is no such table
    assert (replies["off"].status, replies["off"]["content-type"]) == (404, "application/json")


async def test_json_is_compressed_and_pictures_are_not(tmp_path):
    content = picture(1, Format.BMP, 64, 64)
    (tmp_path / "1.bmp").write_bytes(content)
    given = {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db", "IMAGE_STORAGE_DIR": str(tmp_path)}
    async with by_uvicorn(create_app(rehost.load_settings(tmp_path, given, {}))) as port:
        document = await ask(port, "/openapi.json", accept_encoding="gzip")
        shown = await ask(port, "/static/images/1.bmp", accept_encoding="gzip")

    assert (document["content-encoding"], shown["content-encoding"]) == ("gzip", None)
    assert shown.body == content


async def test_documents_page_loads_nothing_from_elsewhere(tmp_path):
    settings = rehost.load_settings(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}, {})
    async with by_uvicorn(create_app(settings)) as port:
        page = await ask(port, "/docs")
        loaded = [await ask(port, f"/{url}") for url in re.findall(r'(?:src|href)="([^"#]+)"', page.body.decode())]
        others = [await ask(port, path) for path in ("/redoc", "/docs/oauth2-redirect")]

    assert page.status == 200
    assert b"http" not in page.body
    assert b"<script>" not in page.body
    assert page["content-security-policy"] == POLICY
    assert len(loaded) == 5
    assert {reply.status for reply in loaded} == {200}
    assert {reply.status for reply in others} == {404}


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/api/v1/cases/stats", "/rehost/", "/rehost/api/sources"]
)
async def test_a_page_whose_name_was_rebound_reads_nothing(tmp_path, path):
    settings = rehost.load_settings(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}, {})
    async with by_uvicorn(create_app(settings)) as port:
        reply = await ask(port, path, host="evil.example")

    assert reply.status == 421
    assert b"API_ALLOWED_HOSTS" in reply.body


async def test_copies_are_served_under_any_name(tmp_path):
    settings = rehost.load_settings(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}, {})
    async with by_uvicorn(create_app(settings)) as port:
        reply = await ask(port, f"{settings.static_url_prefix}/1/main_image.png", host="cdn.example")

    assert reply.status == 404


async def test_redirects_name_no_host(tmp_path):
    settings = rehost.load_settings(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}, {})
    async with by_uvicorn(create_app(settings)) as port:
        reply = await ask(port, "/api/v1/cases/search/?page=2")

    assert (reply.status, reply["location"]) == (307, "/api/v1/cases/search?page=2")
