"""A contract held against its server by made-up requests: whatever is asked, nothing breaks."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request

import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis.stateful import run_state_machine_as_test

MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
SEED = 20260101
LONGEST_URL = (
    32_768  # what a server answers to longer ones, before its application is asked, is no part of the contract
)


def hammer(document, root, mode, examples, *, headers=None, exempt=frozenset(), choose=list):
    """Make up requests for operations and hold each answer against the contract; return how many by operation.

    `exempt` names the server errors that the contract itself asks for: (path, status). `choose` takes some of the
    operations.
    """
    schema = schemathesis.openapi.from_dict({**document, "servers": [{"url": root}]})
    operations = [result.ok() for result in schema.get_all_operations()]
    is_positive = mode is schemathesis.GenerationMode.POSITIVE
    wanted = [each for each in operations if is_positive or each.query or each.path_parameters]
    return {each.path: _requests_of(each, mode, examples, root, headers or {}, exempt) for each in choose(wanted)}


def follow(document, root, examples, *, headers):
    """Go from answer to answer by the links of the document; return the paths that were reached so.

    The tool's own checks hold each answer against the contract, its body included.
    """
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=root)
    reached = set()

    class Machine(schema.as_state_machine()):
        def get_call_kwargs(self, _):
            return {"headers": headers}

        def step(self, input):  # noqa: A002 - the name that the tool passes
            output = super().step(input)
            if input.transition is not None and output.response.status_code == 200:
                reached.add(input.case.operation.path)
            return output

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=4,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return reached


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
        described = operation.definition.raw["responses"]
        assert str(status) in described, (case, status, body)
        assert media_type.partition(";")[0] in described[str(status)]["content"], (case, status, media_type)

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
