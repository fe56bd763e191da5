"""The digest of a file at rest."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file, as 64 lower-case hexadecimal digits; None if there is none."""
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
