"""Errors that no retry can help are sentences for the operator."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from tests.databases import execute, open_database
from tests.postgres import GUARDED_USER

from rehost.errors import CatalogueError, LedgerError


async def test_wrong_password_is_reported_without_the_password(postgres):
    url = f"postgresql://{GUARDED_USER}:not-{'the'}-one@127.0.0.1:{postgres.port}/postgres"
    async with open_database(url) as database:
        with pytest.raises(LedgerError) as caught:
            await execute(database, "SELECT 1")

    assert f"refuses the password of the user {GUARDED_USER}" in str(caught.value)
    assert "not-the-one" not in str(caught.value)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELECT * FROM nowhere", "Check the name of the table"),
        ("SELECT main_image_local FROM pg_class", "006_add_main_image_local_field.sql"),
        ("SELECT 1/0", "division by zero"),
    ],
)
async def test_permanent_error_is_a_sentence(postgres, sql, sentence):
    async with open_database(postgres.url()) as database:
        with pytest.raises(LedgerError, match=sentence):
            await execute(database, sql)


async def test_read_only_server_is_a_sentence(postgres, postgres_database):
    postgres.run(f'ALTER DATABASE "{postgres_database}" SET default_transaction_read_only = on')
    async with open_database(postgres.url(postgres_database)) as database:
        with pytest.raises(LedgerError, match="read-only"):
            await execute(database, "CREATE TABLE x ()")


async def test_missing_database_is_named(postgres):
    async with open_database(postgres.url("nowhere")) as database:
        with pytest.raises(CatalogueError, match="no database nowhere"):
            await database.read(lambda connection: connection.execute(text("SELECT 1")), error=CatalogueError)


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [(None, "cannot be opened"), (b"x" * 5000, "is not a SQLite database")],
)
async def test_file_that_is_not_a_database_is_a_sentence(tmp_path, contents, sentence):
    path = tmp_path / "missing" / "x.db" if contents is None else tmp_path / "x.db"
    if contents is not None:
        path.write_bytes(contents)
    async with open_database(f"sqlite:///{path}") as database:
        with pytest.raises(LedgerError, match=sentence):
            await execute(database, "SELECT 1")


async def test_full_disk_is_a_sentence(tmp_path):
    async with open_database(f"sqlite:///{tmp_path}/x.db") as database:
        await execute(database, "CREATE TABLE x (a)")
        await execute(database, "PRAGMA max_page_count = 3")

        async def fill(connection):
            await connection.exec_driver_sql("PRAGMA max_page_count = 3")
            await connection.exec_driver_sql("INSERT INTO x VALUES (zeroblob(100000))")

        with pytest.raises(LedgerError, match="no disk space left"):
            await database.transact(fill)


async def test_missing_tls_is_a_sentence(postgres, tmp_path):
    for query, said in (
        ("sslmode=require", r"cannot be reached over TLS \(.*SSL.*\): check `sslmode`"),
        (f"sslmode=verify-full&sslrootcert={tmp_path}/none.pem", "cannot be reached"),
    ):
        async with open_database(f"{postgres.url()}?{query}") as database:
            with pytest.raises(LedgerError, match=said):
                await execute(database, "SELECT 1")
