"""How the workers share out what each host bears.

All of it happens in one transaction at a time. A worker that is to have fewer slots may have more requests in flight
for a while: until they have ended they stay reserved for it, so the origin never sees more than it bears.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, Text, delete, or_, select, update

from rehost.db import Columns, Connection, Database, after, is_over, now
from rehost.hosts.daily_quota import Draw, Drawn, draw
from rehost.ledger.burying import leave
from rehost.ledger.due import LONGEST_LEASE, LONGEST_PAUSE, pause_seconds
from rehost.ledger.schema import hosts, shares, workers


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker may do to one host just now."""

    slots: int  # requests in flight; 0 while paused, or while the other workers have them all
    allowance: int = 0  # what the host bears over all workers together; 0 if nobody has said
    pause_seconds: float = 0.0  # what is left of its pause, by the database's clock
    proven: bool = False  # the host has given a proven picture at least once, ever


@dataclass(frozen=True, slots=True)
class _Stake:
    """What a worker has of a host."""

    wanted: int
    slots: int
    reserved: int


def fair_slots(worker: str, wishes: Mapping[str, int], allowance: int) -> int:
    """Return this worker's part: the slots go round, one at a time, to who still wishes for one, by name. Pure."""
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


@dataclass(frozen=True, slots=True)
class Sharing:
    """One worker's part in it."""

    database: Database
    worker: str
    concurrency: int  # the most that any host may bear
    alive_seconds: float

    async def share(
        self, connection: Connection, wanted: Mapping[str, int], in_flight: Mapping[str, int] | None
    ) -> Mapping[str, Share]:
        """Show that we live, and take what is free and fair of each host."""
        await self.database.lock(connection, "shares")
        await self._show_life(connection)
        stakes = await self._stakes(connection, sorted({*wanted, *(in_flight or {})}))
        borne = await self._borne(connection, sorted(wanted))
        mine, result = {}, {}
        for host in sorted({*wanted, *(in_flight or {})}):
            others = {name: each for name, each in stakes[host].items() if name != self.worker}
            before = stakes[host].get(self.worker, _Stake(0, 0, 0))
            wish = max(0, wanted.get(host, 0))
            share = borne.get(host, Share(0))
            slots = 0 if share.pause_seconds > 0 else self._slots(wish, others, share)
            mine[host] = _Stake(wish, slots, max(slots, self._flying(before, wish, host, in_flight)))
            if host in wanted:
                result[host] = Share(slots, share.allowance, share.pause_seconds, share.proven)
        await self._write(connection, mine)
        return result

    @staticmethod
    def _flying(before: _Stake, wish: int, host: str, in_flight: Mapping[str, int] | None) -> int:
        """Return how many requests there may be: those begun between the count and our answer have a slot of before."""
        if in_flight is None:
            return min(before.reserved, wish)
        return max(before.slots, in_flight.get(host, 0))

    def _limit(self, share: Share) -> int:
        """Return what a host bears over all workers: one request, until it has given a picture."""
        if not share.proven:
            return 1
        return min(self.concurrency, share.allowance or self.concurrency)

    def _slots(self, wish: int, others: Mapping[str, _Stake], share: Share) -> int:
        limit = self._limit(share)
        free = max(0, limit - sum(each.reserved for each in others.values()))
        if not share.proven:  # who has the one slot keeps it: what an origin wants is learned request by request
            return min(wish, free)
        wishes = {name: each.wanted for name, each in others.items()} | {self.worker: wish}
        return min(fair_slots(self.worker, wishes, limit), free)

    async def _show_life(self, connection: Connection) -> None:
        """Move our end on, and let go of what the dead have held."""
        until = after(self.alive_seconds)
        living = self.database.insert(workers).values(worker=self.worker, alive_until=until)
        living = living.on_conflict_do_update(index_elements=[workers.c.worker], set_={"alive_until": until})
        await connection.execute(living)
        await connection.execute(delete(workers).where(is_over(workers.c.alive_until, LONGEST_LEASE)))
        await connection.execute(delete(shares).where(shares.c.worker.not_in(select(workers.c.worker))))

    async def _stakes(self, connection: Connection, names: list[str]) -> Mapping[str, dict[str, _Stake]]:
        result: defaultdict[str, dict[str, _Stake]] = defaultdict(dict)
        for row in await self._rows(connection, shares, names):
            result[row.host][row.worker] = _Stake(row.wanted, row.slots, row.reserved)
        return result

    async def _borne(self, connection: Connection, names: list[str]) -> Mapping[str, Share]:
        given = self.database.given({"host": Text()}, [[name] for name in names])
        query = select(hosts.c.host, hosts.c.allowance, hosts.c.proven, pause_seconds()).join(
            given, given.c.host == hosts.c.host
        )
        return {
            row.host: Share(0, row.allowance, row.pause_seconds, bool(row.proven))
            for row in await connection.execute(query)
        }

    async def _rows(self, connection: Connection, table: Any, names: list[str]) -> Any:  # noqa: ANN401 - SQLAlchemy's
        given = self.database.given({"host": Text()}, [[name] for name in names])
        return await connection.execute(select(table).join(given, given.c.host == table.c.host))

    async def _write(self, connection: Connection, mine: Mapping[str, _Stake]) -> None:
        """Write our shares in place of those before."""
        await connection.execute(delete(shares).where(shares.c.worker == self.worker))
        rows = [
            (self.worker, host, each.wanted, each.slots, each.reserved)
            for host, each in mine.items()
            if each.wanted or each.reserved
        ]
        if not rows:
            return
        columns: Columns = {
            "worker": Text(),
            "host": Text(),
            "wanted": Integer(),
            "slots": Integer(),
            "reserved": Integer(),
        }
        given = self.database.given(columns, rows)
        await connection.execute(
            shares.insert().from_select(list(columns), select(*(given.c[name] for name in columns)))
        )


class HostShares:
    """One worker's shares of the hosts, and the pauses and limits that hold for all workers."""

    def __init__(self, database: Database, *, worker: str, concurrency: int, lease_seconds: float) -> None:
        """Take this worker's name, what any host may bear at most, and how long a silent worker counts as alive."""
        self._database = database
        self._sharing = Sharing(database, worker, concurrency, lease_seconds)

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
