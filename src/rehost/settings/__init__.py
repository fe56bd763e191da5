"""The settings: what an operator can choose, parsed once before anything starts."""

from rehost.settings.definitions import DatabaseParts, Setting, Settings, settings_of
from rehost.settings.loader import load
from rehost.settings.sections import OriginOverride
from rehost.settings.types import ConnectTo, Network, size_text

__all__ = [
    "ConnectTo",
    "DatabaseParts",
    "Network",
    "OriginOverride",
    "Setting",
    "Settings",
    "load",
    "settings_of",
    "size_text",
]
