"""What each part must do. The pipeline knows these and nothing else of the parts; assembly chooses who does it."""

from rehost.ports.facts import (
    Clearing,
    Compared,
    Entry,
    Found,
    KnownGoodLink,
    LinkCounts,
    LinkQuery,
    Marks,
    Noted,
    Placement,
    Restore,
    Spending,
    T,
    Transaction,
    WriteBack,
)
from rehost.ports.keeping import Catalogue, Store
from rehost.ports.ledger import Ledger
from rehost.ports.origin import Fetcher, Inspector, Origins

__all__ = [
    "Catalogue",
    "Clearing",
    "Compared",
    "Entry",
    "Fetcher",
    "Found",
    "Inspector",
    "KnownGoodLink",
    "Ledger",
    "LinkCounts",
    "LinkQuery",
    "Marks",
    "Noted",
    "Origins",
    "Placement",
    "Restore",
    "Spending",
    "Store",
    "T",
    "Transaction",
    "WriteBack",
]
