"""Settings: what the operator may choose, read once and parsed at the edge."""

from rehost.settings.knobs import DatabaseParts, Knob, Settings, knobs
from rehost.settings.loading import load
from rehost.settings.sections import OriginOverride, SourceSettings
from rehost.settings.values import ConnectTo, Network, size_text

__all__ = [
    "ConnectTo",
    "DatabaseParts",
    "Knob",
    "Network",
    "OriginOverride",
    "Settings",
    "SourceSettings",
    "knobs",
    "load",
    "size_text",
]
