"""All settings: each is a dataclass field with its name, default, unit, bounds and help.

To add a setting, add a field here: parsing, error messages, flags and docs/reference/settings.md use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from rehost.language import Message
from rehost.model import Bucket, Source
from rehost.settings.sections import OriginOverride
from rehost.settings.types import (
    ARCHIVE,
    CONNECT_TO,
    DATABASE,
    HEADER,
    HOOK,
    HOSTS,
    NETWORKS,
    OTHER_STORAGE,
    PATH,
    PORT,
    PREFIX,
    REFERER,
    SERVER,
    STORAGE,
    SWITCH,
    TEXT,
    TOKEN,
    WORD,
    ConnectTo,
    Kind,
    Network,
    choice,
    seconds,
    size,
    size_text,
    whole,
)

T = TypeVar("T")

PLACES = ("rehost.toml", ".env", "the environment")

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, without its value."""

    attribute: str
    name: str
    kind: Kind[object]
    default: object
    help: str
    unit: str = ""
    says: str = ""  # the default in words, if the value alone is unclear
    secret: bool = False  # never printed, and not a flag
    short: str = ""  # its flag, if the attribute's name would mislead or be too long

    @property
    def flag(self) -> str:
        """Return its flag on the command line, without the dashes."""
        return self.short or self.attribute.replace("_", "-")

    @property
    def default_text(self) -> str:
        """Return the default as an operator would write it, with its unit."""
        if self.says:
            return Message(self.says)
        if self.unit == "bytes" and isinstance(self.default, int):
            return size_text(self.default)
        value = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        return Message("{value} {unit}", value=value, unit=Message(self.unit)) if self.unit else value


def _setting(
    name: str,
    default: T,
    kind: Kind[T],
    text: str,
    *,
    unit: str = "",
    says: str = "",
    secret: bool = False,
    short: str = "",
) -> T:
    """Return a dataclass field that carries a Setting; its type is that of the value, as in `dataclasses.field`."""
    about = {"name": name, "kind": kind, "default": default, "help": text, "unit": unit, "says": says, "secret": secret}
    return field(default=default, repr=not secret, metadata={"setting": {**about, "short": short}})


