"""The played hosts: from a request to an answer. The origin's socket asks it, and the page for its direct pictures."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rehost.demo.cases import Case, Fault
from rehost.demo.hosts import HOSTS, Host, Manner
from rehost.demo.posters import Posters

BUSY_CALLS = 1  # so many first calls find the busy host too busy
FLAKY_EVERY = 3  # of the flaky host's pictures, every third fails once
SLOW_SECONDS = 0.5

_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".gif": "image/gif", ".webp": "image/webp"}
_WALL = b"""<!doctype html><meta charset="utf-8"><title>Please visit our site</title>
<h1>Please look at this picture on our own site</h1>"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a host says."""

    status: int
    media_type: str = "text/plain"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # how long it takes


class World:
    """All played hosts together."""

    def __init__(self, cases: Sequence[Case], posters: Posters) -> None:
        self._hosts = {host.name: host for host in HOSTS}
        self._pictures = {(case.host.name, case.path): case for case in cases if case.host is not None}
        self._posters = posters
        self._calls: dict[str, int] = {}
        self._counting = threading.Lock()  # several connections ask at once

    def forget(self) -> None:
        """Forget all calls: the busy host is busy again, the flaky one flaky."""
        self._calls.clear()

    def answer(self, host_name: str, path: str, referer: str | None) -> Reply:
        """Return what a host answers to a GET of this path, under this Referer."""
        host = self._hosts.get(host_name.partition(":")[0].lower())
        if host is None:
            return Reply(421, body=b"no such host is played here\n")
        if path == "/notice.png":
            return self._notice()
        if not _is_welcome(host, referer):
            return self._refusal(host.manner)
        case = self._pictures.get((host.name, path))
        if case is None or case.fault is Fault.DEAD:
            return Reply(404, body=b"not found\n")
        if case.fault is Fault.REMOVED:
            return Reply(410, body=b"gone\n")
        return self._trouble(host, path) or self._picture(self._posters.path(case), host)

    def _refusal(self, manner: Manner) -> Reply:
        """Return what a host says to those whom it does not welcome."""
        match manner:
            case Manner.PAGE_WALL:
                return Reply(200, "text/html; charset=utf-8", _WALL)
            case Manner.DECOY_WALL | Manner.LAPSED:
                return self._notice()
            case Manner.REDIRECT:
                return Reply(302, headers={"Location": "/notice.png"})
            case _:
                return Reply(403, body=b"hot-linking is not allowed\n")

    def _trouble(self, host: Host, path: str) -> Reply | None:
        """Return what a host says instead of the picture when it has a bad moment."""
        match host.manner:
            case Manner.BUSY if self._count(host.name) <= BUSY_CALLS:
                return Reply(429, body=b"too many requests\n", headers={"Retry-After": "1"})
            case Manner.FLAKY if self._is_shaky(path) and self._count(host.name + path) == 1:
                return Reply(503, body=b"come back\n")
            case _:
                return None

    def _is_shaky(self, path: str) -> bool:
        return hashlib.sha256(path.encode()).digest()[0] % FLAKY_EVERY == 0

    def _count(self, what: str) -> int:
        with self._counting:
            self._calls[what] = self._calls.get(what, 0) + 1
            return self._calls[what]

    def _notice(self) -> Reply:
        return Reply(200, "image/png", self._posters.notice.read_bytes())

    def _picture(self, file: Path, host: Host) -> Reply:
        body = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"', "Cache-Control": "max-age=60"}
        return Reply(200, _TYPES[file.suffix], body, headers, SLOW_SECONDS if host.manner is Manner.SLOW else 0.0)


def _is_welcome(host: Host, referer: str | None) -> bool:
    """Return whether a host gives pictures to those who come from there."""
    caller = (urlsplit(referer).hostname or "") if referer else ""
    is_own = caller == host.site or caller.endswith("." + host.site)
    match host.manner:
        case Manner.NO_FOREIGN:
            return not referer or is_own
        case Manner.OWN_SITE | Manner.DECOY_WALL | Manner.REDIRECT:
            return is_own
        case Manner.PAGE_WALL:
            return caller == "www." + host.site
        case _:
            return host.manner is not Manner.LAPSED
