"""Access to PostgreSQL: a pool that connects on first use, and errors that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from address import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

MAX_CONNECTIONS = 10
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 15.0

_GONE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)


class DatabaseUnavailable(Exception):  # noqa: N818  it names a state
    """The database cannot answer now; the message says why and what to do."""


class DatabaseRefusal(Exception):  # noqa: N818  as above
    """The database cannot process a value, such as a character that its encoding lacks."""


class Database:
    """A pool of connections to one database. It connects on first use, so that the server starts without it."""

    def __init__(self, url: str) -> None:
        self._url = plain(url)
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings={"application_name": "rehost-backend"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def fetch(self, sql: str, arguments: Sequence[object] = ()) -> list[asyncpg.Record]:
        """Return all rows of one statement.

        Raises:
            DatabaseUnavailable: no connection, database or table, or no answer in time.
            DatabaseRefusal: the database cannot process an argument.
        """
        assert self._pool is not None, "the database is not open"
        try:
            async with self._pool.acquire(timeout=STATEMENT_SECONDS) as connection:
                rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
                return rows
        except asyncpg.UndefinedTableError as error:
            raise DatabaseUnavailable("The database has no table ad_cases: run database/init.sql") from error
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InsufficientPrivilegeError) as error:
            raise DatabaseUnavailable("The database denies access to DB_USER: check DB_USER and DB_PASSWORD") from error
        except asyncpg.InvalidCatalogNameError as error:
            raise DatabaseUnavailable("The server has no database with this name: check DB_NAME") from error
        except asyncpg.DataError as error:
            raise DatabaseRefusal("The database cannot process one of the values") from error
        except _GONE as error:
            raise DatabaseUnavailable("The database does not answer: check DB_HOST and DB_PORT") from error
