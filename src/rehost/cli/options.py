"""The options that several verbs share, and the settings as flags, made from settings' own list."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from rehost.settings import Settings, knobs, load

F = TypeVar("F", bound=Callable[..., object])


class SettingsCommand(click.Command):
    """Shows a verb's own options first, the settings after them; examples by the name that it was called by."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        epilog, self.epilog = (
            self.epilog,
            re.sub(r"\brehost (run|serve)\b", lambda _: ctx.command_path, self.epilog or ""),
        )
        super().format_epilog(ctx, formatter)
        self.epilog = epilog

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two sections."""
        own: list[tuple[str, str]] = []
        settings: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                (settings if isinstance(parameter, SettingOption) else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        if settings:
            with formatter.section("Settings, for this once (an environment variable or .env holds them for good)"):
                formatter.write_dl(settings)


class SettingOption(click.Option):
    """A setting given on the command line."""


def settings_flags(*attributes: str, without: Sequence[str] = ()) -> Callable[[F], F]:
    """Add a flag for each of these settings (all that are no secrets, where none is named, but for some)."""

    def decorate(function: F) -> F:
        for knob in reversed(list(knobs(Settings))):
            if knob.secret or knob.attribute in without or (attributes and knob.attribute not in attributes):
                continue
            function = click.option(
                f"--{knob.flag}",
                f"setting_{knob.attribute}",
                cls=SettingOption,
                metavar=(knob.unit or "VALUE").upper(),
                help=f"{knob.help} [{knob.name}; {knob.default_text}]",
            )(function)
        return function

    return decorate


def base_option(function: F) -> F:
    """Add --base."""
    return click.option(
        "--base",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        default=Path(),
        metavar="DIR",
        help="Folder of .env and rehost.toml; relative paths start from it. [the working folder]",
    )(function)


def source_option(function: F) -> F:
    """Add --source."""
    return click.option(
        "--source", metavar="NAME", help="The table to work on; needed where rehost.toml names several."
    )(function)


def log_file_option(function: F) -> F:
    """Add --log-file."""
    return click.option(
        "--log-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Append a line per visit to this file. It starts from the working folder.",
    )(function)


def json_option(function: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")(function)


def read_settings(base: Path, given: dict[str, Any]) -> Settings:
    """Return the settings of this command; takes its flags out of what click gave.

    Raises:
        SettingsError: a setting is not usable.
    """
    names = [name for name in given if name.startswith("setting_")]
    flags = {name.removeprefix("setting_"): given.pop(name) for name in names}
    return load(base, os.environ, flags)
