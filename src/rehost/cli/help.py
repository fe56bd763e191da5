"""Help in the operator's language: a command's texts are translated, and wide characters count as two columns."""

from __future__ import annotations

import gettext as standard
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy

import click

from rehost.language import DOMAIN, ENGLISH, LOCALES, Message, gettext, language, translated

TERM_COLUMNS = 30  # at most, for options and commands, before their texts; as click's


def paragraphs(text: str) -> list[str]:
    r"""Return the paragraphs of a help text, each on one line; one that begins with \b as it stands."""
    blocks = re.split(r"\n\n+", inspect.cleandoc(text))
    return [block.rstrip() if block.startswith("\b") else " ".join(block.split()) for block in blocks if block.strip()]


def translated_command(command: click.Command) -> click.Command:
    """Return a command whose texts are in the operator's language."""
    if language() == ENGLISH:
        return command
    own = copy(command)
    own.context_class = _Context
    vars(own)["_help_option"] = None  # which click keeps in the language of its first use
    own.help, own.short_help, own.epilog = map(_translate, (command.help, command.short_help, command.epilog))
    own.params = [copy(parameter) for parameter in command.params]
    for parameter in own.params:
        if isinstance(parameter, click.Option):
            parameter.help = _translate(parameter.help)
    return own


def _translate(text: str | None) -> str | None:
    if text is None or isinstance(text, Message):
        return text and translated(text)
    return "\n\n".join(
        f"\b\n{gettext(each[2:])}" if each.startswith("\b") else gettext(each) for each in paragraphs(text)
    )


@contextmanager
def translating_click() -> Iterator[None]:
    """Translate click's own words as well; if stdout cannot encode Chinese, print everything in English."""
    chosen = language()
    if chosen == ENGLISH:
        yield
        return
    is_shown = _can_show("中文")
    # gettext's functions, which click calls, read LANGUAGE.
    name, value = ("LANGUAGE", chosen) if is_shown else ("REHOST_LANG", ENGLISH)
    variable, domain = os.environ.get(name), standard.textdomain()
    os.environ[name] = value
    standard.bindtextdomain(DOMAIN, LOCALES)
    standard.textdomain(DOMAIN if is_shown else domain)
    try:
        yield
    finally:
        standard.textdomain(domain)
        del os.environ[name]
        if variable is not None:
            os.environ[name] = variable


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class _Formatter(click.HelpFormatter):
    """Measures columns, not characters, and breaks lines between Chinese characters."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage without a space after its heading."""
        super().write_usage(prog, args, gettext("Usage:") if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        """Write the heading of a section."""
        self.write(f"{'':>{self.current_indent}}{heading}：\n")

    def write_text(self, text: str) -> None:
        """Write paragraphs, indented."""
        indent = " " * self.current_indent
        self.write("\n\n".join(_paragraph(each, self.width, indent) for each in text.split("\n\n")) + "\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = TERM_COLUMNS, col_spacing: int = 2) -> None:
        """Write terms and their texts in two columns."""
        from rehost.cli.output.tables import width, wrap

        listed: Sequence[tuple[str, str]] = list(rows)
        first = min(max(width(term) for term, _ in listed), col_max) + col_spacing
        indent = " " * (first + self.current_indent)
        for term, text in listed:
            start = " " * self.current_indent + term
            lines = wrap(text, max(self.width - first - 2, 10))
            if width(term) > first - col_spacing:
                self.write(f"{start}\n")
                start = ""
            self.write(start + " " * (len(indent) - width(start)) + f"\n{indent}".join(lines) + "\n")


class _Context(click.Context):
    formatter_class = _Formatter


def _paragraph(text: str, columns: int, indent: str) -> str:
    from rehost.cli.output.tables import wrap

    if text.startswith("\b"):
        return "\n".join(f"{indent}{line}".rstrip() for line in text.split("\n")[1:])
    return "\n".join(indent + line for line in wrap(text, columns - len(indent)))
