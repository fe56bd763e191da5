"""URLs of databases: checked and brought into one form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from rehost.language import Message
from rehost.settings.definitions import DatabaseParts
from rehost.settings.types import DATABASE, PORT, TEXT, Kind, choice, whole

_URL = re.compile(r"(postgresql|postgres|sqlite)(\+[a-z0-9]+)?://(.*)", re.DOTALL)
_PLACE = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^/:?\[\]]*)(?::(?P<port>\d*))?(?:/[^?]*)?(?:\?(?P<query>.*))?")

PARAMETERS: Mapping[str, Kind[str] | Kind[int]] = {  # those parameters of libpq that asyncpg supports
    "host": TEXT,
    "port": PORT,
    "sslmode": choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslrootcert": TEXT,
    "sslcert": TEXT,
    "sslkey": TEXT,
    "sslcrl": TEXT,
    "application_name": TEXT,
    "connect_timeout": whole(1, 3600),
    "options": TEXT,
    "target_session_attrs": choice("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}


class UrlError(ValueError):
    """A URL is not valid.

    Attributes:
        expected: what would be valid.
    """

    def __init__(self, expected: str = DATABASE.expected) -> None:
        super().__init__(f"expected {expected}")
        self.expected = expected


def parts_url(parts: DatabaseParts) -> str:
    """Return DB_* as one URL; any character is allowed in the name and the password."""
    credentials = quote(parts.user, safe="") + (f":{quote(parts.password, safe='')}" if parts.password else "")
    name = quote(parts.name, safe="")
    if parts.host.startswith("/"):
        return f"postgresql://{credentials}@/{name}?host={quote(parts.host, safe='/')}&port={parts.port}"
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    return f"postgresql://{credentials}@{host}:{parts.port}/{name}"


def normal_url(text: str, base: Path) -> str:
    """Return a database's URL with a quoted password and an absolute path of a SQLite file.

    The password may be unquoted and contain `@`, `/` and `#`: the last `@` ends it.

    Raises:
        UrlError: this is not the URL of a database that rehost supports.
    """
    found = _URL.fullmatch(text)
    if found is None:
        raise UrlError
    scheme, driver, rest = found[1], found[2] or "", found[3]
    if scheme == "sqlite":
        return f"sqlite{driver}:///{_sqlite_path(rest, base)}"
    credentials, at, place = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    quoted = quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")
    return f"postgresql{driver}://{quoted}{at}{_place(place)}"


def _place(text: str) -> str:
    """Return host, port, name and parameters, with libpq's names of the parameters."""
    found = _PLACE.fullmatch(text)
    if found is None or (found["port"] and not _is(PORT, found["port"])):
        raise UrlError
    if not found["query"]:
        return text
    given = parse_qsl(found["query"].replace("+", "%2B"), keep_blank_values=True)  # libpq does not read + as a space
    query = urlencode([pair for name, value in given for pair in _parameter(name, value)], safe="/", quote_via=quote)
    return text.removesuffix(f"?{found['query']}") + (f"?{query}" if query else "")


def _parameter(name: str, value: str) -> list[tuple[str, str]]:
    """Return a parameter as the driver gets it, or nothing if it requests the driver's usual behaviour."""
    if name == "channel_binding":
        if value in {"disable", "prefer"}:
            return []
        raise UrlError(Message("a URL without channel_binding=require, which the driver does not support: remove it"))
    name = "sslmode" if name == "ssl" else name  # asyncpg's own name
    if name not in PARAMETERS:
        raise UrlError(
            Message("a URL without {name}: remove it (supported are {known})", name=name, known=", ".join(PARAMETERS))
        )
    if not _is(PARAMETERS[name], value):
        raise UrlError(Message("{expected} for {name}", expected=PARAMETERS[name].expected, name=name))
    return [(name, value)]


def _is(kind: Kind[str] | Kind[int], text: str) -> bool:
    try:
        kind.parse(text)
    except ValueError:
        return False
    return True


def _sqlite_path(rest: str, base: Path) -> str:
    """Return the absolute path, with the query, of SQLAlchemy's `/path` or `//absolute/path`."""
    if not rest.startswith("/") or len(rest) == 1:
        raise UrlError
    return rest[1:] if rest.startswith("/:memory:") else str(base / rest[1:])
