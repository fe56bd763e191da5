"""Asks the served URLs of copies: does a reader get the bytes that the ledger has?"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from rehost.errors import OperatorError, SettingsError, cause_of
from rehost.ledger.copies import KnownCopy
from rehost.store.layout import Layout

TIMEOUT_SECONDS = 20.0
READERS = 4  # requests at a time: it is the operator's own server
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class ServedCopies:
    """Requests copies from the operator's server, as a reader does: no redirect is followed."""

    base: str  # scheme, host and port; a URL prefix that is absolute replaces it
    layout_of: Callable[[str], Layout]  # of a source

    async def differences(self, copies: Sequence[KnownCopy]) -> Mapping[int, str]:
        """Return in words how these copies are served differently, by entry; those that are served right are left out.

        Raises:
            OperatorError: the server cannot be reached at all.
        """
        slots = asyncio.Semaphore(READERS)

        async def ask(known: KnownCopy) -> str:
            async with slots:
                return await asyncio.to_thread(self._ask, known)

        words = await asyncio.gather(*map(ask, copies))
        return {each.entry: found for each, found in zip(copies, words, strict=True) if found}

    def _ask(self, known: KnownCopy) -> str:
        """Return how the served copy differs; an empty text if it does not."""
        url = self.layout_of(known.link.source).url(known.copy.key, known.copy.digest)
        parts = urlsplit(url if "://" in url else f"{self.base.rstrip('/')}{url}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise OperatorError(
                    "The server at {base} cannot be reached ({cause}): start it, or name another with `--served URL`.",
                    base=f"{parts.scheme}://{parts.netloc}",
                    cause=cause_of(error),
                ) from error
            connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
            return _difference(connection.getresponse(), known)
        except (OSError, http.client.HTTPException) as error:
            return f"{parts.geturl()}: {cause_of(error) or type(error).__name__}"
        finally:
            connection.close()


def base_of(prefix: str, given: str | None) -> str:
    """Return the server to ask: the one that is named, or the one of an absolute URL prefix.

    Raises:
        SettingsError: neither names a server.
    """
    base = given or prefix
    if urlsplit(base).scheme not in {"http", "https"} or not urlsplit(base).hostname:
        raise SettingsError(
            "The copies have local URLs that begin with {prefix}: name the server that serves them, "
            "such as `--served https://www.example.com`.",
            prefix=prefix,
        )
    return base


def _difference(response: http.client.HTTPResponse, known: KnownCopy) -> str:
    if response.status != http.HTTPStatus.OK:
        where = response.getheader("Location")
        return f"status {response.status}" + (f" to {where[:200]}" if where else "")
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    expected = known.image.format.media_type if known.image else kind
    digest, size = hashlib.sha256(), 0
    while size <= known.copy.size and (chunk := response.read(_CHUNK)):
        digest.update(chunk)
        size += len(chunk)
    if digest.hexdigest() != known.copy.digest:
        return f"{size:,} bytes of the type {kind or '(none)'}, which are not the copy's {known.copy.size:,}"
    return "" if kind == expected else f"the copy's bytes, but as {kind or 'no type'}, not as {expected}"
