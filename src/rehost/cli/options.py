"""The options that several verbs share, and a flag for each setting, made from the list in rehost.settings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from rehost.language import Message
from rehost.language import gettext as _
from rehost.settings import Setting, Settings, load, settings_of

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says about a run, besides settings."""

    sources: tuple[str, ...] = ()  # none named: all
    retry: str | None = None
    log_file: Path | None = None
    is_quiet: bool = False
    is_verbose: bool = False
    accepts_loss: bool = False


class SettingsCommand(click.Command):
    """Lists a command's own options before the settings, and puts the program's own name into the examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(re.sub(r"\brehost (run|serve)\b", lambda _found: ctx.command_path, self.epilog or ""))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two sections."""
        own: list[tuple[str, str]] = []
        settings: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                (settings if isinstance(parameter, SettingOption) else own).append(record)
        with formatter.section(_("Options")):
            formatter.write_dl(own)
        if settings:
            with formatter.section(_("Settings for this command (to keep them, use the environment or .env)")):
                formatter.write_dl(settings)


class SettingOption(click.Option):
    """A setting given on the command line."""

    def __init__(self, names: Sequence[str], setting: Setting, **options: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(names, **options)
        about, default = Message(setting.help), setting.default_text
        self.help = Message("{help} [{name}; {default}]", help=about, name=setting.name, default=default)


def settings_flags(*attributes: str, without: Sequence[str] = ()) -> Callable[[F], F]:
    """Return a decorator that adds a flag for each of these settings, which are fields of Settings.

    Args:
        attributes: the settings; none named means all. Secrets never become flags.
        without: settings that are left out.
    """

    def decorate(function: F) -> F:
        for setting in reversed(list(settings_of(Settings))):
            is_wanted = not attributes or setting.attribute in attributes
            if setting.secret or setting.attribute in without or not is_wanted:
                continue
            function = click.option(
                f"--{setting.flag}",
                f"setting_{setting.attribute}",
                cls=SettingOption,
                metavar=(setting.unit or "VALUE").upper(),
                setting=setting,
            )(function)
        return function

    return decorate


base_option = click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Folder that contains .env and rehost.toml; relative paths are resolved from it. [the current directory]",
)
source_option = click.option(
    "--source",
    "sources",
    metavar="NAME",
    multiple=True,
    help="A table to work on, by its name in rehost.toml; can be repeated. [all of them]",
)
log_file_option = click.option(
    "--log-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Append a line per visit to this file; relative to the current directory.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
json_by_source_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='Print one JSON object, for programs; for several tables {"sources": [...], "total": {...}}.',
)


DAY_SECONDS = 86_400.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_SECONDS}
_LONGEST_SPAN = 3653 * DAY_SECONDS  # ten years


def seconds_of(word: str) -> float:
    """Return the seconds of a time such as 90s, 30m, 2h or 7d; 0 for a word that is none."""
    time = re.fullmatch(r"([0-9]{1,9})([smhd])", word)
    return float(time[1]) * _UNITS[time[2]] if time else 0.0


def check_span(_context: click.Context, _parameter: click.Parameter, word: str | None) -> float | None:
    """Return the seconds of a time such as 90s, 30m, 2h or 90d, at most ten years."""
    seconds = None if word is None else seconds_of(word)
    if seconds is not None and not 0 < seconds <= _LONGEST_SPAN:
        raise click.BadParameter(_("{word!r} is not a time: write 90s, 30m, 2h or 90d.").format(word=word))
    return seconds


def hosts_of(option: str, texts: Sequence[str]) -> Sequence[str]:
    """Return the hosts that are named, as requests have them."""
    from rehost.http.errors import InvalidUrl
    from rehost.http.url import parse_host

    try:
        return list(dict.fromkeys(parse_host(text) for text in texts))
    except InvalidUrl as error:
        text = _("{option} {hosts}: this is not the name of a host ({problem}).")
        raise click.UsageError(text.format(option=option, hosts=" ".join(texts), problem=error)) from error


def read_settings(base: Path, given: dict[str, Any]) -> Settings:
    """Return the settings of this command, and remove its flags from click's arguments.

    Raises:
        SettingsError: a setting is not valid.
    """
    names = [name for name in given if name.startswith("setting_")]
    flags = {name.removeprefix("setting_"): given.pop(name) for name in names}
    return load(base, os.environ, flags)
