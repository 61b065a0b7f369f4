"""What the worker tells of erasures, on real stores, also while these are away."""

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis

from leaderboard.local.process import free_port
from leaderboard.store.postgres.pool import DatabaseUnavailable, open_pool
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.worker import erasures
from leaderboard.worker.seen import ErasuresSeen
from support.seen import Seen
from support.world import leaderboard, open_world, tenant

DAY = 86_400


@pytest.fixture
async def world(database, redis_url):
    async with open_world(database, redis_url) as world:
        await world.apply(tenant())
        await world.apply(leaderboard())
        yield world


@pytest.fixture
async def seen(world):
    made = Seen()
    yield made
    await asyncio.to_thread(made.telemetry.close)


def told(seen, name):
    return [point.value for point in seen.points(f"leaderboard.erasures.{name}")]


async def ask(world, member):
    place = await world.project()
    await world.control.request_erasure(project_id=place["project_id"], member=member, requested_by="k" * 16)


async def test_the_oldest_that_is_pending_is_told_and_those_that_are_done(world, seen):
    metrics = ErasuresSeen(seen.telemetry, clock=lambda: world.now)
    assert (told(seen, "lag"), told(seen, "done")) == ([], [0])
    await erasures.once(world.control._tools, seen=metrics)
    assert (told(seen, "lag"), told(seen, "done")) == ([0], [0])

    await ask(world, "u1")
    world.pass_time(days=1)
    await ask(world, "u2")
    world.pass_time(days=1)
    async with Redis.from_url(f"redis://127.0.0.1:{free_port()}") as away:
        tools = msgspec.structs.replace(world.control._tools, redis=away)
        with pytest.raises(RedisUnavailable):
            await erasures.once(tools, seen=metrics)
    assert (told(seen, "lag"), told(seen, "done")) == ([2 * DAY], [0])
    world.pass_time(hours=1)
    assert told(seen, "lag") == [2 * DAY + 3600]  # it goes on while nobody looks

    await world.one("UPDATE erasures SET attempted_at = NULL RETURNING 1")
    await erasures.once(world.control._tools, seen=metrics)
    assert told(seen, "done") == [2]
    await erasures.once(world.control._tools, seen=metrics)
    assert (told(seen, "lag"), told(seen, "done")) == ([0], [2])


async def test_a_look_that_failed_is_not_told_as_the_one_before(world, seen, database):
    metrics = ErasuresSeen(seen.telemetry, clock=lambda: world.now)
    await ask(world, "u1")
    await erasures.once(world.control._tools, seen=metrics)
    assert told(seen, "lag") == [0]
    gone = await open_pool(database, size=1, timeout=1)
    await gone.close()
    with pytest.raises(DatabaseUnavailable):
        await erasures.once(msgspec.structs.replace(world.control._tools, pool=gone), seen=metrics)
    assert told(seen, "lag") == []


async def test_an_erasure_asked_for_by_a_clock_that_is_ahead_waits_for_no_time_below_zero(world, seen):
    metrics = ErasuresSeen(seen.telemetry, clock=lambda: world.now)
    await ask(world, "u1")
    metrics.oldest(world.now)
    world.pass_time(seconds=-5)
    assert told(seen, "lag") == [0]
