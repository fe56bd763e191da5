"""What each part must do. The pipeline knows these and nothing else of the parts; assembly chooses who does it."""

from rehost.ports.facts import (
    Allowance,
    Change,
    Compared,
    Draw,
    Drawn,
    Entry,
    Found,
    LinkQuery,
    Noted,
    Pause,
    Placement,
    Restore,
    Share,
    Spending,
    T,
    Tally,
    Transaction,
    WriteBack,
)
from rehost.ports.keeping import Catalogue, Store
from rehost.ports.ledger import Ledger
from rehost.ports.origin import Fetcher, Inspector, Origins, Politeness

__all__ = [
    "Allowance",
    "Catalogue",
    "Change",
    "Compared",
    "Draw",
    "Drawn",
    "Entry",
    "Fetcher",
    "Found",
    "Inspector",
    "Ledger",
    "LinkQuery",
    "Noted",
    "Origins",
    "Pause",
    "Placement",
    "Politeness",
    "Restore",
    "Share",
    "Spending",
    "Store",
    "T",
    "Tally",
    "Transaction",
    "WriteBack",
]
