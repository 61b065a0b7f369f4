"""What the README promises of a running platform, counted on the servers' side."""

import asyncio
import math

import redis
import redis.asyncio

from leaderboard.control.reconcile import Control
from leaderboard.store.postgres import migrate
from leaderboard.store.postgres.pool import open_pool
from leaderboard.store.redis.limiter import lease_size
from support.client import Connection

BODY = {"leaderboard": "global", "user": "u1", "increment": 1}
RATE = 50_000


async def test_a_write_is_one_redis_round_trip_and_no_postgres_query(make_platform, make_postgres, redis_url, tenant):
    """The command counts are Redis's own; that no query is needed shows when there is nobody to answer one."""
    postgres = make_postgres()
    database = postgres.create_database("promises")
    migrate.apply(database)
    platform = make_platform(database=database)
    acme = tenant(platform, quotas={"requestsPerSecond": RATE})
    platform.stop_worker()  # its commands would be counted too
    http = Connection(platform.url)
    for _ in range(20):  # warm: the key is cached, a lease is held
        assert (await http.request("POST", "/v1/scores/update", key=acme.key, body=BODY)).status == 200
    await asyncio.to_thread(postgres.stop)

    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        count = 3 * lease_size(RATE)
        answers = [await http.request("POST", "/v1/scores/update", key=acme.key, body=BODY) for _ in range(count)]
        calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert {answer.status for answer in answers} == {200}
    leases = calls["cmdstat_evalsha"] - count
    # A lease lasts a second, so a slow machine may have to take more of them than the tokens need.
    assert 0 <= leases <= math.ceil(count / lease_size(RATE)) + 1 + calls["cmdstat_xread"]
    # A second command per write would be there `count` times: only what the one script itself calls is.
    allowed = {"evalsha", "hmget", "xlen", "hget", "zscore", "zrevrank", "hincrby", "xadd", "zrem", "hset", "zadd"}
    often = {name.removeprefix("cmdstat_") for name, number in calls.items() if number >= count / 2}
    assert often <= allowed
    await http.close()
    await asyncio.to_thread(postgres.start)  # the platform stops in an orderly way: it flushes its usage


async def test_a_revoked_key_is_refused_by_every_worker_within_a_second_with_postgres_down(
    make_platform, make_postgres, redis_url, tenant
):
    postgres = make_postgres()
    database = postgres.create_database("promises")
    migrate.apply(database)
    platform = make_platform(workers=4, database=database)
    acme = tenant(platform, quotas={"requestsPerSecond": RATE})
    connections = [Connection(platform.url) for _ in range(64)]  # the kernel spreads them over the workers

    async def statuses() -> set[int]:
        path = "/v1/leaderboards/global/top"
        answers = await asyncio.gather(*(http.request("GET", path, key=acme.key) for http in connections))
        return {answer.status for answer in answers}

    assert await statuses() == {200}
    pool = await open_pool(database, size=1, timeout=10)
    client = redis.asyncio.Redis.from_url(redis_url)
    await Control(pool, client, pepper=platform.pepper.encode()).revoke(acme.key.split("_")[2])
    await asyncio.gather(asyncio.sleep(1.0), asyncio.to_thread(postgres.kill))
    refused = await statuses()
    # Postgres is down: a worker that remembers the refusal says 401, one that has to look says 503. None lets it pass.
    assert refused <= {401, 503}
    await client.aclose()
    await pool.close()
    await asyncio.gather(*(http.close() for http in connections))
    await asyncio.to_thread(postgres.start)
