"""The demonstration's web site: its page at /, pictures as their hosts answer below /direct/, the rest is rehost's own.

Plain ASGI: two pages need no framework.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from rehost.demo.page import CasePage
from rehost.demo.world import Reply, World
from rehost.server.files.send import Application, Message, Receive, Send

DIRECT = "/direct/"
_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class DemoSite:
    """The page over an application that serves the copies."""

    page: CasePage
    world: World
    copies: Application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Reply one request, as ASGI has it."""
        if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
            await self.copies(scope, receive, send)
        elif scope["path"] == "/":
            self.world.forget()  # the pictures on the left are asked for anew
            await _send(scope, send, self._index(scope))
        elif scope["path"].startswith(DIRECT):
            answer = self._direct(scope)
            await asyncio.sleep(answer.seconds)
            await _send(scope, send, answer)
        else:
            await self.copies(scope, receive, send)

    def _index(self, scope: Message) -> Reply:
        html = self.page.render(language(scope["query_string"].decode("latin-1"), _headers(scope)))
        headers = {"Content-Security-Policy": _POLICY, "Vary": "Accept-Language"}
        return Reply(200, "text/html; charset=utf-8", html.encode(), headers)

    def _direct(self, scope: Message) -> Reply:
        """Return what the host answers to the browser that asks now, its Referer and all."""
        wanted, _, rest = scope["path"].removeprefix(DIRECT).partition("/")
        case = next((each.case for each in self.page.shown if str(each.case.case_id) == wanted), None)
        if case is None or case.host is None:
            return Reply(404, body=b"not found\n")
        answer = self.world.answer(case.host.name, f"/{rest}" if rest else case.path, _headers(scope).get("referer"))
        if (place := answer.headers.get("Location")) is not None:
            return Reply(answer.status, headers={"Location": f"{DIRECT}{case.case_id}{place}"})
        return answer


def language(query: str, headers: Mapping[str, str]) -> str:
    """Return "zh" or "en": as the address says, else the one that the browser likes better."""
    asked = parse_qs(query).get("lang", [""])[0]
    if asked in {"zh", "en"}:
        return asked
    for liked in headers.get("accept-language", "").lower().split(","):  # browsers send the best one first
        if (tag := liked.strip()[:2]) in {"zh", "en"}:
            return tag
    return "en"


def _headers(scope: Message) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def _send(scope: Message, send: Send, answer: Reply) -> None:
    headers = {
        "Content-Type": answer.media_type,
        "Content-Length": str(len(answer.body)),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        **answer.headers,
        "Cache-Control": "no-store",
    }
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
