"""Who releases a held update is killed after each word with a store, and whoever comes next releases it once."""

import pytest

from leaderboard.control import rebuild
from leaderboard.control.errors import AlreadyDecided
from leaderboard.store.postgres.quarantine import HoldState
from leaderboard.store.redis import keys
from support.dying import Release, mortals
from support.world import eventually, leaderboard, tenant

BY = "k" * 16
MOST = 60
"""Held updates, and so moments to die at; there must be fewer."""


async def score_of(world, board, user):
    """The user's score on the board, None where it has none."""
    order = await world.redis.hget(keys.order(board), user)
    return None if order is None else await world.redis.zscore(board, order + user.encode())


async def held_of(world, board, user):
    """The id of the user's one held update, once the worker has it."""

    async def there():
        return await world.one("SELECT count(*) FROM held_updates WHERE member = %s", user) == (1,)

    await world.update(board, (user, "i11"))
    await eventually(there)
    return (await world.one("SELECT id FROM held_updates WHERE member = %s", user))[0]


async def state_of(world, id):
    return (await world.one("SELECT state FROM held_updates WHERE id = %s", id))[0]


@pytest.fixture
async def place(world):
    """Where the board is whose scores may be 10 at most."""
    await world.apply(tenant(plan="pro"))
    made = await world.apply(leaderboard("arena", scoreUpdate="Sum", bounds={"maxScore": 10}))
    return {"project_id": (await world.project())["project_id"], "key": "arena", "board_key": made.namespace}


async def test_a_release_killed_anywhere_counts_once(world, place, database, redis_url):
    board = place["board_key"]
    killed, between = 0, 0
    async with mortals(database, redis_url) as die_at, world.worker():
        for number in range(1, MOST):
            user = f"u{number}"
            await world.update(board, (user, "i5"))
            id = await held_of(world, board, user)
            ended = await die_at(number, Release(**place, id=id))
            assert ended in (0, -9)
            if await state_of(world, id) == "releasing":
                between += 1
                with pytest.raises(AlreadyDecided, match="release it again to finish"):
                    await world.control.reject(project_id=place["project_id"], key="arena", id=id, by=BY, note=None)
            hold = await world.control.release(**place, id=id, by=BY, note=None)
            assert hold.state is HoldState.RELEASED
            assert await score_of(world, board, user) == 16
            if ended == 0:
                break
            killed += 1
    assert 3 < killed < MOST - 1
    assert between > 1
    report = await rebuild.verify(world.pool, world.redis)
    assert (report.same, report.differences) == (True, 0)
    assert await world.one("SELECT count(*) FROM score_events WHERE kind = 'u'") == (2 * (killed + 1),)


async def test_a_release_that_only_the_ledger_knows_of_is_not_done_again(world, place, database, redis_url):
    board = place["board_key"]
    async with mortals(database, redis_url) as die_at, world.worker():
        for number in range(1, MOST):
            user = f"u{number}"
            id = await held_of(world, board, user)
            assert await die_at(number, Release(**place, id=id)) == -9
            # Until one died after Redis did it, and before that was written down.
            if await score_of(world, board, user) == 11 and await state_of(world, id) == "releasing":
                break

        async def recorded():
            return await world.one("SELECT count(*) FROM score_events WHERE member = %s", user) == (1,)

        await eventually(recorded)
        await world.redis.flushall()
        await rebuild.rebuild(world.pool, world.redis, await world.place("acme/default/arena"))
        hold = await world.control.release(**place, id=id, by=BY, note=None)
    assert hold.state is HoldState.RELEASED
    assert await score_of(world, board, user) == 11
    assert await recorded()
