"""What all workers learned of each origin: Referer rules, decoys, and the extra requests that learning costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, delete, or_, select, update

from rehost.db import Connection, Database, after, is_over, now
from rehost.ledger.due import LONGEST_LEASE
from rehost.ledger.schema import decoys, learnings, links, origins
from rehost.model import Rule, State
from rehost.ports import KnownGoodLink, Spending

LEARNING_SECONDS = 30 * 86400.0
"""After so long learning begins anew by itself: decoys that have come up since could not be proven otherwise."""

_DAY_SECONDS = 86400.0
_WITNESSES = 20  # held links that are looked at; those that share a picture are one


@dataclass(frozen=True, slots=True)
class Extra:
    """One worker's way to the extra requests of origins."""

    database: Database
    worker: str
    busy_seconds: float

    async def spend(self, connection: Connection, origin: str, most: int, believed: str | None) -> Spending:
        """Take one extra request if fewer than `most` are taken and nobody else learns the origin, or has just done so.

        In three statements, so that each sees what was committed before it: who comes to have the origin to itself
        must know of the rule that the worker before it learned.
        """
        if not await self._have(connection, origin):
            return Spending.ELSEWHERE
        if await connection.scalar(select(origins.c.referer).where(origins.c.origin == origin)) != believed:
            await self.end(connection, origin)
            return Spending.ELSEWHERE
        is_fresh = is_over(learnings.c.fresh_at, LEARNING_SECONDS + _DAY_SECONDS)
        taking = (
            update(learnings)
            .where(learnings.c.origin == origin, or_(is_fresh, learnings.c.extra < most))
            .values(
                extra=case((is_fresh, 1), else_=learnings.c.extra + 1),
                fresh_at=case((is_fresh, after(LEARNING_SECONDS)), else_=learnings.c.fresh_at),
            )
        )
        if (await connection.execute(taking)).rowcount:
            return Spending.GRANTED
        await self.end(connection, origin)
        return Spending.USED_UP

    async def _have(self, connection: Connection, origin: str) -> bool:
        """Have the origin to ourselves; return whether no other worker has it."""
        busy = {"worker": self.worker, "busy_until": after(self.busy_seconds)}
        adding = self.database.insert(learnings).values(
            origin=origin, extra=0, fresh_at=after(LEARNING_SECONDS), **busy
        )
        having = adding.on_conflict_do_update(
            index_elements=[learnings.c.origin],
            set_=busy,
            where=or_(
                learnings.c.worker.is_(None),
                learnings.c.worker == self.worker,
                is_over(learnings.c.busy_until, LONGEST_LEASE),
            ),
        ).returning(learnings.c.origin)
        return (await connection.execute(having)).first() is not None

    async def end(self, connection: Connection, origin: str) -> None:
        """Let the other workers learn the origin again."""
        is_ours = and_(learnings.c.origin == origin, learnings.c.worker == self.worker)
        await connection.execute(update(learnings).where(is_ours).values(worker=None, busy_until=None))

    async def refresh(self, connection: Connection, origin: str, seconds: float) -> None:
        """Have the budget be fresh in so many seconds, if it is not before."""
        is_later = and_(learnings.c.origin == origin, learnings.c.fresh_at > after(seconds))
        await connection.execute(update(learnings).where(is_later).values(fresh_at=after(seconds)))


class SqlOrigins:
    """The origins, as one worker reads and writes them."""

    def __init__(self, database: Database, *, worker: str, lease_seconds: float) -> None:
        """Take this worker's name, and how long a silent worker counts as alive."""
        self._database = database
        self._spending = Extra(database, worker, lease_seconds)

    async def rule(self, origin: str) -> Rule | None:
        """Return the Referer rule of an origin, if one is learned."""

        async def work(connection: Connection) -> Rule | None:
            row = (await connection.execute(select(origins).where(origins.c.origin == origin))).one_or_none()
            return Rule(row.origin, row.referer, row.evidence, row.learned_at) if row else None

        return await self._database.read(work)

    async def learned(self, rule: Rule) -> None:
        """Remember a rule, in place of an older one."""
        values = {"referer": rule.referer, "evidence": rule.evidence, "learned_at": rule.learned_at}
        adding = self._database.insert(origins).values(origin=rule.origin, **values)
        adding = adding.on_conflict_do_update(index_elements=[origins.c.origin], set_=values)
        await self._database.transact(lambda connection: connection.execute(adding))

    async def forget_rule(self, origin: str, referer: str) -> bool:
        """Drop a rule that no longer holds, and have it learned with a fresh budget; return whether it was there."""
        forgetting = delete(origins).where(origins.c.origin == origin, origins.c.referer == referer)

        async def work(connection: Connection) -> bool:
            is_forgotten = (await connection.execute(forgetting)).rowcount > 0
            if is_forgotten:
                await self._spending.refresh(connection, origin, 0.0)
            return is_forgotten

        return await self._database.transact(work)

    async def spend(self, origin: str, most: int, believed: str | None) -> Spending:
        """Take one of the origin's extra requests, if there is one left and no other worker is at it."""
        return await self._database.transact(
            lambda connection: self._spending.spend(connection, origin, most, believed)
        )

    async def learning_ended(self, origin: str) -> None:
        """Let the other workers learn this origin again."""
        await self._database.transact(lambda connection: self._spending.end(connection, origin))

    async def refresh_budget(self, origin: str, seconds: float) -> None:
        """Have learning begin anew in so many seconds."""
        await self._database.transact(lambda connection: self._spending.refresh(connection, origin, seconds))

    async def witnesses(self, host: str) -> Sequence[KnownGoodLink]:
        """Return a few held links of a host, of different bytes; not what was adopted from the store."""
        held = [links.c.state == State.HELD.value, links.c.present, links.c.url == links.c.held_url]
        query = (
            select(links.c.url, links.c.page_url, links.c.digest)
            .where(links.c.host == host, *held, links.c.final_url.is_not(None))
            .order_by(links.c.held_at.desc())
            .limit(_WITNESSES)
        )

        async def work(connection: Connection) -> Sequence[KnownGoodLink]:
            found: dict[str, KnownGoodLink] = {}
            for row in await connection.execute(query):
                found.setdefault(row.digest, KnownGoodLink(row.url, row.page_url, row.digest))
            return list(found.values())

        return await self._database.read(work)

    async def decoys(self, origin: str) -> frozenset[str]:
        """Return the digests known to be decoys of this origin."""

        async def work(connection: Connection) -> frozenset[str]:
            return frozenset(await connection.scalars(select(decoys.c.digest).where(decoys.c.origin == origin)))

        return await self._database.read(work)

    async def add_decoy(self, origin: str, digest: str, evidence: str) -> None:
        """Remember a digest as a decoy of this origin."""
        adding = self._database.insert(decoys).values(origin=origin, digest=digest, evidence=evidence, learned_at=now())
        await self._database.transact(lambda connection: connection.execute(adding.on_conflict_do_nothing()))
