"""Keys that a Secret has lost, and what a tenant says of its keys."""

from datetime import timedelta

import pytest

from leaderboard.store.postgres import keys
from support.world import Sink, tenant


@pytest.fixture
async def sink(world):
    sink = Sink(keeps=True)
    await world.apply(tenant(), sink=sink)
    return sink


async def states(world):
    async with world.pool.connection() as conn:
        return dict(await (await conn.execute("SELECT id, state FROM api_keys")).fetchall())


async def test_a_key_that_is_still_there_is_left_alone(world, sink):
    assert (await world.apply(tenant(), sink=sink)).changes == ()
    assert len(sink.delivered) == 1


async def test_a_lost_key_is_replaced_and_ends_at_once(world, sink):
    sink.lose()
    await world.redis.flushall()
    outcome = await world.apply(tenant(), sink=sink)
    old, new = (given.key.id for given in sink.delivered)
    assert outcome.changes == (f"key {new} of project default issued: its Secret was deleted or edited",)
    assert await states(world) == {old: "revoked", new: "active"}
    assert ("key", old) in await world.revocations()
    assert (await world.apply(tenant(), sink=sink)).changes == ()


async def test_a_key_that_was_shown_once_is_never_lost(world):
    await world.apply(tenant())
    world.sink.lose()
    assert (await world.apply(tenant())).changes == ()


@pytest.mark.parametrize("crash", ["before", "after"])
async def test_a_crash_while_a_lost_key_is_replaced_gives_it_no_grace(world, sink, crash):
    sink.lose()
    sink.crash = crash
    with pytest.raises(RuntimeError):
        await world.apply(tenant(), sink=sink)
    old = sink.delivered[0].key.id
    assert (await states(world))[old] == "active"  # until somebody has another
    sink.crash = None
    await world.apply(tenant(), sink=sink)
    assert await states(world) == {old: "revoked", sink.delivered[-1].key.id: "active"}


async def test_the_key_before_a_rotated_one_is_not_looked_for(world, sink):
    rotated = tenant(apiKey={"rotationTrigger": "1", "gracePeriod": "1h"})
    outcome = await world.apply(rotated, sink=sink)
    old, new = (given.key.id for given in sink.delivered)
    (held,) = outcome.keys_in_force
    assert (held.project, held.id, held.previous_id) == ("default", new, old)
    assert held.previous_expires_at == world.now + timedelta(hours=1)
    assert (await world.apply(rotated, sink=sink)).keys_in_force == (held,)
    world.pass_time(hours=1)
    (held,) = (await world.apply(rotated, sink=sink)).keys_in_force
    assert (held.id, held.previous_id, held.previous_expires_at) == (new, None, None)
    assert len(sink.delivered) == 2


async def test_a_crash_in_a_rotation_keeps_the_grace_of_the_old_key(world, sink):
    sink.crash = "after"
    rotated = tenant(apiKey={"rotationTrigger": "1", "gracePeriod": "1h"})
    with pytest.raises(RuntimeError):
        await world.apply(rotated, sink=sink)
    sink.crash = None
    await world.apply(rotated, sink=sink)
    old, new = (given.key.id for given in sink.delivered)
    assert (await keys.lookup(world.pool, old)).expires_at == world.now + timedelta(hours=1)
    assert (await states(world))[new] == "active"


async def test_a_key_whose_row_was_deleted_is_replaced(world, sink):
    async with world.pool.connection() as conn:
        await conn.execute("DELETE FROM api_keys")
    outcome = await world.apply(tenant(), sink=sink)
    assert [key.id for key in outcome.keys_in_force] == [sink.delivered[1].key.id]


async def test_a_tenant_says_how_many_boards_it_has(world, sink):
    assert (await world.apply(tenant(), sink=sink)).boards == 0
