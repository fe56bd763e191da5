"""PostgreSQL behind PgBouncer in transaction mode: each transaction on another connection, and nothing kept between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, select, text
from tests.databases import CASES, execute, open_database
from tests.origin import Origin
from tests.ports import free_port
from tests.postgres import Postgres

from rehost.db.engine import temporary_table
from rehost.errors import OperatorError
from rehost.ledger.migrations import LATEST, migrate, version
from rehost.settings import load
from rehost.upkeep.undo import Undone
from rehost.wiring import upkeep
from rehost.wiring.run import open_run

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
CONFIGURATION = """[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 5
server_round_robin = 1
ignore_startup_parameters = {ignored}
"""


@contextlib.contextmanager
def pooler(server: Postgres, folder: Path, mode: str = "transaction", ignored: str = "") -> Iterator[int]:
    """Run PgBouncer, which hands its five connections out in turn; yield its port."""
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed")
    port = free_port()
    file = folder / "pgbouncer.ini"
    file.write_text(
        CONFIGURATION.format(server=server.port, port=port, mode=mode, ignored=ignored).replace(
            "* = ", f"* = user={server.user} "
        )
    )
    as_nobody = ["-u", "nobody"] if os.getuid() == 0 else []
    process = subprocess.Popen([PROGRAM, "-q", *as_nobody, str(file)], stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1]
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def url_of(server: Postgres, port: int, database: str, more: str = "") -> str:
    return f"postgresql://{server.user}@127.0.0.1:{port}/{database}{more}"


@pytest.mark.parametrize("ignored", ["", "jit"])
async def test_many_transactions_at_once_go_through_a_pooler(postgres, postgres_database, tmp_path, ignored):
    numbers = temporary_table("numbers", {"n": BigInteger()})

    async def work(session):
        async with session.begin(writing=True) as connection:
            await connection.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS numbers (n bigint) ON COMMIT DROP"))
        async with session.begin(writing=True) as connection:
            await connection.execute(numbers.insert().values(n=1))
            return await connection.scalar(select(numbers.c.n))

    with pooler(postgres, tmp_path, ignored=ignored) as port:
        async with open_database(url_of(postgres, port, postgres_database)) as database:
            async with asyncio.timeout(60):
                found = await asyncio.gather(*(execute(database, "SELECT CAST(:n AS integer)", n=n) for n in range(40)))
                held = await asyncio.gather(*(database.hold(work) for _ in range(4)))

    assert (found, held) == ([[(n,)] for n in range(40)], [1] * 4)


async def test_a_ledger_of_an_earlier_version_is_brought_up_to_date_through_a_pooler(
    postgres, postgres_database, tmp_path
):
    with pooler(postgres, tmp_path) as port:
        async with open_database(url_of(postgres, port, postgres_database)) as database:
            await migrate(database, 5)
            async with open_database(url_of(postgres, port, postgres_database)) as other:
                await asyncio.gather(migrate(database), migrate(other))

            assert await version(database) == LATEST
            assert await execute(database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


async def test_a_whole_run_and_its_undo_go_through_a_pooler(postgres, postgres_database, tmp_path):
    with Origin() as origin, pooler(postgres, tmp_path) as port:
        rows = ", ".join(
            f"({n}, '', '', '{origin.url('permissive', f'{n}.jpg', host='a.example')}')" for n in range(20)
        )
        columns = "case_id, source_url, title, main_image"
        postgres.run(f"{CASES}; INSERT INTO ad_cases ({columns}) VALUES {rows}", postgres_database)
        given = {
            "DATABASE_URL": url_of(postgres, port, postgres_database),
            "IMAGE_STORAGE_DIR": str(tmp_path / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_CONNECT_TO": origin.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
        }
        settings = load(tmp_path, given, {})

        async def run():
            async with open_run(settings, source=None, listen=lambda _event: None) as opened:
                return await asyncio.wait_for(opened.execute(), 120)

        first = await run()
        postgres.run("UPDATE ad_cases SET main_image_local = NULL WHERE case_id < 7", postgres_database)
        second = await run()
        undone = await upkeep.undo(settings, run=1)

    assert (first.held, first.failed) == (20, {})
    assert (second.mended, second.held, second.failed) == (7, 0, {})
    assert undone == {"cases": Undone(restored=20, left=0)}


async def test_a_pooler_that_allows_no_transactions_is_refused_with_a_sentence(postgres, postgres_database, tmp_path):
    with pooler(postgres, tmp_path, mode="statement") as port:
        async with open_database(url_of(postgres, port, postgres_database), outage_seconds=0.1) as database:
            with pytest.raises(OperatorError, match="give it pool_mode transaction or session"):
                await execute(database, "SELECT 1")


async def test_without_a_pooler_statements_stay_prepared(postgres):
    async with open_database(postgres.url()) as database:
        await asyncio.gather(*(execute(database, "SELECT 1") for _ in range(20)))
        [(prepared,)] = await execute(database, "SELECT count(*) FROM pg_prepared_statements")
        [(jit,)] = await execute(database, "SHOW jit")

    assert prepared > 0
    assert jit == "off"
