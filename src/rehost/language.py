"""The operator's language: Chinese where the locale is Chinese or REHOST_LANG says so, otherwise English.

English is the source, and each text is its own key. `gettext` and `ngettext` return what the command line prints at
this moment. A Message stays English for logs, programs and the ledger; the command line prints its `translated` form.
`./dev messages` collects the texts into locale/zh_CN/LC_MESSAGES/rehost.po, and compiles that file.
"""

from __future__ import annotations

import gettext as standard
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Self

ENGLISH, CHINESE = "en", "zh_CN"
DOMAIN = "rehost"
LOCALES = os.path.join(os.path.dirname(__file__), "locale")  # noqa: PTH118, PTH120 - pathlib takes 5 ms to import

_NO_LANGUAGE = re.compile(r"(C|POSIX)?(\..*)?")
_SIMPLIFIED = re.compile(r"zh([_-](cn|sg|my|hans)\b.*)?([.@].*)?", re.IGNORECASE)


def language(environ: Mapping[str, str] = os.environ) -> str:
    """Return ENGLISH or CHINESE, as REHOST_LANG says, or else LANGUAGE, LC_ALL, LC_MESSAGES and LANG.

    As in GNU gettext (manual, section 2.3), LANGUAGE is a list and counts only if the locale is not C. Traditional
    Chinese (zh_TW, zh_HK) gets English, as from every program that has a simplified translation only.
    """
    if chosen := environ.get("REHOST_LANG"):
        return _known(chosen) or ENGLISH
    locale = next((found for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (found := environ.get(name))), "")
    if _NO_LANGUAGE.fullmatch(locale):
        return ENGLISH
    wanted = (environ.get("LANGUAGE") or locale).split(":")
    return next((known for each in wanted if (known := _known(each))), ENGLISH)


def _known(name: str) -> str | None:
    if _SIMPLIFIED.fullmatch(name):
        return CHINESE
    return ENGLISH if name.lower().startswith("en") else None


@cache
def catalogue(chosen: str) -> standard.NullTranslations:
    """Return the translations into a language; for English nothing is read."""
    return standard.NullTranslations() if chosen == ENGLISH else standard.translation(DOMAIN, LOCALES, [chosen])


def gettext(text: str) -> str:
    """Return a text in the operator's language."""
    return catalogue(language()).gettext(text) if text else text


def ngettext(one: str, many: str, number: int) -> str:
    """Return one of two texts, by the number of things that it is about, in the operator's language."""
    return catalogue(language()).ngettext(one, many, number)


class Message(str):
    """A sentence for the operator: in English as a string, and with what `translated` needs.

    Attributes:
        template: the English text, with `{name}` for each field.
        fields: values by name; those that are messages are translated as well.
    """

    __slots__ = ("fields", "template")

    template: str
    fields: Mapping[str, object]

    def __new__(cls, template: str, /, **fields: object) -> Self:
        """Fill in the fields; without any, the text is taken as it is, braces included."""
        self = super().__new__(cls, template.format(**fields) if fields else template)
        self.template, self.fields = template, fields
        if isinstance(template, Message) and not fields:
            self.template, self.fields = template.template, template.fields
        return self


def translated(text: str, chosen: str | None = None) -> str:
    """Return a Message in a language, by default the operator's; any other text as it is."""
    if not isinstance(text, Message):
        return text
    words = catalogue(chosen or language()).gettext(text.template) if text.template else ""
    if not text.fields:
        return words
    fields = {
        name: translated(value, chosen) if isinstance(value, str) else value for name, value in text.fields.items()
    }
    return words.format(**fields)
