"""Whom a pattern of the operator's names: a host such as `*.example.com`, or one origin. Pure."""

from __future__ import annotations

from rehost.http.url import host_of, normalise, origin_of


class Pattern:
    """A host, a host and all below it (`*.example.com`, example.com included), or `scheme://host[:port]`."""

    def __init__(self, text: str) -> None:
        """Read a pattern as `[origin."PATTERN"]` in rehost.toml has it."""
        root = normalise(text) if "://" in text else None
        self._origin = origin_of(root) if root else None
        self._below = text.startswith("*.")
        self._host = host_of(root) if root else text.removeprefix("*.").lower()

    def fits(self, url: str) -> bool:
        """Return whether the origin of a normalised URL is meant."""
        if self._origin is not None:
            return self._origin == origin_of(url)
        return self.fits_host(host_of(url))

    def fits_host(self, host: str) -> bool:
        """Return whether a host is meant; one origin of it is enough."""
        return host == self._host or (self._below and host.endswith(f".{self._host}"))
