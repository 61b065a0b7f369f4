"""Imports that are cut short, held up or overtaken: every member once, and no source mistaken for another."""

import asyncio
import random

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from leaderboard.control import moving, rebuild
from leaderboard.control.errors import ImportRefused
from leaderboard.store.redis import keys
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.imports import SCRIPTED, Imports
from support.moving import after, importer, on_board, once_in_the_ledger, quiet, ranked, stopped_at, verified, whole
from support.proxy import Proxy
from support.world import eventually, leaderboard


@pytest.mark.parametrize("retries", [True, False], ids=["redis-py repeats", "redis-py does not"])
async def test_cut_connections_lose_and_repeat_nothing(world, redis_url, members, retries):
    made = await world.apply(leaderboard())
    source, chance = members(15_000), random.Random(11)
    print("seed 11")
    async with Proxy.to(redis_url) as proxy, world.worker(batch=1_000):
        options = {} if retries else {"retry": Retry(NoBackoff(), 0)}
        redis = Redis.from_url(proxy.url, **options)
        running = asyncio.create_task((await importer(world, source, redis=redis)).run(quiet))
        for cut in range(12):
            await asyncio.sleep(chance.uniform(0, 0.05))
            if running.done():
                break
            # Half of them lose an answer, of a chunk or of one of the questions before it.
            if cut % 2:
                proxy.cut()
            else:
                await asyncio.wait(
                    [running, lost := asyncio.create_task(proxy.cut_after_request())], return_when="FIRST_COMPLETED"
                )
                lost.cancel()
                proxy._swallow = False
        assert cut > 3
        done = await running
        await redis.aclose()
        await eventually(world._empty)
        assert (done.added, done.kept, done.same) == (15_000, 0, 0)
        await whole(world, made, source)


async def test_a_full_outbox_makes_it_wait_and_fails_nothing(world, members):
    made = await world.apply(leaderboard())
    source, said = members(5_000), []
    what = await importer(world, source, outbox_max=4)
    running = asyncio.create_task(what.run(lambda at, waits: said.append((at, waits))))

    async def waits():
        return bool(said) and "the outbox is full" in said[-1][1]

    await eventually(waits)
    assert said[-1][0] == after(4)
    assert await world.redis.xlen(keys.OUTBOX) == 4
    async with world.worker():
        assert (await running).added == 5_000
        await eventually(world._empty)
        assert await on_board(world, made) == ranked(source)
        await verified(world, entries=5_000)


async def test_it_goes_no_further_ahead_of_the_worker_than_it_may(world, members, monkeypatch):
    monkeypatch.setattr(moving, "IN_FLIGHT", 3)
    await world.apply(leaderboard())
    source, said = members(5_000), []
    running = asyncio.create_task((await importer(world, source)).run(lambda at, waits: said.append((at, waits))))

    async def waits():
        return bool(said) and "waiting for the worker" in said[-1][1]

    await eventually(waits)
    assert await world.redis.xlen(keys.OUTBOX) == 3
    async with world.worker():
        assert (await running).added == 5_000


