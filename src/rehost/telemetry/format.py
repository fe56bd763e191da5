"""Numbers and foreign text as an operator reads them. Pure.

A title or a URL may contain escape sequences that move a cursor, set a window's title or forge a line of a log.
Everything that comes from a row or a response passes through `plain` or `field` before it is printed.
"""

from __future__ import annotations

import json
import re
import unicodedata

from rehost.language import gettext as _

_BYTES = 1000.0  # decimal, as disks are sold and df --si counts
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

# Cc: controls, ESC among them. Cf: formats, among them the marks that turn the direction of text (CVE-2021-42574).
# Cs: lone surrogates, which no UTF-8 stream takes. Zl, Zp: line and paragraph separators. Co, Cn: private, unassigned.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})
_NOT_ASCII = re.compile("[^ -~]")
_ZERO_WIDTH_JOINER = "\u200d"  # category Cf, but harmless between two emoji (Unicode TS 51, section 2.2)
_PICTOGRAPH = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]")
_AFTER_PICTOGRAPH = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff]")  # emoji presentation, skin tones


def count(number: int) -> str:
    """Return a count with a comma between thousands: 6,141."""
    return f"{number:,}"


def size(number: int) -> str:
    """Return a number of bytes with about three digits: 2.46 GB."""
    amount = float(number)
    if amount < _BYTES:
        return f"{number} B"
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= _BYTES
        if amount < _BYTES or unit == "TB":
            break
    return f"{amount:.{2 if amount < 10 else 1 if amount < 100 else 0}f} {unit}"  # noqa: PLR2004 - three digits


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 850 ms, 12.3 s, 4 min 10 s, 3 h 5 min, 13 d 22 h."""
    if seconds < 1:
        return _("{number} ms").format(number=f"{max(0.0, seconds) * 1000:.0f}")
    if seconds < _MINUTE - 0.05:
        return _("{number} s").format(number=f"{seconds:.1f}")
    whole = round(seconds)
    days, hours, minutes, left = _("{number} d"), _("{number} h"), _("{number} min"), _("{number} s")
    for large, large_name, small, small_name in (
        (_DAY, days, _HOUR, hours),
        (_HOUR, hours, _MINUTE, minutes),
        (_MINUTE, minutes, 1, left),
    ):
        if whole >= large:
            rest = whole % large // small
            return large_name.format(number=whole // large) + (" " + small_name.format(number=rest) if rest else "")
    raise AssertionError(seconds)  # pragma: no cover - a minute or more always matches above


def share(part: int, whole: int) -> str:
    """Return a percentage, rounded down: 100% means all of it."""
    if whole <= 0:
        return "100%" if part >= whole else "0%"
    tenths = part * 1000 // whole
    return f"{tenths // 10}%" if tenths % 10 == 0 else f"{tenths / 10:.1f}%"


def plain(text: str) -> str:
    """Return the text on one line, with every character that a terminal would act on written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        ascii(each)[1:-1]  # \n, \x1b, \u202e, \U000e0001
        if unicodedata.category(each) in _HARMFUL and not _joins_emoji(text, index)
        else each
        for index, each in enumerate(text)
    )


def plain_json(text: str) -> str:
    """Return a JSON text with such characters as escapes, which programs read as the same value."""
    return _NOT_ASCII.sub(
        lambda found: json.dumps(found[0])[1:-1] if unicodedata.category(found[0]) in _HARMFUL else found[0], text
    )


def _joins_emoji(text: str, index: int) -> bool:
    """Return whether the character is a joiner between two emoji, as in a family or a profession."""
    if text[index] != _ZERO_WIDTH_JOINER:
        return False
    before = text[index - 1 : index]
    if _AFTER_PICTOGRAPH.match(before):
        before = text[max(0, index - 2) : index - 1]
    return bool(_PICTOGRAPH.match(before) and _PICTOGRAPH.match(text[index + 1 : index + 2]))


def field(text: str) -> str:
    """Return the text as the value of one field of a log line: quoted if it is empty or contains spaces or quotes."""
    harmless = plain(text)
    if harmless and not any(each in harmless for each in ' "=\\'):
        return harmless
    return json.dumps(harmless, ensure_ascii=False)
