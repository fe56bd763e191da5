import pytest
from tests.settings.reading import error_of

from rehost.settings import load


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
def test_database_url_is_brought_into_one_form(tmp_path, environ, url):
    assert url == load(tmp_path, environ, {}).database_url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:hunter2@h:abc/db", "postgresql://user:password@host:port/name"),
        ("postgresql://u:hunter2@h:70000/db", "postgresql://user:password@host:port/name"),
        ("postgresql://u:hunter2@[::1/db", "postgresql://user:password@host:port/name"),
        ("postgresql://u:hunter2@h/db?channel_binding=require", "without channel_binding=require"),
        ("postgresql://u:hunter2@h/db?gssencmode=disable", "without gssencmode: remove it"),
        ("postgresql://u:hunter2@h/db?sslmode=yes", "expected disable, allow, prefer"),
        ("postgresql://u:hunter2@h/db?connect_timeout=soon", "a whole number from 1 to 3600 for connect_timeout"),
    ],
)
def test_a_database_url_that_is_not_supported_is_explained_without_its_password(tmp_path, url, words):
    said = error_of(tmp_path, DATABASE_URL=url)

    assert said.startswith("DATABASE_URL=(not shown) (the environment) is not valid; expected ")
    assert words in said
    assert "hunter2" not in said


def test_a_relative_sqlite_path_starts_from_the_base(tmp_path):
    assert f"sqlite:///{tmp_path}/a.db" == load(tmp_path, {"DATABASE_URL": "sqlite:///a.db"}, {}).database_url
