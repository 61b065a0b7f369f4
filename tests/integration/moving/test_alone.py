"""Chunks that go on a board without the script: the same comes of them, and only where nobody else wrote."""

import asyncio
from collections import Counter

import pytest
from redis.asyncio import Redis

from leaderboard.control import rebuild
from leaderboard.control.errors import ImportRefused
from leaderboard.store.redis import keys
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.events import decode_all
from leaderboard.store.redis.imports import SCRIPTED
from support.moving import after, importer, on_board, once_in_the_ledger, quiet, ranked, stopped_at, verified, whole
from support.proxy import Proxy
from support.world import leaderboard


class Meanwhile(Redis):
    """A Redis in which something is done once between what a transaction reads and what it writes."""

    _does = None

    def meanwhile(self, does):
        self._does = does

    def pipeline(self, transaction=True, shard_hint=None):
        pipe = super().pipeline(transaction, shard_hint)
        read = pipe.xlen  # the last that is read

        async def xlen(name):
            length = await read(name)
            does, self._does = self._does, None
            if does is not None:
                await does()
            return length

        pipe.xlen = xlen
        return pipe

    @property
    def was_met(self):
        return self._does is None


@pytest.fixture
async def redis(redis_url):
    async with Meanwhile.from_url(redis_url) as redis:
        yield redis
        assert redis.was_met


async def calls(world):
    """How many transactions were begun and executed so far, and how many scripts run."""
    stats = await world.redis.info("commandstats")
    return Counter({name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("watch", "exec", "evalsha")})


async def left_by(world, made):
    """What an import left in Redis, but for what differs between any two."""
    meta = await world.redis.hgetall(keys.meta(made.namespace))
    progress = await world.redis.hgetall(keys.importing(made.namespace))
    for name in (b"id", b"board", b"began", b"alone"):
        progress.pop(name)
    events = [
        (event.kind, event.incarnation, event.seq, event.score, event.order, event.user)
        for id, fields in await world.redis.xrange(keys.OUTBOX)
        for event in decode_all(id, fields[b"e"])
        if event.leaderboard_id == made.board.id
    ]
    return {
        "board": repr(await world.redis.zrange(made.namespace, 0, -1, withscores=True)),  # -0.0 == 0.0, but not in repr
        "orders": await world.redis.hgetall(keys.order(made.namespace)),
        "seq": meta[b"seq"],
        "progress": progress,
        "events": events,
    }


@pytest.mark.parametrize("order", ["Descending", "Ascending"])
@pytest.mark.parametrize("tie", ["FirstToReach", "UserId", "Shared"])
async def test_they_leave_what_the_script_leaves(world, members, order, tie):
    source, left = [*members(1_990), ("zero", -0.0), ("tiny", 5e-324)], {}
    for key in ("alone", "scripted"):
        made, board = await world.apply(leaderboard(key, sortOrder=order, tiePolicy=tie)), f"acme/default/{key}"
        await stopped_at(world, await importer(world, source, board=board), SCRIPTED)
        if key == "scripted":
            await world.redis.hset(keys.importing(made.namespace), "alone", "")
        await world.redis.expire(keys.importing(made.namespace), 1_000)
        before = await calls(world)
        await (await importer(world, source, board=board)).run(quiet)
        done = await calls(world) - before
        assert done == (Counter(watch=4, exec=4) if key == "alone" else Counter(evalsha=7))
        assert await world.redis.ttl(keys.importing(made.namespace)) > 29 * 86_400
        alone = await world.redis.hget(keys.importing(made.namespace), "alone")
        assert alone == (b"1/1992" if key == "alone" else b"")
        assert await world.redis.zcard(made.namespace) == 1_992
        left[key] = await left_by(world, made)
    assert left["alone"] == left["scripted"]


