"""The nouns, in the order in which an image meets them.

A row's cell holds a Link; a worker leases it as a Task; its visit sends Requests and gets a Download, whose bytes
prove to be an Image, which is at rest as a Copy; what came of it is an Outcome.
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
    PORT_REFUSED = "port-refused", "Browsers block this port too (Fetch standard, bad ports)."
    ROBOTS_REFUSED = "robots-refused", "The origin's robots.txt or X-Robots-Tag forbids it, and IMAGE_ROBOTS is on."
    # reaching the origin
    UNRESOLVED = "unresolved", "The host name has no address."
    UNREACHABLE = "unreachable", "No connection could be made, or it broke before a response."
    TLS_FAILED = "tls-failed", "The TLS handshake failed, or the certificate is not valid."
    TIMED_OUT = "timed-out", "The attempt took longer than IMAGE_DOWNLOAD_TIMEOUT."
    # the response
    GONE = "gone", "The origin says that there is no such image (404, 410)."
    HOTLINK_REFUSED = (
        "hotlink-refused",
        "The origin refused the request (401, 403, 451) with every Referer that was tried.",
    )
    THROTTLED = (
        "throttled",
        "The origin asked us to wait (429, 503 with Retry-After), its host is paused, or the daily budget is spent.",
    )
    ORIGIN_ERROR = "origin-error", "The origin reported a problem of its own (408, 425, 5xx)."
    UNEXPECTED_STATUS = (
        "unexpected-status",
        "The origin answered with a status that means neither an image nor a known problem.",
    )
    TOO_MANY_REDIRECTS = "too-many-redirects", "More redirects than IMAGE_MAX_REDIRECTS, or a loop."
    MALFORMED = (
        "malformed",
        "The response violates HTTP: framing, headers, encoding, or a range that was not requested.",
    )
    # the bytes
    TRUNCATED = "truncated", "The image is incomplete."
    TOO_LARGE = "too-large", "More bytes, pixels, frames, decoding time or memory than the limits allow."
    EMPTY = "empty", "The body is empty."
    NOT_AN_IMAGE = "not-an-image", "The bytes are not an image in a supported format; often they are an HTML page."
    UNSUPPORTED_FORMAT = "unsupported-format", "A format that rehost cannot verify: JPEG XL, a video, an archive ..."
    SVG = "svg", "SVG is refused, because it is a document that can run scripts."
    CORRUPT = "corrupt", "A decoder cannot read the whole image."
    DECOY = "decoy", "The origin sent a placeholder instead of the image."
    # ourselves
    BUG = "bug", "rehost itself failed at this image, or at planning a run; the log has the traceback."


class State(StrEnum):
    """The state of a link in the ledger."""

    WANTED = "wanted"  # no copy yet, or one to be replaced; due now
    LEASED = "leased"  # a worker is visiting it, until its lease ends
    HELD = "held"  # a complete copy is stored and the row points at it
    DEFERRED = "deferred"  # failed for a temporary cause; due again within minutes to a week
    REFUSED = "refused"  # failed for a permanent cause; due again after weeks


class Format(StrEnum):
    """An image format that can be proven; the value is the extension in the store."""

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


MAX_LINK_CHARACTERS = 32_768
"""No server takes a longer request line; a cell that holds more is no link, and is read no further than shows that."""


@dataclass(frozen=True, slots=True)
class Source:
    """One table of the operator's: of each row we read the link and write the local URL."""

    name: str = "cases"
    table: str = "ad_cases"  # may carry a schema: public.ad_cases
    key: str = "case_id"  # column that names a row for ever; of numbers or of text, unique
    link: str = "main_image"  # column with the link
    page: str | None = "source_url"  # column with the page that shows the picture, if there is one
    local: str = "main_image_local"  # column that we write
    path: str = "{key}/main_image"  # template of a copy's name in the store, without its extension
    title: str | None = "title"  # column with words to search by on the page; it may be missing


@dataclass(frozen=True, slots=True)
class Link:
    """One cell, or one element of a cell, that holds a remote image URL, exactly as the row has it."""

    source: str
    row_key: str
    position: int
    url: str
    page_url: str | None
    local_url: str | None


@dataclass(frozen=True, slots=True)
class Validator:
    """What the origin said to recognise these bytes by (RFC 9110, section 8.8)."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """A whole image at rest in the store."""

    key: str  # name in the store, such as 297041/main_image.png
    digest: str  # SHA-256, 64 lower-case hexadecimal digits
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Task:
    """A link that this worker has leased."""

    entry: int  # the ledger's number for the link
    fence: int  # grows with every lease; a settle with an older one is refused
    link: Link
    host: str  # as the ledger groups links for politeness
    attempt: int  # visits so far, this one included
    validator: Validator | None = None
    copy: Copy | None = None  # what is held for this link's row now, if anything
    found: str | None = None  # key of a file that lies where this link's copy belongs, not in the ledger yet
    pending: str | None = None  # the digest that the file at `found` must have to be this link's: a run died at it


@dataclass(frozen=True, slots=True)
class Partial:
    """The beginning of a body, kept for a validated range (RFC 9110, section 14)."""

    spool: Path
    size: int
    validator: Validator  # a strong one


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt: what to ask for, how, and where to put the body."""

    url: str  # normalised: absolute, http or https, ASCII
    spool: Path
    referer: str | None = None
    validator: Validator | None = None  # makes the request conditional
    partial: Partial | None = None  # go on from here
    answer_seconds: float | None = None  # give up earlier than usual where no answer has begun by then


@dataclass(frozen=True, slots=True)
class Download:
    """A complete body on disk, not trusted yet."""

    spool: Path
    size: int
    digest: str
    final_url: str
    validator: Validator
    status: int = 200
    media_type: str | None = None  # as announced; only ever evidence
    waited_seconds: float = field(default=0.0, compare=False)  # until the answer began


@dataclass(frozen=True, slots=True)
class NotModified:
    """The origin says that what we hold is still right (304)."""

    final_url: str
    validator: Validator


@dataclass(frozen=True, slots=True)
class Image:
    """What the bytes proved to be."""

    format: Format
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The link has a proven picture: in the spool, to be put at its key, or (spool None) already there.

    `final_url` is None where no request was made: the picture lay in the store already, and was adopted.
    """

    task: Task
    copy: Copy
    image: Image
    spool: Path | None
    final_url: str | None = None
    validator: Validator | None = None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The held copy is still right."""

    task: Task
    validator: Validator | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """No picture now, for a cause that passes.

    `decoy` is the key of a known decoy that lies at the link's place: it is to go.
    """

    task: Task
    reason: Reason
    evidence: str
    wait_seconds: float
    decoy: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No picture, for a cause that stays; `decoy` as in Deferred."""

    task: Task
    reason: Reason
    evidence: str
    wait_seconds: float
    decoy: str | None = None


Outcome = Stored | Unchanged | Deferred | Refused


class Referer(StrEnum):
    """A rule for the Referer header, from the least revealing on; a fixed URL is a rule too."""

    NONE = "none"
    ORIGIN = "origin"  # the root of the link's own origin
    SITE = "site"  # https://www.<registrable domain>/
    PAGE = "page"  # the row's own page


@dataclass(frozen=True, slots=True)
class Rule:
    """What an origin wants to see, and how we know."""

    origin: str  # scheme://host[:port]
    referer: str  # a Referer's value, or a fixed URL
    evidence: str
    learned_at: datetime
