"""The demonstration's web site: a page of all cases at /, answers of the hosts below /direct/, the rest is rehost's.

Every text that comes out of a row passes through `escape`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template

from starlette.requests import Request
from starlette.responses import Response

from rehost.demo.cases import HOSTS, Case, Fault, Host, Result, Words
from rehost.demo.origins import Answer, Origins, Shown
from rehost.server.files.send import Application, Message, Receive, Send

DIRECT = "/direct/"
_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class CasePage:
    """What the page shows of a finished run; all mappings but `rules` are by case id."""

    cases: Sequence[Case]
    direct: Mapping[int, Shown]  # what a page that links to the originals shows
    local_urls: Mapping[int, str | None]
    results: Mapping[int, Result]
    rules: Mapping[str, str]  # the learned Referer by host

    def render(self, language: str) -> str:
        """Return the page as HTML, in "zh" or "en"."""
        return _Renderer(self, Words.load(), is_chinese=language == "zh").html()


class DemoSite:
    """The page, in front of the application that serves the copies (ASGI)."""

    def __init__(self, page: CasePage, origins: Origins, copies: Application) -> None:
        self._page = page
        self._origins = origins
        self._copies = copies
        self._cases = {str(case.case_id): case for case in page.cases if case.host}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as the ASGI specification has it."""
        is_read = scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}
        if not is_read or not (scope["path"] == "/" or scope["path"].startswith(DIRECT)):
            await self._copies(scope, receive, send)
            return
        request = Request(scope)
        answer = self._index(request) if scope["path"] == "/" else self._direct(request)
        await asyncio.sleep(answer.delay_seconds)
        headers = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", **answer.headers}
        headers |= {"Content-Type": answer.media_type, "Cache-Control": "no-store"}
        response = Response(answer.body, answer.status, headers)
        if scope["method"] == "HEAD":
            response.body = b""  # Content-Length is set already
        await response(scope, receive, send)

    def _index(self, request: Request) -> Answer:
        self._origins.reset()  # the page is about to request the originals again
        html = self._page.render(language(request))
        headers = {"Content-Security-Policy": _POLICY, "Vary": "Accept-Language"}
        return Answer(200, "text/html; charset=utf-8", html.encode(), headers)

    def _direct(self, request: Request) -> Answer:
        """Return the answer of the case's host to this browser with its Referer."""
        case_id, _, rest = request.url.path.removeprefix(DIRECT).partition("/")
        case = self._cases.get(case_id)
        if case is None or case.host is None:
            return Answer(404, body=b"not found\n")
        path = f"/{rest}" if rest else case.path
        answer = self._origins.answer(case.host.name, path, request.headers.get("referer"))
        if (location := answer.headers.get("Location")) is not None:
            return Answer(answer.status, headers={"Location": f"{DIRECT}{case.case_id}{location}"})
        return answer


def language(request: Request) -> str:
    """Return "zh" or "en": the one in the query, else the one that the browser prefers."""
    chosen = request.query_params.get("lang")
    preferred = request.headers.get("accept-language", "").lower().split(",")  # browsers send the best one first
    for tag in (chosen or "", *(each.strip()[:2] for each in preferred)):
        if tag in {"zh", "en"}:
            return tag
    return "en"


@dataclass(frozen=True, slots=True)
class _Renderer:
    page: CasePage
    words: Words
    is_chinese: bool

    def html(self) -> str:
        files = resources.files("rehost.demo")
        shown, held = self._counts(self.page.cases)
        return Template(files.joinpath("page.html").read_text("utf-8")).substitute(
            {name: self._text(name) for name in self.words.page},
            language="zh-CN" if self.is_chinese else "en",
            other="en" if self.is_chinese else "zh",
            style=files.joinpath("page.css").read_text("utf-8"),
            linked=sum(case.link is not None for case in self.page.cases),
            shown=shown,
            held=held,
            sections="".join(map(self._section, (*HOSTS, None))),
        )

    def _section(self, host: Host | None) -> str:
        cases = [case for case in self.page.cases if case.host == host]
        head = f"<h2>{self._text('no_host')}</h2>"
        if host:
            head = f"<h2>{escape(host.name)}</h2><p>{self._either(self.words.behaviours[host.behaviour])}</p>"
            if rule := self.page.rules.get(host.name):
                head += f"<p>{self._text('rule')}: <code>{escape(rule)}</code></p>"
            shown, held = self._counts(cases)
            head += f'<p class="score">{shown} → <strong>{held}</strong> {self._text("of")} {len(cases)}</p>'
        cards = "".join(map(self._card, cases))
        return f'<section>\n<div class="host">{head}</div>\n<div class="cases">\n{cards}</div>\n</section>\n'

    def _card(self, case: Case) -> str:
        title, translation = reversed(case.title) if self.is_chinese else case.title
        return f"""<article id="case-{case.case_id}">
<div class="pictures">{self._pictures(case)}</div>
<h3>{escape(title)}</h3>
<p>{escape(translation)}</p>
<p>{self._either(case.brand)} · {self._either(case.industry)}</p>
{f"<p>{self._text('damaged')}</p>" if case.fault is Fault.DAMAGED else ""}
</article>
"""

    def _pictures(self, case: Case) -> str:
        """Return the original, as the browser gets it, and the copy or the reason why there is none."""
        if case.link is None:
            return f'<figure class="none"><span>{self._text("no_link")}</span></figure>'
        direct = self._figure("direct", f"{DIRECT}{case.case_id}", self._text("direct"))
        if url := self.page.local_urls.get(case.case_id):
            return direct + self._figure("held", escape(url), self._either(case.title))
        result = self.page.results.get(case.case_id)
        reason = f"<br><code>{result.reason}</code>" if result else ""
        return f'{direct}<figure class="none"><span>{self._text("no_copy")}{reason}</span></figure>'

    def _figure(self, kind: str, url: str, alt: str) -> str:
        image = f'<img src="{url}" alt="{alt}" width="480" height="600" loading="lazy" decoding="async">'
        return f'<figure class="{kind}"><a href="{url}">{image}</a><figcaption>{self._text(kind)}</figcaption></figure>'

    def _counts(self, cases: Sequence[Case]) -> tuple[int, int]:
        """Return how many originals and how many copies show."""
        shown = sum(self.page.direct.get(case.case_id) is Shown.PICTURE for case in cases)
        return shown, sum(self.page.local_urls.get(case.case_id) is not None for case in cases)

    def _text(self, name: str) -> str:
        return self._either(self.words.page[name])

    def _either(self, pair: Sequence[str]) -> str:
        """Return the English or the Chinese text, escaped."""
        return escape(pair[self.is_chinese])
