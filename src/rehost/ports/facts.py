"""What the parts tell each other, besides the nouns of model.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NewType, TypeVar

from rehost.model import Copy, Link, Reason, State

LinkQuery = NewType("LinkQuery", object)
"""The operator's links as a selectable: columns row_key, position, url, page_url, local_url, host. Made by the
catalogue, used by the ledger, opaque to everybody between them."""

T = TypeVar("T")

Transaction = Any
"""An open transaction, of whoever's `transact` made it; opaque here, passed on as it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the store that lies where a link's copy belongs."""

    row_key: str
    position: int
    key: str


@dataclass(frozen=True, slots=True)
class Noted:
    """What the ledger found the catalogue to be, in links."""

    present: int  # links that the catalogue has now
    new: int
    changed: int
    vanished: int  # links whose row or cell is no more
    redo: bool = False  # the column is cleared in every row of a held copy: the operator wants all anew


@dataclass(frozen=True, slots=True)
class Compared:
    """What the ledger found the store to be, in copies."""

    lost: int  # held in the ledger, not in the store: wanted again
    found: int  # in the store, unknown to the ledger: to be proven and adopted
    redo: bool = False  # every held copy is gone: the operator has deleted the folder


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """Where a source stands now, in links that the catalogue has."""

    present: int
    held: int
    due: int  # wanted, or deferred and refused whose time has come, or leased by a worker that is no more
    later: int  # deferred or refused, due at a later time
    leased: int = 0  # some worker is at them
    next_due_seconds: float | None = None  # until the first of the later ones


@dataclass(frozen=True, slots=True)
class Entry:
    """How one link stands in the ledger."""

    state: State
    host: str
    copy: Copy | None  # held of the very URL that the link has
    reason: Reason | None  # why the last visit brought none
    wait_seconds: float  # until it is due; 0 where it is

    @property
    def is_due(self) -> bool:
        """Tell whether it may be leased now."""
        return self.state is not State.HELD and self.wait_seconds <= 0


@dataclass(frozen=True, slots=True)
class WriteBack:
    """A row's cell that is to point at a copy."""

    link: Link
    local_url: str


@dataclass(frozen=True, slots=True)
class Clearing:
    """A row's cell that is to point at nothing any more where it leads to a copy, whatever link the row holds now."""

    link: Link  # of the row when the copy was its
    path: str  # with which the copy's local URL ends, after a slash, under whatever prefix


@dataclass(frozen=True, slots=True)
class Restore:
    """A row's cell that is to be again as it was before a run wrote it."""

    row_key: str
    url: str  # the link that the row held then
    before: str | None  # the local URL that is to come back
    after: str | None  # the one that the run wrote
