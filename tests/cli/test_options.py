import click
import pytest

from rehost.cli.commands.run import command as run
from rehost.cli.commands.serve import command as serve
from rehost.cli.options import read_settings, settings_flags
from rehost.errors import SettingsError
from rehost.settings import Settings, knobs


def flags(command):
    return {parameter.name.removeprefix("setting_"): parameter for parameter in command.params}


ALL = {**flags(run), **flags(serve)}


@pytest.mark.parametrize("knob", [knob for knob in knobs(Settings) if not knob.secret], ids=lambda knob: knob.name)
def test_every_setting_is_a_flag_that_names_its_variable(knob):
    assert knob.name in ALL[knob.attribute].help


@pytest.mark.parametrize("knob", [knob for knob in knobs(Settings) if knob.secret], ids=lambda knob: knob.name)
def test_no_secret_is_a_flag(knob):
    """A command line is seen by every user of the machine."""
    assert knob.attribute not in ALL


def test_a_flag_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE_DOWNLOAD_CONCURRENCY", "3")

    settings = read_settings(tmp_path, {"setting_concurrency": "7", "setting_retry": None})

    assert settings.concurrency == 7


def test_only_settings_are_taken_out_of_what_click_gave(tmp_path):
    given = {"setting_concurrency": None, "source": "cases"}

    read_settings(tmp_path, given)

    assert given == {"source": "cases"}


def test_a_bad_flag_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match="none-at-all"):
        read_settings(tmp_path, {"setting_concurrency": "none-at-all"})


@pytest.mark.parametrize(
    "knob",
    [knob for knob in knobs(Settings) if not knob.secret and knob.kind.allowed != "any text"],
    ids=lambda knob: knob.name,
)
def test_a_bad_value_is_told_with_the_flag_that_gave_it(tmp_path, knob):
    flag = ALL[knob.attribute].opts[0]

    with pytest.raises(SettingsError, match=rf"\({flag}\) is not usable"):
        read_settings(tmp_path, {f"setting_{knob.attribute}": "\0\n"})


def test_only_the_named_settings_become_flags():
    @click.command
    @settings_flags("api_port")
    def command():
        """Do nothing."""

    assert set(flags(command)) == {"api_port"}


def test_a_run_has_no_flags_for_what_serves():
    assert not {"read_through", "api_host", "api_port"} & set(flags(run))
