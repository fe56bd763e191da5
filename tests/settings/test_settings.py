from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from rehost.errors import SettingsError
from rehost.model import Source
from rehost.settings import ConnectTo, OriginOverride, Settings, load, settings_of, size_text


@pytest.fixture
def base(tmp_path):
    return tmp_path


def from_dotenv(base: Path, text: str | bytes) -> Settings:
    (base / ".env").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(base, {}, {})


def from_toml(base: Path, text: str) -> Settings:
    (base / "rehost.toml").write_text(text)
    return load(base, {}, {})


def error_of(base: Path, **environ: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load(base, environ, {})
    return str(raised.value)


def test_defaults_are_those_of_the_manual(base):
    settings = load(base, {}, {})

    assert base / "data/images" == settings.storage_dir
    assert (settings.concurrency, settings.timeout_seconds, settings.retry) == (10, 30, 3)
    assert settings.static_url_prefix == "/static/images"
    assert settings.database_url == "postgresql://postgres@localhost:5432/ad_case_db"
    assert (Source(),) == settings.sources


def test_priority_falls_from_flags_to_environment_to_dotenv_to_toml(base):
    (base / ".env").write_text("IMAGE_DOWNLOAD_CONCURRENCY=3\nIMAGE_DOWNLOAD_RETRY=3\nIMAGE_MAX_REDIRECTS=3\n")
    (base / "rehost.toml").write_text(
        "IMAGE_DOWNLOAD_CONCURRENCY=4\nIMAGE_DOWNLOAD_RETRY=4\nIMAGE_MAX_REDIRECTS=4\nIMAGE_MAX_FRAMES=4\n"
    )
    environ = {"IMAGE_DOWNLOAD_CONCURRENCY": "2", "IMAGE_DOWNLOAD_RETRY": "2"}

    settings = load(base, environ, {"concurrency": 1, "max_frames": None})

    assert (settings.concurrency, settings.retry, settings.max_redirects, settings.max_frames) == (1, 2, 3, 4)


def test_unknown_names_are_ignored(base):
    (base / "rehost.toml").write_text('NEWS = "x"\n[tool.other]\nx = 1\n')

    assert from_dotenv(base, "OPENAI_KEY=x\nnot a line\nTHIS IS=nothing\n") == load(base, {"LANG": "C"}, {})


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("IMAGE_STORAGE_DIR=pictures", "pictures"),
        ("IMAGE_STORAGE_DIR=data/pictures          # 图片存储目录", "data/pictures"),
        ("  export IMAGE_STORAGE_DIR = pictures", "pictures"),
        ("IMAGE_STORAGE_DIR='my pictures # 1'  # quoted", "my pictures # 1"),
        ('IMAGE_STORAGE_DIR="my \\"pictures\\""', 'my "pictures"'),
        ("IMAGE_STORAGE_DIR=a#b", "a#b"),
        ("IMAGE_STORAGE_DIR=   # nothing", "data/images"),
        ("IMAGE_STORAGE_DIR=", "data/images"),
        ("# IMAGE_STORAGE_DIR=no", "data/images"),
        ("IMAGE_STORAGE_DIR=a\nIMAGE_STORAGE_DIR=b", "b"),
        ("NOTE='a\nIMAGE_STORAGE_DIR=inside\n'\nIMAGE_STORAGE_DIR=outside", "outside"),
    ],
)
def test_dotenv_line_is_parsed(base, line, folder):
    assert base / folder == from_dotenv(base, line).storage_dir


@pytest.mark.parametrize(
    "encoded",
    [
        "\ufeffIMAGE_DOWNLOAD_RETRY=7\r\nDB_NAME=x\r\n".encode(),
        "\ufeffIMAGE_DOWNLOAD_RETRY=7\r\n".encode("utf-16-le"),
        "IMAGE_DOWNLOAD_RETRY=7  # 下载重试次数\n".encode("gbk"),
    ],
    ids=["BOM and CRLF", "UTF-16", "GBK in a comment"],
)
def test_dotenv_files_of_other_editors_are_read(base, encoded):
    assert from_dotenv(base, encoded).retry == 7


