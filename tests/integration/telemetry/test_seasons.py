"""The metrics of seasons: what waits to be archived is told while it is known, and only then."""

import asyncio

from leaderboard.store.postgres.pool import open_pool
from leaderboard.worker import seasons
from leaderboard.worker.seen import SeasonsSeen
from support.seen import Seen
from support.world import eventually, open_world


async def looked(world, metrics, pool, until):
    """Let the worker's task look, until `until` is true of the lag."""
    stop = asyncio.Event()
    task = asyncio.create_task(seasons.run(pool, world.redis, stop=stop, clock=lambda: world.now, seen=metrics))

    async def reached():
        return until(metrics.lag)

    await eventually(reached)
    stop.set()
    await task


async def test_the_lag_is_told_from_the_first_look_and_not_after_one_that_failed(database, redis_url):
    seen = Seen()

    def told():
        return [point.value for point in seen.points("leaderboard.seasons.lag")]

    async with open_world(database, redis_url) as world:
        metrics = SeasonsSeen(seen.telemetry)
        assert told() == []
        await looked(world, metrics, world.pool, lambda lag: lag is not None)
        assert told() == [0]
        gone = await open_pool(database, size=1, timeout=1)
        await gone.close()
        await looked(world, metrics, gone, lambda lag: lag is None)
        assert told() == []
    await asyncio.to_thread(seen.telemetry.close)
