"""verify finds what differs; rebuild makes it whole: ties, removed members, bit-exact scores."""

import random

import msgspec
import pytest

from leaderboard.control import namespace, rebuild
from leaderboard.control.errors import BoardNotFound, NotDrained
from leaderboard.control.rebuild import Verdict
from leaderboard.store.redis import keys
from leaderboard.store.redis.boards import BoardState
from support.world import leaderboard, tenant

RULES = [
    {"scoreUpdate": rule, "sortOrder": order, "tiePolicy": tie, "maxEntries": bound}
    for rule, order, tie, bound in [
        ("Sum", "Descending", "FirstToReach", 0),
        ("Best", "Ascending", "FirstToReach", 15),
        ("Latest", "Descending", "UserId", 0),
        ("Best", "Descending", "Shared", 10),
    ]
]


async def play(world, board_key, rule, *, moves=400, seed=1):
    chance = random.Random(seed)
    for _ in range(moves):
        user = f"üser {chance.randint(1, 30)}"
        if chance.random() < 0.08:
            await world.remove(board_key, user)
        else:
            value = chance.choice([chance.randint(-3, 3), chance.uniform(-1e9, 1e9), 0.1, 1e-300])
            await world.update(board_key, (user, f"{'i' if rule == 'Sum' else 's'}{value!r}"))


async def ranked(world, board_key):
    return await world.redis.zrange(board_key, 0, -1, withscores=True)


@pytest.mark.parametrize("spec", RULES, ids=lambda spec: "-".join(map(str, spec.values())))
async def test_an_emptied_redis_is_made_whole(world, spec):
    await world.apply(tenant())
    made = await world.apply(leaderboard(**spec))
    await play(world, made.namespace, spec["scoreUpdate"])
    await world.drain()
    assert (await rebuild.verify(world.pool, world.redis)).same
    before, orders = await ranked(world, made.namespace), await world.admin.orders(made.namespace)
    assert len(before) > 5

    await world.redis.flushall()
    assert (await world.update(made.namespace, ("a", "i1"))) == b"board-unavailable"
    (report,) = (await rebuild.verify(world.pool, world.redis)).boards
    assert report.verdict is Verdict.MISSING
    (lost,) = await rebuild.missing(world.pool, world.redis)
    assert await rebuild.rebuild(world.pool, world.redis, lost) == len(before)
    assert await ranked(world, made.namespace) == before
    assert await world.admin.orders(made.namespace) == orders
    assert await rebuild.missing(world.pool, world.redis) == []

    await play(world, made.namespace, spec["scoreUpdate"], seed=2)
    await world.drain()
    report = await rebuild.verify(world.pool, world.redis)
    assert (report.same, report.differences) == (True, 0)


async def test_differences_are_named_with_examples(world):
    await world.apply(tenant())
    made = await world.apply(leaderboard(tiePolicy="UserId"))
    await world.update(made.namespace, *[(f"u{n:02}", f"i{n}") for n in range(20)])
    await world.drain()
    await world.redis.zadd(made.namespace, {"u01": 1.0000000000000002, "stranger": 5})
    await world.redis.zrem(made.namespace, "u02")
    (report,) = (await rebuild.verify(world.pool, world.redis)).boards
    assert (report.verdict, report.differences) == (Verdict.DIFFERENT, 3)
    assert [(d.member, d.redis, d.ledger) for d in report.examples] == [
        ("stranger", (5.0, ""), None),
        ("u01", (1.0000000000000002, ""), (1.0, "")),
        ("u02", None, (2.0, "")),
    ]
    await rebuild.rebuild(world.pool, world.redis, await world.place())
    assert (await rebuild.verify(world.pool, world.redis)).same


async def test_a_broken_order_hash_is_a_difference(world):
    await world.apply(tenant())
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"))
    await world.drain()
    await world.redis.hset(keys.order(made.namespace), "a", "000000000000")
    report = await rebuild.verify(world.pool, world.redis)
    assert not report.same
    assert "order hash" in report.boards[0].detail


async def test_verify_says_when_the_ledger_is_behind(world):
    await world.apply(tenant())
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"))
    report = await rebuild.verify(world.pool, world.redis, wait_seconds=0.1)
    assert report.boards[0].verdict is Verdict.BEHIND
    async with world.worker():
        assert (await rebuild.verify(world.pool, world.redis)).same


async def test_rebuild_without_a_worker_says_to_start_one_and_can_be_repeated(world):
    await world.apply(tenant())
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"), ("b", "i2"))
    place = await world.place()
    with pytest.raises(NotDrained, match="Start the worker"):
        await rebuild.rebuild(world.pool, world.redis, place, drain_seconds=0.1)
    assert (await world.admin.read_meta(made.namespace)).state is BoardState.REBUILDING
    assert await rebuild.missing(world.pool, world.redis) == [place]
    async with world.worker():
        assert await rebuild.rebuild(world.pool, world.redis, place) == 2
    assert (await world.admin.read_meta(made.namespace)).state is BoardState.ACTIVE


async def test_a_rebuild_that_crashed_half_way_is_finished_by_the_next(world, monkeypatch):
    await world.apply(tenant())
    made = await world.apply(leaderboard())
    await world.update(made.namespace, *[(f"u{n}", f"i{n}") for n in range(50)])
    await world.drain()
    before = await ranked(world, made.namespace)

    async def crash(*args, **kwargs):
        raise RuntimeError("crashed before the meta was written")

    with monkeypatch.context() as patch:
        patch.setattr(namespace.BoardAdmin, "reopen", crash)
        with pytest.raises(RuntimeError):
            await rebuild.rebuild(world.pool, world.redis, await world.place())
    assert (await world.update(made.namespace, ("a", "i1"))) == b"board-unavailable"
    outcome = await world.apply(leaderboard())
    assert any("a rebuild had not finished" in change for change in outcome.changes)
    assert await ranked(world, made.namespace) == before
    assert (await rebuild.verify(world.pool, world.redis)).same


async def test_a_board_that_never_had_an_event_is_made_whole_empty(world):
    await world.apply(tenant())
    made = await world.apply(leaderboard(suspend=True))
    await world.redis.flushall()
    assert await rebuild.rebuild(world.pool, world.redis, await world.place()) == 0
    meta = await world.admin.read_meta(made.namespace)
    assert (meta.seq, meta.incarnation, meta.state) == (0, 1, BoardState.SUSPENDED)


async def test_boards_of_a_deleted_tenant_and_deleted_boards_are_left_out(world):
    await world.apply(tenant())
    await world.apply(leaderboard())
    place = await world.place()
    await world.control.delete_tenant("acme")
    assert (await rebuild.verify(world.pool, world.redis)).boards == ()
    with pytest.raises(BoardNotFound):
        await rebuild.find(world.pool, "acme/default/global")
    gone = msgspec.structs.replace(place, board=msgspec.structs.replace(place.board, id=12345))
    with pytest.raises(BoardNotFound):
        await rebuild.rebuild(world.pool, world.redis, gone)