def test_an_empty_environment_variable_does_not_override_the_file(base):
    (base / ".env").write_text("IMAGE_DOWNLOAD_RETRY=5\nIMAGE_ALLOW_NETWORKS=10.0.0.0/8\n")

    settings = load(base, {"IMAGE_DOWNLOAD_RETRY": "", "IMAGE_ALLOW_NETWORKS": ""}, {})

    assert settings.retry == 5
    assert settings.allow_networks == ()  # for a list, empty is a value


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("1GiB", 1 << 30),
        ("1.5KiB", 1536),
        ("64MB", 64 * 10**6),
    ],
)
def test_sizes_are_parsed(base, text, size):
    assert size == load(base, {"IMAGE_MAX_BYTES": text}, {}).max_bytes


@pytest.mark.parametrize(("size", "text"), [(64 << 20, "64MiB"), (1 << 30, "1GiB"), (1000, "1000"), (0, "0")])
def test_size_text_can_be_parsed_again(size, text):
    assert text == size_text(size)


def test_defaults_are_shown_as_an_operator_would_write_them():
    words = {setting.name: setting.default_text for setting in settings_of(Settings)}

    assert words["IMAGE_MAX_BYTES"] == "64MiB"
    assert words["IMAGE_DOWNLOAD_TIMEOUT"] == "30 seconds"
    assert words["IMAGE_ROBOTS"] == "off"


@pytest.mark.parametrize(("retry", "attempts"), [("0", 1), ("1", 1), ("3", 3)])
def test_retry_counts_all_attempts(base, retry, attempts):
    assert attempts == load(base, {"IMAGE_DOWNLOAD_RETRY": retry}, {}).attempts


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"DB_PASSWORD": "p@ss/w:rd #1%"}, "postgresql://postgres:p%40ss%2Fw%3Ard%20%231%25@localhost:5432/ad_case_db"),
        ({"DB_PASSWORD": ""}, "postgresql://postgres@localhost:5432/ad_case_db"),
        ({"DB_HOST": "::1", "DB_PORT": "6"}, "postgresql://postgres@[::1]:6/ad_case_db"),
        ({"DB_HOST": "/run/pg"}, "postgresql://postgres@/ad_case_db?host=/run/pg&port=5432"),
        ({"DATABASE_URL": "postgres://u:p@ss/w#d@h/n"}, "postgresql://u:p%40ss%2Fw%23d@h/n"),
        ({"DATABASE_URL": "postgresql://u:p%40ss@h:1/n"}, "postgresql://u:p%40ss@h:1/n"),
        ({"DATABASE_URL": "postgresql+asyncpg://u@h/n"}, "postgresql+asyncpg://u@h/n"),
        ({"DATABASE_URL": "postgresql://h/n", "DB_HOST": "other"}, "postgresql://h/n"),
        ({"DATABASE_URL": "sqlite:////var/a.db"}, "sqlite:////var/a.db"),
        ({"DATABASE_URL": "postgresql://[::1]:5/n"}, "postgresql://[::1]:5/n"),
        (
            {"DATABASE_URL": "postgresql://h/n?ssl=require&channel_binding=prefer&options=-c%20a=1+1"},
            "postgresql://h/n?sslmode=require&options=-c%20a%3D1%2B1",
        ),
        ({"DATABASE_URL": "postgresql://h?channel_binding=prefer"}, "postgresql://h"),
    ],
)
def test_database_url_is_brought_into_one_form(base, environ, url):
    assert url == load(base, environ, {}).database_url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:hunter2@h:abc/db", "postgresql://user:password@host:port/name"),
        ("postgresql://u:hunter2@h:70000/db", "postgresql://user:password@host:port/name"),
        ("postgresql://u:hunter2@[::1/db", "postgresql://user:password@host:port/name"),
        ("postgresql://u:hunter2@h/db?channel_binding=require", "without channel_binding=require"),
        ("postgresql://u:hunter2@h/db?gssencmode=disable", "without gssencmode: remove it"),
        ("postgresql://u:hunter2@h/db?sslmode=yes", "expected disable or allow or"),
        ("postgresql://u:hunter2@h/db?connect_timeout=soon", "a whole number from 1 to 3600 for connect_timeout"),
    ],
)
def test_a_database_url_that_is_not_supported_is_explained_without_its_password(base, url, words):
    said = error_of(base, DATABASE_URL=url)

    assert said.startswith("DATABASE_URL=(not shown) (the environment) is not valid; expected ")
    assert words in said
    assert "hunter2" not in said


