"""Origins for the page and the API: links grouped by scheme, host and port exactly as the fetcher reads their URLs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from urllib.parse import urlsplit

from rehost.http.url import host_of, read_origin
from rehost.ledger.reports import HostReport, Queries, RootReport
from rehost.model import Rule


@dataclass(frozen=True, slots=True)
class OriginReport:
    """Where one origin stands; counts are of links."""

    origin: str  # scheme://host[:port]; empty for links that are no valid URL
    host: str  # most pauses are kept by host
    present: int
    held: int
    failed: int  # deferred or refused
    due: int
    next_due_seconds: float | None  # until the first of the waiting links is due
    proven: bool  # the host has delivered a verified picture
    pause_seconds: float  # of the origin or its host
    pause_evidence: str | None
    rule: Rule | None
    decoys: int  # pictures known to be decoys


@dataclass(frozen=True, slots=True)
class Origins:
    """Origins of a source, those with the most links first, and what was learned about any origin."""

    origins: Sequence[OriginReport]  # all origins of the hosts on this page
    rules: Sequence[Rule]  # at most 1000, of any source
    decoys: Mapping[str, int]  # by origin: how many pictures are known to be decoys; at most 1000 origins
    next: int | None  # pass it as `after` to get the next hosts; null on the last page
    total: int  # hosts on all pages together


async def report_origins(
    queries: Queries, source: str, listed: Sequence[HostReport], total: int, after: int
) -> Origins:
    """Return where the origins of these hosts of a source stand, the hosts `after` of `total`."""
    hosts = {host.host: host for host in listed}
    by_origin = sorted(
        ((read_origin(each.root), each) for each in await queries.roots(source, list(hosts))), key=lambda pair: pair[0]
    )
    named = {origin for origin, _ in by_origin}
    rule_of, decoys_of = {rule.origin: rule for rule in await queries.rules(named)}, await queries.decoys(named)
    pauses = await queries.origin_pauses()
    reports = [
        _report(origin, [root for _, root in pairs], hosts, rule_of.get(origin), decoys_of.get(origin, 0))
        for origin, pairs in groupby(by_origin, key=lambda pair: pair[0])
    ]
    for number, each in enumerate(reports):
        if each.origin in pauses:
            seconds, evidence = pauses[each.origin]
            reports[number] = replace(each, pause_seconds=seconds, pause_evidence=evidence)
    following = after + len(listed)
    return Origins(
        sorted(reports, key=lambda each: -each.present),
        await queries.rules(),
        await queries.decoys(),
        following if listed and following < total else None,
        total,
    )


async def roots_of(queries: Queries, source: str, origin: str) -> Sequence[str]:
    """Return all spellings with which the URLs of an origin begin in the rows of a source."""
    wanted = read_origin(origin)
    if not wanted:
        return []
    port = urlsplit(wanted).port
    found = await queries.roots(source, [host_of(wanted)], f":%{port}" if port else "")
    return [each.root for each in found if read_origin(each.root) == wanted]


def _report(
    origin: str, roots: Sequence[RootReport], hosts: Mapping[str, HostReport], rule: Rule | None, decoys: int
) -> OriginReport:
    host = hosts.get(roots[0].host) if origin else None
    is_paused = host is not None and host.paused_origin is None
    waits = [each.next_due_seconds for each in roots if each.next_due_seconds is not None]
    return OriginReport(
        origin,
        roots[0].host if origin else "",
        present=sum(each.present for each in roots),
        held=sum(each.held for each in roots),
        failed=sum(each.failed for each in roots),
        due=sum(each.due for each in roots),
        next_due_seconds=min(waits, default=None),
        proven=host.proven if host else False,
        pause_seconds=host.pause_seconds if host and is_paused else 0.0,
        pause_evidence=host.evidence if host and is_paused else None,
        rule=rule,
        decoys=decoys,
    )
