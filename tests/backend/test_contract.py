"""The case API's OpenAPI document, checked with generated requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.backend.conftest import Api, serving
from tests.backend.test_api import CASES
from tests.hammer import MODES, hammer
from tests.postgres import Postgres

# Semantic search is not implemented: 501 is in the document.
EXEMPT = frozenset({("/api/v1/cases/search", 501)})


@pytest.fixture(scope="module")
def api(postgres: Postgres, ready_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    name = postgres.create_database(template=ready_database)
    postgres.run(CASES, name)
    images = tmp_path_factory.mktemp("images")
    with serving({"DATABASE_URL": postgres.url(name), "IMAGE_STORAGE_DIR": str(images)}) as running:
        yield running
    postgres.drop_database(name)


@pytest.mark.parametrize("mode", MODES)
def test_generated_requests_cause_no_server_error(api: Api, mode, request) -> None:
    document = api.get("/openapi.json").json
    examples = 300 if request.config.getoption("--full") else 15

    asked = hammer(document, api.root, mode, examples, exempt=EXEMPT)

    assert sum(asked.values()) > 30
