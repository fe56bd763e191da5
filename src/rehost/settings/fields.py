"""Every knob once: its name, default, unit, bounds and help, on the field that it fills.

To add a setting, add a field here; parsing, errors and docs/reference/settings.md follow from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from rehost.model import Source
from rehost.settings.sections import OriginOverride
from rehost.settings.types import (
    CONNECT_TO,
    DATABASE,
    HEADER,
    NETWORKS,
    PATH,
    PORT,
    PREFIX,
    REFERER,
    SERVER,
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

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting besides its value."""

    attribute: str
    name: str
    kind: Kind[object]
    default: object
    help: str
    unit: str = ""
    says: str = ""  # the default in words, where the value does not say it
    secret: bool = False  # never shown
    short: str = ""  # its flag, where the attribute's name means something else there, or would be long

    @property
    def flag(self) -> str:
        """Return its flag on the command line, without the dashes before it."""
        return self.short or self.attribute.replace("_", "-")

    @property
    def default_text(self) -> str:
        """Return the default as a person writes it, with its unit."""
        if self.says:
            return self.says
        if self.unit == "bytes" and isinstance(self.default, int):
            return size_text(self.default)
        value = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        return f"{value} {self.unit}".rstrip()


def _knob(
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
    """Return a dataclass field that knows its Knob; typed as its value, as `dataclasses.field` is."""
    about = {"name": name, "kind": kind, "default": default, "help": text, "unit": unit, "says": says, "secret": secret}
    return field(default=default, repr=not secret, metadata={"knob": {**about, "short": short}})


@dataclass(frozen=True, slots=True)
class DatabaseParts:
    """The database as DB_* name it; DATABASE_URL says the same in one line."""

    host: str = _knob("DB_HOST", "localhost", SERVER, "Host name, address, or folder of the socket of PostgreSQL.")
    port: int = _knob("DB_PORT", 5432, PORT, "Port of PostgreSQL.")
    name: str = _knob("DB_NAME", "ad_case_db", WORD, "Name of the database.")
    user: str = _knob("DB_USER", "postgres", WORD, "Name of the database's user.")
    password: str = _knob("DB_PASSWORD", "", TEXT, "The user's password; any characters.", says="(empty)", secret=True)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one command, parsed; `load` makes it."""

    database_url: str = _knob(
        "DATABASE_URL",
        "",
        DATABASE,
        "The database with the table of links; holds in place of DB_*, unless those stand in a stronger place. "
        "libpq's `?sslmode=...`, `sslrootcert`, `sslcert`, `sslkey`, `sslcrl`, `application_name`, `connect_timeout`, "
        "`options` and `target_session_attrs` may follow.",
        says="made of DB_*",
        secret=True,
    )
    ledger_url: str = _knob(
        "REHOST_LEDGER_URL",
        "",
        DATABASE,
        "The database for rehost's own tables, where they may not stand beside the table.",
        says="the same database",
        secret=True,
    )
    storage_dir: Path = _knob("IMAGE_STORAGE_DIR", Path("data/images"), PATH, "Folder that holds the copies.")
    concurrency: int = _knob(
        "IMAGE_DOWNLOAD_CONCURRENCY",
        10,
        whole(1, 1000),
        "Requests in flight at most, in all of one command, and to one host over all machines.",
        unit="requests",
    )
    timeout_seconds: float = _knob(
        "IMAGE_DOWNLOAD_TIMEOUT",
        30.0,
        seconds(0.1, 3600),
        "Limit of one attempt in all, from the connection to the last byte, redirects included.",
        unit="seconds",
        short="timeout",
    )
    retry: int = _knob(
        "IMAGE_DOWNLOAD_RETRY",
        3,
        whole(0, 100),
        "Attempts in all that one visit makes where another may help; 0 and 1 both mean one.",
        unit="attempts",
        short="attempts",
    )
    static_url_prefix: str = _knob(
        "IMAGE_STATIC_URL_PREFIX",
        "/static/images",
        PREFIX,
        "Path below which the copies are served; the local URLs in the rows begin with it.",
    )
    allow_networks: tuple[Network, ...] = _knob(
        "IMAGE_ALLOW_NETWORKS",
        (),
        NETWORKS,
        "Networks that links may lead into although they are not public.",
        says="(none)",
    )
    connect_to: tuple[ConnectTo, ...] = _knob(
        "IMAGE_CONNECT_TO",
        (),
        CONNECT_TO,
        "Where to connect in place of where a link says, as curl's --connect-to; the address is judged all the same.",
        says="(none)",
    )
    max_bytes: int = _knob("IMAGE_MAX_BYTES", 64 * MIB, size(1, TIB), "Largest picture, decoded.", unit="bytes")
    max_pixels: int = _knob(
        "IMAGE_MAX_PIXELS", 50_000_000, whole(1, 10**12), "Largest width times height.", unit="pixels"
    )
    max_frames: int = _knob("IMAGE_MAX_FRAMES", 2000, whole(1, 10**6), "Most frames of an animation.", unit="frames")
    max_redirects: int = _knob("IMAGE_MAX_REDIRECTS", 5, whole(0, 50), "Most hops of one attempt.", unit="hops")
    verify: str = _knob(
        "IMAGE_VERIFY",
        "decode",
        choice("decode", "structure"),
        "How a picture is proven: a decoder reads all of it, or its container is walked to its end.",
    )
    decode_memory_bytes: int = _knob(
        "IMAGE_DECODE_MEMORY",
        512 * MIB,
        size(64 * MIB, TIB),
        "Memory of each decoder process; what needs more is too large.",
        unit="bytes",
        short="decode-memory",
    )
    decode_seconds: float = _knob(
        "IMAGE_DECODE_SECONDS",
        20.0,
        seconds(0.1, 3600),
        "Limit of decoding one picture; what needs longer is too large.",
        unit="seconds",
    )
    decode_processes: int = _knob(
        "IMAGE_DECODE_PROCESSES", 0, whole(0, 256), "Decoder processes; 0 means one for each core.", unit="processes"
    )
    min_free_bytes: int = _knob(
        "IMAGE_MIN_FREE_BYTES",
        GIB,
        size(0, 1024 * TIB),
        "The run stops before the disk has less than this left.",
        unit="bytes",
    )
    lease_seconds: float = _knob(
        "IMAGE_LEASE_SECONDS",
        120.0,
        seconds(5, 86400),
        "After this long without a sign of life another worker takes a link over.",
        unit="seconds",
    )
    referer: str = _knob(
        "IMAGE_REFERER",
        "auto",
        REFERER,
        "The Referer that origins are shown: learned for each (auto), or the same rule for all.",
    )
    user_agent: str = _knob(
        "IMAGE_USER_AGENT", "", HEADER, "The User-Agent that origins are shown.", says="rehost/VERSION (IMAGE_CONTACT)"
    )
    contact: str = _knob(
        "IMAGE_CONTACT",
        "",
        HEADER,
        "An address or URL at which an origin's owner reaches you; goes into the User-Agent.",
        says="(none)",
    )
    min_delay_seconds: float = _knob(
        "IMAGE_MIN_DELAY",
        0.0,
        seconds(0, 3600),
        "Least time between two requests to one host.",
        unit="seconds",
        short="min-delay",
    )
    daily_budget: int = _knob(
        "IMAGE_DAILY_BUDGET",
        0,
        whole(0, 10**9),
        "Most requests to one host in a day of UTC, over all workers and runs; 0 means no limit.",
        unit="requests",
    )
    robots: bool = _knob(
        "IMAGE_ROBOTS",
        default=False,
        kind=SWITCH,
        text="Whether robots.txt and X-Robots-Tag are obeyed.",
        says="off",
    )
    read_through: bool = _knob(
        "IMAGE_READ_THROUGH",
        default=False,
        kind=SWITCH,
        text="Whether /image/SOURCE/KEY fetches a picture of the catalogue that is asked for and not held yet.",
        says="off",
    )
    token: str = _knob(
        "REHOST_TOKEN",
        "",
        TOKEN,
        "The token that actions through the API and the page need; without one there are none.",
        says="(none)",
        secret=True,
    )
    api_host: str = _knob("API_HOST", "127.0.0.1", WORD, "Address that the server listens on.")
    api_port: int = _knob("API_PORT", 8000, PORT, "Port that the server listens on.")
    origins: tuple[OriginOverride, ...] = field(default=(), repr=False)
    sources: tuple[Source, ...] = ()

    @property
    def attempts(self) -> int:
        """Return how many attempts one visit makes at most: at least one."""
        return max(1, self.retry)


def knobs(part: type[Settings | DatabaseParts]) -> Iterator[Setting]:
    """Yield the knobs of a part, in the order in which the reference page shows them."""
    for each in fields(part):
        if about := each.metadata.get("knob"):
            yield Setting(attribute=each.name, **about)
