"""Records outcomes in the ledger, in groups, inside the transaction that also writes the rows (invariant 1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    FromClause,
    Integer,
    Row,
    Text,
    and_,
    case,
    func,
    literal,
    null,
    or_,
    select,
    update,
)

from rehost.db import NEVER, Columns, Connection, Database, Moment, after, host_of, now
from rehost.ledger.history import End, History, refused_row, visit_row
from rehost.ledger.schema import NO_COPY, TAKEN_DOWN, links, tombstones
from rehost.model import (
    Deferred,
    Link,
    Mark,
    Outcome,
    Reason,
    Refused,
    RowRefusal,
    State,
    Stored,
    Tombstone,
    Unchanged,
    Validator,
)

GROUP = 1000  # entries that `copies_to_examine` returns at once
_STREAMED = 500  # hosts that `sizes` reads at once: names of hosts cost a stranger nothing

SUSPECTED_SECONDS = 30 * 86_400.0
"""For so long a copy that was suspected to be a decoy is not suspected again: anyone may cause a suspicion."""

_ENTRY: Columns = {"entry": BigInteger(), "fence": BigInteger()}
_COPY: Columns = {
    "key": Text(),
    "digest": Text(),
    "size": BigInteger(),
    "local_url": Text(),
    "format": Text(),
    "width": Integer(),
    "height": Integer(),
    "frames": Integer(),
    "damage": Text(),
    "final_url": Text(),
    "etag": Text(),
    "last_modified": Text(),
    "rescued": Text(),
}


REFUSAL: Columns = {"refused_url": Text(), "evidence": Text(), "wait": Float()}
"""Columns for `row_refused`: a RowRefusal's."""


