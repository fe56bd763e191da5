"""The dashboard and read-through, mounted in the backend."""

from __future__ import annotations

from tests.server.conftest import by_uvicorn
from tests.server.wire import ask

import rehost
from app.site import create_app


async def test_dashboard_is_mounted_at_rehost(tmp_path):
    settings = rehost.load_settings(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}, {})
    async with by_uvicorn(create_app(settings)) as port:
        page = await ask(port, "/rehost/")
        bare = await ask(port, "/rehost")
        health = await ask(port, "/rehost/health")

    assert page.status == 200
    assert b'<link rel="stylesheet" href="style.css">' in page.body
    assert (bare.status, bare["location"]) == (307, "http://localhost/rehost/")
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
