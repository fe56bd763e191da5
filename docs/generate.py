"""Writes the pages of docs/reference that the code knows best: settings, verbs, reasons, schema.

Run as `./dev docs`; with --check it writes nothing and ends with 1 where a page is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import click
from sqlalchemy.dialects import postgresql

from rehost.cli.main import VERBS, rehost
from rehost.ledger import schema
from rehost.model import Format, Reason, Source, State
from rehost.run import retry as backoff
from rehost.settings import DatabaseParts, OriginOverride, Setting, Settings, settings_of

REFERENCE = Path(__file__).parent / "reference"
NOTICE = "<!-- Written by `./dev docs` from the code; change it there. -->"

WIDTH = {"terminal_width": 100, "max_content_width": 100}

ABOUT_SETTINGS = """\
Each setting is read from four places: a flag of a verb that uses it (secrets have none), the environment, `.env`, and
`rehost.toml` (plain names at its top).
The strongest place that says something wins, in that order.
The two files lie in backend/ for the programs there, and in the working folder (or `--base`) for the command `rehost`.
Relative paths start from that folder.
A comment after a value in `.env` is not part of it; a value with ` #` in it stands in quotes.
Names that are not listed here are ignored.
An empty value counts as not given, except where a text or a list may be empty.
"""
ABOUT_STANDARD = """\
The standard variables `SSL_CERT_FILE`, `SSL_CERT_DIR`, `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` and
`NO_COLOR` hold too, in the environment only.
"""
ABOUT_SOURCES = """\
A table that holds links.
Where no section names one there is one source, `cases`, with the values below.
A section gives `table`, `key`, `link` and `local`; without a `path` its copies are called `{key}/LINK` after its link
column.
"""
ABOUT_ORIGINS = """\
What you lay down for a host (`*.example.com`) or for one origin (`https://example.com`).
What a section leaves out stays as it is.
"""
ABOUT_TABLES = """\
What rehost remembers lies in tables of its own, all named `rehost_*`: beside yours, or in the database that
`REHOST_LEDGER_URL` names.
Read them as you like; writing is rehost's alone.
"""


def settings() -> str:
    """Return the page of all settings."""
    return "\n".join(
        [
            *_head("Settings"),
            ABOUT_SETTINGS,
            "## The database",
            "",
            *_settings_table(settings_of(DatabaseParts)),
            "",
            "## All others",
            "",
            *_settings_table(settings_of(Settings)),
            "",
            ABOUT_STANDARD,
            "## `[source.NAME]` in rehost.toml",
            "",
            ABOUT_SOURCES,
            *_section_table(Source),
            "",
            '## `[origin."PATTERN"]` in rehost.toml',
            "",
            ABOUT_ORIGINS,
            *_section_table(OriginOverride),
            "",
        ]
    )


def verbs() -> str:
    """Return the page of all verbs, with the help that they print."""
    options = rehost.context_settings["help_option_names"]
    context = click.Context(rehost, info_name="rehost", help_option_names=options, **WIDTH)
    lines = [*_head("Verbs"), *_block(rehost.get_help(context))]
    for verb in VERBS:
        command = rehost.get_command(context, verb)
        assert command is not None
        text = command.get_help(click.Context(command, context, verb, **WIDTH))
        lines += [f"## {verb}", "", VERBS[verb], "", *_block(text)]
    return "\n".join(lines)


def reasons() -> str:
    """Return the page of reasons, states and formats."""
    passing = _span(backoff.FIRST_VISIT_WAIT, backoff.LONGEST_VISIT_WAIT)
    staying = _span(backoff.REFUSED_WAIT, backoff.LONGEST_REFUSED_WAIT)
    return "\n".join(
        [
            *_head("Reasons, states, formats"),
            "## Why a link has no copy",
            "",
            *_table(("reason", "meaning"), ((f"`{reason}`", reason.meaning) for reason in Reason)),
            "",
            f"A link that is `deferred` is tried again after {passing}.",
            f"One that is `refused` is tried again after {staying}.",
            "A changed link is tried at once, and `rehost run --retry REASON` (or `all`) asks now.",
            "",
            "## Where a link stands",
            "",
            *_table(("state", "meaning"), ((f"`{state}`", _comment(State, state.name)) for state in State)),
            "",
            "## Formats that can be proven",
            "",
            *_table(("extension", "media type"), ((f"`.{each}`", each.media_type) for each in Format)),
            "",
        ]
    )


def tables() -> str:
    """Return the page of our own tables."""
    lines = [
        *_head("Tables"),
        ABOUT_TABLES,
    ]
    source = inspect.getsource(schema)
    for name, table in schema.metadata.tables.items():
        body = source[source.index(f'"{name}"') :]
        comments = dict(re.findall(r'^ +Column\("(\w+)".*?\)[,)]?  # (.*)$', body[: body.index("\n)")], re.MULTILINE))
        rows = (
            (f"`{column.name}`", column.type.compile(dialect=postgresql.dialect()), comments.get(column.name, ""))
            for column in table.columns
        )
        lines += [f"## {name}", "", *_table(("column", "type", "meaning"), rows), ""]
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "verbs.md": verbs,
    "reasons.md": reasons,
    "tables.md": tables,
}


def _head(title: str) -> list[str]:
    return [f"# {title}", "", NOTICE, ""]


def _settings_table(rows: Iterator[Setting]) -> list[str]:
    heads = ("name", "default", "allowed", "what it does")
    return _table(heads, ((f"`{k.name}`", k.default_text, k.kind.expected, k.help) for k in rows))


def _section_table(section: type[Source | OriginOverride]) -> list[str]:
    rows = []
    for field in fields(section):
        if field.name not in {"name", "pattern"}:
            key = field.name.removesuffix("_seconds")
            value = "must be given" if field.default is MISSING else field.default
            rows.append((f"`{key}`", f"`{value}`" if value else "(none)", _comment(section, field.name)))
    return _table(("key", "default", "meaning"), iter(rows))


def _comment(owner: type[object], name: str) -> str:
    """Return the comment that stands behind a member in its class's source."""
    found = re.search(rf"^ +{name}\b.*?  # (.*)$", inspect.getsource(owner), re.MULTILINE)
    return found[1] if found else ""


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _block(text: str) -> list[str]:
    return ["```text", *(line.rstrip() for line in text.splitlines()), "```", ""]


def _span(first: float, longest: float) -> str:
    return f"{_duration(first)}, doubled each time up to {_duration(longest)}"


def _duration(seconds: float) -> str:
    for unit, length in (("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds:g} seconds"


def main() -> int:
    """Write the pages, or check them; return the exit status."""
    stale = [name for name, page in PAGES.items() if _read(REFERENCE / name) != page()]
    if "--check" in sys.argv:
        print("\n".join(f"docs/reference/{name} is out of date: ./dev docs" for name in stale))
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    for name in stale:
        (REFERENCE / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"docs/reference/{name} written")
    return 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
