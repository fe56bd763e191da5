import click
import pytest

from rehost.cli.commands.run import run
from rehost.cli.commands.serve import serve
from rehost.cli.options import read_settings, settings_flags
from rehost.errors import SettingsError
from rehost.settings import Settings, settings_of


def flags(command):
    return {parameter.name.removeprefix("setting_"): parameter for parameter in command.params}


ALL = {**flags(run), **flags(serve)}


@pytest.mark.parametrize(
    "setting", [each for each in settings_of(Settings) if not each.secret], ids=lambda setting: setting.name
)
def test_every_setting_is_a_flag_that_names_its_variable(setting):
    assert setting.name in ALL[setting.attribute].help


@pytest.mark.parametrize(
    "setting", [setting for setting in settings_of(Settings) if setting.secret], ids=lambda setting: setting.name
)
def test_no_secret_is_a_flag(setting):
    """Every user of the machine can read a command line."""
    assert setting.attribute not in ALL


def test_a_flag_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE_DOWNLOAD_CONCURRENCY", "3")

    settings = read_settings(tmp_path, {"setting_concurrency": "7", "setting_retry": None})

    assert settings.concurrency == 7


def test_only_settings_are_removed_from_the_arguments(tmp_path):
    given = {"setting_concurrency": None, "source": "cases"}

    read_settings(tmp_path, given)

    assert given == {"source": "cases"}


def test_a_bad_flag_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match="none-at-all"):
        read_settings(tmp_path, {"setting_concurrency": "none-at-all"})


@pytest.mark.parametrize(
    "setting",
    [setting for setting in settings_of(Settings) if not setting.secret and setting.kind.expected != "any text"],
    ids=lambda setting: setting.name,
)
def test_the_message_about_a_bad_value_names_the_flag(tmp_path, setting):
    flag = ALL[setting.attribute].opts[0]

    with pytest.raises(SettingsError, match=rf"\({flag}\) is not valid"):
        read_settings(tmp_path, {f"setting_{setting.attribute}": "\0\n"})


def test_only_the_named_settings_become_flags():
    @click.command
    @settings_flags("api_port")
    def command():
        """Do nothing."""

    assert set(flags(command)) == {"api_port"}


def test_run_has_no_flags_for_settings_of_the_server():
    assert not {"read_through", "api_host", "api_port"} & set(flags(run))
