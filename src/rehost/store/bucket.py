"""A bucket of S3-compatible object storage, by obstore: objects by name, bounded requests, outages waited out.

An error of a request means "unknown", not "not done": a server that hung may have stored the object. So a `put` that
failed asks what is there before it is repeated, and repeating it is safe because the caller gives one name the same
bytes every time. obstore's errors have no status (0.12); what they mean is decided here and nowhere else.

obstore starts threads, which do not survive a fork: a process that has used a bucket must not fork afterwards.
"""

from __future__ import annotations

import asyncio
import html
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.language import Message
from rehost.model import Bucket

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import S3Store as Connection

T = TypeVar("T")

log = logging.getLogger(__name__)

REQUESTS = 32  # in flight
LARGE = 1 << 20  # bytes; of larger bodies only LARGE_REQUESTS are in flight, because each is in memory as a whole
LARGE_REQUESTS = 2
LISTED = 1000  # names in a group, as on a page of the server's listing
OUTAGE_SECONDS = 180.0  # that a server may be away which has answered before
FIRST_SECONDS = 15.0  # the same for one that has not
REQUEST_SECONDS = 120.0  # that one request may take, without the time for a body that is sent
SLOWEST = 32 << 10  # bytes a second that all bodies in flight may share: an upload of 256 kbit/s
_CHUNK_BYTES = 1 << 18  # of a body that is read
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0  # seconds between two tries
_SHA256 = "sha256"  # the key of the digest in an object's metadata; servers return such keys in lower case
_BEYOND_END = "416 Range Not Satisfiable"  # the text of the error, for an empty object too
_LONGEST_CAUSE = 300  # characters of an error's text
_ENDPOINT = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:/[^\s?#]*)?")
_LAST_PORT = 65535
_REGION = re.compile(r"[A-Za-z0-9._-]*")
_NO_CREDENTIALS = ("/latest/api/token", "/latest/meta-data/")  # without variables, a cloud's machine is asked for some
_SERVER_WORDS = re.compile(r"<Message>([^<]{1,300})</Message>")  # of an error document of S3
_SYSTEM_WORDS = re.compile(r'(?:message|error): "([^"]{1,300})"')  # Os { .., message: "Connection refused" }
_TLS_WORDS = re.compile(r"Invalid(?:Certificate|Message)\(\s*(\w+)")  # InvalidCertificate(UnknownIssuer)
_NAMES = """ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN REGION DEFAULT_REGION ENDPOINT ENDPOINT_URL ENDPOINT_URL_S3
    VIRTUAL_HOSTED_STYLE_REQUEST SKIP_SIGNATURE UNSIGNED_PAYLOAD SERVER_SIDE_ENCRYPTION SSE_KMS_KEY_ID
    SSE_BUCKET_KEY_ENABLED REQUEST_PAYER CHECKSUM_ALGORITHM S3_EXPRESS METADATA_ENDPOINT IMDSV1_FALLBACK
    CONTAINER_CREDENTIALS_RELATIVE_URI CONTAINER_CREDENTIALS_FULL_URI CONTAINER_AUTHORIZATION_TOKEN_FILE
    WEB_IDENTITY_TOKEN_FILE ROLE_ARN ROLE_SESSION_NAME ENDPOINT_URL_STS"""
_USED = frozenset(f"AWS_{name}" for name in _NAMES.split())  # what obstore knows; AWS_ALLOW_HTTP follows from the URL


class BucketAwayError(StoreError):
    """The server has not answered for so long that the request is given up."""


@dataclass(frozen=True, slots=True)
class Object:
    """What a server says of an object."""

    name: str
    size: int  # bytes
    modified: float  # seconds since 1970
    etag: str
    sha256: str = ""  # in hexadecimal; "" where the object has none, and in a listing
    media_type: str = ""  # as the server sends it; "" in a listing


class BucketClient:
    """Reads and writes the objects of one bucket below its prefix. Every method may raise StoreError."""

    def __init__(
        self,
        bucket: Bucket,
        aws: Mapping[str, str],
        clock: Clock,
        outage_seconds: float = OUTAGE_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        """Open no connection yet.

        Args:
            bucket: where the objects are.
            aws: variables such as AWS_ENDPOINT_URL, AWS_REGION and AWS_ACCESS_KEY_ID.
            clock: for pauses.
            outage_seconds: how long a request is repeated while the server is away; FIRST_SECONDS at most until it has
                answered once.
            request_seconds: how long one request may take, besides the time for a body at the SLOWEST rate; of a body
                that is received, each part.

        Raises:
            StoreError: the extra `s3` is not installed, or a variable cannot be used.
        """
        try:
            import obstore  # noqa: PLC0415 - of an extra, and slow to import
        except ImportError as error:
            raise StoreError(
                "Copies in a bucket need obstore: run pip install '.[s3]' in the clone of rehost, or pip install "
                "obstore for the backend."
            ) from error
        self._obstore = obstore
        self._errors = obstore.exceptions
        self._bucket = bucket
        self._clock = clock
        self._outage_seconds = outage_seconds
        self._request_seconds = request_seconds
        self._connection = self._connect(aws)
        self._requests = asyncio.Semaphore(REQUESTS)
        self._large = asyncio.Semaphore(LARGE_REQUESTS)
        self._is_away = False
        self._has_answered = False

    @property
    def address(self) -> str:
        """Return what tells this bucket and prefix from others: its server as the settings name it, and the names."""
        return f"{self._endpoint} {self._bucket}"

    async def head(self, name: str) -> Object | None:
        """Return what the server says of an object; None if there is none."""
        async with self._requests:
            return await self._head(name)

    async def read(self, name: str, target: Path) -> bool:
        """Write an object's bytes to a new file; return False, and leave no file, if there is no such object.

        Raises:
            OSError: the file cannot be written.
        """
        with target.open("xb") as file:  # buffered: a write without a buffer may write less, and say so to nobody

            async def work() -> None:
                file.seek(0)
                file.truncate()
                async with asyncio.timeout(self._request_seconds) as limit:
                    found = await self._obstore.get_async(self._connection, name)
                    async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                        file.write(chunk)
                        limit.reschedule(asyncio.get_running_loop().time() + self._request_seconds)
                file.flush()

            is_read = False
            try:
                async with self._requests:
                    await self._try(work, body_seconds=None)
                is_read = True
            except FileNotFoundError:
                pass
            finally:
                if not is_read:
                    await asyncio.to_thread(target.unlink)
        return is_read

    async def part(self, name: str, start: int, size: int) -> tuple[Object, bytes] | None:
        """Return at most so many bytes of an object from a position on; None where there are none."""

        async def work() -> tuple[Object, bytes] | None:
            span: Any = {"range": (start, start + size)}
            try:
                found = await self._obstore.get_async(self._connection, name, options=span)
                body = bytes(await found.bytes_async())
            except self._errors.GenericError as error:
                if _BEYOND_END in str(error):
                    return None
                raise
            return _object(found), body

        with suppress(FileNotFoundError):
            async with self._requests:
                return await self._try(work)
        return None

    async def text(self, name: str) -> str | None:
        """Return a small object of ours as text; None if there is none."""

        async def work() -> str:
            found = await self._obstore.get_async(self._connection, name)
            return bytes(await found.bytes_async()).decode(errors="surrogateescape")

        try:
            async with self._requests:
                return await self._try(work)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from error
        return None

    async def put(
        self, name: str, body: Path | bytes, *, sha256: str = "", media_type: str = "text/plain", caching: str = ""
    ) -> None:
        """Store an object, and return once it is durable.

        Args:
            name: of the object; to be given the same bytes always.
            body: its bytes, or a file that has them.
            sha256: of the bytes, in hexadecimal; where it is empty, an error does not ask what is there.
            media_type: what the server sends as Content-Type.
            caching: what it sends as Cache-Control.

        Raises:
            OSError: the file cannot be read.
        """
        size = _size(body)
        attributes = {"Content-Type": media_type, "Cache-Control": caching, _SHA256: sha256}
        attributes = {key: value for key, value in attributes.items() if value}

        async def work() -> None:
            await self._obstore.put_async(self._connection, name, data, attributes=attributes, use_multipart=False)

        async def is_done() -> bool:
            found = await self._head(name) if sha256 else None
            return found is not None and (found.size, found.sha256) == (size, sha256)

        slots, number = (self._large, LARGE_REQUESTS) if size > LARGE else (self._requests, REQUESTS)
        async with slots:
            data = body if isinstance(body, bytes) else await asyncio.to_thread(body.read_bytes)
            try:
                await self._try(work, is_done, body_seconds=number * size / SLOWEST)
            except FileNotFoundError as error:
                raise self._no_bucket() from error

    async def copy(self, name: str, to: str, *, patience: float | None = None) -> bool:
        """Copy an object with its metadata; return False if there is none.

        Args:
            name: of the object.
            to: the other name.
            patience: seconds that the server may be away; None for as long as with other requests.
        """
        with suppress(FileNotFoundError):
            async with self._requests:
                copying = partial(self._obstore.copy_async, self._connection, name, to)
                await self._try(copying, patience=patience)
            return True
        return False

    async def delete(self, names: Sequence[str], *, patience: float | None = None) -> None:
        """Delete objects; names without one are no error. `patience` is that of `copy`."""
        with suppress(FileNotFoundError):
            if names:
                async with self._requests:
                    deleting = partial(self._obstore.delete_async, self._connection, list(names))
                    await self._try(deleting, patience=patience)

    async def list(self, folder: str = "") -> AsyncIterator[Sequence[Object]]:
        """Yield the objects below a folder in groups; after an outage, the listing goes on where it was."""
        last = stream = None

        async def work() -> Sequence[ObjectMeta]:
            nonlocal stream
            try:
                stream = stream or self._obstore.list(self._connection, folder or None, offset=last, chunk_size=LISTED)
                page: Sequence[ObjectMeta] = await stream.__anext__()
            except StopAsyncIteration:
                return ()
            except BaseException:
                stream = None
                raise
            return page

        while page := await self._try(work):
            last = page[-1]["path"]
            yield [_listed(each) for each in page]

    async def sign(self, name: str, seconds: float, method: Literal["GET", "HEAD"] = "GET") -> str:
        """Return a URL under which anybody can read an object for so many seconds, whether or not it exists."""
        span = timedelta(seconds=seconds)
        return await self._try(lambda: self._obstore.sign_async(self._connection, method, name, span))

    async def _head(self, name: str) -> Object | None:
        async def work() -> Object:
            found = await self._obstore.get_async(self._connection, name, options={"head": True})
            return _object(found)

        with suppress(FileNotFoundError):
            return await self._try(work)
        return None

    async def _try(
        self,
        work: Callable[[], Awaitable[T]],
        is_done: Callable[[], Awaitable[bool]] | None = None,
        patience: float | None = None,
        body_seconds: float | None = 0.0,
    ) -> T:
        """Return what `work` returns; repeat it while the server is away, unless it turns out to be done.

        Each time it may take as long as a request without a body and `body_seconds` more; with None it has a limit of
        its own. Time beyond that of a request without a body is no time that the server is away.

        Raises:
            FileNotFoundError: there is no such object, or no such bucket.
            BucketAwayError: the server was away for too long.
            StoreError: the bucket cannot be used.
        """
        began, pause = self._clock.monotonic(), _FIRST_PAUSE
        while True:
            started = self._clock.monotonic()
            try:
                async with asyncio.timeout(None if body_seconds is None else self._request_seconds + body_seconds):
                    result = await work()
            except FileNotFoundError:
                self._answered()
                raise
            except (self._errors.BaseError, TimeoutError) as error:
                now = self._clock.monotonic()
                began += max(0.0, now - started - self._request_seconds)
                self._check(error, now - began, patience)
            else:
                self._answered()
                return result
            await self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if is_done is not None and await is_done():
                return cast("T", None)

    def _answered(self) -> None:
        if self._is_away:
            log.warning("The bucket %s answers again.", self._bucket)
        self._is_away, self._has_answered = False, True

    def _check(self, error: Exception, seconds: float, patience: float | None) -> None:
        """Raise StoreError if it does not help to wait and try again after so many seconds of trying."""
        if not self._has_answered and any(text in str(error) for text in _NO_CREDENTIALS):
            raise StoreError(
                "There are no credentials for the bucket {bucket}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
                bucket=self._bucket,
            ) from error
        if isinstance(error, self._errors.PermissionDeniedError | self._errors.UnauthenticatedError):
            raise self._refused(error) from error
        if "NoSuchBucket" in str(error):
            raise self._no_bucket() from error
        usual = self._outage_seconds if self._has_answered else min(self._outage_seconds, FIRST_SECONDS)
        most = usual if patience is None else patience
        if seconds > most:
            raise self._away(error, most) from error
        if not self._is_away:
            log.warning("The bucket %s cannot be used at the moment, waiting for it: %s", self._bucket, _cause(error))
        self._is_away = True

    def _connect(self, aws: Mapping[str, str]) -> Connection:
        """Return a connection that is opened with the first request."""
        from obstore.store import S3Store as Connection  # noqa: PLC0415 - as in __init__

        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        endpoint = next((aws[name] for name in names if aws.get(name)), "")
        self._endpoint = endpoint or "Amazon S3"
        self._check_variables(endpoint, aws)
        config: Any = {name.lower(): value for name, value in aws.items() if name in _USED and value}
        options: Any = {"timeout": timedelta(days=1), "connect_timeout": timedelta(seconds=5)}  # `_try` has the limits
        if endpoint.startswith("http://"):
            options["allow_http"] = True
        try:
            return Connection(
                self._bucket.name,
                prefix=self._bucket.prefix or None,
                config={"aws_checksum_algorithm": "SHA256"} | config,
                client_options=options,
                retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
            )
        except (self._errors.BaseError, ValueError) as error:
            raise self._not_opened(_cause(error)) from error

    def _check_variables(self, endpoint: str, aws: Mapping[str, str]) -> None:
        """Refuse values that no URL and no header can contain: obstore would panic, which no `except` of ours covers.

        Raises:
            StoreError: there is one.
        """
        address = _ENDPOINT.fullmatch(endpoint)
        if endpoint and (address is None or int(address["port"] or 0) > _LAST_PORT):
            raise self._not_opened(
                Message("{endpoint!r} is no address such as https://s3.example.com", endpoint=endpoint)
            )
        for name in sorted(_USED & aws.keys()):
            text = aws[name]
            if not text.isprintable() or (name.endswith("REGION") and not _REGION.fullmatch(text)):
                raise self._not_opened(Message("{name} has characters that are not allowed there", name=name))

    def _not_opened(self, cause: str) -> StoreError:
        return StoreError(
            "The bucket {bucket} cannot be opened: {cause}; check the AWS_* variables.",
            bucket=self._bucket,
            cause=cause,
        )

    def _no_bucket(self) -> StoreError:
        return StoreError(
            "There is no bucket {name} at {endpoint}: create it, or correct IMAGE_STORAGE_DIR.",
            name=self._bucket.name,
            endpoint=self._endpoint,
        )

    def _refused(self, error: Exception) -> StoreError:
        return StoreError(
            "The bucket {bucket} refuses access ({cause}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, whether "
            "this key may list, read, write and delete, and this machine's clock.",
            bucket=self._bucket,
            cause=_cause(error),
        )

    def _away(self, error: Exception, seconds: float) -> BucketAwayError:
        return BucketAwayError(
            "The bucket {bucket} at {endpoint} cannot be used, after {seconds:.0f} seconds of trying: {cause}.",
            bucket=self._bucket,
            endpoint=self._endpoint,
            seconds=seconds,
            cause=_cause(error),
        )


def _listed(meta: ObjectMeta, sha256: str = "", media_type: str = "") -> Object:
    modified = meta["last_modified"].timestamp()
    return Object(meta["path"], meta["size"], modified, meta["e_tag"] or "", sha256, media_type)


def _object(found: GetResult) -> Object:
    kept = found.attributes
    return _listed(found.meta, str(kept.get(_SHA256, "")), str(kept.get("Content-Type", "")))


def _size(body: Path | bytes) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def _cause(error: Exception) -> Message:
    """Return what the server says, else what the system says of the connection, else the end of obstore's own text."""
    text, _, inner = str(error).partition("Debug source:")
    if found := _SERVER_WORDS.search(text) or _SYSTEM_WORDS.search(inner):
        return Message(html.unescape(found[1]))
    if found := _TLS_WORDS.search(inner):
        return Message(f"TLS: {found[1]}")
    if isinstance(error, TimeoutError) or "TimedOut" in inner:
        return Message("Connection timed out")
    return Message(" ".join(text.split()).rpartition(" - ")[2].rstrip(": ")[:_LONGEST_CAUSE])
