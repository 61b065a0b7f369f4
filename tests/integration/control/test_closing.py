"""A request that may not make a board, as a closed reference asks: it changes what its owner has, and nothing else."""

import pytest

from leaderboard.control.errors import BoardNotFound, ManagedElsewhere
from leaderboard.control.outcome import BoardRequest
from leaderboard.domain.names import LeaderboardId
from support.world import leaderboard, tenant


async def close(world, *, owner="uid-b", **options):
    request = BoardRequest(
        document=leaderboard(suspend=True),
        tenant_slug="acme",
        tenant_owner="uid-t",
        owner=owner,
        may_create=False,
        **options,
    )
    (answer,) = await world.control.reconcile_boards([request], positions=False)
    return answer


@pytest.fixture(autouse=True)
async def _acme(world):
    await world.apply(tenant(), owner="uid-t")


async def rows(world):
    async with world.pool.connection() as conn:
        return await (await conn.execute("SELECT managed_by, state, suspended FROM leaderboards")).fetchall()


async def test_its_own_board_is_suspended_once(world):
    made = await world.apply(leaderboard(), owner="uid-b")
    closed = await close(world)
    assert closed.changes[0] == "suspended: False -> True"
    assert closed.board.id == made.board.id
    assert (await close(world)).changes == ()


async def test_its_own_board_is_closed_though_redis_has_lost_it(world):
    await world.apply(leaderboard(), owner="uid-b")
    await world.redis.flushall()
    assert (await close(world)).board.spec.suspended
    assert await rows(world) == [("uid-b", "active", True)]


@pytest.mark.parametrize("known_id", [None, LeaderboardId(5)])
async def test_nothing_is_made(world, known_id):
    assert isinstance(await close(world, known_id=known_id), BoardNotFound)
    assert await rows(world) == []


async def test_one_that_is_half_deleted_is_neither_finished_nor_made_again(world):
    await world.apply(leaderboard(), owner="uid-b")
    async with world.pool.connection() as conn:
        await conn.execute("UPDATE leaderboards SET state = 'deleting'")
    assert isinstance(await close(world), BoardNotFound)
    assert await rows(world) == [("uid-b", "deleting", False)]


@pytest.mark.parametrize("owner", [None, "uid-c"])
async def test_what_is_not_its_own_is_not_touched(world, owner):
    await world.apply(leaderboard(), owner=owner)
    assert isinstance(await close(world), ManagedElsewhere)
    assert await rows(world) == [(owner, "active", False)]
