"""Worker processes killed while they work: nothing lost, nothing twice."""

import asyncio
import os
import subprocess
import sys

from leaderboard.control import rebuild
from leaderboard.store.redis import keys
from support.world import eventually, leaderboard, tenant


async def test_killed_workers_lose_and_repeat_nothing(world, database, redis_url):
    await world.apply(tenant())
    made = await world.apply(leaderboard())
    environment = os.environ | {
        "LEADERBOARD_REDIS_URL": redis_url,
        "LEADERBOARD_DATABASE_URL": database,
        "LEADERBOARD_PEPPER": "p" * 32,
        "LEADERBOARD_LEDGER_BATCH": "20",  # small batches: more moments to die in
    }

    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "leaderboard.cli", "work"], env=environment, stderr=subprocess.DEVNULL
        )

    async def left_at_most(count):
        return await world.redis.xlen(keys.OUTBOX) <= count

    for _ in range(3):
        await asyncio.gather(
            *(world.update(made.namespace, *[(f"u{m % 37}", "i1") for m in range(40)]) for _ in range(50))
        )
        full = await world.redis.xlen(keys.OUTBOX)
        process = await asyncio.to_thread(start)
        try:
            await eventually(lambda full=full: left_at_most(full - 100))
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
    process = await asyncio.to_thread(start)
    try:
        report = await rebuild.verify(world.pool, world.redis)
        assert (report.same, report.differences) == (True, 0)
        await eventually(lambda: left_at_most(0))
    finally:
        process.terminate()
        assert await asyncio.to_thread(process.wait, 30) == 0
    assert await world.one("SELECT count(*) FROM score_events") == (6000,)
    assert await world.one("SELECT sum(score_updates)::int FROM usage_rollups") == (6000,)
