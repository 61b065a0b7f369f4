"""How far the ledger is said to be: never past what may still come."""

from datetime import UTC, datetime, timedelta

from redis.exceptions import ConnectionError as RedisConnectionError

from leaderboard.store.postgres import history, ledger
from leaderboard.store.redis import keys
from leaderboard.worker import progress
from support.world import leaderboard, tenant

STEP = timedelta(milliseconds=1)


def at(milliseconds):
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


async def test_it_is_right_before_the_oldest_event_that_is_not_in_the_ledger(world):
    for entry in ("1760000000005-0", "1760000000005-1", "1760000000009-0"):
        await world.redis.xadd(keys.OUTBOX, {"e": "x"}, id=entry)
    assert await progress.once(world.pool, world.redis) == at(1760000000004)
    await world.redis.xdel(keys.OUTBOX, "1760000000005-0")  # the other of that millisecond is still there
    assert await progress.once(world.pool, world.redis) == at(1760000000004)
    await world.redis.xdel(keys.OUTBOX, "1760000000005-1")
    assert await progress.once(world.pool, world.redis) == at(1760000000008)
    assert await world.one("SELECT complete_until FROM ledger_progress") == (at(1760000000008),)


async def test_with_an_empty_outbox_it_is_right_before_now(world):
    before = await world.redis.time()
    found = await progress.once(world.pool, world.redis)
    after = await world.redis.time()
    low, high = (at(seconds * 1000 + micros // 1000) - STEP for seconds, micros in (before, after))
    assert low <= found <= high
    # What comes now is stamped later.
    entry = await world.redis.xadd(keys.OUTBOX, {"e": "x"})
    assert at(int(entry.partition(b"-")[0])) > found


async def test_a_clock_that_went_back_takes_it_back(world):
    await history.set_complete_until(world.pool, datetime(2100, 1, 1, tzinfo=UTC))
    found = await progress.once(world.pool, world.redis)
    assert found < datetime(2100, 1, 1, tzinfo=UTC)
    assert await world.one("SELECT complete_until FROM ledger_progress") == (found,)


async def test_a_board_written_by_the_real_scripts_is_told_of(world):
    await world.control.reconcile(tenant())
    board = (await world.control.reconcile(leaderboard(maxEntries=2, tiePolicy="FirstToReach"))).board
    key = "l:{tenant_id}:{project}:global".format(**await world.project())
    await world.update(key, ("ann", "i1"), ("bob", "i3"))
    await world.drain()
    first = (await ledger.newest(world.pool, board.id, member=None, before=None, limit=1))[0].time
    while (await world.redis.time())[0] * 1000 <= first.timestamp() * 1000:
        pass
    await world.update(key, ("cid", "i2"))
    await world.drain()
    until = await progress.once(world.pool, world.redis)
    while until < (last := (await ledger.newest(world.pool, board.id, member=None, before=None, limit=1))[0].time):
        until = await progress.once(world.pool, world.redis)
    for moment, expected in ((first, ["bob", "ann"]), (last, ["bob", "cid"])):
        total, lines = await history.top(world.pool, board.id, board.spec, at=moment, after=0, limit=9)
        assert ([line.member for line in lines], total) == (expected, 2)


async def test_redis_away_leaves_what_was_said(world, monkeypatch):
    said = await progress.once(world.pool, world.redis)

    async def away(*_args, **_options):
        raise RedisConnectionError

    monkeypatch.setattr(world.redis.connection_pool, "get_connection", away)
    try:
        await progress.once(world.pool, world.redis)
    except RedisConnectionError:
        pass
    else:
        raise AssertionError("it did not ask Redis")
    assert await world.one("SELECT complete_until FROM ledger_progress") == (said,)
