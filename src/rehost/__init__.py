"""rehost copies the remote images that a database's rows link to onto the operator's own storage.

This is the front door; a name's part is imported when the name is first used, so that each command loads what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rehost.cli.main import main
    from rehost.errors import OperatorError, RehostError, SettingsError
    from rehost.server.api.problems import prefers_chinese
    from rehost.server.connections import Connections
    from rehost.server.host_header import KnownHosts, RelativeRedirects
    from rehost.settings import Settings
    from rehost.settings import load as load_settings
    from rehost.telemetry.log import logging_to
    from rehost.wiring.server import files, known_hosts, read_through, site

__version__ = "0.1.0"

__all__ = [
    "Connections",
    "KnownHosts",
    "OperatorError",
    "RehostError",
    "RelativeRedirects",
    "Settings",
    "SettingsError",
    "files",
    "known_hosts",
    "load_settings",
    "logging_to",
    "main",
    "prefers_chinese",
    "read_through",
    "site",
]

_HOMES = {
    "Connections": ("rehost.server.connections", "Connections"),
    "OperatorError": ("rehost.errors", "OperatorError"),
    "KnownHosts": ("rehost.server.host_header", "KnownHosts"),
    "RelativeRedirects": ("rehost.server.host_header", "RelativeRedirects"),
    "known_hosts": ("rehost.wiring.server", "known_hosts"),
    "RehostError": ("rehost.errors", "RehostError"),
    "Settings": ("rehost.settings", "Settings"),
    "SettingsError": ("rehost.errors", "SettingsError"),
    "files": ("rehost.wiring.server", "files"),
    "read_through": ("rehost.wiring.server", "read_through"),
    "load_settings": ("rehost.settings", "load"),
    "logging_to": ("rehost.telemetry.log", "logging_to"),
    "main": ("rehost.cli.main", "main"),
    "prefers_chinese": ("rehost.server.api.problems", "prefers_chinese"),
    "site": ("rehost.wiring.server", "site"),
}


def __getattr__(name: str) -> object:
    """Return a public name from the part where it lives (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
