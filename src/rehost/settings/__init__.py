"""Settings: what the operator may choose, read once and parsed at the edge."""

from rehost.settings.fields import DatabaseParts, Setting, Settings, knobs
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
    "knobs",
    "load",
    "size_text",
]
