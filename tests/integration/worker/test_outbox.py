"""Outbox -> ledger on real stores, and on stores that go away."""

import asyncio
import logging

import pytest
from redis.exceptions import RedisError

from leaderboard.store.postgres import ledger, migrate
from leaderboard.store.redis import keys
from leaderboard.worker import outbox
from support.world import eventually, leaderboard, open_world, tenant


async def board(world, key="global"):
    await world.apply(tenant())
    return await world.apply(leaderboard(key))


async def count(world, table="score_events"):
    return (await world.one(f"SELECT count(*) FROM {table}"))[0]


async def test_every_event_arrives_once_and_the_outbox_is_empty(world):
    made = await board(world)
    for n in range(50):
        await world.update(made.namespace, *[(f"u{m}", "i1") for m in range(10)])
        if n % 10 == 0:
            await world.remove(made.namespace, "u3")
    await world.drain()
    assert await count(world) == 505
    assert await world.one("SELECT score_updates FROM usage_rollups") == (500,)
    pending = await world.redis.xpending(keys.OUTBOX, outbox.GROUP)
    assert pending["pending"] == 0


async def test_what_a_dead_worker_had_in_hand_is_taken_over(world, monkeypatch):
    monkeypatch.setattr(outbox, "CLAIM_IDLE_MS", 50)
    monkeypatch.setattr(outbox, "CLAIM_EVERY_SECONDS", 0.05)
    made = await board(world)
    await world.update(made.namespace, ("a", "i1"), ("b", "i2"))
    await world.redis.xgroup_create(keys.OUTBOX, outbox.GROUP, id="0")
    await world.redis.xreadgroup(outbox.GROUP, "dead", {keys.OUTBOX: ">"})
    await world.drain()
    assert await count(world) == 2


async def test_a_worker_that_died_between_ledger_and_acknowledgement_counts_once(world, monkeypatch):
    monkeypatch.setattr(outbox, "CLAIM_IDLE_MS", 50)
    made = await board(world)
    await world.update(made.namespace, ("a", "i1"), ("b", "i2"))
    await world.redis.xgroup_create(keys.OUTBOX, outbox.GROUP, id="0")
    answer = await world.redis.xreadgroup(outbox.GROUP, "dead", {keys.OUTBOX: ">"})
    events = [event for raw in outbox._entries(answer) for event in outbox.decode(*raw).events]
    assert await ledger.append(world.pool, events) == 2
    monkeypatch.setattr(outbox, "CLAIM_EVERY_SECONDS", 0.05)
    await world.drain()
    assert await count(world) == 2
    assert await world.one("SELECT score_updates FROM usage_rollups") == (2,)


async def test_workers_side_by_side_count_once(world):
    made = await board(world)
    async with world.worker(batch=7), world.worker(batch=5), world.worker(batch=3):
        for _ in range(60):
            await world.update(made.namespace, *[(f"u{m}", "i1") for m in range(10)])
        await eventually(world._empty)
    assert await count(world) == 600
    assert await world.one("SELECT score_updates FROM usage_rollups") == (600,)


async def test_what_is_no_event_is_set_aside_and_stops_nothing(world, caplog):
    made = await board(world)
    await world.redis.xadd(keys.OUTBOX, {"e": "nonsense"})
    await world.redis.xadd(keys.OUTBOX, {"other": "field"})
    await world.redis.xadd(keys.OUTBOX, {"e": b"\xff\xfe"})
    await world.update(made.namespace, ("a", "i1"))
    too_large = "\x1f".join(["0" * 31 + "7", "u", "1", "1", str(2**70), "1", "1", "", "a"])
    await world.redis.xadd(keys.OUTBOX, {"e": too_large})
    await world.redis.xadd(
        keys.OUTBOX, {"e": too_large.replace("u\x1f1\x1f", "u\x1f-1\x1f").replace("\x1f1\x1f", "\x1f")}
    )
    await world.update(made.namespace, ("b", "i1"))
    with caplog.at_level(logging.ERROR):
        await world.drain()
    assert await count(world) == 2
    dead = await world.redis.xrange(outbox.DEAD)
    assert len(dead) == 5
    assert dead[0][1][b"e"] == b"nonsense"
    assert {b"id", b"reason"} <= set(dead[0][1])
    assert sum("cannot be stored" in record.message for record in caplog.records) == 5


async def test_an_event_of_an_unknown_board_is_kept_and_stops_nothing(world):
    made = await board(world)
    stranger = "\x1f".join(["0" * 31 + "7", "u", "424242", "1", "1", "1", "1", "", "a"])
    await world.redis.xadd(keys.OUTBOX, {"e": stranger})
    await world.update(made.namespace, ("a", "i1"))
    await world.drain()
    assert await count(world) == 2
    assert await world.one("SELECT score_updates FROM usage_rollups") == (1,)


async def test_an_emptied_redis_gets_its_group_again(world):
    made = await board(world)
    async with world.worker():
        await world.update(made.namespace, ("a", "i1"))
        await eventually(world._empty)
        await world.redis.flushall()
        await world.apply(leaderboard())
        await world.update(made.namespace, ("a", "i1"))
        await eventually(world._empty)
        assert await count(world) == 2
    assert {row.member: row.score async for row in ledger.latest(world.pool, made.board.id)} == {"a": 2.0}


async def test_the_batch_in_hand_is_finished_when_told_to_stop(world):
    made = await board(world)
    await world.update(made.namespace, *[("a", "i1") for _ in range(50)])
    async with world.worker() as worker:
        await eventually(lambda: asyncio.sleep(0, worker.moved > 0 or None))
    assert await count(world) == 50
    assert await world.redis.xlen(keys.OUTBOX) == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_an_outage_of_postgres_delays_and_loses_nothing(make_postgres, redis_url, end, caplog):
    server = make_postgres()
    await asyncio.to_thread(migrate.apply, server.url)
    async with open_world(server.url, redis_url, timeout=2) as world:
        made = await board(world)
        async with world.worker(batch=10):
            await world.update(made.namespace, *[(f"u{n}", "i1") for n in range(30)])
            await eventually(world._empty)
            await asyncio.to_thread(getattr(server, end))
            await world.update(made.namespace, *[(f"u{n}", "i1") for n in range(30)])
            await eventually(lambda: asyncio.sleep(0, "outage" in caplog.text))
            await asyncio.to_thread(server.start)
            await eventually(world._empty)
        assert await count(world) == 60
        assert await world.one("SELECT score_updates FROM usage_rollups") == (60,)
        assert caplog.text.count("PostgreSQL: outage, trying again") == 1


async def test_an_outage_of_redis_ends_by_itself(database, make_redis, caplog):
    server = make_redis(appendfsync="always")
    async with open_world(database, server.url) as world:
        made = await board(world)
        async with world.worker():
            await world.update(made.namespace, ("a", "i1"))
            await eventually(world._empty)
            await asyncio.to_thread(server.kill)
            await eventually(lambda: asyncio.sleep(0, "outage" in caplog.text))
            await asyncio.to_thread(server.start)

            async def lets(call):
                try:  # connections of the test's own client are broken, too
                    return bool(await call())
                except RedisError:
                    return False

            await eventually(lambda: lets(lambda: world.update(made.namespace, ("b", "i1"))))
            await eventually(lambda: lets(world._empty))
        assert {row.member async for row in ledger.latest(world.pool, made.board.id)} == {"a", "b"}
