"""Keeps copies right after they were fetched: verify and repair, refresh, prune, take down, rescue.

Each of these finds held links in the ledger, leases them as a run does, and records what became of them with the run's
own recorder. What it replaces or removes is in the store's trash, and `rehost undo` takes it back.
"""
