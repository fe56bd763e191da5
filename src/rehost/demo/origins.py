"""The simulated hosts: what each answers to a request, and one server on loopback for all of them."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urljoin, urlsplit

from rehost.demo.cases import HOSTS, Behaviour, Case, Fault, Host
from rehost.demo.pictures import Pictures

ADDRESS = "127.0.0.1"
FLAKY_EVERY = 3  # the first request fails for every third picture of the flaky host, by case id
SLOW_SECONDS = 0.5
PLACEHOLDER = "/placeholder.png"

_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".gif": "image/gif", ".webp": "image/webp"}
_PAGE = b"""<!doctype html><meta charset="utf-8"><title>Please visit our site</title>
<h1>Please look at this picture on our own site</h1>"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A host's answer."""

    status: int
    media_type: str = "text/plain"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0  # between the headers and the body


class Shown(StrEnum):
    """What a visitor sees in place of a link."""

    PICTURE = "picture"
    PLACEHOLDER = "placeholder"
    BROKEN = "broken"


class Origins:
    """All simulated hosts. Threads may share it."""

    def __init__(self, cases: Sequence[Case], pictures: Pictures) -> None:
        self._hosts = {host.name: host for host in HOSTS}
        self._cases = {(case.host.name, case.path): case for case in cases if case.host}
        self._pictures = pictures
        self._requests: Counter[str] = Counter()
        self._counting = threading.Lock()

    def reset(self) -> None:
        """Forget all requests: the busy and the flaky host refuse their first ones again."""
        self._requests.clear()

    def answer(self, host_name: str, path: str, referer: str | None) -> Answer:
        """Return the answer to a GET of this path with this Referer.

        Args:
            host_name: the Host header, with or without a port.
            path: decoded, without a query.
            referer: None if the request has none.
        """
        host = self._hosts.get(host_name.partition(":")[0].lower())
        if host is None:
            return Answer(421, body=b"no such host here\n")
        if path == PLACEHOLDER:
            return self._placeholder()
        return self._picture(host, path) if _is_welcome(host, referer) else self._refusal(host.behaviour)

    def shown(self, case: Case, referer: str) -> Shown:
        """Return what a browser shows for a link in a page whose URL is `referer`."""
        if case.host is None:
            return Shown.BROKEN
        answer = self.answer(case.host.name, case.path, referer)
        if (location := answer.headers.get("Location")) is not None:
            answer = self.answer(case.host.name, urljoin(case.path, location), referer)
        if answer.body == self._pictures.placeholder.read_bytes():
            return Shown.PLACEHOLDER
        is_picture = answer.status == HTTPStatus.OK and answer.body == self._pictures.path(case).read_bytes()
        return Shown.PICTURE if is_picture and case.fault in {None, Fault.DAMAGED} else Shown.BROKEN

    def _refusal(self, behaviour: Behaviour) -> Answer:
        match behaviour:
            case Behaviour.PAGE_WALL:
                return Answer(200, "text/html; charset=utf-8", _PAGE)
            case Behaviour.DECOY_WALL | Behaviour.LAPSED:
                return self._placeholder()
            case Behaviour.REDIRECT:
                return Answer(302, headers={"Location": PLACEHOLDER})
            case _:
                return Answer(403, body=b"hot-linking is not allowed\n")

    def _placeholder(self) -> Answer:
        return Answer(200, "image/png", self._pictures.placeholder.read_bytes())

    def _picture(self, host: Host, path: str) -> Answer:
        """Return the picture, or the error that the host answers instead."""
        case = self._cases.get((host.name, path))
        if case is None:
            return Answer(404, body=b"not found\n")
        if case.fault and case.fault.status:
            return Answer(case.fault.status, body=b"not found\n")
        if host.behaviour is Behaviour.BUSY and self._is_first(host.name):
            return Answer(429, body=b"too many requests\n", headers={"Retry-After": "1"})
        if host.behaviour is Behaviour.FLAKY and case.case_id % FLAKY_EVERY == 0 and self._is_first(path):
            return Answer(503, body=b"try again\n")
        file = self._pictures.path(case)
        body = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"', "Cache-Control": "max-age=60"}
        delay_seconds = SLOW_SECONDS if host.behaviour is Behaviour.SLOW else 0.0
        return Answer(200, _TYPES[file.suffix], body, headers, delay_seconds)

    def _is_first(self, key: str) -> bool:
        with self._counting:
            self._requests[key] += 1
            return self._requests[key] == 1


def _is_welcome(host: Host, referer: str | None) -> bool:
    """Return whether a host sends pictures to requests with this Referer."""
    sender = (urlsplit(referer).hostname or "") if referer else ""
    is_own = sender == host.site or sender.endswith("." + host.site)
    match host.behaviour:
        case Behaviour.NO_FOREIGN:
            return not referer or is_own
        case Behaviour.OWN_SITE | Behaviour.DECOY_WALL | Behaviour.REDIRECT:
            return is_own
        case Behaviour.PAGE_WALL:
            return sender == "www." + host.site
        case _:
            return host.behaviour is not Behaviour.LAPSED


@contextmanager
def serve_origins(origins: Origins) -> Iterator[int]:
    """Serve the hosts on loopback, in threads, while the context lasts; yield the port."""
    with _Server(origins) as server:
        threading.Thread(target=server.serve_forever, name="demo-origins", daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.stopping.set()
            server.shutdown()


class _Server(ThreadingHTTPServer):
    def __init__(self, origins: Origins) -> None:
        super().__init__((ADDRESS, 0), _Handler)
        self.origins = origins
        self.stopping = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing when a client hangs up half way."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send the answer of the host that the request names."""
        path = unquote(urlsplit(self.path).path)
        answer = self.server.origins.answer(self.headers.get("Host", ""), path, self.headers.get("Referer"))
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.media_type, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if not self.server.stopping.wait(answer.delay_seconds):
            self.wfile.write(answer.body)

    def log_message(self, *words: object) -> None:
        """Keep no log."""
