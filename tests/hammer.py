"""A contract held against its server by made-up requests: whatever is asked, nothing breaks."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request

import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings

MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
SEED = 20260101
LONGEST_URL = (
    32_768  # what a server answers to longer ones, before its application is asked, is no part of the contract
)


def hammer(document, root, mode, examples, *, headers=None, exempt=frozenset()):
    """Make up requests for every operation and hold each answer against the contract; return how many.

    `exempt` names the server errors that the contract itself asks for: (path, status).
    """
    schema = schemathesis.openapi.from_dict({**document, "servers": [{"url": root}]})
    operations = [result.ok() for result in schema.get_all_operations()]
    is_positive = mode is schemathesis.GenerationMode.POSITIVE
    wanted = [each for each in operations if is_positive or each.query or each.path_parameters]
    return sum(_requests_of(each, mode, examples, root, headers or {}, exempt) for each in wanted)


def _requests_of(operation, mode, examples, root, headers, exempt):
    asked = 0

    @seed(SEED)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        nonlocal asked
        url = _url(root, case)
        assume(len(url) <= LONGEST_URL)
        asked += 1
        status, media_type, body = _send(url, case.method, headers)
        assert status < 500 or (operation.path, status) in exempt, (case, status, body)
        assert media_type == "application/json"
        assert str(status) in operation.definition.raw["responses"], (case, status, body)

    check()
    return asked


def _url(root, case):
    """Return what a made-up case asks for."""
    sent = case.as_transport_kwargs(base_url=root)
    query = urllib.parse.urlencode(sent.get("params") or {}, doseq=True, errors="replace")
    return sent["url"].partition("?")[0] + (f"?{query}" if query else "")


def _send(url, method, headers):
    """Ask for a URL; return status, type and body."""
    request = urllib.request.Request(url, b"" if method == "POST" else None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()
