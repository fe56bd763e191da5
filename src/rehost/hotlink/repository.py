"""What all workers have learned of each origin: Referer rules, decoys, links that gave images, and what learning cost.

An origin's extra requests are one budget across all workers and runs. While no rule is known, so are those for links of
one folder, with a row of their own in `rehost_learnings`: a stranger's folder cannot use up those of all others. After
a worker took one, no other worker gets one until that worker ends its learning, or has been silent for a lease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Update, and_, case, delete, or_, select, union, update

from rehost.db import Connection, Database, after, is_over, now
from rehost.http.url import domain_of, host_of
from rehost.ledger.leases import LONGEST_LEASE
from rehost.ledger.schema import decoys, learnings, links, origins
from rehost.model import Rule, State

LEARNING_SECONDS = 30 * 86400.0
"""After this long the budget is fresh again: otherwise decoys that appeared since could not be proven."""

CONFIRM_SECONDS = 900.0
"""Between the two controls that have to agree before a copy counts as a decoy."""

_CLOCK_SLACK_SECONDS = 86400.0
_INDEXED = 2000  # characters; PostgreSQL's indexes take no more than 2,704 bytes
_MOST_GOOD_LINKS = 20  # rows to read; those that share an image count once


class KnownGoodLink(NamedTuple):
    """A link that gave an image, and that image's digest."""

    url: str
    page_url: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten."""

    rules: int
    decoys: int


_LEARNED = (origins, decoys, learnings)


class Spending(Enum):
    """The answer to a request for one of an origin's extra requests."""

    GRANTED = "granted"
    USED_UP = "used up"
    CROWDED_OUT = "crowded out"  # used up by links of other folders
    ELSEWHERE = "elsewhere"  # another worker learns this origin, or has just done so: what it finds holds for us


class Evidence(Enum):
    """What is known about bytes as a decoy of one folder."""

    NONE = "none"
    FIRST = "first"  # they are a decoy there, by what was seen within CONFIRM_SECONDS
    STANDING = "standing"  # by what was seen earlier: a second control may confirm it
    CONFIRMED = "confirmed"


