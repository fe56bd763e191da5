"""What each part must do. The pipeline knows these and nothing else of the parts; assembly chooses who does it."""

from rehost.ports.facts import (
    Clearing,
    Compared,
    Entry,
    Found,
    KnownGoodLink,
    LinkCounts,
    LinkQuery,
    Noted,
    Restore,
    Spending,
    T,
    Transaction,
    WriteBack,
)
from rehost.ports.keeping import Catalogue
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
    "Noted",
    "Origins",
    "Restore",
    "Spending",
    "T",
    "Transaction",
    "WriteBack",
]
