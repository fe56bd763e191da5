"""The limits that all workers share at each host: slots for requests in flight, pauses, and the daily budget.

A worker reads and writes its shares in one transaction, one worker at a time. If its share shrinks, it may still have
more requests in flight for a while: until they have ended their slots stay reserved for it, so that all workers
together never exceed what the host takes (invariant 8).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import FromClause, Integer, Text, case, delete, exists, literal, or_, select, update

from rehost.db import Columns, Connection, Database, Moment, after, is_over, now, seconds_until, today
from rehost.http.url import host_of
from rehost.ledger.leases import LONGEST_LEASE, LONGEST_PAUSE, pause_seconds, remove_worker, waits_for_pause
from rehost.ledger.schema import budgets, hosts, links, shares, workers

OPERATORS_PAUSE = "paused by the operator"
"""The evidence of a pause that a person asked for."""

LEAST_SILENCE, MOST_SILENCE = 2.0, 10.0
"""Seconds after which PostgreSQL ends a transaction of a worker that is silent: all others wait for it."""

_DAY_SECONDS = 86400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Columns = {"worker": Text(), "host": Text(), "wanted": Integer(), "slots": Integer(), "reserved": Integer()}


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker may send to one host now."""

    slots: int  # requests in flight; 0 while the host is paused, or while other workers have all slots
    allowance: int = 0  # what the host takes across all workers; 0 if no worker has found out
    pause_seconds: float = 0.0  # what is left of its pause, by the database's clock
    proven: bool = False  # the host has ever returned a verified picture
    evidence: str | None = None  # of the pause


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the end of a host's pause changed."""

    was_paused: bool
    links: int  # that waited for it, and are due now


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one worker wants and has of a host."""

    wanted: int
    slots: int
    reserved: int


class HostShares:
    """One worker's shares of the hosts, and the limits and pauses that all workers keep."""

    def __init__(self, database: Database, *, worker: str, concurrency: int, lease_seconds: float) -> None:
        """Set this worker's name, the most slots of any host, and how long a silent worker counts as alive."""
        self._database = database
        self._worker = worker
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds

    @property
    def valid_seconds(self) -> float:
        """Return for how long after the beginning of a call of `take` requests may begin with its shares.

        That is half a lease: the other half is for these requests to end in, before other workers have the slots.
        """
        return self._lease_seconds / 2

    async def take(self, wanted: Mapping[str, int], in_flight: Mapping[str, int]) -> Mapping[str, Share]:
        """Report that this worker is alive, and return its share of each host that it wants.

        Over all living workers the slots of a host never exceed its allowance; a host that is not proven has one slot.
        Call it every second or two: after a lease without a call the worker counts as dead. A smaller share holds at
        once; the other workers get the difference when the requests in flight have ended.

        Args:
            wanted: how many slots the worker could use, by host; its shares of all other hosts are given back.
            in_flight: how many requests it has in flight, by host.
        """
        return await self._database.transact(lambda connection: self._take(connection, wanted, in_flight))

    async def leave(self) -> None:
        """Give all shares back: this worker ends."""
        await self._database.transact(lambda connection: remove_worker(connection, self._worker))

    async def pause(self, host: str, seconds: float, evidence: str) -> None:
        """Pause this host or origin for all workers, by the database's clock; a longer pause stays as it is."""
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
        await self._database.execute(pausing)

    async def paused(self) -> set[str]:
        """Return the hosts and origins that are paused now."""
        query = select(hosts.c.host, pause_seconds()).where(hosts.c.paused_until > now())
        return {row.host for row in await self._database.fetch_all(query) if row.pause_seconds > 0}

    async def resume(self, host: str) -> Resumed:
        """End the pauses of a host and of its origins, and make the links due that wait for them.

        Workers learn of it with their next heartbeat, or before they would let links of the host wait.
        """
        names = [name for name in await self.paused() if host in {name, host_of(name) if "://" in name else name}]
        given = self._database.given({"host": Text()}, [[name] for name in names])
        resuming = update(hosts).values(paused_until=None, evidence=None).where(hosts.c.host.in_(select(given.c.host)))
        freeing = update(links).values(due_at=now()).where(links.c.host == host, waits_for_pause())

        async def work(connection: Connection) -> Resumed:
            if names:
                await connection.execute(resuming)
            return Resumed(bool(names), (await connection.execute(freeing)).rowcount)

        return await self._database.transact(work, slow=True)

    async def is_known(self, host: str) -> bool:
        """Return whether a link leads to this host, or anything was found out about it."""
        query = select(or_(exists().where(links.c.host == host), exists().where(hosts.c.host == host)).label("known"))
        return any(row.known for row in await self._database.fetch_all(query, slow=True))

    async def allow(self, host: str, allowance: int, *, proven: bool = False) -> None:
        """Record how many requests at once this host takes, across all workers; a host once proven stays proven."""
        adding = self._database.insert(hosts).values(host=host, allowance=allowance, proven=proven)
        allowing = adding.on_conflict_do_update(
            index_elements=[hosts.c.host],
            set_={"allowance": allowance, "proven": or_(hosts.c.proven, adding.excluded.proven)},
        )
        await self._database.execute(allowing)

    async def _take(
        self, connection: Connection, wanted: Mapping[str, int], in_flight: Mapping[str, int]
    ) -> Mapping[str, Share]:
        silence = min(MOST_SILENCE, max(LEAST_SILENCE, self._lease_seconds / 4))
        await self._database.lock(connection, "shares", silence)
        await self._report_alive(connection)
        names = sorted({*wanted, *in_flight})
        given = self._database.given({"host": Text()}, [[name] for name in names])
        claims, known = await self._claims(connection, given), await self._hosts(connection, given)
        ours, result = {}, {}
        for host in names:
            others = claims[host]
            before = others.pop(self._worker, _Claim(0, 0, 0))
            wish, share = max(0, wanted.get(host, 0)), known.get(host, Share(0))
            slots = 0 if share.pause_seconds > 0 else self._slots(wish, others, share)
            # A request that began after the count of those in flight had one of the slots of before.
            ours[host] = _Claim(wish, slots, max(slots, before.slots, in_flight.get(host, 0)))
            if host in wanted:
                result[host] = replace(share, slots=slots)
        await self._write(connection, ours)
        return result

    def _slots(self, wish: int, others: Mapping[str, _Claim], share: Share) -> int:
        limit = min(self._concurrency, share.allowance or self._concurrency) if share.proven else 1
        free = max(0, limit - sum(each.reserved for each in others.values()))
        if not share.proven:  # the worker with the one slot keeps it: what an origin wants is learned one by one
            return min(wish, free)
        wishes = {name: each.wanted for name, each in others.items()} | {self._worker: wish}
        return min(fair_slots(self._worker, wishes, limit), free)

    async def _report_alive(self, connection: Connection) -> None:
        """Extend the time until which this worker counts as alive, and free the shares of dead workers."""
        until = after(self._lease_seconds)
        adding = self._database.insert(workers).values(worker=self._worker, alive_until=until)
        await connection.execute(
            adding.on_conflict_do_update(index_elements=[workers.c.worker], set_={"alive_until": until})
        )
        await connection.execute(delete(workers).where(is_over(workers.c.alive_until, LONGEST_LEASE)))
        await connection.execute(delete(shares).where(shares.c.worker.not_in(select(workers.c.worker))))

    @staticmethod
    async def _claims(connection: Connection, given: FromClause) -> Mapping[str, dict[str, _Claim]]:
        result: defaultdict[str, dict[str, _Claim]] = defaultdict(dict)
        for row in await connection.execute(select(shares).join(given, given.c.host == shares.c.host)):
            result[row.host][row.worker] = _Claim(row.wanted, row.slots, row.reserved)
        return result

    @staticmethod
    async def _hosts(connection: Connection, given: FromClause) -> Mapping[str, Share]:
        columns = hosts.c.host, hosts.c.allowance, hosts.c.proven, hosts.c.evidence, pause_seconds()
        rows = await connection.execute(select(*columns).join(given, given.c.host == hosts.c.host))
        return {row.host: Share(0, row.allowance, row.pause_seconds, bool(row.proven), row.evidence) for row in rows}

    async def _write(self, connection: Connection, ours: Mapping[str, _Claim]) -> None:
        """Replace this worker's claims."""
        await connection.execute(delete(shares).where(shares.c.worker == self._worker))
        rows = [
            (self._worker, host, each.wanted, each.slots, each.reserved)
            for host, each in ours.items()
            if each.wanted or each.reserved
        ]
        if rows:
            given = self._database.given(_COLUMNS, rows)
            adding = shares.insert().from_select(list(_COLUMNS), select(*(given.c[name] for name in _COLUMNS)))
            await connection.execute(adding)


