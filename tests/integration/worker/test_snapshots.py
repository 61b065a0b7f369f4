"""Which snapshots the worker takes in a turn."""

import pytest

from leaderboard.store.postgres import standings
from leaderboard.store.postgres.pool import transaction
from leaderboard.worker.snapshots import MOST
from support.world import leaderboard, tenant


@pytest.fixture
async def boards(world):
    """The boards of two tenants."""
    made = []
    for slug in ("acme", "globex"):
        await world.control.reconcile(tenant(slug))
        outcome = await world.control.reconcile(leaderboard(of=slug))
        made.append(outcome.board.id)
    return made


async def due(world):
    async with transaction(world.pool) as conn:
        return [(each.leaderboard_id, each.member) for each in await standings.due(conn, interval=0.9, limit=MOST)]


async def test_a_tenant_with_many_wishes_does_not_keep_others_waiting(world, boards):
    greedy, modest = boards
    async with transaction(world.pool) as conn:
        await conn.execute(
            "INSERT INTO standings (leaderboard_id, member, wanted_until)"
            " SELECT %s, 'm' || n, now() + interval '1 minute' FROM generate_series(1, 5000) n",
            (greedy,),
        )
    for member in ("", "ann"):
        await standings.wish(world.pool, modest, member=member, seconds=60)
    await standings.wish(world.pool, greedy, member="", seconds=60)
    found = await due(world)
    assert {(modest, ""), (modest, "ann"), (greedy, "")} <= set(found[:4])
    assert sum(board == greedy for board, _ in found) == standings.OF_TENANT


async def test_the_oldest_comes_first(world, boards):
    board, _ = boards
    for member in ("new", "old", "never"):
        await standings.wish(world.pool, board, member=member, seconds=60)
    for member, seconds in (("new", 2), ("old", 5)):
        async with transaction(world.pool) as conn:
            await conn.execute(
                "UPDATE standings SET taken_at = now() - %s * interval '1 second' WHERE member = %s", (seconds, member)
            )
    assert await due(world) == [(board, "never"), (board, "old"), (board, "new")]
    async with transaction(world.pool) as conn:
        await conn.execute("UPDATE standings SET taken_at = now() WHERE member = 'old'")
    assert await due(world) == [(board, "never"), (board, "new")]
