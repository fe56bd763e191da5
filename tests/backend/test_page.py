"""rehost's own page below /rehost."""

from __future__ import annotations

from tests.server.conftest import by_uvicorn
from tests.server.wire import ask

import rehost
from app.site import create_app


async def test_the_page_is_below_rehost(tmp_path):
    settings = rehost.load_settings(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}, {})
    async with by_uvicorn(create_app(settings)) as port:
        page = await ask(port, "/rehost/")
        bare = await ask(port, "/rehost")
        health = await ask(port, "/rehost/health")

    assert page.status == 200
    assert b'<link rel="stylesheet" href="style.css">' in page.body
    assert (bare.status, bare["location"]) == (307, "http://localhost/rehost/")
    assert (health.status, health.body) == (200, b'{"status":"ok"}')
