"""The data that all packages share, in the order of a visit.

A cell of a row contains a Link; a worker leases it as a Task; the visit sends Requests and gets a Download, whose bytes
are verified as an Image and stored as a Copy; the result of the visit is an Outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self


class Reason(StrEnum):
    """Why a link has no copy: one word per cause. `docs/reference/reasons.md` is generated from the texts below."""

    def __new__(cls, word: str, meaning: str) -> Self:
        """Make a member whose value is the word."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member

    meaning: str

    # the link
    NOT_A_URL = "not-a-url", "The cell contains no http or https URL; nothing was requested."
    ADDRESS_REFUSED = "address-refused", "The host resolves to an address that is not public (IMAGE_ALLOW_NETWORKS)."
    PORT_REFUSED = "port-refused", 'The link uses a port that browsers block (Fetch standard, "bad ports").'
    KEY_TOO_LONG = "key-too-long", "The row's key is too long for the name of a file; nothing was requested."
    ROBOTS_REFUSED = "robots-refused", "The origin's robots.txt or X-Robots-Tag forbids it, and IMAGE_ROBOTS is on."
    TAKEN_DOWN = "taken-down", "`rehost forget` took it down; nothing is requested until `rehost forget --allow`."
    # reaching the origin
    UNRESOLVED = "unresolved", "The host name has no address."
    UNREACHABLE = "unreachable", "No connection could be made, or it broke before a response."
    TLS_FAILED = "tls-failed", "The TLS handshake failed, or the certificate is not valid."
    TIMED_OUT = "timed-out", "The attempt took longer than IMAGE_DOWNLOAD_TIMEOUT."
    # the response
    GONE = "gone", "The origin says that there is no such picture (404, 410)."
    HOTLINK_REFUSED = "hotlink-refused", "The origin refused the request (401, 403, 451)."
    THROTTLED = (
        "throttled",
        "The origin asked us to wait (429, 503 with Retry-After), its host is paused, or the daily budget is spent.",
    )
    ORIGIN_ERROR = "origin-error", "The origin reported a problem of its own (408, 425, 5xx)."
    UNEXPECTED_STATUS = (
        "unexpected-status",
        "The origin answered with a status that means neither a picture nor a known problem.",
    )
    TOO_MANY_REDIRECTS = "too-many-redirects", "More redirects than IMAGE_MAX_REDIRECTS, or a loop."
    MALFORMED = (
        "malformed",
        "The response violates HTTP: framing, headers, encoding, or a range that was not requested.",
    )
    # the bytes
    TRUNCATED = "truncated", "The picture is incomplete."
    TOO_LARGE = "too-large", "More bytes, pixels, frames, decoding time or memory than the limits allow."
    EMPTY = "empty", "The body is empty."
    NOT_AN_IMAGE = "not-an-image", "The bytes are not a picture in a supported format; often they are an HTML page."
    UNSUPPORTED_FORMAT = "unsupported-format", "A format that rehost cannot verify: JPEG XL, a video, an archive ..."
    SVG = "svg", "SVG is refused, because it is a document that can run scripts."
    CORRUPT = "corrupt", "A decoder cannot read the whole picture."
    DECOY = "decoy", "The origin sent a placeholder instead of the picture."
    # the row
    ROW_REFUSED = (
        "row-refused",
        "The picture is stored, but the database refuses to write its row: a trigger, a constraint, a policy, a lock.",
    )
    # ourselves
    QUOTA_REACHED = (
        "quota-reached",
        "The copies of its domain, or source, take up what IMAGE_MAX_HOST_BYTES or IMAGE_MAX_SOURCE_BYTES allows.",
    )
    FILE_UNREADABLE = (
        "file-unreadable",
        "A file at the place of its copy cannot be read, so it was left as it is; nothing was requested.",
    )
    WORKER_DIED = (
        "worker-died",
        "Each process that visited this picture ended without a result, the last two while they visited nothing else.",
    )
    BUG = "bug", "rehost itself failed while processing this picture or planning a run; the traceback is in the log."


