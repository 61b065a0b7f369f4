"""Migrations: plain SQL files in ``migrations/``, run in order and once each by yoyo-migrations."""

from importlib import resources
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.exceptions import LockTimeout

from leaderboard.store.postgres.pool import DatabaseUnavailable

MIGRATION_TABLE = "_yoyo_migration"
"""yoyo's own default, so that its command line finds the same state."""


class MigrationLocked(Exception):
    """Another process holds the migration lock, or died holding it; the message says how to tell and what to do."""


def apply(dsn: str, *, lock_timeout: float = 30.0) -> list[str]:
    """Bring the database at `dsn` up to date and return the ids of the migrations applied now, in order.

    Safe to run from several processes at once: yoyo's lock row lets one work, the others wait up to `lock_timeout`
    seconds and then find nothing to do. Each migration is one transaction. Raises MigrationLocked, DatabaseUnavailable.
    """
    try:
        backend = PostgresqlPsycopgBackend(_uri(dsn), MIGRATION_TABLE)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL is unavailable: {str(error).strip()}") from error
    try:
        backend.init_database()
        with resources.as_file(resources.files(__package__) / "migrations") as folder:
            migrations = read_migrations(str(folder))
            with backend.lock(timeout=lock_timeout):
                pending = list(backend.to_apply(migrations))
                for migration in pending:
                    backend.apply_one(migration)
        return [migration.id for migration in pending]
    except LockTimeout as error:
        raise MigrationLocked(_locked(backend)) from error
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL went away during the migration: {str(error).strip()}") from error
    finally:
        backend.connection.close()


def break_lock(dsn: str) -> bool:
    """Remove the lock a crashed migration left behind; False where there was none. Raises DatabaseUnavailable."""
    try:
        with psycopg.connect(dsn) as conn:
            return conn.execute("DELETE FROM yoyo_lock").rowcount > 0
    except psycopg.errors.UndefinedTable:
        return False
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL is unavailable: {str(error).strip()}") from error


def _locked(backend: Any) -> str:
    row = backend.execute("SELECT pid, ctime FROM yoyo_lock").fetchone()
    holder = "another process" if row is None else f"process {row[0]} since {row[1]:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"the migration lock is held by {holder}. If that process still runs, wait for it. If it crashed, its own "
        "transaction was rolled back and only the lock is left: remove it with `leaderboard migrate --break-lock`"
    )


def _uri(dsn: str) -> DatabaseURI:
    """Return `dsn`, a libpq URL or a keyword string, as yoyo's description of a postgresql+psycopg:// URL."""
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    except psycopg.ProgrammingError as error:
        raise ValueError(f"not a PostgreSQL URL or connection string: {str(error).strip()}") from error
    return DatabaseURI(
        scheme="postgresql+psycopg",
        username=given.pop("user", None),
        password=given.pop("password", None),
        hostname=given.pop("host", None),
        port=given.pop("port", None),
        database=given.pop("dbname", None),
        args=given,
    )
