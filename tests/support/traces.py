"""Where a text still is: every column of every table, Postgres's samples of them, every key of Redis."""

from typing import Any

from psycopg import sql
from redis.asyncio import Redis

from leaderboard.store.postgres.pool import Pool


async def traces(pool: Pool, redis: Redis, text: str) -> list[str]:
    """Return the places (table.column, or key of Redis) in which `text` is. `redis` must not decode answers."""
    return await in_postgres(pool, text) + await in_redis(redis, text)


async def in_postgres(pool: Pool, text: str) -> list[str]:
    """Return the columns of all tables (partitions too) in which `text` is, and those of which a sample has it."""
    found = []
    async with pool.connection() as conn:
        columns = await (
            await conn.execute(
                "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
                " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0"
                " AND NOT a.attisdropped"
            )
        ).fetchall()
        assert ("season_standings", "member") in columns
        for table, column in columns:
            query = sql.SQL("SELECT count(*) FROM {} WHERE strpos({}::text, %s) > 0")
            names = (sql.Identifier(table), sql.Identifier(column))
            row = await (await conn.execute(query.format(*names), (text,))).fetchone()
            if row != (0,):
                found.append(f"{table}.{column}")
        rows = await conn.execute(
            "SELECT tablename, attname FROM pg_stats WHERE schemaname = current_schema()"
            " AND strpos(concat(most_common_vals, histogram_bounds, most_common_elems), %s) > 0",
            (text,),
        )
        return found + [f"statistics of {table}.{column}" for table, column in await rows.fetchall()]


async def in_redis(redis: Redis, text: str) -> list[str]:
    """Return the names of keys that have `text` in the name or in the value."""
    return [
        name.decode()
        async for name in redis.scan_iter(count=1_000)
        if text in repr((name.decode(), _text(await _value(redis, name))))
    ]


async def _value(redis: Redis, name: bytes) -> Any:
    match await redis.type(name):
        case b"string":
            return await redis.get(name)
        case b"hash":
            return await redis.hgetall(name)
        case b"zset":
            return await redis.zrange(name, 0, -1)
        case b"stream":
            return await redis.xrange(name)
        case b"set":
            return await redis.smembers(name)
        case b"list":
            return await redis.lrange(name, 0, -1)
        case other:
            raise AssertionError(f"{name!r} is a {other!r}, which nobody looks into")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
