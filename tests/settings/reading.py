"""Settings read from one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehost.errors import SettingsError
from rehost.settings import Settings, load


def from_dotenv(base: Path, text: str | bytes) -> Settings:
    (base / ".env").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(base, {}, {})


def from_toml(base: Path, text: str) -> Settings:
    (base / "rehost.toml").write_text(text)
    return load(base, {}, {})


def error_of(base: Path, **environ: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load(base, environ, {})
    return str(raised.value)
