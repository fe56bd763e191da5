"""From flags, environment and files to Settings: the strongest place that says something wins, setting by setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rehost import __version__
from rehost.errors import SettingsError
from rehost.model import Source
from rehost.settings.database_url import UrlError, normal_url, parts_url
from rehost.settings.fields import DatabaseParts, Setting, Settings, knobs
from rehost.settings.layers import Given, Layer, TomlFile, read_dotenv, read_environment, read_toml
from rehost.settings.sections import OriginOverride, SectionError, Table, parse_origin, parse_source

T = TypeVar("T")

_LONGEST_SHOWN = 200  # characters


def load(base: Path, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Return the settings of one command.

    Args:
        base: the folder of `.env` and rehost.toml; relative paths start from it.
        environ: the environment.
        flags: what the command line says, by the fields of Settings; None says nothing.

    Raises:
        SettingsError: one line for each bad value: the setting, the value, where it stands, what is allowed.
    """
    base = base.absolute()
    toml = read_toml(base / "rehost.toml")
    reader = _Reader((_flag_layer(flags), read_environment(environ), read_dotenv(base / ".env"), toml.layer))
    parts = reader.parse(DatabaseParts)
    values = reader.parse(Settings)
    database = _database_url(reader, parts, base)
    settings = Settings(
        **values
        | {
            "database_url": database,
            "ledger_url": reader.convert("REHOST_LEDGER_URL", lambda text: normal_url(text, base)) or database,
            "storage_dir": base / values["storage_dir"],
            "user_agent": values["user_agent"] or _user_agent(values["contact"]),
            "origins": _origins(toml, reader.complaints),
            "sources": _sources(toml, reader.complaints) or (Source(),),
        }
    )
    if reader.complaints:
        raise SettingsError("\n".join(reader.complaints))
    return settings


@dataclass(slots=True)
class _Reader:
    """The layers, strongest first, and what is wrong in them so far."""

    layers: Sequence[Layer]
    complaints: list[str] = field(default_factory=list)

    def parse(self, part: type[Settings | DatabaseParts]) -> dict[str, Any]:
        """Return a value for each knob of a part; for a bad one its default, and a complaint."""
        return {knob.attribute: self._value(knob) for knob in knobs(part)}

    def given(self, name: str, *, blank: bool = False) -> tuple[int, Given] | None:
        """Return the strongest text of a setting with the place's rank; an empty one counts where `blank`."""
        for rank, layer in enumerate(self.layers):
            found = layer.values.get(name)
            if found is not None and (found.text or blank):
                return rank, found
        return None

    def convert(self, name: str, parse: Callable[[str], str]) -> str:
        """Return a URL setting in its normal form, or an empty string where it is not given or bad."""
        found = self.given(name)
        if found is None:
            return ""
        try:
            return parse(found[1].text)
        except UrlError as error:
            self.complain(name, "(not shown)", found[1].where, error.allowed)
            return ""

    def complain(self, name: str, value: object, where: str, allowed: str) -> None:
        """Remember that a value is bad."""
        self.complaints.append(f"{name}={_shown(value)} ({where}) is not usable; allowed is {allowed}.")

    def _value(self, knob: Setting) -> object:
        found = self.given(knob.name, blank=knob.kind.blank)
        if found is None:
            return knob.default
        try:
            found[1].text.encode()
            return knob.kind.parse(found[1].text)
        except ValueError:
            self.complain(knob.name, "(not shown)" if knob.secret else found[1].text, found[1].where, knob.kind.allowed)
            return knob.default


def _shown(value: object) -> str:
    """Return a bad value as a message may show it: on one line, and not for ever."""
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _flag_layer(flags: Mapping[str, object]) -> Layer:
    """Return the command line's layer; flags bear the names of Settings' fields."""
    known = {knob.attribute: knob for knob in knobs(Settings)}
    return Layer(
        {
            known[name].name: Given(str(value), f"--{known[name].flag}")
            for name, value in flags.items()
            if value is not None
        }
    )


def _database_url(reader: _Reader, parts: Mapping[str, Any], base: Path) -> str:
    """Return the URL of the stronger place: DATABASE_URL, or DB_* where one of those stands in a stronger place."""
    url = reader.given("DATABASE_URL")
    ranks = [found[0] for knob in knobs(DatabaseParts) if (found := reader.given(knob.name))]
    if url is not None and url[0] <= min(ranks, default=len(reader.layers)):
        return reader.convert("DATABASE_URL", lambda text: normal_url(text, base))
    return parts_url(DatabaseParts(**parts))


def _user_agent(contact: str) -> str:
    return f"rehost/{__version__} ({contact})" if contact else f"rehost/{__version__}"


def _origins(toml: TomlFile, complaints: list[str]) -> tuple[OriginOverride, ...]:
    return tuple(_sections(toml, "origin", toml.origins, parse_origin, complaints))


def _sources(toml: TomlFile, complaints: list[str]) -> tuple[Source, ...]:
    """Return the sources; two of them must not lay their copies at the same names."""
    sources = tuple(_sections(toml, "source", toml.sources, parse_source, complaints))
    paths = [source.path for source in sources]
    complaints.extend(
        f'path="{path}" ({toml.path}) stands in two sources; give each its own, such as path="NAME/{path}".'
        for path in dict.fromkeys(paths)
        if paths.count(path) > 1
    )
    return sources


def _sections(
    toml: TomlFile,
    kind: str,
    tables: Mapping[str, Table],
    parse: Callable[[str, Table], T],
    complaints: list[str],
) -> list[T]:
    """Return the sections of one kind that are right, and complain of the others."""
    parsed = []
    for name, table in tables.items():
        try:
            parsed.append(parse(name, table))
        except SectionError as error:
            where = toml.where(error.key, f"{kind}.{name}")
            said = f"{error.key}={_shown(error.value)}" if error.key else _shown(error.value)
            complaints.append(f'[{kind}."{name}"] {said} ({where}) is not usable; allowed is {error.allowed}.')
    return parsed
