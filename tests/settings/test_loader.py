import subprocess
import sys
from dataclasses import replace

import pytest
from tests.settings.reading import from_dotenv, from_toml

from rehost.errors import SettingsError
from rehost.settings import load


def test_priority_falls_from_flags_to_environment_to_dotenv_to_toml(tmp_path):
    (tmp_path / ".env").write_text("IMAGE_DOWNLOAD_CONCURRENCY=3\nIMAGE_DOWNLOAD_RETRY=3\nIMAGE_MAX_REDIRECTS=3\n")
    (tmp_path / "rehost.toml").write_text(
        "IMAGE_DOWNLOAD_CONCURRENCY=4\nIMAGE_DOWNLOAD_RETRY=4\nIMAGE_MAX_REDIRECTS=4\nIMAGE_MAX_FRAMES=4\n"
    )
    environ = {"IMAGE_DOWNLOAD_CONCURRENCY": "2", "IMAGE_DOWNLOAD_RETRY": "2"}

    settings = load(tmp_path, environ, {"concurrency": 1, "max_frames": None})

    assert (settings.concurrency, settings.retry, settings.max_redirects, settings.max_frames) == (1, 2, 3, 4)


def test_names_of_other_programs_are_ignored(tmp_path, caplog):
    environ = {"LANG": "C", "IMAGE_TAG": "v1", "DB_NAME": "shop", "DB_NAMES": "a b", "API_KEY": "x"}

    settings = from_dotenv(tmp_path, "OPENAI_KEY=x\nnot a line\nTHIS IS=nothing\n")

    assert settings == replace(
        load(tmp_path, environ, {}),
        database_url=settings.database_url,
        ledger_url=settings.ledger_url,
        found=settings.found,
    )
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('NEWS = "x"', "NEWS ({}:1) is not a setting of rehost, nor a section: correct it, or remove it."),
        (
            "IMAGE_MAX_BITES = 1",
            "IMAGE_MAX_BITES ({}:1) is not a setting of rehost, nor a section (did you mean IMAGE_MAX_BYTES?)",
        ),
        (
            'database_url = "x"',
            "database_url ({}:1) is not a setting of rehost, nor a section (did you mean DATABASE_URL?)",
        ),
        (
            '\n[sources.p]\ntable = "t"',
            "sources ({}:1) is not a setting of rehost, nor a section (did you mean [source.NAME]?)",
        ),
        ("API_PORT = 2026-01-01", "API_PORT ({}:1) is not valid: it is a table or a date"),
    ],
)
def test_an_unknown_name_in_rehost_toml_is_an_error_that_suggests_the_nearest(tmp_path, text, said):
    with pytest.raises(SettingsError) as raised:
        from_toml(tmp_path, text)

    assert said.format(tmp_path / "rehost.toml") in str(raised.value)


def test_a_misspelt_setting_in_dotenv_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match=r"IMAGE_STORAGE_DIRR \(.*/.env:2\) .*\(did you mean IMAGE_STORAGE_DIR\?\)"):
        from_dotenv(tmp_path, "DB_NAME=x\nIMAGE_STORAGE_DIRR=/mnt/pictures\n")


@pytest.mark.parametrize(
    ("dotenv", "environ", "said"),
    [
        ("", {"IMAGE_STORAGE_DIRR": ""}, "the environment) is not a setting of rehost (did you mean IMAGE_STORAGE_DIR"),
        ("DB_PASSWRD=x", {}, ".env:1) is not a setting of rehost (did you mean DB_PASSWORD?), and is ignored."),
        ("IMAGE_CDN=x", {}, ".env:1) is not a setting of rehost, and is ignored."),
    ],
)  # fmt: skip
def test_a_name_that_may_be_a_misspelling_is_a_warning_where_other_programs_have_names_too(
    tmp_path, caplog, dotenv, environ, said
):
    (tmp_path / ".env").write_text(dotenv)

    load(tmp_path, environ, {})

    assert said in caplog.text


def test_the_places_that_describe_database_and_tables_are_named(tmp_path):
    assert load(tmp_path, {"IMAGE_DOWNLOAD_RETRY": "1"}, {}).found == ()
    assert from_dotenv(tmp_path, "DB_NAME=x").found == (".env",)
    assert load(tmp_path, {"DB_NAME": "x"}, {}).found == (".env", "the environment")


def test_an_empty_environment_variable_does_not_override_the_file(tmp_path):
    (tmp_path / ".env").write_text("IMAGE_DOWNLOAD_RETRY=5\nIMAGE_ALLOW_NETWORKS=10.0.0.0/8\n")

    settings = load(tmp_path, {"IMAGE_DOWNLOAD_RETRY": "", "IMAGE_ALLOW_NETWORKS": ""}, {})

    assert settings.retry == 5
    assert settings.allow_networks == ()  # for a list, empty is a value


def test_db_parts_override_a_url_of_lower_priority(tmp_path):
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://file/n\nDB_NAME=from_file\n")

    assert load(tmp_path, {"DB_HOST": "h"}, {}).database_url == "postgresql://postgres@h:5432/from_file"
    assert load(tmp_path, {}, {}).database_url == "postgresql://file/n"


def test_the_ledger_is_in_the_same_database_unless_named(tmp_path):
    assert load(tmp_path, {"DB_HOST": "a"}, {}).ledger_url == "postgresql://postgres@a:5432/ad_case_db"
    assert load(tmp_path, {"REHOST_LEDGER_URL": "postgresql://b/l"}, {}).ledger_url == "postgresql://b/l"


def test_the_user_agent_contains_the_contact(tmp_path):
    assert load(tmp_path, {"IMAGE_CONTACT": "me@example.com"}, {}).user_agent.endswith(" (me@example.com)")
    assert load(tmp_path, {"IMAGE_USER_AGENT": "x/1"}, {}).user_agent == "x/1"


def test_loading_imports_nothing_heavy():
    heavy = ("asyncio", "brotli", "sqlalchemy", "PIL")
    code = f"import sys, rehost.settings; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
