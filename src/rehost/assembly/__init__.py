"""The only part that chooses implementations, gives them their settings, and opens them.

A name's module is imported when the name is first used: `rehost status` needs no HTTP client and no decoder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rehost.assembly.opening import open_databases, open_queries, source_of, undo, worker
    from rehost.assembly.running import open_run
    from rehost.assembly.serving import build_server, files, images, site

__all__ = [
    "build_server",
    "files",
    "images",
    "open_databases",
    "open_queries",
    "open_run",
    "site",
    "source_of",
    "undo",
    "worker",
]

_HOMES = {
    "build_server": "serving",
    "files": "serving",
    "images": "serving",
    "open_databases": "opening",
    "open_queries": "opening",
    "open_run": "running",
    "site": "serving",
    "source_of": "opening",
    "undo": "opening",
    "worker": "opening",
}


def __getattr__(name: str) -> object:
    """Return a public name from the module where it lives (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
