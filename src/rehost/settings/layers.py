"""The places of settings, by falling priority: flags, environment, `.env`, rehost.toml.

Each place becomes a Layer: texts with their positions. This module checks the syntax of the files, not the values.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rehost.errors import SettingsError, cause_of
from rehost.language import Message
from rehost.settings.sections import Table, plain_text

_ASSIGNMENT = re.compile(
    r"""
    ^[^\S\n]* (?:export[^\S\n]+)? (?P<name>[A-Za-z_][A-Za-z0-9_.]*) [^\S\n]*=
    (?: [^\S\n]*'(?P<single>[^']*)' | [^\S\n]*"(?P<double>(?:\\.|[^"\\])*)" | (?P<bare>[^\n]*) )
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
SECTIONS = ("source", "origin")
GROUPS = {"rescue": {"archive": "IMAGE_RESCUE_ARCHIVE"}, "hooks": {"after_forget": "IMAGE_AFTER_FORGET"}}
"""Sections that hold settings under short names."""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class Given:
    """A setting's text and where it was given."""

    text: str
    where: str


Layer = Mapping[str, Given]  # by name of the setting


@dataclass(frozen=True, slots=True)
class TomlFile:
    """rehost.toml: plain settings at its top, sections below."""

    layer: Layer
    path: Path
    text: str = field(repr=False, default="")
    sources: Mapping[str, Table] = field(default_factory=dict)
    origins: Mapping[str, Table] = field(default_factory=dict)
    others: Sequence[str] = ()  # names at its top that are neither a section of these kinds nor of a setting's type
    exists: bool = False

    def where(self, key: str, section: str) -> str:
        """Return `file:line` of a key, found by searching the text because tomllib reports no lines."""
        return f"{self.path}:{_toml_line(self.text, section, key)}"


def read_environment(environ: Mapping[str, str]) -> Layer:
    """Return the layer of the environment."""
    return {name: Given(text.strip(), Message("the environment")) for name, text in environ.items()}


def read_dotenv(path: Path) -> Layer:
    """Return the layer of a `.env` file, empty if there is none; a later line overrides an earlier one.

    Raises:
        SettingsError: the file exists and cannot be read.
    """
    data = _read(path) or b""
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    # Comments may be in any encoding: bytes that are not UTF-8 invalidate only the setting that contains them.
    text = data.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    layer = {}
    for found in _ASSIGNMENT.finditer(text):
        line = text.count("\n", 0, found.start("name")) + 1
        layer[found["name"]] = Given(_value(found), f"{path}:{line}")
    return layer


def read_toml(path: Path) -> TomlFile:
    """Return the content of rehost.toml, empty if there is none.

    Raises:
        SettingsError: the file cannot be read or is not TOML.
    """
    try:
        data = _read(path)
        text = (data or b"").decode("utf-8-sig")
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError("{path} is not valid TOML: {cause}", path=path, cause=error) from error
    plain = {
        name: Given(words, f"{path}:{_toml_line(text, '', name)}")
        for name, value in document.items()
        if (words := plain_text(value)) is not None
    }
    plain |= _grouped(document, path, text)
    sources, origins = (_tables(document, name, path) for name in SECTIONS)
    others = [name for name in document if name not in plain and name not in (*SECTIONS, *GROUPS)]
    return TomlFile(plain, path, text, sources, origins, others, exists=data is not None)


def _grouped(document: Mapping[str, object], path: Path, text: str) -> dict[str, Given]:
    """Return the settings in sections such as [rescue], by their own names."""
    found = {}
    for section, names in GROUPS.items():
        table = document.get(section, {})
        if not isinstance(table, dict) or set(table) - set(names):
            raise SettingsError(
                "{path}: the section [{section}] can only have the keys {names}.",
                path=path,
                section=section,
                names=", ".join(names),
            )
        for key, value in table.items():
            if (words := plain_text(value)) is None:
                raise SettingsError("{path}: {section}.{key} must be a text.", path=path, section=section, key=key)
            found[names[key]] = Given(words, f"{path}:{_toml_line(text, section, key)}")
    return found


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(
            "{path} cannot be read ({cause}): make it a readable file.", path=path, cause=cause_of(error)
        ) from error


def _value(found: re.Match[str]) -> str:
    if found["single"] is not None:
        return found["single"]
    if found["double"] is not None:
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), found["double"], flags=re.DOTALL)
    # A comment starts after white space, or is the whole value: `a#b` and `#b` contain none.
    return re.sub(r"(^#(?=\s)|\s#).*", "", found["bare"]).strip()


def _tables(document: Mapping[str, object], name: str, path: Path) -> Mapping[str, Table]:
    sections = document.get(name, {})
    if not isinstance(sections, dict) or not all(isinstance(each, dict) for each in sections.values()):
        raise SettingsError('{path}: {name} must consist of sections such as [{name}."name"].', path=path, name=name)
    return sections


def _toml_line(text: str, section: str, key: str) -> int:
    """Return the line of a key in a section; if it is not found, the line of the section's heading, or 1."""
    here, heading = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            here = re.sub(r"[\"']", "", found[1])
            heading = number if here == section else heading
        elif here == section and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return heading
