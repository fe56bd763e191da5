"""A client that openapi-python-client generates from the OpenAPI document: sensible names, and right answers."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys

import pytest
from tests.server.dashboards import TOKEN, client, database, database_url, peer, runs, site

pytest.importorskip("openapi_python_client", reason="openapi-python-client is not installed")

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def test_generated_client_has_sensible_names_and_reads_the_answers(client, tmp_path, monkeypatch):
    document = (await client.get("/openapi.json")).body
    (tmp_path / "openapi.json").write_bytes(document)
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "--output-path", "pictures_client"], cwd=tmp_path, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))

    def ask(name, **values):
        generated = importlib.import_module("pictures_client")
        operation = importlib.import_module(f"pictures_client.api.{name}")
        root = f"http://127.0.0.1:{client.port}"
        with generated.AuthenticatedClient(root, token=TOKEN) as opened:
            return operation.sync_detailed(client=opened, **values)

    names = [path.stem for path in (tmp_path / "pictures_client" / "models").glob("*.py")]
    state = importlib.import_module("pictures_client.models").State
    links = await asyncio.to_thread(ask, "state.api_links", state=state.HELD, limit=1)
    link = await asyncio.to_thread(ask, "state.api_link", row_key=links.parsed.links[0].link.row_key)
    refused = await asyncio.to_thread(ask, "actions.api_retry")
    retried = await asyncio.to_thread(ask, "actions.api_retry", all_=True)

    assert "link_detail" in names
    assert not [name for name in names if re.search(r"body|response|\d", name)]
    assert (links.parsed.total, len(links.parsed.links)) == (2, 1)
    assert link.parsed.link.copy_key.endswith("/main_image.png")
    assert refused.status_code == 400
    assert refused.parsed.type_ == "urn:rehost:problem:nothing-chosen"
    assert retried.parsed.changed == 2
