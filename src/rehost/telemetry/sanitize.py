"""Text out of rows and answers, made harmless for a terminal and a log. Pure.

A title or a URL may hold escape sequences that move a cursor, set a window's title or forge a line of a log; nothing
that a row contains is ever printed without passing through here.
"""

from __future__ import annotations

import json
import unicodedata

# Cc: controls, ESC among them. Cf: formats, among them the marks that turn the direction of text (CVE-2021-42574).
# Cs: lone surrogates, which no UTF-8 stream takes. Zl, Zp: line and paragraph separators. Co, Cn: no known look.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})


def plain(text: str) -> str:
    """Return the text on one line, with every character that does something other than being seen written as escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(each) if unicodedata.category(each) in _HARMFUL else each for each in text)


def field(text: str) -> str:
    """Return the text as the value of one field of a log line: quoted where it has spaces, quotes or nothing at all."""
    harmless = plain(text)
    if harmless and not any(each in harmless for each in ' "=\\'):
        return harmless
    return json.dumps(harmless, ensure_ascii=False)


def _escape(character: str) -> str:
    return ascii(character)[1:-1]  # \n, \x1b, \u202e, \U000e0001