def row_refused(given: FromClause) -> dict[str, Any]:
    """Return the values of entries with a copy whose rows the database refuses to write (columns REFUSAL)."""
    return {
        "state": State.DEFERRED.value,
        "reason": Reason.ROW_REFUSED.value,
        "evidence": given.c.evidence,
        "due_at": after(given.c.wait),
        "found": links.c.key,
        "local_url": given.c.refused_url,
    }


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """Records outcomes, each under its lease's fence: an entry that was leased again or has changed stays as it is.

    `record` belongs in the transaction that writes the rows, and is for entries whose leases that transaction has
    confirmed. The others are transactions of their own.
    """

    database: Database
    history: History
    url: Callable[[str, str], str]  # of a key and its digest

    async def already_recorded(self, connection: Connection, stored: Sequence[Stored]) -> set[int]:
        """Return the entries already held with these digests under these leases: a commit's answer was lost."""
        if not stored:
            return set()
        given = self._given_digests(stored)
        is_refused = and_(links.c.state == State.DEFERRED.value, links.c.reason == Reason.ROW_REFUSED.value)
        is_recorded = or_(links.c.state == State.HELD.value, is_refused)
        is_held = is_recorded & _is_digest(given.c.digest)
        return set(await connection.scalars(select(links.c.entry).join(given, _same_lease(given) & is_held)))

    async def has_tombstones(self) -> bool:
        """Return whether anything was taken down."""
        return bool(await self.database.fetch_all(select(tombstones.c.kind).limit(1)))

    async def taken_down(self, named: Collection[Tombstone]) -> Mapping[Tombstone, str]:
        """Return those of these URLs, origins and digests that were taken down, with the evidence that says by what."""
        if not named:
            return {}
        given = self.database.given({"kind": Text(), "value": Text()}, sorted(named))
        number = func.max(tombstones.c.takedown).label("number")
        query = select(tombstones.c.kind, tombstones.c.value, number).group_by(tombstones.c.kind, tombstones.c.value)
        is_named = and_(tombstones.c.kind == given.c.kind, tombstones.c.value == given.c.value)
        rows = await self.database.fetch_all(query.join_from(given, tombstones, is_named))
        return {(Mark(row.kind), row.value): f"{TAKEN_DOWN}{row.number}" for row in rows}

    async def announce_replacements(self, stored: Sequence[Stored]) -> None:
        """Remember the digests that are about to replace those of held copies at the same keys."""

        async def work(connection: Connection) -> None:
            given = self._given_digests(stored)
            await self._update(connection, given, pending_digest=given.c.digest, pending_url=links.c.url)

        if stored:
            await self.database.transact(work)

    async def record(
        self,
        connection: Connection,
        run: int,
        outcomes: Sequence[Outcome],
        written: Mapping[Link, str | None],
        refused: Mapping[Link, RowRefusal] | None = None,
    ) -> None:
        """Record confirmed outcomes, each kind in one statement.

        `written` maps links to the local URL that the row had before; `refused` says of which links the database
        refused to write the row. A Stored outcome whose link is in neither makes the link wanted, from the next sync
        on: its row changed meanwhile.
        """
        refused = refused or {}
        stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        held = [outcome for outcome in stored if outcome.task.link in written]
        unwritten = [outcome for outcome in stored if outcome.task.link in refused]
        await self._hold(connection, held + unwritten)
        await self._defer_rows(connection, [(each, refused[each.task.link]) for each in unwritten])
        overtaken = [each for each in stored if each.task.link not in written and each.task.link not in refused]
        await self._overtake(connection, overtaken)
        await self._leave(connection, [outcome for outcome in outcomes if isinstance(outcome, Unchanged)])
        failed = [outcome for outcome in outcomes if isinstance(outcome, Deferred | Refused)]
        await self._fail(connection, failed)
        await self._forget_copies(
            connection, [outcome.task.entry for outcome in failed if outcome.decoy or outcome.lost]
        )
        entries = {outcome.task.entry for outcome in held}
        visits = [
            refused_row(outcome, refused[outcome.task.link].evidence)
            if isinstance(outcome, Stored) and outcome.task.link in refused
            else visit_row(outcome, is_held=outcome.task.entry in entries)
            for outcome in outcomes
        ]
        await self.history.add_visits(connection, run, visits)
        changes = [
            (each.task.link, written[each.task.link], self.url(each.copy.key, each.copy.digest)) for each in held
        ]
        copies = {each.task.link: (each.task.copy if each.task.has_own_copy else None, each.copy) for each in held}
        await self.history.add_changes(connection, run, changes, copies=copies)

    async def _hold(self, connection: Connection, held: Sequence[Stored]) -> None:
        if not held:
            return
        given = self.database.given({**_ENTRY, **_COPY}, [self._row(outcome) for outcome in held])
        await self._update(
            connection,
            given,
            **{name: given.c[name] for name in _COPY},
            state=State.HELD.value,
            former_key=case(
                (links.c.key != given.c.key, links.c.key),
                (links.c.found != given.c.key, links.c.found),
                else_=links.c.former_key,
            ),
            held_url=links.c.url,
            held_at=now(),
            verified_at=now(),
            visited_at=now(),
            attempts=0,
            deaths=0,
            reason=null(),
            evidence=null(),
            found=null(),
            pending_digest=null(),
            pending_url=null(),
            suspected_at=null(),
        )

    async def _defer_rows(self, connection: Connection, refused: Sequence[tuple[Stored, RowRefusal]]) -> None:
        """Have entries, whose copies are held, wait to be written: their files are `found` then, and not fetched."""
        if not refused:
            return
        rows = [
            (
                each.task.entry,
                each.task.fence,
                each.copy.digest,
                refusal.local_url,
                refusal.evidence,
                refusal.wait_seconds,
            )
            for each, refusal in refused
        ]
        given = self.database.given({**_ENTRY, "ours": Text(), **REFUSAL}, rows)
        is_ours = _same_lease(given) & _is_digest(given.c.ours) & (links.c.state == State.HELD.value)
        await connection.execute(update(links).values(row_refused(given)).where(is_ours))

    async def refuse(self, refused: Sequence[tuple[Stored, RowRefusal]]) -> None:
        """Correct what was recorded as held for rows that the database then refused to write."""
        rows = [(each.task.entry, each.task.fence, each.copy.digest, refusal.evidence) for each, refusal in refused]
        given = self.database.given({**_ENTRY, "ours": Text(), "evidence": Text()}, rows)

        async def work(connection: Connection) -> None:
            await self.history.correct(connection, given, End.DEFERRED, Reason.ROW_REFUSED, given.c.evidence)
            await self._defer_rows(connection, refused)

        if refused:
            await self.database.transact(work)

    def _row(self, outcome: Stored) -> tuple[object, ...]:
        copy, image, validator = outcome.copy, outcome.image, outcome.validator or Validator()
        return (
            *(outcome.task.entry, outcome.task.fence),
            *(copy.key, copy.digest, copy.size, self.url(copy.key, copy.digest)),
            *(image.format.value, image.width, image.height, image.frames, image.damage),
            *(outcome.final_url, validator.etag, validator.last_modified, outcome.rescued),
        )

    async def _overtake(self, connection: Connection, overtaken: Sequence[Stored]) -> None:
        """Make links whose rows have changed meanwhile wanted again, from the next sync on.

        A pending digest stays, because the store has yet to put the old bytes back.
        """
        if overtaken:
            given = self.database.given(_ENTRY, [(each.task.entry, each.task.fence) for each in overtaken])
            await self._update(
                connection,
                given,
                state=State.WANTED.value,
                due_at=NEVER,
                attempts=0,
                deaths=0,
                visited_at=now(),
                found=null(),
            )

    async def revert(self, stored: Sequence[Stored]) -> None:
        """Take back what was recorded for rows that turned out to have changed; links are wanted from the next sync on.

        The former copies' keys and digests come back. Everything else about them is lost, so they never count as held.
        """
        if not stored:
            return
        former: Columns = {name: _COPY[name] for name in ("key", "digest", "size", "local_url")}
        rows = [
            (
                *(each.task.entry, each.task.fence, each.copy.digest),
                *((copy.key, copy.digest, copy.size) if (copy := each.task.copy) else (None, None, None)),
                each.task.link.local_url,
            )
            for each in stored
        ]
        given = self.database.given({**_ENTRY, "ours": Text(), **former}, rows)
        nothing = dict.fromkeys(("held_url", "final_url", "etag", "last_modified", "former_key"), null())
        reverting = (
            update(links)
            .values(
                **nothing,
                **{name: given.c[name] for name in former},
                state=State.WANTED.value,
                due_at=NEVER,
                attempts=0,
            )
            .where(_same_lease(given), _is_digest(given.c.ours), links.c.state == State.HELD.value)
        )

        async def work(connection: Connection) -> None:
            await self.history.correct(connection, given, End.OVERTAKEN)
            await connection.execute(reverting)

        await self.database.transact(work)

    async def _leave(self, connection: Connection, unchanged: Sequence[Unchanged]) -> None:
        if not unchanged:
            return
        rows = [
            (each.task.entry, each.task.fence, validator.etag, validator.last_modified)
            for each in unchanged
            for validator in [each.validator or Validator()]
        ]
        given = self.database.given({**_ENTRY, "etag": Text(), "last_modified": Text()}, rows)
        await self._update(
            connection,
            given,
            state=case((links.c.key.is_(None), State.WANTED.value), else_=State.HELD.value),  # lost during the visit
            due_at=now(),
            attempts=0,
            deaths=0,
            visited_at=now(),
            reason=null(),
            evidence=null(),
            etag=func.coalesce(given.c.etag, links.c.etag),
            last_modified=func.coalesce(given.c.last_modified, links.c.last_modified),
        )

    async def _fail(self, connection: Connection, failed: Sequence[Deferred | Refused]) -> None:
        """Record why and until when; a pending digest goes, for the visit found other bytes at the key.

        The key of a found file stays: it is no picture, and is not handed out again before the link is due.
        """
        if not failed:
            return
        rows = [
            (
                each.task.entry,
                each.task.fence,
                (State.DEFERRED if isinstance(each, Deferred) else State.REFUSED).value,
                each.reason.value,
                each.evidence,
                each.wait_seconds,
            )
            for each in failed
        ]
        columns: Columns = {**_ENTRY, "state": Text(), "reason": Text(), "evidence": Text(), "wait": Float()}
        given = self.database.given(columns, rows)
        await self._update(
            connection,
            given,
            state=given.c.state,
            reason=given.c.reason,
            evidence=given.c.evidence,
            due_at=case((given.c.reason == Reason.TAKEN_DOWN.value, literal(NEVER, Moment)), else_=after(given.c.wait)),
            deaths=0,
            visited_at=now(),
            pending_digest=case((links.c.pending_url == links.c.url, null()), else_=links.c.pending_digest),
        )

    def _given_digests(self, stored: Sequence[Stored]) -> FromClause:
        rows = [(each.task.entry, each.task.fence, each.copy.digest) for each in stored]
        return self.database.given({**_ENTRY, "digest": Text()}, rows)

    @staticmethod
    async def _update(connection: Connection, given: FromClause, **values: Any) -> None:  # noqa: ANN401 - columns
        await connection.execute(update(links).values(values).where(_same_lease(given)))

    async def sizes(self, add: Callable[[str, str, int], None], clear: Callable[[], None]) -> None:
        """Call `clear`, then `add` with each source, each host and the bytes of its copies; again after an outage."""
        total = func.sum(links.c.size)
        query = select(links.c.source, links.c.host, total).where(links.c.key.is_not(None))
        query = query.group_by(links.c.source, links.c.host).execution_options(yield_per=_STREAMED)

        async def work(connection: Connection) -> None:
            clear()
            async with connection.stream(query) as rows:
                async for source, host, size in rows:
                    add(source, host, int(size))

        await self.database.read(work, slow=True)

    # --- held copies that may be decoys

    async def shared_digests(self, source: str, digests: Sequence[str]) -> Mapping[tuple[str, str], Sequence[Link]]:
        """Return two links, the first and the last taken in, of each host that gave several links one of these digests.

        By host and digest.
        """
        # A list, not a join: while PostgreSQL's statistics say that nothing is held, it would read all digests for one.
        # And held is no condition of the rows: there it would compare each held link with each digest.
        held = and_(links.c.source == source, links.c.present, links.c.state == State.HELD.value)
        first, last = func.min(links.c.entry).filter(held), func.max(links.c.entry).filter(held)
        pairs = (
            select(first.label("first"), last.label("last"))
            .where(links.c.digest.in_(sorted(set(digests))))
            .group_by(links.c.digest, links.c.host)
            .having(func.count().filter(held) > 1)
            .subquery()
        )
        query = (
            select(links)
            .join(pairs, or_(links.c.entry == pairs.c.first, links.c.entry == pairs.c.last))
            .order_by(links.c.entry)
        )
        found: dict[tuple[str, str], list[Link]] = {}
        for row in await self.database.fetch_all(query):
            found.setdefault((row.host, row.digest), []).append(_link(row))
        return found

    async def copies_to_examine(self, source: str, host: str, digest: str) -> Mapping[int, Link]:
        """Return links with a copy of a host with this digest, by entry, with the URL that the copy came from.

        At most GROUP, and none that was suspected within SUSPECTED_SECONDS or that a worker is visiting.
        """
        query = (
            select(links)
            .where(
                links.c.digest == digest,
                links.c.source == source,
                links.c.present,
                links.c.state != State.LEASED.value,
                or_(links.c.suspected_at.is_(None), links.c.suspected_at < after(-SUSPECTED_SECONDS)),
                or_(and_(links.c.held_url == links.c.url, links.c.host == host), host_of(links.c.held_url) == host),
            )
            .order_by(links.c.entry)
            .limit(GROUP)
        )
        return {row.entry: replace(_link(row), url=row.held_url) for row in await self.database.fetch_all(query)}

    async def suspect(self, digest: str, entries: Sequence[int], examined: Sequence[int]) -> int:
        """Make links due whose copies, of this digest, may be decoys; return how many. The copies and the rows stay.

        `examined` are links whose copies turned out not to be suspect. Both are left alone for SUSPECTED_SECONDS.
        """

        async def work(connection: Connection) -> int:
            still = and_(links.c.digest == digest, links.c.state != State.LEASED.value)
            seen = update(links).values(suspected_at=now())
            if examined:
                await connection.execute(seen.where(still, self._is_one_of(examined)))
            if not entries:
                return 0
            wanting = seen.values(state=State.WANTED.value, due_at=now(), attempts=0, fence=links.c.fence + 1)
            wanted = await connection.scalars(wanting.where(still, self._is_one_of(entries)).returning(links.c.entry))
            return len(wanted.all())

        return await self.database.transact(work)

    async def _forget_copies(self, connection: Connection, entries: Sequence[int]) -> None:
        """Forget the copies of these entries; their rows are cleared in the same transaction."""
        if entries:
            forgetting = update(links).values(NO_COPY | {"local_url": None, "found": None})
            await connection.execute(forgetting.where(self._is_one_of(entries)))

    def _is_one_of(self, entries: Sequence[int]) -> ColumnElement[bool]:
        given = self.database.given({"entry": BigInteger()}, [[entry] for entry in entries])
        return links.c.entry.in_(select(given.c.entry))


def _same_lease(given: FromClause) -> ColumnElement[bool]:
    return (links.c.entry == given.c.entry) & (links.c.fence == given.c.fence)


def _is_digest(digest: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that entries, which are found by their numbers, have these digests.

    No index serves IS NOT DISTINCT FROM. By `=` PostgreSQL reads every held digest of the ledger for each group, while
    its statistics say that nothing is held, as in a first run until the first ANALYZE (tests/ledger/test_plans.py).
    """
    return links.c.digest.is_not_distinct_from(digest)


def _link(row: Row[*tuple[Any, ...]]) -> Link:
    return Link(row.source, row.row_key, row.position, row.url, row.page_url, row.local_url)