async def test_one_that_was_stopped_goes_on_and_says_what_came_of_all_of_it(world, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    await world.update(made.namespace, (source[0][0], "i77"), (source[1][0], f"i{source[1][1]!r}"))
    first = await importer(world, source)
    await stopped_at(world, first, 3 * SCRIPTED)
    # A member removed meanwhile is not brought back, a live write to one that was imported stays.
    best = [user for user, _ in ranked(source) if user not in (source[0][0], source[1][0])]
    await world.remove(made.namespace, best[0])
    await world.update(made.namespace, (best[1], "i1"))
    second = await importer(world, source)
    assert (await second.begin()).at == 3 * SCRIPTED
    done = await second.run(quiet)
    assert (done.added, done.kept, done.same) == (1_998, 1, 1)
    board = dict(await on_board(world, made))
    assert best[0] not in board
    assert board[best[1]] == dict(source)[best[1]] + 1
    async with world.worker():
        await verified(world, entries=1_999)


@pytest.mark.parametrize("tie", ["FirstToReach", "UserId"])
async def test_what_is_written_to_a_board_that_was_empty_is_seen_by_the_rest(world, members, tie):
    """Alone on its board an import does not ask who is there; it asks again once anybody else has written."""
    made = await world.apply(leaderboard(tiePolicy=tie))
    source = members(2_000)
    await stopped_at(world, await importer(world, source), after(3))
    last, worst = ranked(source)[-2:]
    await world.update(made.namespace, (last[0], "i5"), (worst[0], f"i{worst[1]!r}"))
    done = await (await importer(world, source)).run(quiet)
    assert (done.added, done.kept, done.same) == (1_998, 1, 1)
    board = await on_board(world, made)
    assert len(board) == 2_000
    assert dict(board) == dict(source) | {last[0]: 5.0}
    async with world.worker():
        await verified(world, entries=2_000)


async def test_a_source_that_changed_is_noticed(world, members):
    await world.apply(leaderboard())
    source = members(2_000)
    await stopped_at(world, await importer(world, source), after(2))
    changed = [*source[:-1], (source[-1][0], source[-1][1] + 1)]
    with pytest.raises(ImportRefused, match=r"stands at 750 of 2,000 members, .*--restart"):
        await (await importer(world, changed)).begin()
    with pytest.raises(ImportRefused, match="stands at 750"):
        await (await importer(world, changed)).run(quiet)  # also where it began in between
    with pytest.raises(ImportRefused):
        await (await importer(world, source, overwrite=True)).begin()
    other = await importer(world, changed)
    assert await other.begin(restart=True) is None
    done = await other.run(quiet)
    assert done.added + done.same + done.kept == 2_000
    assert done.at == done.total == 2_000
    # One that is finished is in nobody's way.
    assert await (await importer(world, source)).begin() is None


async def test_two_at_once_share_the_work(world, members):
    made = await world.apply(leaderboard())
    source = members(5_000)
    async with world.worker(batch=1_000):
        one, two = await importer(world, source), await importer(world, source)
        first, second = await asyncio.gather(one.run(quiet), two.run(quiet))
        assert first.added == second.added == 5_000
        await eventually(world._empty)
        assert await on_board(world, made) == ranked(source)
        await once_in_the_ledger(world, entries=5_000)


async def test_a_board_that_is_reset_or_made_again_gets_no_more_of_it(world, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    what = await importer(world, source)
    await stopped_at(world, what, after(2))
    where = await world.project()
    await world.control.reset_board(**where, key="global", season=1)
    with pytest.raises(ImportRefused, match=r"was reset or made again meanwhile, after 750 members"):
        await what.run(quiet)
    again = await importer(world, source)
    assert await again.begin() is None  # what was not finished was of the season that is over
    async with world.worker():
        assert (await again.run(quiet)).added == 2_000
        assert len(await on_board(world, made)) == 2_000
        await verified(world, entries=2_000)


async def test_a_redis_that_lost_all_and_was_restored_is_begun_anew_without_doubles(world, members):
    made = await world.apply(leaderboard())
    source = members(2_000)
    what = await importer(world, source)
    await stopped_at(world, what, after(4))
    async with world.worker():
        await eventually(world._empty)
        await world.redis.flushall()
        with pytest.raises(RedisUnavailable, match=r" (1,750|0) of 2,000 members are done"):
            await (await importer(world, source, patience=0.1)).run(quiet)
        assert await rebuild.rebuild(world.pool, world.redis, await world.place()) == after(4)
        done = await (await importer(world, source)).run(quiet)
        assert (done.added, done.same) == (2_000 - after(4), after(4))
        await whole(world, made, source)


async def test_live_writes_and_an_import_do_not_lose_each_other(world, members):
    made = await world.apply(leaderboard())
    source = members(6_000)
    chance = random.Random(5)
    sums = {}
    async with world.worker(batch=1_000):
        running = asyncio.create_task((await importer(world, source)).run(quiet))
        while not running.done():
            user = chance.choice([f"live-{chance.randint(1, 50)}", chance.choice(source)[0]])
            before = await world.redis.hget(keys.order(made.namespace), user)
            answer = (await world.update(made.namespace, (user, "i3")))[0].split()
            assert answer[0] == b"A"
            if before is None and answer[3] == b"-":
                sums[user] = 3  # it was there first: the import leaves it alone
            elif user in sums:
                sums[user] += 3
        await running
        board = dict(await on_board(world, made))
        assert sums
        assert {user: board[user] for user in sums} == sums
        assert board.keys() == sums.keys() | dict(source).keys()
        await verified(world, entries=len(board))


async def test_progress_is_forgotten_at_last(world, members):
    made = await world.apply(leaderboard())
    await (await importer(world, members(10))).run(quiet)
    assert 29 * 86_400 < await world.redis.ttl(keys.importing(made.namespace)) <= 30 * 86_400
    found = await Imports(world.redis, ids=EventIds(bytes(8)), outbox_max=1).progress(made.namespace)
    assert found is not None
    assert (found.source, found.done, found.total) == ("a list", True, 10)


async def test_a_suspended_board_takes_an_import_and_nothing_else(world, members):
    made = await world.apply(leaderboard(suspend=True))
    async with world.worker():
        assert (await (await importer(world, members(600))).run(quiet)).added == 600
        assert await world.update(made.namespace, ("ann", "i1")) == b"board-suspended"
        await eventually(world._empty)
        await verified(world, entries=600)