def test_a_relative_sqlite_path_starts_from_the_base(base):
    assert f"sqlite:///{base}/a.db" == load(base, {"DATABASE_URL": "sqlite:///a.db"}, {}).database_url


def test_db_parts_override_a_url_of_lower_priority(base):
    (base / ".env").write_text("DATABASE_URL=postgresql://file/n\nDB_NAME=from_file\n")

    assert load(base, {"DB_HOST": "h"}, {}).database_url == "postgresql://postgres@h:5432/from_file"
    assert load(base, {}, {}).database_url == "postgresql://file/n"


def test_the_ledger_is_in_the_same_database_unless_named(base):
    assert load(base, {"DB_HOST": "a"}, {}).ledger_url == "postgresql://postgres@a:5432/ad_case_db"
    assert load(base, {"REHOST_LEDGER_URL": "postgresql://b/l"}, {}).ledger_url == "postgresql://b/l"


def test_secrets_are_never_printed(base):
    settings = load(base, {"DB_PASSWORD": "hunter2", "REHOST_TOKEN": "hunter2"}, {})

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in error_of(base, DATABASE_URL="mysql://u:hunter2@h/n")


@pytest.mark.parametrize("token", ["口令", "tökén", "a\nb"])
def test_a_token_that_no_header_can_contain_is_rejected(base, token):
    assert "REHOST_TOKEN=(not shown) (the environment) is not valid" in error_of(base, REHOST_TOKEN=token)


def test_networks_are_parsed(base):
    settings = load(base, {"IMAGE_ALLOW_NETWORKS": "127.0.0.0/8, fd00::/8 10.0.0.1"}, {})

    assert tuple(map(ip_network, ("127.0.0.0/8", "fd00::/8", "10.0.0.1/32"))) == settings.allow_networks


def test_connect_to_is_parsed(base):
    text = "*:443:127.0.0.1:8443, Example.com::[::1]:80 [2001:db8::1]:80:other: ::127.0.0.1:"

    settings = load(base, {"IMAGE_CONNECT_TO": text}, {})

    assert settings.connect_to == (
        ConnectTo("*", 443, "127.0.0.1", 8443),
        ConnectTo("example.com", None, "::1", 80),
        ConnectTo("2001:db8::1", 80, "other", None),
        ConnectTo("*", None, "127.0.0.1", None),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMAGE_DOWNLOAD_CONCURRENCY", "0"),
        ("IMAGE_DOWNLOAD_CONCURRENCY", "ten"),
        ("IMAGE_DOWNLOAD_CONCURRENCY", "1_0"),
        ("IMAGE_DOWNLOAD_TIMEOUT", "nan"),
        ("IMAGE_DOWNLOAD_TIMEOUT", "-1"),
        ("IMAGE_DOWNLOAD_RETRY", "3.5"),
        ("IMAGE_MAX_BYTES", "64 pages"),
        ("IMAGE_ALLOW_NETWORKS", "10.1.2.3/8"),
        ("IMAGE_CONNECT_TO", "a:b:c:d"),
        ("IMAGE_CONNECT_TO", "a:1:b:99999"),
        ("IMAGE_CONNECT_TO", "[nonsense]:1:b:2"),
        ("IMAGE_STATIC_URL_PREFIX", "static"),
        ("IMAGE_STATIC_URL_PREFIX", "/"),
        ("IMAGE_STATIC_URL_PREFIX", "/a/../b"),
        ("IMAGE_VERIFY", "hope"),
        ("IMAGE_REFERER", "ftp://x/"),
        ("IMAGE_USER_AGENT", "a\r\nb"),
        ("IMAGE_ROBOTS", "perhaps"),
        ("API_PORT", "65536"),
        ("IMAGE_STORAGE_DIR", "~nosuchuser/x"),
        ("DB_HOST", "h/x"),
        ("DB_HOST", "h:1"),
    ],
)
def test_the_message_about_an_invalid_value_names_its_place_and_what_is_expected(base, name, value):
    message = error_of(base, **{name: value})

    assert message.startswith(
        f"{name}={value.encode('unicode_escape').decode()} (the environment) is not valid; expected "
    )


