"""What the verbs print for programs: JSON, in the same words in every language."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar

from rehost.telemetry.format import plain_json

T = TypeVar("T")


def several(reports: Sequence[T], total: Callable[[Sequence[T]], object]) -> object:
    """Return what `to_json` takes for the reports of several sources: each, and their total. Of one: its report."""
    if len(reports) == 1:
        return reports[0]
    sums = _members(total(reports))
    sums.pop("source", None)
    return {"sources": reports, "total": sums}


def to_json(report: object) -> str:
    """Return a report as one JSON object, with times in ISO 8601."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")  # another encoding may lack characters
    return plain_json(json.dumps(report, ensure_ascii=not is_unicode, default=_members))


def _members(value: Any) -> Any:  # noqa: ANN401 - what json.dumps takes
    """Return a report as a dictionary, and a time as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    members = asdict(value)
    members.pop("sources", None)  # of a RunEnded: `several` lists them
    return members
