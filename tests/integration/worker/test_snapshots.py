"""Which snapshots the worker takes in a turn."""

import pytest

from leaderboard.control import rebuild
from leaderboard.store.postgres import standings
from leaderboard.store.postgres.pool import transaction
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.store.redis.scores import Scores
from leaderboard.worker.snapshots import MOST, once
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


async def test_a_top_stays_wanted_and_a_look_up_is_one_snapshot(world, boards):
    board, _ = boards
    for member in ("", "ann"):
        await standings.wish(world.pool, board, member=member, seconds=60)
    async with transaction(world.pool) as conn:
        await standings.write(conn, [standings.Taken(board, member, 0, None) for member in ("", "ann")])
    found = [await standings.read(world.pool, board, member=member, max_age=60) for member in ("", "ann")]
    assert None not in found
    async with transaction(world.pool) as conn:
        await conn.execute("UPDATE standings SET taken_at = taken_at - interval '2 seconds'")
    assert await due(world) == [(board, "")]


async def test_a_board_that_is_not_what_we_write_keeps_no_other_waiting(world, boards, redis_url):
    foreign, board = boards
    hot = Multiplexer(redis_url, timeout=5)
    await hot.start(wait=5)
    try:
        await world.redis.set(rebuild.board_key(await world.place("acme/default/global")), "nobody's")
        for each in boards:
            await standings.wish(world.pool, each, member="", seconds=60)
        scores = Scores(hot, ids=EventIds(bytes(8)), outbox_max=0, idempotency_ttl=0)
        assert await once(world.pool, scores) == 1
        assert await standings.read(world.pool, foreign, member="", max_age=60) is None
        assert await standings.read(world.pool, board, member="", max_age=60) is not None
    finally:
        await hot.close()
