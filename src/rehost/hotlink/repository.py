"""What we learned of each origin, and each worker's share of each host, over all workers (ports.Origins)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, or_, select, update

from rehost.db import Connection, Database, after, is_over, now
from rehost.hosts.shares import Sharing
from rehost.hosts.spending import Extra, draw
from rehost.ledger.burying import leave
from rehost.ledger.due import LONGEST_PAUSE
from rehost.ledger.schema import decoys, hosts, links, origins
from rehost.model import Rule, State
from rehost.ports import Draw, Drawn, KnownGoodLink, Share, Spending

_WITNESSES = 20  # held links that are looked at; those that share a picture are one


class SqlOrigins:
    """Origins as one worker sees and tells them."""

    def __init__(self, database: Database, *, worker: str, concurrency: int, lease_seconds: float) -> None:
        """Take this worker's name, what any host may bear at most, and how long a silent worker counts as alive."""
        self._database = database
        self._sharing = Sharing(database, worker, concurrency, lease_seconds)
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

    async def shares(
        self, wanted: Mapping[str, int], in_flight: Mapping[str, int] | None = None
    ) -> Mapping[str, Share]:
        """Tell that we live and how many requests each host could use here; return what we may have of each."""
        return await self._database.transact(lambda connection: self._sharing.share(connection, wanted, in_flight))

    async def draw(self, draws: Mapping[str, Draw]) -> Mapping[str, Drawn]:
        """Take parts of hosts' daily budgets, or give back what is left of them."""
        return await self._database.transact(lambda connection: draw(connection, self._database, draws))

    async def leave(self) -> None:
        """Give all shares back: this worker ends."""
        await self._database.transact(lambda connection: leave(connection, self._sharing.worker))

    async def pause(self, host: str, seconds: float, evidence: str) -> None:
        """Let nobody ask this host for `seconds` from now; never shortens a pause."""
        adding = self._database.insert(hosts).values(
            host=host, allowance=0, proven=False, paused_until=after(seconds), evidence=evidence
        )
        pausing = adding.on_conflict_do_update(
            index_elements=[hosts.c.host],
            set_={"paused_until": adding.excluded.paused_until, "evidence": adding.excluded.evidence},
            where=or_(
                hosts.c.paused_until.is_(None),
                is_over(hosts.c.paused_until, LONGEST_PAUSE),
                hosts.c.paused_until < adding.excluded.paused_until,
            ),
        )
        await self._database.transact(lambda connection: connection.execute(pausing))

    async def resume(self, host: str) -> bool:
        """End a host's pause; return whether there was one. A worker that keeps to it already does so to its end."""
        resuming = (
            update(hosts)
            .values(paused_until=None, evidence=None)
            .where(hosts.c.host == host, hosts.c.paused_until > now())
        )

        async def work(connection: Connection) -> bool:
            return (await connection.execute(resuming)).rowcount > 0

        return await self._database.transact(work)

    async def allow(self, host: str, allowance: int, *, proven: bool = False) -> None:
        """Remember how many requests at once this host bears, over all workers; proven once is proven for ever."""
        adding = self._database.insert(hosts).values(host=host, allowance=allowance, proven=proven)
        allowing = adding.on_conflict_do_update(
            index_elements=[hosts.c.host],
            set_={"allowance": allowance, "proven": or_(hosts.c.proven, adding.excluded.proven)},
        )
        await self._database.transact(lambda connection: connection.execute(allowing))
