"""Outcomes become entries, in groups, inside the transaction that also writes the rows (invariant 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    FromClause,
    Integer,
    Text,
    case,
    func,
    null,
    select,
    update,
)

from rehost.db import NEVER, Columns, Connection, Database, after, now
from rehost.ledger import history as visits
from rehost.ledger import journal, unmasking
from rehost.ledger.schema import links
from rehost.model import Copy, Deferred, Link, Outcome, Refused, State, Stored, Unchanged, Validator

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
    "final_url": Text(),
    "etag": Text(),
    "last_modified": Text(),
}


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """Records outcomes, each under its lease's fence: nothing happens to an entry that was leased or changed since.

    `settle` is for entries that the transaction has locked besides; `pend` and `retract` have ones of their own.
    """

    database: Database
    url: Callable[[str], str]

    async def settled(self, connection: Connection, stored: Sequence[Stored]) -> set[int]:
        """Return the entries that are held with these very digests, under the fence of these very leases."""
        if not stored:
            return set()
        rows = [(each.task.entry, each.task.fence, each.copy.digest) for each in stored]
        given = self.database.given({**_ENTRY, "digest": Text()}, rows)
        is_held = (links.c.state == State.HELD.value) & (links.c.digest == given.c.digest)
        return set(await connection.scalars(select(links.c.entry).join(given, _same_lease(given) & is_held)))

    async def pend(self, connection: Connection, stored: Sequence[Stored]) -> None:
        """Remember the digests that are about to take the place of held copies at the same keys."""
        if not stored:
            return
        rows = [(each.task.entry, each.task.fence, each.copy.digest) for each in stored]
        given = self.database.given({**_ENTRY, "digest": Text()}, rows)
        await self._update(connection, given, pending_digest=given.c.digest, pending_url=links.c.url)

    async def settle(
        self, connection: Connection, run: int, outcomes: Sequence[Outcome], written: Mapping[Link, str | None]
    ) -> None:
        """Record outcomes of every kind; each kind is one statement."""
        stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        held = [outcome for outcome in stored if outcome.task.link in written]
        await self._hold(connection, held)
        await self._overtake(connection, [outcome for outcome in stored if outcome.task.link not in written])
        await self._leave(connection, [outcome for outcome in outcomes if isinstance(outcome, Unchanged)])
        failed = [outcome for outcome in outcomes if isinstance(outcome, Deferred | Refused)]
        await self._fail(connection, failed)
        decoys = [outcome.task.entry for outcome in failed if outcome.decoy is not None]
        await unmasking.forget_copies(connection, self.database, decoys)
        rows = [(each.task.link, written[each.task.link], self.url(each.copy.key)) for each in held]
        await visits.write(connection, self.database, run, visits.rows_of(outcomes, held))
        await journal.write(connection, self.database, run, rows)

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
            visited_at=now(),
            attempts=0,
            reason=null(),
            evidence=null(),
            found=null(),
            pending_digest=null(),
            pending_url=null(),
        )

    def _row(self, outcome: Stored) -> tuple[object, ...]:
        copy, image, validator = outcome.copy, outcome.image, outcome.validator or Validator()
        return (
            outcome.task.entry,
            outcome.task.fence,
            copy.key,
            copy.digest,
            copy.size,
            self.url(copy.key),
            image.format.value,
            image.width,
            image.height,
            image.frames,
            outcome.final_url,
            validator.etag,
            validator.last_modified,
        )

    async def _overtake(self, connection: Connection, overtaken: Sequence[Stored]) -> None:
        """Want links again whose rows have changed meanwhile: when they are noted anew, not before.

        What is pending stays so, for it is the store's turn now to put the old bytes back.
        """
        if overtaken:
            given = self._leases(overtaken)
            await self._update(
                connection, given, state=State.WANTED.value, due_at=NEVER, attempts=0, visited_at=now(), found=null()
            )

    async def retract(self, connection: Connection, stored: Sequence[Stored]) -> None:
        """Hold again what was held before these outcomes, where they have been settled; as `_overtake` otherwise.

        What came of the copy before is known no more, but for its digest: so it is never held again unasked.
        """
        if not stored:
            return
        rows = [
            (each.task.entry, each.task.fence, each.copy.digest, *_former(each.task.copy), each.task.link.local_url)
            for each in stored
        ]
        columns: Columns = {
            **_ENTRY, "ours": Text(), "key": Text(), "digest": Text(), "size": BigInteger(), "local_url": Text()
        }  # fmt: skip
        given = self.database.given(columns, rows)
        await visits.overtake(connection, given)
        nothing = dict.fromkeys(("held_url", "final_url", "etag", "last_modified", "former_key"), null())
        await connection.execute(
            update(links)
            .values(
                **nothing,
                **{name: given.c[name] for name in ("key", "digest", "size", "local_url")},
                state=State.WANTED.value,
                due_at=NEVER,
                attempts=0,
            )
            .where(_same_lease(given), links.c.digest == given.c.ours, links.c.state == State.HELD.value)
        )

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
            state=State.HELD.value,
            attempts=0,
            visited_at=now(),
            reason=null(),
            evidence=null(),
            etag=func.coalesce(given.c.etag, links.c.etag),
            last_modified=func.coalesce(given.c.last_modified, links.c.last_modified),
        )

    async def _fail(self, connection: Connection, failed: Sequence[Deferred | Refused]) -> None:
        """Record why and until when; a pending digest is no more, for the visit found other bytes at the key."""
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
            due_at=after(given.c.wait),
            visited_at=now(),
            found=null(),
            pending_digest=case((links.c.pending_url == links.c.url, null()), else_=links.c.pending_digest),
        )

    def _leases(self, outcomes: Sequence[Outcome]) -> FromClause:
        return self.database.given(_ENTRY, [(each.task.entry, each.task.fence) for each in outcomes])

    @staticmethod
    async def _update(connection: Connection, given: FromClause, **values: Any) -> None:  # noqa: ANN401 - columns
        await connection.execute(update(links).values(values).where(_same_lease(given)))


def _former(copy: Copy | None) -> tuple[str | None, str | None, int | None]:
    return (copy.key, copy.digest, copy.size) if copy else (None, None, None)


def _same_lease(given: FromClause) -> ColumnElement[bool]:
    return (links.c.entry == given.c.entry) & (links.c.fence == given.c.fence)
