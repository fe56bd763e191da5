import pytest
from tests.settings.reading import error_of

from rehost.model import Source
from rehost.settings import Settings, load, settings_of


def test_defaults_are_those_of_the_manual(tmp_path):
    settings = load(tmp_path, {}, {})

    assert tmp_path / "data/images" == settings.storage_dir
    assert (settings.concurrency, settings.timeout_seconds, settings.retry) == (10, 30, 3)
    assert settings.static_url_prefix == "/static/images"
    assert settings.database_url == "postgresql://postgres@localhost:5432/ad_case_db"
    assert (Source(),) == settings.sources


def test_defaults_are_shown_as_an_operator_would_write_them():
    words = {setting.name: setting.default_text for setting in settings_of(Settings)}

    assert words["IMAGE_MAX_BYTES"] == "64MiB"
    assert words["IMAGE_DOWNLOAD_TIMEOUT"] == "30 seconds"
    assert words["IMAGE_ROBOTS"] == "off"


@pytest.mark.parametrize(("retry", "attempts"), [("0", 1), ("1", 1), ("3", 3)])
def test_retry_counts_all_attempts(tmp_path, retry, attempts):
    assert attempts == load(tmp_path, {"IMAGE_DOWNLOAD_RETRY": retry}, {}).attempts


def test_secrets_are_never_printed(tmp_path):
    settings = load(tmp_path, {"DB_PASSWORD": "hunter2", "REHOST_TOKEN": "hunter2"}, {})

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in error_of(tmp_path, DATABASE_URL="mysql://u:hunter2@h/n")