def test_the_place_of_an_invalid_value_in_a_file_is_its_line(base):
    (base / ".env").write_text("# one\nIMAGE_DOWNLOAD_RETRY=x\n")
    (base / "rehost.toml").write_text('[source.a]\ntable="t"\n\n[origin."x.com"]\nreferer = "nonsense"\n')

    message = error_of(base)

    assert f"({base}/.env:2)" in message
    assert f"({base}/rehost.toml:5)" in message
    assert '[source."a"] key= ' in message  # all errors are reported at once


def test_an_unreadable_file_is_named(base):
    (base / ".env").mkdir()

    assert f"{base}/.env cannot be read (" in error_of(base)


def test_a_toml_file_with_a_syntax_error_is_named(base):
    (base / "rehost.toml").write_text("a = = b")

    assert f"{base}/rehost.toml is not valid TOML" in error_of(base)


def test_a_source_is_parsed(base):
    settings = from_toml(base, '[source.goods]\ntable="shop.goods"\nkey="sku"\nlink="photo"\nlocal="photo_local"\n')

    assert settings.sources == (Source("goods", "shop.goods", "sku", "photo", None, "photo_local", "{key}/photo"),)


def test_two_sources_must_not_use_the_same_names_in_the_store(base):
    section = 'table="t"\nkey="id"\nlink="photo"\nlocal="l"\n'

    with pytest.raises(SettingsError, match="two sources"):
        from_toml(base, f"[source.a]\n{section}[source.b]\n{section}")


def test_an_origin_is_parsed(base):
    settings = from_toml(
        base,
        """
        [origin."*.Example.com"]
        referer = "https://example.com/"
        headers = { "Accept-Language" = "zh" }
        cookies = { a = "b" }
        min_delay = 0.5
        daily_budget = 100
        """,
    )

    assert settings.origins == (
        OriginOverride(
            "*.example.com",
            referer="https://example.com/",
            headers=(("Accept-Language", "zh"),),
            cookies=(("a", "b"),),
            min_delay_seconds=0.5,
            daily_budget=100,
        ),
    )


@pytest.mark.parametrize(
    "line",
    [
        'refferer = "auto"',
        'headers = "x"',
        'headers = { "bad name" = "x" }',
        'headers = { a = "x\\r\\nb: y" }',
        "min_delay = -1",
        "referer = [{}]",
    ],
)
def test_an_invalid_line_of_an_origin_is_named(base, line):
    with pytest.raises(SettingsError, match=rf'\[origin."x.com"\] {line.split()[0]}=.*rehost.toml:2'):
        from_toml(base, f'[origin."x.com"]\n{line}\n')


def test_toml_values_of_every_type_are_accepted(base):
    settings = from_toml(
        base, 'IMAGE_ROBOTS=true\nIMAGE_ALLOW_NETWORKS=["127.0.0.1", "::1"]\nIMAGE_DOWNLOAD_TIMEOUT=1.5'
    )

    assert settings.robots is True
    assert len(settings.allow_networks) == 2
    assert settings.timeout_seconds == 1.5


def test_the_user_agent_contains_the_contact(base):
    assert load(base, {"IMAGE_CONTACT": "me@example.com"}, {}).user_agent.endswith(" (me@example.com)")
    assert load(base, {"IMAGE_USER_AGENT": "x/1"}, {}).user_agent == "x/1"


def test_loading_imports_nothing_heavy():
    heavy = ("asyncio", "httptools", "sqlalchemy", "PIL")
    code = f"import sys, rehost.settings; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
