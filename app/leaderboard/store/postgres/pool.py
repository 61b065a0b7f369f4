"""The connection pool, and the one place where a failing Postgres becomes DatabaseUnavailable.

Connections are in autocommit mode: a single read costs one round trip instead of three. What needs a transaction
opens one with `transaction`.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]
Database = Pool | Connection
"""What repositories take: a pool, or a connection (then the caller's transaction, if one is open, is used)."""

RECONNECT_SECONDS = 2.0
"""How long one background attempt to reconnect goes on. psycopg_pool doubles its pause without a cap (1, 2 ... 128 s),
so a long attempt would notice a restarted Postgres only minutes later; a short one gives up, and the next caller starts
afresh, at once."""


QUIET_SECONDS = 60.0
"""How long the pool's log does not repeat itself: in an outage it would say the same several times a second."""


class _Repeats(logging.Filter):
    """Lets a message through once per QUIET_SECONDS. The cause (wrong password, connection refused) is in it only."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log `record`."""
        # Not by the text: it names the connection and its error. Neither says more the second time.
        seen = self._last.get(str(record.msg))
        if seen is not None and record.created - seen < QUIET_SECONDS:
            return False
        self._last[str(record.msg)] = record.created
        return True


_repeats = _Repeats()


class DatabaseUnavailable(Exception):
    """Postgres cannot be asked now: away, restarting, read-only, or no connection was free in time. Try again."""


class Busy(DatabaseUnavailable):
    """Somebody else's work on the same thing took too long to wait for; Postgres itself is well."""


class Deposed(Exception):
    """Another leader is in office: nothing that this pool writes is accepted any more. Stop; trying again is no use."""


FENCED_NAME = "leaderboard leader"
"""How the sessions of a fenced pool are called in pg_stat_activity, followed by their epoch."""
IDLE_IN_TRANSACTION = "5s"
"""How long a session of a fenced pool may leave a transaction waiting. A process that was stopped in the middle of one
would keep its successor from taking over; a living one is back within milliseconds."""


LOCK_TIMEOUT = "10s"
"""How long to wait for somebody else's work on the same tenant or board before saying DatabaseUnavailable."""


async def open_pool(dsn: str, *, size: int, timeout: float, epoch: int | None = None) -> Pool:
    """Return an open pool of at most `size` connections to `dsn`; close it with ``await pool.close()``.

    Returns also when Postgres is away: connections are made in the background. `timeout` is the seconds a caller waits
    for a connection before DatabaseUnavailable. Broken connections are found when they are handed out (one empty round
    trip, about 60 us, on a path that is never hot) and replaced, so a restart of Postgres needs none of this process.

    With an `epoch` (from `leadership.take`) the pool is fenced: once another leader took over, what it writes of
    tenants, projects, keys and boards raises Deposed.
    """

    async def fence(conn: Connection) -> None:
        # Not in the DSN's `options`: it may have some already. The lock timeout: one tenant's row that somebody holds
        # on to must not stop the work on all the others.
        await conn.execute(
            "SELECT set_config('leaderboard.epoch', %s, false), set_config('lock_timeout', %s, false),"
            " set_config('idle_in_transaction_session_timeout', %s, false)",
            (str(epoch), LOCK_TIMEOUT, IDLE_IN_TRANSACTION),
        )

    logging.getLogger("psycopg.pool").addFilter(_repeats)  # adding it again changes nothing
    pool: Pool = AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=size,
        open=False,
        timeout=timeout,
        reconnect_timeout=RECONNECT_SECONDS,
        check=AsyncConnectionPool.check_connection,
        configure=None if epoch is None else fence,
        kwargs={
            "autocommit": True,
            "connect_timeout": max(2, int(timeout)),
            # A peer that vanished without a FIN is given up after 10 s instead of the kernel's 15 minutes.
            "tcp_user_timeout": 10_000,
            "application_name": "leaderboard" if epoch is None else f"{FENCED_NAME} {epoch}",
        },
    )
    await pool.open(wait=False)
    return pool


@asynccontextmanager
async def connection(database: Database) -> AsyncIterator[Connection]:
    """Lend a connection of `database`, turning what says "not now" inside the block into DatabaseUnavailable.

    A write of a deposed leader raises Deposed. Not caught: wrong SQL, violated constraints, bad data. Those are ours to
    fix, not the server's state.
    """
    try:
        if isinstance(database, AsyncConnection):
            yield database
        else:
            async with database.connection() as conn:
                yield conn
    except psycopg.Error as error:
        failure = _failure(error)
        if failure is None:
            raise
        raise failure from error


_DEPOSED = "LB001"  # what migration 0002's trigger raises


def _failure(error: psycopg.Error) -> Exception | None:
    """Return what `error` says of the server or of this session, None where it is about the statement."""
    text = str(error).strip() or type(error).__name__
    match error:
        case psycopg.Error(sqlstate=state) if state == _DEPOSED:
            return Deposed(f"another leader has taken over: {error.diag.message_primary}")
        case errors.UndefinedTable():
            return DatabaseUnavailable("the database has no such table yet: run `leaderboard migrate`")
        case errors.UndefinedColumn():
            return DatabaseUnavailable("the database is older than this program: run `leaderboard migrate`")
        case errors.LockNotAvailable():
            return Busy(f"PostgreSQL is unavailable: {text}")
        # PoolTimeout and PoolClosed are OperationalErrors; ReadOnlySqlTransaction is what a fail-over leaves behind.
        case psycopg.OperationalError() | errors.ReadOnlySqlTransaction() | errors.IdleInTransactionSessionTimeout():
            return DatabaseUnavailable(f"PostgreSQL is unavailable: {text}")
    return None


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[Connection]:
    """Lend a connection inside a transaction (a savepoint, if one is open already): commits at the end."""
    async with connection(database) as conn, conn.transaction():
        yield conn


@asynccontextmanager
async def locked(database: Database, *, kind: int, id: int) -> AsyncIterator[Connection]:
    """Lend a connection that alone works on the thing `id` of that `kind` (a number below 2^15), in autocommit.

    A session's advisory lock: it outlives the transactions inside, so that each step of a longer job commits by itself,
    and ends with the connection, so that a crash leaves nothing locked.
    """
    key = kind << 48 | id
    async with connection(database) as conn:
        try:
            async with conn.transaction():
                await conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                await conn.execute("SELECT pg_advisory_lock(%s)", (key,))
            yield conn
        finally:
            try:
                # Also when the wait was cancelled: the lock may have come just then. Unlocking twice only warns.
                await conn.execute("SELECT pg_advisory_unlock(%s)", (key,))
            except psycopg.Error:
                await conn.close()


@asynccontextmanager
async def lockable(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection on which `try_lock` may be used; all that it locked is free again at the end."""
    async with connection(pool) as conn:
        try:
            yield conn
        finally:
            try:
                await conn.execute("SELECT pg_advisory_unlock_all()")
            except psycopg.Error:
                await conn.close()


async def try_lock(conn: Connection, *, kind: int, ids: Sequence[int]) -> set[int]:
    """Lock those of the things `ids` that nobody else works on, as `locked` does, and return which; waits for none.

    `conn` is of `lockable`. Inside a transaction too: the locks outlive it.
    """
    rows = await conn.execute(
        "SELECT id FROM unnest(%s::bigint[]) id WHERE pg_try_advisory_lock(%s::bigint << 48 | id)", (list(ids), kind)
    )
    return {row[0] async for row in rows}