class OriginRepository:
    """The origins in the ledger, as one worker reads and writes them."""

    def __init__(self, database: Database, *, worker: str, lease_seconds: float) -> None:
        """Take this worker's name, and how long a silent worker counts as alive."""
        self._database = database
        self._worker = worker
        self._lease_seconds = lease_seconds

    async def rule(self, origin: str) -> Rule | None:
        """Return the Referer rule of an origin (scheme://host[:port]), if one is learned."""
        rows = await self._database.fetch_all(select(origins).where(origins.c.origin == origin))
        return next((Rule(row.origin, row.referer, row.evidence, row.learned_at) for row in rows), None)

    async def save_rule(self, rule: Rule) -> None:
        """Store a rule, in place of an older one."""
        values = {"referer": rule.referer, "evidence": rule.evidence, "learned_at": rule.learned_at}
        adding = self._database.insert(origins).values(origin=rule.origin, **values)
        adding = adding.on_conflict_do_update(index_elements=[origins.c.origin], set_=values)
        await self._database.execute(adding)

    async def forget_rule(self, origin: str, referer: str) -> bool:
        """Delete a rule that no longer holds, and give the origin a fresh budget.

        Return whether the rule was there; if not, another worker has deleted it already.
        """
        forgetting = delete(origins).where(origins.c.origin == origin, origins.c.referer == referer)

        async def work(connection: Connection) -> bool:
            is_forgotten = (await connection.execute(forgetting)).rowcount > 0
            if is_forgotten:
                await connection.execute(_renewal(origin, 0.0))
            return is_forgotten

        return await self._database.transact(work)

    async def spend(self, origin: str, folder: str, most: int, most_of_origin: int, believed: str | None) -> Spending:
        """Take one extra request for a link of a folder, if fewer than `most` were taken for links of that folder.

        And fewer than `most_of_origin` for all links of the origin, since its learning began; without a folder, fewer
        than `most` for all of them. A worker only gets one if it believes in the rule as it is now: `believed` is what
        it read last. The rule is read in a statement of its own, so that it sees what a worker committed while this one
        waited for the origin.
        """
        is_fresh = is_over(learnings.c.fresh_at, LEARNING_SECONDS + _CLOCK_SLACK_SECONDS)
        is_free = or_(
            learnings.c.worker.is_(None),
            learnings.c.worker == self._worker,
            is_over(learnings.c.busy_until, LONGEST_LEASE),
        )
        ours = {"worker": self._worker, "busy_until": after(self._lease_seconds)}
        counted = {
            "extra": case((is_fresh, 1), else_=learnings.c.extra + 1),
            "fresh_at": case((is_fresh, after(LEARNING_SECONDS)), else_=learnings.c.fresh_at),
        }

        async def take(connection: Connection, name: str, more: Mapping[str, Any]) -> int | None:
            values = {"origin": name, "extra": 1, "fresh_at": after(LEARNING_SECONDS), **more}
            taking = (
                self._database.insert(learnings)
                .values(values)
                .on_conflict_do_update(index_elements=[learnings.c.origin], set_={**counted, **more}, where=is_free)
            )
            taken: int | None = await connection.scalar(taking.returning(learnings.c.extra))
            return taken

        name = (origin + folder)[:_INDEXED]
        back = {"extra": learnings.c.extra - 1, "worker": None, "busy_until": None}
        giving_back = update(learnings).where(learnings.c.origin.in_([origin, name])).values(back)

        async def work(connection: Connection) -> Spending:
            taken = await take(connection, origin, ours)
            if taken is None:
                return Spending.ELSEWHERE
            rule = await connection.scalar(select(origins.c.referer).where(origins.c.origin == origin))
            here = (await take(connection, name, {}) or 0) if folder else taken
            if rule == believed and here <= most and taken <= most_of_origin:
                return Spending.GRANTED
            await connection.execute(giving_back)
            if rule != believed:
                return Spending.ELSEWHERE
            return Spending.USED_UP if here > most else Spending.CROWDED_OUT

        return await self._database.transact(work)

    async def end_learning(self, origin: str) -> None:
        """Let the other workers learn this origin again."""
        is_ours = (learnings.c.origin == origin) & (learnings.c.worker == self._worker)
        ending = update(learnings).where(is_ours).values(worker=None, busy_until=None)
        await self._database.execute(ending)

    async def renew_budget(self, origin: str, seconds: float) -> None:
        """Make the budget fresh in so many seconds, unless it will be fresh earlier."""
        await self._database.execute(_renewal(origin, seconds))

    async def learned(self, host: str) -> Sequence[str]:
        """Return the origins of a host of which anything was learned, and the folders for which requests were sent."""
        found = union(*(select(table.c.origin) for table in _LEARNED)).subquery()
        return [row.origin for row in await self._database.fetch_all(select(found)) if host_of(row.origin) == host]

    async def forget(self, names: Sequence[str]) -> Forgotten:
        """Delete the rules and the decoys of these origins, and what learning has cost: it begins anew."""

        async def work(connection: Connection) -> Forgotten:
            deleting = [delete(table).where(table.c.origin.in_(names)) for table in _LEARNED]
            rules, known, _ = [(await connection.execute(each)).rowcount for each in deleting]
            return Forgotten(rules, known)

        return await self._database.transact(work)

    async def good_links(self, host: str) -> Sequence[KnownGoodLink]:
        """Return a few held links of a host, of different bytes, the last held first.

        Neither adopted files count nor what came from another site, across a redirect.
        """
        held = [links.c.state == State.HELD.value, links.c.present, links.c.url == links.c.held_url]
        query = (
            select(links.c.url, links.c.page_url, links.c.digest, links.c.final_url)
            .where(links.c.host == host, *held, links.c.final_url.is_not(None))
            .order_by(links.c.held_at.desc())
            .limit(_MOST_GOOD_LINKS)
        )
        found: dict[str, KnownGoodLink] = {}
        for row in await self._database.fetch_all(query):
            if domain_of(host_of(row.final_url)) == domain_of(host):
                found.setdefault(row.digest, KnownGoodLink(row.url, row.page_url, row.digest))
        return list(found.values())

    async def decoys(self, origin: str) -> Mapping[str, frozenset[str]]:
        """Return the folders of this origin where each known decoy comes, by digest."""
        rows = await self._database.fetch_all(select(decoys.c.digest, decoys.c.folder).where(decoys.c.origin == origin))
        return {digest: frozenset(row.folder for row in rows if row.digest == digest) for digest, _ in rows}

    async def add_decoy(self, origin: str, folder: str, digest: str, evidence: str) -> None:
        """Store a digest as a decoy of a folder of this origin, unless the folder's name is too long for an index."""
        if len(folder) > _INDEXED:
            return
        adding = self._database.insert(decoys).values(
            origin=origin, folder=folder, digest=digest, evidence=evidence, learned_at=now()
        )
        await self._database.execute(adding.on_conflict_do_nothing())

    async def evidence(self, origin: str, folder: str, digest: str) -> Evidence:
        """Return what is known about these bytes as a decoy of this folder."""
        is_early = or_(decoys.c.learned_at < after(-CONFIRM_SECONDS), decoys.c.learned_at > after(_CLOCK_SLACK_SECONDS))
        query = select(decoys.c.confirmed_at, is_early.label("is_early")).where(_is_decoy(origin, folder, digest))
        for row in await self._database.fetch_all(query):
            if row.confirmed_at is not None:
                return Evidence.CONFIRMED
            return Evidence.STANDING if row.is_early else Evidence.FIRST
        return Evidence.NONE

    async def confirm_decoy(self, origin: str, folder: str, digest: str) -> None:
        """Store that a second control has confirmed this decoy."""
        confirming = update(decoys).where(_is_decoy(origin, folder, digest)).values(confirmed_at=now())
        await self._database.execute(confirming)


def _is_decoy(origin: str, folder: str, digest: str) -> ColumnElement[bool]:
    return and_(decoys.c.origin == origin, decoys.c.folder == folder, decoys.c.digest == digest)


def _renewal(origin: str, seconds: float) -> Update:
    is_theirs = or_(learnings.c.origin == origin, learnings.c.origin.startswith(f"{origin}/", autoescape=True))
    return update(learnings).where(is_theirs, learnings.c.fresh_at > after(seconds)).values(fresh_at=after(seconds))
