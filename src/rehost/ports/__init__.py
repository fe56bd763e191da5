"""What each part must do. The pipeline knows these and nothing else of the parts; assembly chooses who does it."""

from rehost.ports.facts import (
    Clearing,
    Compared,
    Entry,
    Found,
    LinkCounts,
    LinkQuery,
    Noted,
    Restore,
    T,
    Transaction,
    WriteBack,
)
from rehost.ports.keeping import Catalogue
from rehost.ports.ledger import Ledger

__all__ = [
    "Catalogue",
    "Clearing",
    "Compared",
    "Entry",
    "Found",
    "Ledger",
    "LinkCounts",
    "LinkQuery",
    "Noted",
    "Restore",
    "T",
    "Transaction",
    "WriteBack",
]
