"""The only part that chooses implementations, gives them their settings, and opens them.

A name's module is imported when the name is first used: `rehost status` needs no HTTP client and no decoder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rehost.wiring.databases import open_databases, open_queries, source_of, undo, worker
    from rehost.wiring.run import open_run
    from rehost.wiring.server import build_server, files, read_through, site

__all__ = [
    "build_server",
    "files",
    "open_databases",
    "open_queries",
    "open_run",
    "read_through",
    "site",
    "source_of",
    "undo",
    "worker",
]

_HOMES = {
    "build_server": "server",
    "files": "server",
    "read_through": "server",
    "open_databases": "databases",
    "open_queries": "databases",
    "open_run": "run",
    "site": "server",
    "source_of": "databases",
    "undo": "databases",
    "worker": "databases",
}


def __getattr__(name: str) -> object:
    """Return a public name from the module where it lives (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
