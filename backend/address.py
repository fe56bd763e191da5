"""The database's URL in the form that asyncpg accepts."""

from __future__ import annotations

import re


def plain(url: str) -> str:
    """Return the URL without the driver, which only SQLAlchemy knows, and without connect_timeout: ours is fixed."""
    url = re.sub(r"^postgresql\+\w+:", "postgresql:", url)
    return re.sub(r"[?&]$", "", re.sub(r"(?<=[?&])connect_timeout=\d+(&|$)", "", url))
