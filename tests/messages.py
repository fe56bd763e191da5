"""The texts that the command line shows, collected from the code, and their Chinese catalogue.

`./dev messages` adds new texts to the catalogue, drops those that are gone, and compiles it; test_language.py checks
it.
"""

from __future__ import annotations

import ast
import errno
import inspect
import io
import os
import re
import string
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from rehost import errors
from rehost.cli.help import paragraphs
from rehost.cli.main import VERBS, find_command, rehost
from rehost.db.errors import SENTENCES
from rehost.language import CHINESE, Message
from rehost.model import Reason, State
from rehost.settings import DatabaseParts, Settings, settings_of
from rehost.store.filesystem import ADVICE

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "rehost"
PO = PACKAGE / "locale" / CHINESE / "LC_MESSAGES" / "rehost.po"
MO = PO.with_suffix(".mo")

HEADER = r"""# The Chinese texts of the command line. `./dev messages` updates this file from the code and compiles it.
msgid ""
msgstr ""
"Language: zh_CN\n"
"Content-Type: text/plain; charset=utf-8\n"
"Plural-Forms: nplurals=1; plural=0;\n"

"""

MARKS = {"_": 1, "gettext": 1, "ngettext": 2, "Message": 1}  # and how many of the arguments are texts
ERRORS = {
    name for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, errors.OperatorError)
}

SYSTEM_ERRORS = (  # that an operator may meet
    errno.EACCES, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EBADF, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.EDQUOT, errno.EFBIG, errno.EHOSTUNREACH, errno.EIO, errno.EISDIR, errno.EMFILE,
    errno.ENETUNREACH, errno.ENOENT, errno.ENOMEM,
    errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EPIPE, errno.EROFS, errno.ETIMEDOUT,
)  # fmt: skip

Text = str | tuple[str, str]  # or one text for one thing, and another for several


def name_of(call: ast.Call) -> str:
    """Return the last part of the name of what is called."""
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def literals(node: ast.expr) -> list[str]:
    """Return the text that an argument is, or the two texts that it may be."""
    if isinstance(node, ast.IfExp):
        return [*literals(node.body), *literals(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def marked(path: Path) -> Iterator[Text]:
    """Yield the texts that a file marks: what it gives to `_`, `ngettext`, Message and errors for the operator."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node)
        number = len(node.args) if name in ERRORS else MARKS.get(name, 0)
        if name == "add" and node.keywords:  # of an OperatorError
            number = 1
        texts = [text for each in node.args[:number] for text in literals(each)]
        if name == "ngettext" and len(texts) == 2:
            yield texts[0], texts[1]
        else:
            yield from texts


def declared() -> Iterator[str]:
    """Yield the texts that are marked by where they are: reasons, settings, verbs and their options."""
    yield from (each.meaning for part in (Reason, State) for each in part)
    for part in (Settings, DatabaseParts):
        for setting in settings_of(part):
            yield from (setting.help, setting.says, setting.unit, setting.kind.expected)
    yield from [*VERBS.values(), *ADVICE.values(), *SENTENCES.values(), *map(os.strerror, SYSTEM_ERRORS)]
    commands: list[click.Command] = [rehost, *map(find_command, VERBS)]
    for command in commands:
        for text in (command.help, command.short_help, command.epilog):
            yield from (each.removeprefix("\b\n") for each in paragraphs(text or ""))
        for parameter in command.params:
            if not isinstance(text := getattr(parameter, "help", None) or "", Message):
                yield from paragraphs(text)


def collected() -> set[Text]:
    """Return all texts that need a translation."""
    found: set[Text] = {text for text in declared() if not isinstance(text, Message)}
    for path in sorted([*PACKAGE.rglob("*.py"), *Path(click.__file__).parent.glob("*.py")]):
        found.update(marked(path))
    return {text for text in found if text}


SHOWN = ("cli", "demo/demonstration.py", "telemetry/progress.py", "telemetry/format.py")
SILENT = {"debug", "info", "warning", "error", "exception", "option", "argument", "command", "group", "compile"}
PROSE = re.compile(r"[A-Za-z]{2,}[^A-Za-z\n]* [A-Za-z]|^[A-Z][a-z]{2,}[.:]?$")


def unmarked(path: Path, known: Collection[Text]) -> Iterator[str]:
    """Yield where a file shows English to the operator that is not marked: errors anywhere, prose in what prints.

    Args:
        path: of the file.
        known: texts that need no mark.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    is_shown = any((PACKAGE / each) in (path, *path.parents) for each in SHOWN)
    for node, is_marked in _strings(tree, is_marked=not is_shown):
        text = "".join(part.value for part in getattr(node, "values", [node]) if isinstance(part, ast.Constant))
        is_known = all(each.removeprefix("\b\n") in known for each in paragraphs(text))
        if not is_marked and PROSE.search(text) and not is_known:
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {text}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and name_of(node.exc) in {*ERRORS, "error"}:
            for each in node.exc.args:
                if isinstance(each, ast.JoinedStr | ast.BinOp):
                    yield f"{path.relative_to(ROOT)}:{each.lineno}: an error's text in an f-string"


def _strings(node: ast.AST, *, is_marked: bool) -> Iterator[tuple[ast.JoinedStr | ast.Constant, bool]]:
    """Yield the strings within a node, docstrings aside, and whether they are within a mark or shown to nobody."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield node, is_marked
    if isinstance(node, ast.Call) and name_of(node) in {*MARKS, *ERRORS, *SILENT}:
        is_marked = True
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if not is_docstring and not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from _strings(child, is_marked=is_marked)


def parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def fields(text: str) -> set[str]:
    """Return the names in braces."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError:
        return {text[start:] for start, each in enumerate(text) if each == "{"}


def catalogue() -> Catalog:
    """Return the Chinese catalogue as it is."""
    with PO.open("rb") as file:
        found = read_po(file, locale=CHINESE)
    found.creation_date = found.revision_date = datetime(2026, 1, 1, tzinfo=UTC)  # or no two compilations are the same
    return found


def update() -> int:
    """Bring the catalogue up to date and compile it; return how many texts lack a translation."""
    known = catalogue()
    current = Catalog(locale=CHINESE)
    for text in collected():
        current.add(text)
    known.update(current, no_fuzzy_matching=True, update_creation_date=False)
    known.obsolete.clear()
    with PO.open("wb") as file:
        file.write(HEADER.encode())
        write_po(file, known, width=120, no_location=True, omit_header=True, sort_output=True)
    MO.write_bytes(compiled())
    return sum(1 for message in catalogue() if not all(parts(message.string)))


def compiled() -> bytes:
    """Return the catalogue in the form that is read when a command runs."""
    buffer = io.BytesIO()
    write_mo(buffer, catalogue())
    return buffer.getvalue()


if __name__ == "__main__":
    lacking = update()
    summary = f"{PO.relative_to(ROOT)}: {lacking} texts without a translation"
    print(summary)  # noqa: T201 - what it is for
    sys.exit(1 if lacking else 0)