REFUSALS = frozenset({Reason.HOTLINK_REFUSED, Reason.NOT_AN_IMAGE, Reason.DECOY})
"""What another Referer may cure: 401, 403, 451, a page in place of the image, a decoy; not a 404, not a timeout."""


class State(StrEnum):
    """The state of a link in the ledger."""

    def __new__(cls, word: str, meaning: str) -> Self:
        """Make a member whose value is the word."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member

    meaning: str

    WANTED = "wanted", "no copy yet, or one to be replaced; due now"
    LEASED = "leased", "a worker is visiting it, until its lease ends"
    HELD = "held", "a complete copy is stored, and the row points at it"
    DEFERRED = "deferred", "failed temporarily; due again in minutes to a day, or when the origin asked"
    REFUSED = "refused", "failed permanently; due again in weeks"


class Mark(StrEnum):
    """What a takedown names: no picture from that URL or origin, and none with those bytes, is held or served."""

    URL = "url"  # normalised
    ORIGIN = "origin"  # scheme://host[:port]
    DIGEST = "digest"
    KEY = "key"  # in the store: where the answer is that it is gone


Tombstone = tuple[Mark, str]
"""A kind, and a value of it."""


class Format(StrEnum):
    """An image format that can be verified; the value is the extension in the store."""

    def __new__(cls, extension: str, media_type: str) -> Self:
        """Make a member whose value is the extension."""
        member = str.__new__(cls, extension)
        member._value_ = extension
        member.media_type = media_type
        return member

    media_type: str

    JPEG = "jpg", "image/jpeg"
    PNG = "png", "image/png"
    GIF = "gif", "image/gif"
    WEBP = "webp", "image/webp"
    AVIF = "avif", "image/avif"
    BMP = "bmp", "image/bmp"
    TIFF = "tiff", "image/tiff"
    ICO = "ico", "image/x-icon"
    JPEG2000 = "jp2", "image/jp2"
    HEIC = "heic", "image/heic"

    @property
    def is_displayed(self) -> bool:
        """Return whether Chromium and Firefox display it."""
        return self not in {Format.TIFF, Format.JPEG2000, Format.HEIC}


MAX_LINK_CHARACTERS = 32_768
"""No server accepts a longer request line: a longer cell is not a link, and is not read further."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table of the operator: rehost reads the link of each row and writes its local URL."""

    name: str = "cases"
    table: str = "ad_cases"  # may include a schema: public.ad_cases
    key: str = "case_id"  # column that identifies a row permanently: unique, of numbers or text
    link: str = "main_image"  # column with the link
    page: str | None = "source_url"  # column with the page that shows the picture, if there is one
    local: str = "main_image_local"  # column that rehost writes
    path: str = "{key}/main_image"  # template of a copy's name in the store, without its extension
    title: str | None = "title"  # column with words to search for in the dashboard; it may be missing


@dataclass(frozen=True, slots=True)
class Link:
    """A cell, or an element of a cell, that contains a remote image URL, exactly as in the row."""

    source: str
    row_key: str
    position: int
    url: str
    page_url: str | None
    local_url: str | None


@dataclass(frozen=True, slots=True)
class Validator:
    """What identifies these bytes for the origin (RFC 9110, section 8.8)."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """A complete image in the store."""

    key: str  # name in the store, such as 297041/main_image.png
    digest: str  # SHA-256, 64 lower-case hexadecimal digits
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place for copies on S3-compatible object storage."""

    name: str
    prefix: str = ""  # of all names, without slashes at its ends

    def __str__(self) -> str:
        """Return the place as it is written in IMAGE_STORAGE_DIR."""
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


@dataclass(frozen=True, slots=True)
class KnownStore:
    """A store that has held copies of this ledger."""

    store: str  # the id in its marker
    folder: str  # where it was last, on that machine
    machine: str


