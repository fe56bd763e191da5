"""What the verbs print for programs: JSON, in the same words in every language; and the totals of several sources."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rehost.telemetry.format import plain_json

if TYPE_CHECKING:
    from rehost.events import Planned
    from rehost.upkeep.undo import Undone

T = TypeVar("T")


def total_plan(plans: Sequence[Planned]) -> Planned:
    """Return the sums of the plans of several sources."""
    names = [each.name for each in fields(plans[0]) if each.name != "source"]
    return replace(plans[0], source="total", **{name: sum(getattr(plan, name) for plan in plans) for name in names})


def total_undone(undone: Mapping[str, Undone]) -> Undone:
    """Return the sums over several sources."""
    first, *others = undone.values()
    for each in others:
        sums = {
            name: getattr(first, name) + getattr(each, name)
            for name in ("restored", "left", "refused", "files", "gone")
        }
        first = replace(first, **sums, evidence=first.evidence or each.evidence)
    return first


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
