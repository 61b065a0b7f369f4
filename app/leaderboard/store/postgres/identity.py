"""Ids given again: a row that was lost is made under the number that others still know it by."""

from typing import Literal

from psycopg import sql

from leaderboard.store.postgres.pool import LOCK_TIMEOUT, Connection

FARTHEST = 1_000_000
"""How far ahead of the newest id a known one may be. A database that was restored from a backup is behind by what was
made since; a number beyond that was made up, and would only use the numbers up."""


async def claim(conn: Connection, table: Literal["tenants", "leaderboards"], known_id: int) -> bool:
    """Whether a row of `table` may be made again under `known_id`: no row has it, deleted ones included.

    In a transaction that makes that row. No other row gets the number later: the table's sequence is moved past it.
    """
    name = sql.Identifier(table)
    taken = await (await conn.execute(sql.SQL("SELECT 1 FROM {} WHERE id = %s").format(name), (known_id,))).fetchone()
    if taken is not None or known_id < 1:
        return False
    sequence = sql.SQL("pg_sequence_last_value(pg_get_serial_sequence({}, 'id')::regclass)").format(sql.Literal(table))
    newest = await _newest(conn, sequence)
    if known_id > newest + FARTHEST:
        return False
    if known_id > newest:
        # Nobody else may take a number between reading the newest and moving past it, or it would be moved back.
        await conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await conn.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(name))
        if known_id > await _newest(conn, sequence):
            await conn.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", (table, known_id))
    return True


async def _newest(conn: Connection, sequence: sql.Composable) -> int:
    row = await (await conn.execute(sql.SQL("SELECT coalesce({}, 0)").format(sequence))).fetchone()
    assert row is not None
    return int(row[0])
