"""Reads Settings from flags, environment and files: each setting comes from the place of highest priority."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rehost import __version__
from rehost.errors import SettingsError
from rehost.language import Message
from rehost.model import Source
from rehost.settings.database_url import UrlError, normal_url, parts_url
from rehost.settings.definitions import PLACES, DatabaseParts, Setting, Settings, settings_of
from rehost.settings.layers import SECTIONS, Given, Layer, TomlFile, read_dotenv, read_environment, read_toml
from rehost.settings.sections import NOT_SHOWN, SectionError, Table, did_you_mean, nearest, parse_origin, parse_source

T = TypeVar("T")

log = logging.getLogger(__name__)

_DATABASE = frozenset({"DATABASE_URL", *(each.name for each in settings_of(DatabaseParts))})
_KNOWN = _DATABASE | {each.name for each in settings_of(Settings)}
_OWN_PREFIXES = ("IMAGE_", "REHOST_")
_PREFIXES = (*_OWN_PREFIXES, "DATABASE_", "DB_", "API_")

_LONGEST_SHOWN = 200  # characters


def load(base: Path, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Return the settings of one command.

    Args:
        base: the folder of `.env` and rehost.toml; relative paths start there.
        environ: the environment.
        flags: values from the command line by field of Settings; None means not given.

    Raises:
        SettingsError: one line for each invalid value: the setting, the value, where it is, what is expected.
    """
    base = base.absolute()
    toml = read_toml(base / "rehost.toml")
    dotenv, environment = read_dotenv(base / ".env"), read_environment(environ)
    reader = _Reader(base, (_flag_layer(flags), environment, dotenv, toml.layer))
    _check_toml_names(toml, reader.errors)
    _check_names(dotenv, environment, reader.errors)
    parts = reader.parse(DatabaseParts)
    values = reader.parse(Settings)
    database = _database_url(reader, parts)
    is_database_given = not _DATABASE.isdisjoint([*reader.layers[0], *environment])
    contact = f" ({values['contact']})" if values["contact"] else ""
    settings = Settings(
        **values
        | {
            "database_url": database,
            "ledger_url": reader.url("REHOST_LEDGER_URL") or database,
            "storage_dir": base / where if isinstance(where := values["storage_dir"], Path) else where,
            "other_storage_dir": base / other if isinstance(other := values["other_storage_dir"], Path) else other,
            "spool_dir": base / values["spool_dir"],
            "aws": {
                name: each.text for layer in (dotenv, environment) for name, each in layer.items() if name[:4] == "AWS_"
            },
            "user_agent": values["user_agent"] or f"rehost/{__version__}{contact}",
            "origins": tuple(_sections(toml, "origin", toml.origins, parse_origin, reader.errors)),
            "sources": _sources(toml, reader.errors) or (Source(),),
            "base": base,
            "found": tuple(
                place
                for place, is_there in zip(PLACES, (toml.exists, dotenv, is_database_given), strict=True)
                if is_there
            ),
        }
    )
    if reader.errors:
        raise SettingsError(*reader.errors)
    return settings


def _check_toml_names(toml: TomlFile, errors: list[str]) -> None:
    """Record an error for each name at the top of rehost.toml that is neither a setting nor a section."""
    sections = [f"[{each}.NAME]" for each in SECTIONS]
    for name in (*toml.layer, *toml.others):
        place = {"name": name, "where": toml.where(name, "")}
        if name in toml.others and name in _KNOWN:
            errors.append(
                Message(
                    "{name} ({where}) is not valid: it is a table or a date, where a text or a number is expected.",
                    **place,
                )
            )
        elif name not in _KNOWN:
            hint = did_you_mean(name, _KNOWN) or did_you_mean(f"[{name}.NAME]", sections)
            errors.append(
                Message(
                    "{name} ({where}) is not a setting of rehost, nor a section{near}: correct it, or remove it.",
                    near=hint,
                    **place,
                )
            )


def _check_names(dotenv: Layer, environment: Layer, errors: list[str]) -> None:
    """Record an error, or log a warning, for each name that looks like one of ours and is none.

    Other programs use the same `.env` and environment. So a name is taken for a misspelling only if it is near the name
    of a setting that was not given beside it; it is an error where the file and the prefix are rehost's.
    """
    for layer in (dotenv, environment):
        for name, given in layer.items():
            if name in _KNOWN or not name.startswith(_PREFIXES):
                continue
            near = nearest(name, _KNOWN)
            is_ours = layer is dotenv and name.startswith(_OWN_PREFIXES)
            hint = did_you_mean(name, _KNOWN)
            if near and near not in layer and is_ours:
                errors.append(
                    Message(
                        "{name} ({where}) is not a setting of rehost{near}: correct it, or remove it.",
                        name=name,
                        where=given.where,
                        near=hint,
                    )
                )
            elif is_ours or (near and near not in layer):
                log.warning("%s (%s) is not a setting of rehost%s, and is ignored.", name, given.where, hint)


