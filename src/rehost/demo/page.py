"""The demonstration's page: every case with its picture, linked directly and held, side by side. Pure.

Everything that comes out of a row passes through `escape`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from rehost.demo.cases import Case
from rehost.demo.direct import Direct, Sight
from rehost.demo.hosts import HOSTS, Host
from rehost.demo.texts import MANNERS, TEXTS
from rehost.demo.words import Bilingual
from rehost.model import Reason


@dataclass(frozen=True, slots=True)
class ShownCase:
    """One case, as it stands after the run."""

    case: Case
    local_url: str | None
    reason: Reason | None = None  # why there is no copy


@dataclass(frozen=True, slots=True)
class CasePage:
    """What the page shows."""

    shown: Sequence[ShownCase]
    direct: Direct
    rules: Mapping[str, str]  # host -> learned Referer

    def render(self, language: str) -> str:
        """Return the page as HTML, in "zh" or "en"."""
        return _Rendering(self, is_chinese=language == "zh").html()


@dataclass(frozen=True, slots=True)
class _Rendering:
    page: CasePage
    is_chinese: bool

    def html(self) -> str:
        language, other = ("zh-CN", "en") if self.is_chinese else ("en", "zh")
        style = resources.files("rehost.demo").joinpath("page.css").read_text("utf-8")
        sections = [self._section(host) for host in (*HOSTS, None)]
        return f"""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{self._text("title")} · rehost</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<p class="name"><a href="/rehost/">rehost</a>
<a href="?lang={other}" hreflang="{other}">{self._text("other-language")}</a></p>
<h1>{self._text("title")}</h1>
<p class="lead">{self._text("lead")}</p>
{self._figures()}
</header>
<main>
{"".join(sections)}</main>
<footer><p>{self._text("made-up")}</p></footer>
</body>
</html>
"""

    def _figures(self) -> str:
        linked = sum(each.case.link is not None for each in self.page.shown)
        before = self.page.direct.count(Sight.PICTURE)
        after = sum(each.local_url is not None for each in self.page.shown)
        return f"""<dl class="figures">
{self._figure("before", before, linked)}
{self._figure("after", after, linked)}
</dl>"""

    def _figure(self, name: str, part: int, whole: int) -> str:
        return (
            f'<div class="{name}"><dt>{self._text(name)}</dt>'
            f"<dd><strong>{part}</strong> {self._text('of')} {whole}"
            f'<meter max="{whole}" value="{part}">{part}</meter></dd></div>'
        )

    def _section(self, host: Host | None) -> str:
        here = [each for each in self.page.shown if each.case.host == host]
        name = escape(host.name) if host else self._text("no-host")
        about = f"<p>{self._words(MANNERS[host.manner])}</p>" if host else ""
        rule = self.page.rules.get(host.name) if host else None
        learned = f"<p>{self._text('rule')}: <code>{escape(rule)}</code></p>" if rule else ""
        return f"""<section>
<div class="host"><h2>{name}</h2>{about}{learned}{self._score(here) if host else ""}</div>
<div class="cases">
{"".join(map(self._card, here))}</div>
</section>
"""

    def _score(self, here: Sequence[ShownCase]) -> str:
        seen = sum(self.page.direct.sights.get(each.case.case_id) is Sight.PICTURE for each in here)
        held = sum(each.local_url is not None for each in here)
        return f'<p class="score">{seen} → <strong>{held}</strong> {self._text("of")} {len(here)}</p>'

    def _card(self, shown: ShownCase) -> str:
        case = shown.case
        title, other = self._both(case.title)
        return f"""<article id="case-{case.case_id}">
<div class="pictures">{"".join(self._pictures(shown))}</div>
<h3>{escape(title)}</h3>
<p>{escape(other)}</p>
<p class="small">{escape(self._word(case.brand.name))} · {escape(self._word(case.brand.industry))} ·
{escape(self._word(case.city))}</p>
</article>
"""

    def _pictures(self, shown: ShownCase) -> Iterable[str]:
        case = shown.case
        if case.link is None:
            yield f'<figure class="none"><span>{self._text("no-link")}</span></figure>'
            return
        size = 'width="480" height="600" loading="lazy" decoding="async"'
        yield (
            f'<figure class="direct"><img src="/direct/{case.case_id}" alt="{self._text("direct")}" {size}>'
            f"<figcaption>{self._text('direct')}</figcaption></figure>"
        )
        if shown.local_url is not None:
            url, alt = escape(shown.local_url), escape(self._both(case.title)[0])
            yield (
                f'<figure class="held"><a href="{url}"><img src="{url}" alt="{alt}" {size}></a>'
                f"<figcaption>{self._text('held')}</figcaption></figure>"
            )
        else:
            word = escape(str(shown.reason)) if shown.reason else self._text("no-copy")
            yield f'<figure class="none"><span>{self._text("no-copy")}<br><code>{word}</code></span></figure>'

    def _both(self, words: Bilingual) -> tuple[str, str]:
        return (words.chinese, words.english) if self.is_chinese else (words.english, words.chinese)

    def _word(self, words: Bilingual) -> str:
        return self._both(words)[0]

    def _words(self, words: Bilingual) -> str:
        return escape(self._word(words))

    def _text(self, name: str) -> str:
        return self._words(TEXTS[name])
