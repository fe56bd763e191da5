"""What workers learn of origins, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rehost.hotlink.repository import SqlOrigins
from rehost.model import Rule


@pytest.fixture
def origins(database) -> SqlOrigins:
    return SqlOrigins(database, worker="one", lease_seconds=60.0)


async def test_a_rule_is_remembered_replaced_and_forgotten(origins):
    first = Rule("https://a.example", "none", "3 pictures", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    second = Rule("https://a.example", "page", "2 pictures", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))

    assert await origins.rule("https://a.example") is None
    await origins.learned(first)
    assert await origins.rule("https://a.example") == first
    await origins.learned(second)
    assert await origins.rule("https://a.example") == second
    assert await origins.forget_rule("https://a.example", "page")
    assert await origins.rule("https://a.example") is None


async def test_decoys_are_remembered_by_origin(origins):
    await origins.add_decoy("https://a.example", "d" * 64, "impossible path")
    await origins.add_decoy("https://a.example", "d" * 64, "again")

    assert await origins.decoys("https://a.example") == {"d" * 64}
    assert await origins.decoys("https://b.example") == frozenset()
