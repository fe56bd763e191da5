"""Origins as page and API show them: a URL's beginning is read as the fetcher reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rehost.errors import Permanent
from rehost.http.url import normalise, origin_of
from rehost.ledger import Queries
from rehost.ledger.standings import HostReport, RootReport
from rehost.model import Rule


@dataclass(frozen=True, slots=True)
class OriginReport:
    """Where one origin stands."""

    origin: str  # scheme://host[:port]; empty for links that are no URL of any
    host: str  # by which it is left alone
    present: int
    held: int
    failed: int  # deferred or refused
    due: int
    next_due_seconds: float | None  # until the first of its links that wait is due
    proven: bool  # the host has given a proven picture
    pause_seconds: float  # of the host
    pause_evidence: str | None
    rule: Rule | None
    decoys: int  # pictures that are known to be notices


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the origins of a source stand, those with most links first, and what was learned of any."""

    origins: Sequence[OriginReport]
    rules: Sequence[Rule]
    decoys: Mapping[str, int]  # origin: how many pictures are known to be notices


async def look(queries: Queries, source: str) -> Origins:
    """Return where the origins of a source stand."""
    rules, decoys = await queries.rules(), await queries.decoys()
    hosts = {host.host: host for host in await queries.hosts(source, limit=1000)}
    by_origin = {rule.origin: rule for rule in rules}
    merged = sorted(((_origin(each.root), each) for each in await queries.roots(source)), key=lambda pair: pair[0])
    standings = [
        _standing(origin, [root for _, root in pairs], hosts, by_origin.get(origin), decoys.get(origin, 0))
        for origin, pairs in groupby(merged, key=lambda pair: pair[0])
    ]
    return Origins(sorted(standings, key=lambda each: -each.present), rules, decoys)


async def roots(queries: Queries, source: str, origin: str) -> Sequence[str]:
    """Return what the URLs of an origin begin with, as the rows of a source have them."""
    wanted = _origin(origin)
    return [each.root for each in await queries.roots(source) if wanted and _origin(each.root) == wanted]


def _origin(root: str) -> str:
    try:
        return origin_of(normalise(root))
    except Permanent:
        return ""


def _standing(
    origin: str, roots: Iterable[RootReport], hosts: Mapping[str, HostReport], rule: Rule | None, decoys: int
) -> OriginReport:
    same = list(roots)
    host = hosts.get(same[0].host) if origin else None
    waits = [each.next_due_seconds for each in same if each.next_due_seconds is not None]
    return OriginReport(
        origin,
        same[0].host if origin else "",
        present=sum(each.present for each in same),
        held=sum(each.held for each in same),
        failed=sum(each.failed for each in same),
        due=sum(each.due for each in same),
        next_due_seconds=min(waits, default=None),
        proven=host.proven if host else False,
        pause_seconds=host.pause_seconds if host else 0.0,
        pause_evidence=host.evidence if host else None,
        rule=rule,
        decoys=decoys,
    )
