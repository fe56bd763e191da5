"""What we remember: of every link, every origin and every run."""

from rehost.ledger.entries import SqlLedger
from rehost.ledger.migrations import migrate
from rehost.ledger.reports import Queries
from rehost.ledger.runs import Runs, Undone, Worker

__all__ = ["Queries", "Runs", "SqlLedger", "Undone", "Worker", "migrate"]