@dataclass(slots=True)
class _Reader:
    """The layers by falling priority, and the errors found so far."""

    base: Path
    layers: Sequence[Layer]
    errors: list[str] = field(default_factory=list)

    def parse(self, part: type[Settings | DatabaseParts]) -> dict[str, Any]:
        """Return a value for each setting of a part; an invalid one is recorded as an error and gets its default."""
        return {setting.attribute: self._value(setting) for setting in settings_of(part)}

    def given(self, name: str, *, blank: bool = False) -> tuple[int, Given] | None:
        """Return the text of a setting with the highest priority, and its rank; empty texts count only if `blank`."""
        for rank, layer in enumerate(self.layers):
            found = layer.get(name)
            if found is not None and (found.text or blank):
                return rank, found
        return None

    def url(self, name: str) -> str:
        """Return a database's URL in its normal form, or an empty string if it is not given or not valid."""
        found = self.given(name)
        if found is None:
            return ""
        try:
            return normal_url(found[1].text, self.base)
        except UrlError as error:
            self.add_error(name, NOT_SHOWN, found[1].where, error.expected)
            return ""

    def add_error(self, name: str, value: object, where: str, expected: str) -> None:
        """Record that a value is not valid."""
        given = {"name": name, "value": _shown(value), "where": where}
        self.errors.append(
            Message("{name}={value} ({where}) is not valid; expected {expected}.", expected=expected, **given)
        )

    def _value(self, setting: Setting) -> object:
        found = self.given(setting.name, blank=setting.kind.blank)
        if found is None:
            return setting.default
        try:
            found[1].text.encode()
            return setting.kind.parse(found[1].text)
        except ValueError:
            self.add_error(
                setting.name, NOT_SHOWN if setting.secret else found[1].text, found[1].where, setting.kind.expected
            )
            return setting.default


def _shown(value: object) -> str:
    """Return an invalid value for a message: on one line and not too long."""
    if isinstance(value, Message):
        return value
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _flag_layer(flags: Mapping[str, object]) -> Layer:
    """Return the layer of the command line, whose keys are fields of Settings."""
    known = {setting.attribute: setting for setting in settings_of(Settings)}
    return {
        known[name].name: Given(str(value), f"--{known[name].flag}")
        for name, value in flags.items()
        if value is not None
    }


def _database_url(reader: _Reader, parts: Mapping[str, Any]) -> str:
    """Return DATABASE_URL, or the URL made from DB_* if one of those has a higher priority."""
    url = reader.given("DATABASE_URL")
    ranks = [found[0] for setting in settings_of(DatabaseParts) if (found := reader.given(setting.name))]
    if url is not None and url[0] <= min(ranks, default=len(reader.layers)):
        return reader.url("DATABASE_URL")
    return parts_url(DatabaseParts(**parts))


def _sources(toml: TomlFile, errors: list[str]) -> tuple[Source, ...]:
    """Return the sources; two of them must not store copies under the same names."""
    sources = tuple(_sections(toml, "source", toml.sources, parse_source, errors))
    paths = [source.path for source in sources]
    errors.extend(
        Message(
            'Two sources use path="{path}" ({file}): give each its own path, such as path="NAME/{path}".',
            path=path,
            file=toml.path,
        )
        for path in dict.fromkeys(paths)
        if paths.count(path) > 1
    )
    return sources


def _sections(
    toml: TomlFile, kind: str, tables: Mapping[str, Table], parse: Callable[[str, Table], T], errors: list[str]
) -> list[T]:
    """Return the valid sections of one kind, and record errors in the others."""
    parsed = []
    for name, table in tables.items():
        try:
            parsed.append(parse(name, table))
        except SectionError as error:
            where = toml.where(error.key, f"{kind}.{name}")
            about = {"section": f'[{kind}."{name}"]', "where": where, "expected": error.expected}
            if error.value is None:
                missing = Message("{section} ({where}) has no `{key}`: set it to {expected}.", key=error.key, **about)
                errors.append(missing)
                continue
            value = _shown(error.value)
            if error.key:
                value = Message("{key}={value}", key=error.key, value=value)
            errors.append(
                Message("{section} {value} ({where}) is not valid; expected {expected}.", value=value, **about)
            )
    return parsed
