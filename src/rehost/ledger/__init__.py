"""The ledger: our record of every link, origin and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rehost.db import Database
from rehost.ledger.history import History, Runs, Stores, Worker, check_in_use, store_in_use
from rehost.ledger.migrations import migrate
from rehost.model import KnownStore

__all__ = ["Ledger", "Worker", "migrate"]


class Ledger:
    """The ledger in one database, as one worker sees it; `migrate` has made its tables.

    Every state change of a link is a method of one of the parts: `sync` compares catalogue and ledger, `reconcile`
    compares store, rows and ledger, `due` reports what waits, `deferrals` lets links wait for the end of a pause,
    `leases` hands links out, `results` records outcomes, `rescues` finds dead links, `history`, `runs`, `stores` and
    `takedowns` keep what happened. Any of them may raise LedgerError.
    """

    def __init__(
        self, database: Database, worker: Worker, *, lease_seconds: float, url: Callable[[str, str], str]
    ) -> None:
        """Build the parts.

        Args:
            database: it has the ledger's tables.
            worker: this process.
            lease_seconds: how long a lease lasts unless it is renewed.
            url: returns the public URL of a copy's key and digest; `url("", "")` is the prefix of them all.
        """
        from rehost.ledger.deferrals import Deferrals
        from rehost.ledger.leases import DueLinks, LeaseManager
        from rehost.ledger.reconcile import Reconciliation
        from rehost.ledger.rescues import Rescues
        from rehost.ledger.results import ResultWriter
        from rehost.ledger.sync import CatalogueSync
        from rehost.ledger.takedowns import TakedownRecords

        self.database = database  # its `transact` runs methods of several parts in one transaction
        self.sync = CatalogueSync(database, url)
        self.reconcile = Reconciliation(database, url)
        self.due = DueLinks(database)
        self.deferrals = Deferrals(database)
        self.leases = LeaseManager(database, worker.name, lease_seconds)
        self.history = History(database)
        self.results = ResultWriter(database, self.history, url)
        self.rescues = Rescues(database)
        self.runs = Runs(database, worker)
        self.stores = Stores(database)
        self.takedowns = TakedownRecords(database)

    async def use(self, store: KnownStore) -> None:
        """Work with this store from now on: nothing is leased or planned any more once its copies were moved away.

        Raises:
            StoreError: they were, or are being moved.
        """
        await self.stores.use(store)
        self.leases = replace(self.leases, store=store.store)
        self.reconcile = replace(self.reconcile, store=store.store)

    async def check_store(self) -> None:
        """Raise StoreError if the copies are not in the store any more with which this process works."""
        check_in_use(self.leases.store, await self.database.read(lambda each: each.scalar(store_in_use())))
