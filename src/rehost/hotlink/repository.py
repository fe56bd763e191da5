"""What all workers have learned of each origin: Referer rules, decoys, links that gave images, and what learning cost.

An origin's extra requests are one budget across all workers and runs. After a worker took one, no other worker gets one
until that worker ends its learning, or has been silent for a lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from sqlalchemy import Update, case, delete, or_, select, update

from rehost.db import Connection, Database, after, is_over, now
from rehost.ledger.leases import LONGEST_LEASE
from rehost.ledger.schema import decoys, learnings, links, origins
from rehost.model import Rule, State

LEARNING_SECONDS = 30 * 86400.0
"""After this long the budget is fresh again: otherwise decoys that appeared since could not be proven."""

_CLOCK_SLACK_SECONDS = 86400.0
_MOST_GOOD_LINKS = 20  # rows to read; those that share an image count once


class KnownGoodLink(NamedTuple):
    """A link that gave an image, and that image's digest."""

    url: str
    page_url: str | None
    digest: str


class Spending(Enum):
    """The answer to a request for one of an origin's extra requests."""

    GRANTED = "granted"
    USED_UP = "used up"
    ELSEWHERE = "elsewhere"  # another worker learns this origin, or has just done so: what it finds holds for us


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

    async def spend(self, origin: str, most: int, believed: str | None) -> Spending:
        """Take one extra request if fewer than `most` were taken since the origin's learning began.

        A worker only gets one if it believes in the rule as it is now: `believed` is what it read last. The rule is
        read in a statement of its own, so that it sees what a worker committed while this one waited for the origin.
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
        adding = self._database.insert(learnings).values(
            origin=origin, extra=1, fresh_at=after(LEARNING_SECONDS), **ours
        )
        taking = adding.on_conflict_do_update(
            index_elements=[learnings.c.origin], set_=ours | counted, where=is_free
        ).returning(learnings.c.extra)
        back = {"extra": learnings.c.extra - 1, "worker": None, "busy_until": None}
        giving_back = update(learnings).where(learnings.c.origin == origin).values(back)

        async def work(connection: Connection) -> Spending:
            taken = await connection.scalar(taking)
            if taken is None:
                return Spending.ELSEWHERE
            rule = await connection.scalar(select(origins.c.referer).where(origins.c.origin == origin))
            if rule == believed and taken <= most:
                return Spending.GRANTED
            await connection.execute(giving_back)
            return Spending.USED_UP if rule == believed else Spending.ELSEWHERE

        return await self._database.transact(work)

    async def end_learning(self, origin: str) -> None:
        """Let the other workers learn this origin again."""
        is_ours = (learnings.c.origin == origin) & (learnings.c.worker == self._worker)
        ending = update(learnings).where(is_ours).values(worker=None, busy_until=None)
        await self._database.execute(ending)

    async def renew_budget(self, origin: str, seconds: float) -> None:
        """Make the budget fresh in so many seconds, unless it will be fresh earlier."""
        await self._database.execute(_renewal(origin, seconds))

    async def good_links(self, host: str) -> Sequence[KnownGoodLink]:
        """Return a few held links of a host, of different bytes, the last held first; adopted files do not count."""
        held = [links.c.state == State.HELD.value, links.c.present, links.c.url == links.c.held_url]
        query = (
            select(links.c.url, links.c.page_url, links.c.digest)
            .where(links.c.host == host, *held, links.c.final_url.is_not(None))
            .order_by(links.c.held_at.desc())
            .limit(_MOST_GOOD_LINKS)
        )
        found: dict[str, KnownGoodLink] = {}
        for row in await self._database.fetch_all(query):
            found.setdefault(row.digest, KnownGoodLink(row.url, row.page_url, row.digest))
        return list(found.values())

    async def decoys(self, origin: str) -> frozenset[str]:
        """Return the digests of this origin's known decoys."""
        rows = await self._database.fetch_all(select(decoys.c.digest).where(decoys.c.origin == origin))
        return frozenset(row.digest for row in rows)

    async def add_decoy(self, origin: str, digest: str, evidence: str) -> None:
        """Store a digest as a decoy of this origin."""
        adding = self._database.insert(decoys).values(origin=origin, digest=digest, evidence=evidence, learned_at=now())
        await self._database.execute(adding.on_conflict_do_nothing())


def _renewal(origin: str, seconds: float) -> Update:
    is_later = (learnings.c.origin == origin) & (learnings.c.fresh_at > after(seconds))
    return update(learnings).where(is_later).values(fresh_at=after(seconds))