@dataclass(frozen=True, slots=True)
class Task:
    """A link that this worker has leased."""

    entry: int  # the ledger's number for the link
    fence: int  # grows with every lease; results with an older one are rejected
    link: Link
    host: str  # by which the ledger groups links for politeness
    attempt: int  # number of visits including this one
    origin: str = ""  # scheme://host[:port]; empty if the link is no valid URL
    validator: Validator | None = None  # of `copy`: the link's picture is wanted only if it has changed
    copy: Copy | None = None  # the copy that the row has now, if any
    found: str | None = None  # key of a file at the place of this link's copy that the ledger does not know yet
    pending: str | None = None  # digest of the file at `found` if it is this link's: a run was killed while storing it
    held_url: str | None = None  # the link's URL that `copy` came from

    @property
    def has_own_copy(self) -> bool:
        """Return whether the link has its own copy already, and is visited because that may be a decoy."""
        return self.copy is not None and self.held_url == self.link.url


@dataclass(frozen=True, slots=True)
class Partial:
    """The beginning of a body, kept for a validated range (RFC 9110, section 14)."""

    spool: Path
    size: int
    validator: Validator  # a strong one


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt: what to request, how, and where to write the body."""

    url: str  # normalised: absolute, http or https, ASCII
    spool: Path
    referer: str | None = None
    validator: Validator | None = None  # makes the request conditional
    partial: Partial | None = None  # continue from here
    answer_seconds: float | None = None  # stop earlier than usual if no response has begun by then


@dataclass(frozen=True, slots=True)
class Download:
    """A complete body on disk, not verified yet."""

    spool: Path
    size: int
    digest: str
    final_url: str
    validator: Validator
    status: int = 200
    media_type: str | None = None  # as declared; used as evidence only
    waited_seconds: float = field(default=0.0, compare=False)  # until the response began


@dataclass(frozen=True, slots=True)
class NotModified:
    """The origin says that our copy is still current (304)."""

    final_url: str
    validator: Validator


@dataclass(frozen=True, slots=True)
class Image:
    """The properties of a verified image."""

    format: Format
    width: int
    height: int
    frames: int
    damage: str | None = None  # what is wrong in the file, elsewhere than in its pixels


@dataclass(frozen=True, slots=True)
class Stored:
    """The link has a verified image, in the spool or (spool None) in the store already.

    `final_url` is None if no request was made, because a file in the store was adopted.
    """

    task: Task
    copy: Copy
    image: Image
    spool: Path | None
    final_url: str | None = None
    validator: Validator | None = None
    rescued: str | None = None  # where the picture came from, if not from its link


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The copy is still current, or nothing better came, for the reason."""

    task: Task
    validator: Validator | None = None
    reason: Reason | None = None
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """The visit failed for a temporary cause.

    `decoy` is the key of a confirmed decoy at the place of the link's copy, which is to be removed. `lost` is the key
    of its copy if the file is missing or damaged and nothing has the picture any more: then its row is to be cleared.
    """

    task: Task
    reason: Reason
    evidence: str
    wait_seconds: float
    decoy: str | None = None
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The visit failed for a permanent cause; `decoy` and `lost` as in Deferred."""

    task: Task
    reason: Reason
    evidence: str
    wait_seconds: float
    decoy: str | None = None
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class RowRefusal:
    """Why a row was not written; it is as it was, or as a trigger made it."""

    local_url: str | None  # what it holds
    evidence: str  # the database's words, or what was seen
    wait_seconds: float  # until the next attempt to write it


Outcome = Stored | Unchanged | Deferred | Refused


class Referer(StrEnum):
    """A rule for the Referer header, the least revealing first; a fixed URL is a rule too."""

    NONE = "none"
    ORIGIN = "origin"  # the root of the link's own origin
    SITE = "site"  # https://www.<registrable domain>/
    PAGE = "page"  # the row's own page


@dataclass(frozen=True, slots=True)
class Rule:
    """The Referer that an origin requires, and how this was learned."""

    origin: str  # scheme://host[:port]
    referer: str  # a Referer's value, or a fixed URL
    evidence: str
    learned_at: datetime