@dataclass(frozen=True, slots=True)
class DatabaseParts:
    """The database as DB_* describe it; DATABASE_URL is the same in one line."""

    host: str = _setting("DB_HOST", "localhost", SERVER, "PostgreSQL's host name, address, or folder of its socket.")
    port: int = _setting("DB_PORT", 5432, PORT, "PostgreSQL's port.")
    name: str = _setting("DB_NAME", "ad_case_db", WORD, "Name of the database.")
    user: str = _setting("DB_USER", "postgres", WORD, "Name of the database user.")
    password: str = _setting(
        "DB_PASSWORD", "", TEXT, "Password of the database user; any characters.", says="(empty)", secret=True
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one command, parsed; `load` returns it."""

    database_url: str = _setting(
        "DATABASE_URL",
        "",
        DATABASE,
        "The database that contains the table of links; replaces DB_*, unless those are set in a place of higher "
        "priority. It may have libpq's parameters `?sslmode=...`, `sslrootcert`, `sslcert`, `sslkey`, `sslcrl`, "
        "`application_name`, `connect_timeout`, `options` and `target_session_attrs`.",
        says="made from DB_*",
        secret=True,
    )
    ledger_url: str = _setting(
        "REHOST_LEDGER_URL",
        "",
        DATABASE,
        "The database for rehost's own tables, if they must not be in the same database as the table of links.",
        says="the same database",
        secret=True,
    )
    storage_dir: Path | Bucket = _setting(
        "IMAGE_STORAGE_DIR",
        Path("data/images"),
        STORAGE,
        "Where the copies are: a folder, or s3://BUCKET/PREFIX on S3-compatible object storage. That needs the "
        "extra s3; the AWS_* variables give endpoint, region and credentials.",
    )
    spool_dir: Path = _setting(
        "IMAGE_SPOOL_DIR",
        Path("data/spool"),
        PATH,
        "Folder for downloads until they are in the bucket; not used where the copies are in a folder.",
    )
    other_storage_dir: Path | Bucket | None = _setting(
        "IMAGE_OTHER_STORAGE_DIR",
        None,
        OTHER_STORAGE,
        "A second place from which the server answers with copies that IMAGE_STORAGE_DIR lacks, while `rehost "
        "move-store` moves them from one to the other.",
        says="none",
    )
    concurrency: int = _setting(
        "IMAGE_DOWNLOAD_CONCURRENCY",
        10,
        whole(1, 1000),
        "Maximum requests in flight: from one command with all its workers, and to one host from all machines.",
        unit="requests",
    )
    timeout_seconds: float = _setting(
        "IMAGE_DOWNLOAD_TIMEOUT",
        30.0,
        seconds(0.1, 3600),
        "Time limit of one attempt, from connecting to the last byte, including redirects.",
        unit="seconds",
        short="timeout",
    )
    retry: int = _setting(
        "IMAGE_DOWNLOAD_RETRY",
        3,
        whole(0, 100),
        "Maximum number of attempts per visit, if another attempt may help; 0 and 1 both mean one.",
        unit="attempts",
        short="attempts",
    )
    static_url_prefix: str = _setting(
        "IMAGE_STATIC_URL_PREFIX",
        "/static/images",
        PREFIX,
        "What the local URLs in the rows start with: the URL path under which the copies are served or, if a CDN or "
        "another server is in front of them, its address (http(s)://host/path); rehost then serves at the path alone.",
    )
    bucket_serving: str = _setting(
        "IMAGE_BUCKET_SERVING",
        "pass",
        choice("pass", "redirect"),
        "How the server answers with copies in a bucket: it reads them and passes them on, or it redirects to a URL of "
        "the bucket (AWS_ENDPOINT_URL) that works for 15 minutes; browsers have to reach that address then.",
    )
    url_version: bool = _setting(
        "IMAGE_URL_VERSION",
        default=False,
        kind=SWITCH,
        text="Local URLs end in ?v= and the first 16 digits of the copy's digest, so that caches keep them for ever.",
        says="off",
    )
    blocked_by: str = _setting(
        "IMAGE_BLOCKED_BY",
        "",
        HEADER,
        "A URL that says who blocks a picture that was taken down with `rehost forget --legal` (RFC 7725): the server "
        "names it where it answers 451.",
        says="(none)",
    )
    cache_control: str = _setting(
        "IMAGE_CACHE_CONTROL",
        "public, max-age=3600, stale-while-revalidate=86400",
        HEADER,
        "The Cache-Control of the copies; empty means none. URLs with a digest (in ?v=, or in the name as in a bucket) "
        "always get max-age=31536000, immutable.",
    )
    allow_networks: tuple[Network, ...] = _setting(
        "IMAGE_ALLOW_NETWORKS",
        (),
        NETWORKS,
        "Networks that links may lead to although they are not public, or hold this machine's own addresses.",
        says="(none)",
    )
    connect_to: tuple[ConnectTo, ...] = _setting(
        "IMAGE_CONNECT_TO",
        (),
        CONNECT_TO,
        "Connect to an address other than the link's, like curl's --connect-to; that address must be allowed too.",
        says="(none)",
    )
    proxy_resolves: bool = _setting(
        "IMAGE_PROXY_RESOLVES",
        default=False,
        kind=SWITCH,
        text="Whether names are left to the proxy (HTTPS_PROXY, HTTP_PROXY), which then has to refuse inner addresses.",
        says="off",
    )
    max_bytes: int = _setting(
        "IMAGE_MAX_BYTES",
        64 * MIB,
        size(1, TIB),
        "Maximum size of a picture, after decoding any Content-Encoding.",
        unit="bytes",
    )
    max_pixels: int = _setting(
        "IMAGE_MAX_PIXELS", 50_000_000, whole(1, 10**12), "Maximum width times height.", unit="pixels"
    )
    max_frames: int = _setting(
        "IMAGE_MAX_FRAMES", 2000, whole(1, 10**6), "Maximum number of frames in an animation.", unit="frames"
    )
    max_total_pixels: int = _setting(
        "IMAGE_MAX_TOTAL_PIXELS",
        1_000_000_000,
        whole(1, 10**15),
        "Maximum width times height times frames: a few kilobytes can announce frames that take minutes to decode.",
        unit="pixels",
    )
    max_redirects: int = _setting(
        "IMAGE_MAX_REDIRECTS", 5, whole(0, 50), "Maximum number of redirects per attempt.", unit="hops"
    )
    verify: str = _setting(
        "IMAGE_VERIFY",
        "decode",
        choice("decode", "structure"),
        "How a picture is verified: by decoding all of it, or only by reading its structure to the end.",
    )
    decode_memory_bytes: int = _setting(
        "IMAGE_DECODE_MEMORY",
        512 * MIB,
        size(64 * MIB, TIB),
        "Memory limit of each decoder process; a picture that needs more counts as too large.",
        unit="bytes",
        short="decode-memory",
    )
    decode_seconds: float = _setting(
        "IMAGE_DECODE_SECONDS",
        20.0,
        seconds(0.1, 3600),
        "Time limit for decoding one picture; a picture that needs longer counts as too large.",
        unit="seconds",
    )
    decode_processes: int = _setting(
        "IMAGE_DECODE_PROCESSES",
        0,
        whole(0, 256),
        "Number of decoder processes; 0 means one per core.",
        unit="processes",
    )
    min_free_bytes: int = _setting(
        "IMAGE_MIN_FREE_BYTES",
        GIB,
        size(0, 1024 * TIB),
        "Disk space that must stay free; the run stops before free space falls below it.",
        unit="bytes",
    )
    max_host_bytes: int = _setting(
        "IMAGE_MAX_HOST_BYTES",
        0,
        size(0, 1024 * TIB),
        "Maximum size of all copies from one registrable domain (example.com with all its hosts); 0 means no limit.",
        unit="bytes",
    )
    max_source_bytes: int = _setting(
        "IMAGE_MAX_SOURCE_BYTES",
        0,
        size(0, 1024 * TIB),
        "Maximum size of all copies of one source; 0 means no limit.",
        unit="bytes",
    )
    lease_seconds: float = _setting(
        "IMAGE_LEASE_SECONDS",
        120.0,
        seconds(5, 86400),
        "Time without a heartbeat after which other workers take over a worker's links.",
        unit="seconds",
    )
    referer: str = _setting(
        "IMAGE_REFERER",
        "auto",
        REFERER,
        "The Referer sent to origins: learned for each origin (auto), or the same rule for all.",
    )
    user_agent: str = _setting(
        "IMAGE_USER_AGENT", "", HEADER, "The User-Agent sent to origins.", says="rehost/VERSION (IMAGE_CONTACT)"
    )
    contact: str = _setting(
        "IMAGE_CONTACT",
        "",
        HEADER,
        "An e-mail address or URL where the owner of an origin can reach you; becomes part of the User-Agent.",
        says="(none)",
    )
    min_delay_seconds: float = _setting(
        "IMAGE_MIN_DELAY",
        0.0,
        seconds(0, 3600),
        "Minimum time between two requests to one host.",
        unit="seconds",
        short="min-delay",
    )
    daily_budget: int = _setting(
        "IMAGE_DAILY_BUDGET",
        0,
        whole(0, 10**9),
        "Maximum number of requests to one host per UTC day, from all workers and runs; 0 means no limit.",
        unit="requests",
    )
    robots: bool = _setting(
        "IMAGE_ROBOTS", default=False, kind=SWITCH, text="Whether to obey robots.txt and X-Robots-Tag.", says="off"
    )
    read_through: bool = _setting(
        "IMAGE_READ_THROUGH",
        default=False,
        kind=SWITCH,
        text="Whether a request for /image/SOURCE/KEY fetches the picture if it has no copy yet.",
        says="off",
    )
    rescue_archive: str = _setting(
        "IMAGE_RESCUE_ARCHIVE",
        "",
        ARCHIVE,
        "The archive that `--rescue` and repairs ask for pictures that their origins do not have any more: "
        "a URL in which {url} is the picture's and {date} the day when it was last held, or first seen (20240131). "
        "In rehost.toml also `archive` in the section [rescue].",
        says="(none)",
    )
    after_forget: str = _setting(
        "IMAGE_AFTER_FORGET",
        "",
        HOOK,
        "What is called after a takedown, such as to purge a CDN: a URL that gets JSON by POST, or a command that gets "
        "it as its input. In rehost.toml also `after_forget` in the section [hooks].",
        says="(none)",
    )
    token: str = _setting(
        "REHOST_TOKEN",
        "",
        TOKEN,
        "The token that actions through the API and the dashboard require; without a token there are no actions.",
        says="(none)",
        secret=True,
    )
    api_host: str = _setting("API_HOST", "127.0.0.1", WORD, "Address on which the server listens.")
    api_port: int = _setting("API_PORT", 8000, PORT, "Port on which the server listens.")
    allowed_hosts: tuple[str, ...] = _setting(
        "API_ALLOWED_HOSTS",
        (),
        HOSTS,
        "Host names under which browsers can open the dashboard and the API; the copies have no such limit.",
        says="(localhost, API_HOST and any IP address)",
    )
    aws: Mapping[str, str] = field(default_factory=dict, repr=False)  # the AWS_* variables of environment and `.env`
    origins: tuple[OriginOverride, ...] = field(default=(), repr=False)
    sources: tuple[Source, ...] = ()
    base: Path = Path()  # the folder that was searched for settings
    found: tuple[str, ...] = ()  # of PLACES, those that gave something about the database or its tables

    @property
    def static_url_path(self) -> str:
        """Return the URL path under which this server serves the copies, whatever stands in front of it."""
        return urlsplit(self.static_url_prefix).path or "/static/images"

    @property
    def attempts(self) -> int:
        """Return the maximum number of attempts per visit, which is at least one."""
        return max(1, self.retry)


def settings_of(part: type[Settings | DatabaseParts]) -> Iterator[Setting]:
    """Yield the settings of a part, in the order of the reference page."""
    for each in fields(part):
        if about := each.metadata.get("setting"):
            yield Setting(attribute=each.name, **about)
