"""The database's URL as asyncpg takes it."""

from __future__ import annotations

import re


def plain(url: str) -> str:
    """Return the URL without its driver, which is SQLAlchemy's affair, and without a time limit: there is one here."""
    url = re.sub(r"^postgresql\+\w+:", "postgresql:", url)
    return re.sub(r"[?&]$", "", re.sub(r"(?<=[?&])connect_timeout=\d+(&|$)", "", url))
