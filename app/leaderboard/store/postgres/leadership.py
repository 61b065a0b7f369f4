"""Who is in office: the epoch that fences a deposed leader off.

`take` makes its caller the leader under a new number. A pool opened with that number (see `pool.open_pool`) may write
tenants, projects, keys and boards only until somebody else takes over: then each write of it is refused as Deposed,
also one that had been under way in a process that was stopped or cut off meanwhile.
"""

from datetime import datetime

from leaderboard.store.postgres.pool import FENCED_NAME, Database, connection, transaction

TAKE_TIMEOUT = "6s"
"""How long to wait for transactions of the leader before. One that does nothing is ended after 5 s, see `pool`."""


async def take(database: Database, *, holder: str, now: datetime) -> int:
    """Depose whoever is in office and return the new epoch, held by `holder` (a name for people to read).

    Waits for what the leader before is just committing. Its sessions are then closed: they could not write any more,
    but one of a stopped process would hold on to its locks. Raises DatabaseUnavailable, also where a transaction did
    not end in 6 s: try again.
    """
    async with transaction(database) as conn:
        await conn.execute(f"SET LOCAL lock_timeout = '{TAKE_TIMEOUT}'")
        await conn.execute("LOCK TABLE leadership IN EXCLUSIVE MODE")
        row = await (
            await conn.execute(
                "UPDATE leadership SET epoch = epoch + 1, holder = %s, taken_at = %s RETURNING epoch", (holder, now)
            )
        ).fetchone()
    assert row is not None
    epoch = int(row[0])
    async with connection(database) as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
            " AND application_name ~ %s AND substring(application_name FROM '[0-9]+$')::bigint < %s",
            (f"^{FENCED_NAME} [0-9]{{1,18}}$", epoch),
        )
    return epoch
