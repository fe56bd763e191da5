"""Asks the served URLs of copies: does a reader get the bytes that the ledger has, and nothing else of the store?"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from rehost.errors import OperatorError, SettingsError, cause_of
from rehost.ledger.copies import KnownCopy
from rehost.store.layout import Layout
from rehost.store.publish import HOME, MARKER

TIMEOUT_SECONDS = 20.0
READERS = 4  # requests at a time: it is the operator's own server
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class ServedCopies:
    """Requests copies from the operator's server, as a reader does; a redirect is followed if one is expected."""

    base: str  # scheme, host and port; a URL prefix that is absolute replaces it
    layout_of: Callable[[str], Layout]  # of a source
    is_redirected: bool = False  # the server redirects to the bucket

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
        url = url if "://" in url else f"{self.base.rstrip('/')}{url}"
        try:
            with _get(url) as response:
                where = response.getheader("Location") or ""
                is_expected = self.is_redirected and response.status == http.HTTPStatus.TEMPORARY_REDIRECT
                if not is_expected or not _is_absolute(where):
                    return _difference(response, known)
            with _get(where) as response:
                return _difference(response, known)
        except (OSError, http.client.HTTPException) as error:
            return f"{url}: {cause_of(error) or type(error).__name__}"


async def exposed(prefix: str, base: str, identity: str) -> str:
    """Return the URL at which the store's own files can be read by anybody, which they must not; "" if they cannot.

    Args:
        prefix: of local URLs.
        base: the server to ask if the prefix is no absolute URL; "" to ask none then.
        identity: of the store, which its marker has.
    """
    if not _is_absolute(url := f"{prefix if _is_absolute(prefix) else base.rstrip('/') + prefix}/{HOME}/{MARKER}"):
        return ""

    def ask() -> str:
        with suppress(OperatorError, OSError, http.client.HTTPException), _get(url) as response:
            if response.status == http.HTTPStatus.OK and response.read(_CHUNK).strip() == identity.encode():
                return url
        return ""

    return await asyncio.to_thread(ask)


def _is_absolute(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


@contextmanager
def _get(url: str) -> Iterator[http.client.HTTPResponse]:
    """Give the response to a request for an absolute URL.

    Raises:
        OperatorError: the server cannot be reached.
        OSError: it does not answer.
        HTTPException: it answers something else than HTTP.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)) as connection:
        try:
            connection.connect()
        except OSError as error:
            raise OperatorError(
                "The server at {base} cannot be reached ({cause}): start it, or name another with `--served URL`.",
                base=f"{parts.scheme}://{parts.netloc}",
                cause=cause_of(error),
            ) from error
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        yield connection.getresponse()


def base_of(prefix: str, given: str | None) -> str:
    """Return the server to ask: the one that is named, or the one of an absolute URL prefix.

    Raises:
        SettingsError: neither names a server.
    """
    base = given or prefix
    if not _is_absolute(base):
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
