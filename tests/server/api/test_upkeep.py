"""The API's operations about upkeep, over a real ledger on either kind of database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.ledger.test_upkeep_reports import OLD, ORIGIN, RECEIPT, plant
from tests.server.dashboards import (
    HEADERS,
    TOKEN,
    client,
    client_of,
    database,
    database_url,
    get_json,
    peer,
    runs,
    site,
)
from tests.upkeep.test_forget import fill, shop

from rehost.wiring.server import build_server

__all__ = ["client", "database", "database_url", "peer", "runs", "shop", "site"]


@pytest.fixture
async def kept(client, peer):
    """A client of a ledger that upkeep has worked on."""
    await plant(peer.database, links=[(1, {"verified_at": OLD, "rescued": "row 12 of products"})])
    return client


async def test_summary_says_what_was_verified_and_what_waits(kept):
    summary = await get_json(kept, "/api/upkeep")

    assert (summary["held"], summary["verified"], summary["rescued"]) == (2, 1, 1)
    assert (summary["open_findings"], summary["undecided_freezes"]) == ({"cut": 1, "missing": 1}, 1)


async def test_findings_are_a_list_with_a_total(kept):
    response = await kept.get("/api/findings", params={"state": "open", "limit": 1})
    of_source = await get_json(kept, "/api/findings", source="cases", kind="cut", state="mended")

    assert [each["kind"] for each in response.json()] == ["missing"]
    assert response.headers["x-total-count"] == "2"
    assert [each["mended_by"] for each in of_source] == ["trash"]


@pytest.mark.parametrize(
    ("query", "status"), [({"state": "shut"}, 400), ({"before": "0"}, 400), ({"source": "strange"}, 404)]
)
async def test_wrong_filter_of_findings_is_a_problem(kept, query, status):
    assert (await kept.get("/api/findings", params=query)).status_code == status


async def test_freeze_shows_before_and_after_until_it_is_decided(kept):
    [undecided, _] = await get_json(kept, "/api/freezes")
    before_and_after = [
        (each["held"]["size"], each["came"] and each["came"]["size"]) for each in undecided["freeze"]["examples"]
    ]

    assert (undecided["freeze"]["origin"], before_and_after) == (ORIGIN, [(200_000, 900), (200_000, None)])
    assert (await kept.post(f"/api/keep?origin={ORIGIN}")).status_code == 401
    for decision in ("keep", "accept"):
        response = await kept.post(f"/api/{decision}?origin={ORIGIN}", headers=HEADERS)
        assert response.json() == {"changed": 1}
        decided = {each["freeze"]["origin"]: each["freeze"] for each in await get_json(kept, "/api/freezes")}
        assert decided[ORIGIN]["decision"] == decision
    assert (await get_json(kept, "/api/upkeep"))["undecided_freezes"] == 0


async def test_origin_that_is_not_frozen_cannot_be_decided(kept):
    response = await kept.post("/api/keep?origin=https://b.example", headers=HEADERS)

    assert response.status_code == 404
    assert response.json()["type"] == "urn:rehost:problem:not-frozen"


async def test_takedown_has_its_receipt(kept):
    listed = await kept.get("/api/takedowns")
    found = await get_json(kept, "/api/takedown", takedown=1)

    assert [each["takedown"] for each in listed.json()] == [2, 1]
    assert listed.headers["x-total-count"] == "2"
    assert found["receipt"] == RECEIPT
    assert (await kept.get("/api/takedown", params={"takedown": 9})).status_code == 404


async def test_trash_is_measured_by_cause(kept):
    replaced, removed = await get_json(kept, "/api/trash")

    assert (replaced["files"], replaced["size"], replaced["oldest_at"][:10]) == (2, 1000, "2026-01-01")
    assert (removed["files"], removed["oldest_at"]) == (0, None)


async def test_storage_is_measured_by_source_host_and_format(kept):
    storage = await get_json(kept, "/api/storage")

    assert (storage["copies"], storage["size"], storage["rescued"]["copies"]) == (2, 10, 1)
    assert [(each["name"], each["copies"]) for each in storage["hosts"]] == [("a.example", 2)]
    assert storage["duplicates"] == {"digests": 1, "copies": 1, "size": 5}


async def test_links_with_rescued_copies_are_found(kept):
    found = await get_json(kept, "/api/links", rescued="true")

    assert [each["link"]["rescued"] for each in found["links"]] == ["row 12 of products"]
    assert found["total"] == 1


async def test_takedown_is_previewed_made_when_sure_and_taken_back(shop, monkeypatch):
    monkeypatch.setattr("rehost.server.api.upkeep.MOST_UNASKED", 4)
    one, _ = await fill(shop)
    async with client_of(build_server(replace(shop.settings, token=TOKEN))) as client:

        async def act(path, **params):
            return await client.post(path, params=params, headers=HEADERS)

        preview = await act("/api/forget/preview", what=one)
        many = await act("/api/forget", what=one)
        files_before = shop.files_with(shop.digest(one))
        done = await act("/api/forget", what=one, legal="true", sure="true")
        files_after = shop.files_with(shop.digest(one))
        allowed = await act("/api/allow", takedown=done.json()["takedown"]["takedown"])
        strange = await act("/api/forget", what="no such thing")
        [listed] = await get_json(client, "/api/takedowns")

    assert (many.status_code, many.json()["type"]) == (409, "urn:rehost:problem:many-copies")
    assert (preview.json()["copies"], len(files_before), files_after) == (5, 5, [])
    assert (done.json()["takedown"]["files"], done.json()["takedown"]["legal"]) == (5, True)
    assert len(done.json()["receipt"]["cleared"]) == 5
    assert (allowed.json()["changed"], strange.status_code, strange.json()["parameter"]) == (5, 400, "what")
    assert listed["allowed_at"]