async def test_a_live_write_between_reading_and_writing_is_seen(world, redis, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    next_one = ranked(source)[SCRIPTED][0]
    redis.meanwhile(lambda: world.update(made.namespace, (next_one, "i1")))
    assert (await (await importer(world, source, redis=redis)).run(quiet)).kept == 1
    assert dict(await on_board(world, made)) == dict(source) | {next_one: 1.0}
    async with world.worker():
        await verified(world, entries=2_000)


async def test_another_that_does_the_same_work_meanwhile_leaves_nothing_to_do(world, redis, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    other = await importer(world, source)
    redis.meanwhile(lambda: other.run(quiet))
    assert (await (await importer(world, source, redis=redis)).run(quiet)).added == 2_000
    async with world.worker():
        await whole(world, made, source)


async def test_one_that_is_forgotten_meanwhile_begins_anew(world, redis, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    other = await importer(world, source)
    redis.meanwhile(lambda: other.begin(restart=True))
    done = await (await importer(world, source, redis=redis)).run(quiet)
    assert (done.same, done.added) == (SCRIPTED, 2_000 - SCRIPTED)
    assert await on_board(world, made) == ranked(source)


async def test_a_reset_meanwhile_keeps_the_rest_out_of_the_new_season(world, redis, members):
    made = await world.apply(leaderboard())
    where = await world.project()
    redis.meanwhile(lambda: world.control.reset_board(**where, key="global", season=1))
    with pytest.raises(ImportRefused, match="was reset or made again meanwhile, after 250 members"):
        await (await importer(world, members(2_000), redis=redis)).run(quiet)
    assert await on_board(world, made) == []


async def test_a_connection_that_is_lost_meanwhile_loses_and_repeats_nothing(world, redis, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    redis.meanwhile(lambda: world.redis.client_kill_filter(_type="normal", skipme=True))
    async with world.worker():
        assert (await (await importer(world, source, redis=redis)).run(quiet)).added == 2_000
        await whole(world, made, source)


async def test_an_answer_that_is_lost_was_no_chunk_too_many(world, redis_url, members):
    """The transaction was executed, and the importer cannot know."""
    made = await world.apply(leaderboard())
    source, cut = members(2_000), []
    async with Proxy.to(redis_url) as proxy, Meanwhile.from_url(proxy.url) as redis, world.worker():

        async def lose():  # the next answer is EXEC's
            cut.append(asyncio.create_task(proxy.cut_after_request()))
            await asyncio.sleep(0)  # so that it begins

        redis.meanwhile(lose)
        assert (await (await importer(world, source, redis=redis)).run(quiet)).added == 2_000
        await cut[0]
        assert proxy.swallowed > 0
        await whole(world, made, source)


async def test_a_change_of_the_rules_meanwhile_costs_one_transaction_and_no_more(world, redis, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    redis.meanwhile(lambda: world.apply(leaderboard(publicRead=True)))
    await stopped_at(world, await importer(world, source, redis=redis), 2 * SCRIPTED)
    before = await calls(world)
    assert (await (await importer(world, source, redis=redis)).run(quiet)).added == 2_000
    assert await calls(world) - before == Counter(watch=3, exec=3)
    assert await on_board(world, made) == ranked(source)


async def test_a_rebuild_meanwhile_begins_the_import_anew(world, redis, members):
    """What was not in the ledger yet is not on the board any more, and comes onto it again."""
    made = await world.apply(leaderboard())
    source = members(2_000)

    async def rebuilt():
        await world.redis.xtrim(keys.OUTBOX, maxlen=0, approximate=False)  # lost before the ledger had it
        assert await rebuild.rebuild(world.pool, world.redis, await world.place()) == 0

    redis.meanwhile(rebuilt)
    done = await (await importer(world, source, redis=redis)).run(quiet)
    assert (done.added, done.same) == (2_000, 0)
    async with world.worker():
        await whole(world, made, source)


async def test_a_redis_without_memory_takes_a_chunk_whole_or_not_at_all(world, redis, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    redis.meanwhile(lambda: world.redis.config_set("maxmemory", 1))
    try:
        with pytest.raises(RedisUnavailable, match=r"maxmemory.* 250 of 2,000 members are done") as failed:
            await (await importer(world, source, redis=redis, patience=0.1)).run(quiet)
    finally:
        await world.redis.config_set("maxmemory", 0)
    assert "XADD" not in str(failed.value)  # a command has user ids in it, and an error goes to logs
    assert await on_board(world, made) == ranked(source)[:SCRIPTED]
    assert (await (await importer(world, source)).run(quiet)).added == 2_000
    async with world.worker():
        await verified(world, entries=2_000)
        await once_in_the_ledger(world, entries=2_000)


async def test_a_board_that_is_given_a_bound_meanwhile_keeps_to_it(world, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    what = await importer(world, source)
    await stopped_at(world, what, after(2))
    await world.apply(leaderboard(maxEntries=after(2) + 10))
    done = await what.run(quiet)
    assert (done.added, done.trimmed) == (2_000, 2_000 - after(2) - 10)
    assert await on_board(world, made) == ranked(source)[: after(2) + 10]
    async with world.worker():
        await verified(world, entries=after(2) + 10)