@dataclass(frozen=True, slots=True)
class DailyQuota:
    """The requests that were sent to each host today; a day is one of UTC, by the database's clock.

    Each request to a host with a budget is counted by one statement before it is sent. A host has a budget only where
    the operator sets one, and is asked slowly then, so this costs little; workers that drew parts of a budget in
    advance would have to give them back, and a crash would lose them.
    """

    database: Database

    async def take(self, host: str, budget: int) -> float | None:
        """Count one request to a host that may get `budget` of them a day, at least 1; return None if it may be sent.

        Returns:
            the seconds until the day ends, if the budget is used up: nothing is counted then.

        Raises:
            LedgerError: the database cannot be reached, or refuses.
        """
        adding = self.database.insert(budgets).values(host=host, day=today(), taken=1)
        day = adding.excluded.day
        # Around midnight another worker may have begun the next day already; a day further ahead was a wrong clock's.
        is_new = or_(budgets.c.day < day, budgets.c.day > day + 1)
        counting = adding.on_conflict_do_update(
            index_elements=[budgets.c.host],
            set_={
                "day": case((is_new, day), else_=budgets.c.day),
                "taken": case((is_new, 1), else_=budgets.c.taken + 1),
            },
            where=or_(is_new, budgets.c.taken < budget),
        ).returning(budgets.c.taken)

        async def work(connection: Connection) -> float | None:
            if await connection.scalar(counting) is not None:
                return None
            since = -float(await connection.scalar(select(seconds_until(literal(_EPOCH, Moment())))) or 0.0)
            return _DAY_SECONDS - since % _DAY_SECONDS

        return await self.database.transact(work)


def fair_slots(worker: str, wishes: Mapping[str, int], allowance: int) -> int:
    """Return a worker's part of the allowance; each worker, by name, gets one slot a round while it wants more."""
    given = dict.fromkeys(sorted(wishes), 0)
    left = allowance
    while left > 0:
        asking = [name for name in given if given[name] < wishes[name]]
        if not asking:
            break
        for name in asking[:left]:
            given[name] += 1
        left -= len(asking[:left])
    return given.get(worker, 0)
