import subprocess
import sys

from tests.settings.reading import from_dotenv

from rehost.settings import load


def test_priority_falls_from_flags_to_environment_to_dotenv_to_toml(tmp_path):
    (tmp_path / ".env").write_text("IMAGE_DOWNLOAD_CONCURRENCY=3\nIMAGE_DOWNLOAD_RETRY=3\nIMAGE_MAX_REDIRECTS=3\n")
    (tmp_path / "rehost.toml").write_text(
        "IMAGE_DOWNLOAD_CONCURRENCY=4\nIMAGE_DOWNLOAD_RETRY=4\nIMAGE_MAX_REDIRECTS=4\nIMAGE_MAX_FRAMES=4\n"
    )
    environ = {"IMAGE_DOWNLOAD_CONCURRENCY": "2", "IMAGE_DOWNLOAD_RETRY": "2"}

    settings = load(tmp_path, environ, {"concurrency": 1, "max_frames": None})

    assert (settings.concurrency, settings.retry, settings.max_redirects, settings.max_frames) == (1, 2, 3, 4)


def test_unknown_names_are_ignored(tmp_path):
    (tmp_path / "rehost.toml").write_text('NEWS = "x"\n[tool.other]\nx = 1\n')

    assert from_dotenv(tmp_path, "OPENAI_KEY=x\nnot a line\nTHIS IS=nothing\n") == load(tmp_path, {"LANG": "C"}, {})


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
