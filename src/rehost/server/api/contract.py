"""The API as OpenAPI 3.1 has it, made of the operations themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rehost.server.api.operation import Operation, Trouble
from rehost.server.api.shapes import Json, schema


def contract(operations: Sequence[Operation], version: str) -> Mapping[str, Json]:
    """Return the document; its server is wherever the document itself lies."""
    paths: dict[str, dict[str, Json]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    about = "Where the copies stand. All is read freely; actions need the operator's token (REHOST_TOKEN)."
    return {
        "openapi": "3.1.0",
        "info": {"title": "rehost", "version": version, "description": about},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Trouble": schema(Trouble)},
        },
    }


def _operation(operation: Operation) -> Mapping[str, Json]:
    refusals = {"400": "Asked wrongly.", "404": "There is no such thing.", "503": "Not now."}
    if operation.is_action:
        refusals |= {"401": "No token, or a wrong one.", "403": "Nobody may, or not from there.", "409": "Busy."}
    answers: dict[str, Json] = {str(operation.status): _answer("What was asked for.", schema(operation.answer))}
    trouble: Mapping[str, Json] = {"$ref": "#/components/schemas/Trouble"}
    answers |= {status: _answer(words, trouble) for status, words in refusals.items()}
    told: dict[str, Json] = {
        "summary": operation.summary,
        "operationId": operation.path.strip("/").replace("/", "_"),
        "parameters": [each.contract() for each in operation.parameters],
        "responses": answers,
    }
    return told | {"security": [{"token": []}]} if operation.is_action else told


def _answer(words: str, kind: Mapping[str, Json]) -> Mapping[str, Json]:
    return {"description": words, "content": {"application/json": {"schema": kind}}}
