"""Late updates: a season that is over takes those that name it for a while, and is archived with them."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from leaderboard.control import rebuild
from leaderboard.control.seasons import ranked
from leaderboard.domain.boards import TiePolicy
from leaderboard.store.postgres import seasons
from leaderboard.store.postgres.seasons import SeasonState
from leaderboard.store.redis import keys
from leaderboard.worker import seasons as worker
from support.world import eventually, leaderboard, tenant, turn_of_seasons

GRACE = 6
"""Seconds: long enough for what a test does within it on a busy machine."""
OVER = b"E season-over"


async def made(world, key="late", *, grace=GRACE, **spec):
    await world.apply(tenant())
    return await world.apply(leaderboard(key, reset={"graceSeconds": grace}, **spec))


async def reset(world, season, key="late"):
    # By the real clock, as Redis's is.
    world.now = datetime.now(UTC)
    return await world.control.reset_board(**await world.project(), key=key, season=season)


async def turn(world):
    async with world.worker():
        return (await turn_of_seasons(world, now=datetime.now(UTC))).archived


async def archived(world, board, season):
    """The final standings (rank, user, score), once the season is archived."""

    async def done():
        await turn_of_seasons(world, now=datetime.now(UTC))
        over = await seasons.get(world.pool, board.board.id, season)
        return over.state is SeasonState.ARCHIVED

    async with world.worker():
        await eventually(done)
    lines = await seasons.top(world.pool, board.board.id, season, after=0, limit=1000)
    return [(line.rank, line.member, line.score) for line in lines]


async def names(world, key="late"):
    return {name.decode() for name in await world.redis.keys(f"*:{key}*")}


@pytest.mark.parametrize("tie", ["FirstToReach", "UserId", "Shared"])
async def test_a_season_takes_late_updates_that_name_it(world, tie):
    board = await made(world, tiePolicy=tie)
    await world.update(board.namespace, ("a", "i1"), ("b", "i2"))
    await reset(world, 1)
    answers = await world.update(
        board.namespace,
        *[("a", "1:i4"), ("c", "1:i3"), ("a", "i7"), ("a", "2:i1"), ("a", "3:i1"), ("b", "0:i1")],
    )
    assert answers == [b"A 5 1 1 2", b"A 3 2 - -", b"A 7 1 - -", b"A 8 1 7 1", OVER, OVER]
    assert await turn(world) == 0  # it is not archived before
    assert (await seasons.get(world.pool, board.board.id, 1)).state is SeasonState.ENDED
    assert await archived(world, board, 1) == [(1, "a", 5), (2, "c", 3), (3, "b", 2)]
    assert await world.update(board.namespace, ("a", "1:i1"), ("a", "i1")) == [OVER, b"A 9 1 8 1"]
    there = {board.namespace, keys.meta(board.namespace)}
    assert await names(world) == there | ({keys.order(board.namespace)} if tie == "FirstToReach" else set())
    fields = {field.decode() for field in await world.redis.hkeys(keys.meta(board.namespace))}
    assert not {field for field in fields if field.startswith("late")}
    await world.drain()
    report = await rebuild.verify(world.pool, world.redis)
    assert (report.same, report.differences) == (True, 0)


async def test_without_a_grace_there_is_none(world):
    board = await made(world, grace=0)
    await world.update(board.namespace, ("a", "i1"))
    await reset(world, 1)
    assert await world.update(board.namespace, ("a", "1:i1")) == [OVER]
    assert await turn(world) == 1


async def test_a_season_to_which_nobody_came_in_time(world):
    board = await made(world)
    await reset(world, 1)
    assert await world.update(board.namespace, ("a", "1:i1")) == [b"A 1 1 - -"]
    assert await archived(world, board, 1) == [(1, "a", 1)]


async def test_the_next_reset_ends_the_grace(world):
    board = await made(world)
    await world.update(board.namespace, ("a", "i1"))
    await reset(world, 1)
    await world.update(board.namespace, ("a", "1:i1"), ("a", "i5"))
    await reset(world, 2)
    assert await world.update(board.namespace, ("a", "1:i1"), ("a", "2:i1"), ("a", "i9")) == [
        OVER,
        b"A 6 1 5 1",
        b"A 9 1 - -",
    ]
    assert await archived(world, board, 1) == [(1, "a", 2)]
    assert await archived(world, board, 2) == [(1, "a", 6)]
    assert await names(world) == {board.namespace, keys.meta(board.namespace), keys.order(board.namespace)}


async def test_a_season_whose_grace_the_next_reset_ended_is_archived_then(world):
    board = await made(world, grace=3600)
    await world.update(board.namespace, ("a", "i1"))
    await reset(world, 1)
    await world.update(board.namespace, ("a", "1:i1"))
    assert await turn(world) == 0
    await reset(world, 2)
    assert await turn(world) == 1
    assert await archived(world, board, 1) == [(1, "a", 2)]
    first, second = [await seasons.get(world.pool, board.board.id, number) for number in (1, 2)]
    assert first.late_until == second.ended_at == world.now
    assert (second.state, second.late_until) == (SeasonState.ENDED, world.now + timedelta(hours=1))


async def test_seasons_that_take_late_updates_keep_no_other_from_the_archive(world, monkeypatch):
    monkeypatch.setattr(worker, "MOST", 2)
    for number in range(3):
        await made(world, f"late-{number}", grace=3600)
        await reset(world, 1, key=f"late-{number}")
    await made(world, "after", grace=0)
    await reset(world, 1, key="after")
    assert await turn(world) == 1


async def test_bounds_and_the_size_of_the_board_hold_for_late_updates_too(world):
    board = await made(world, grace=15, maxEntries=2, bounds={"maxScore": 10})
    await world.update(board.namespace, ("a", "i1"), ("b", "i2"))
    await reset(world, 1)
    answers = await world.update(board.namespace, ("c", "1:i3"), ("b", "1:i9"), ("d", "1:i1"))
    assert answers[0] == b"A 3 1 - -"
    assert answers[1].startswith(b"A 11 - 2 2 max_score ")
    assert answers[2] == b"A 1 - - -"
    await world.drain()
    assert await world.one("SELECT season, member FROM held_updates") == (1, "b")
    (id,) = await world.one("SELECT id FROM held_updates")
    place = {"project_id": (await world.project())["project_id"], "key": "late", "board_key": board.namespace}
    async with world.worker():
        await world.control.release(**place, id=id, by="k" * 16, note=None)
    assert await archived(world, board, 1) == [(1, "b", 11), (2, "c", 3)]


@pytest.mark.parametrize("seed", range(6))
async def test_it_is_what_a_model_says_whatever_redis_loses(world, seed):
    """Late and other updates in turns; of the season, Redis keeps all, goes back in time, or loses everything."""
    chance = random.Random(seed)
    board = await made(world, tiePolicy=["FirstToReach", "UserId", "Shared"][seed % 3])
    scores: dict[int, dict[str, int]] = {1: {}, 2: {}}

    async def send(season, prefix=""):
        user, number = chance.choice("abcdefgh"), chance.randint(-5, 9)
        (answer,) = await world.update(board.namespace, (user, f"{prefix}i{number}"))
        assert answer.startswith(b"A ")
        scores[season][user] = scores[season].get(user, 0) + number

    for _ in range(20):
        await send(1)
    await reset(world, 1)
    for _ in range(10):
        await send(*chance.choice([(1, "1:"), (2, ""), (2, "2:")]))
    # What Redis has of the season now, to go back to.
    aside = [keys.season(board.namespace, 1), keys.season_order(board.namespace, 1)]
    dumps = {name: await world.redis.dump(name) for name in aside}
    number = await world.redis.hget(keys.meta(board.namespace), "late:1")
    for _ in range(10):
        await send(1, "1:")
    await world.drain()
    if seed >= 4:
        await world.redis.flushall()
        async with world.worker():
            await rebuild.rebuild(world.pool, world.redis, await world.place("acme/default/late"))
        assert await world.update(board.namespace, ("a", "1:i1")) == [OVER]
    elif seed >= 2:
        for name, dump in dumps.items():
            if dump is not None:
                await world.redis.restore(name, 0, dump, replace=True)
        await world.redis.hset(keys.meta(board.namespace), "late:1", number)
    await asyncio.sleep(GRACE)
    final = await archived(world, board, 1)
    assert {user: score for _, user, score in final} == scores[1]
    by_score = sorted(scores[1].values(), reverse=True)
    assert [score for _, _, score in final] == by_score

    async def lines():
        for _, user, score in final:
            yield user, score

    tie = TiePolicy.SHARED if seed % 3 == 2 else TiePolicy.USER_ID
    assert [rank for rank, _, _ in final] == [line.rank async for line in ranked(lines(), tie)]
    now = await world.admin.entries(board.namespace, board.board.spec.tie_policy)
    assert {user: score for user, (score, _) in now.items()} == scores[2]
    await world.drain()
    report = await rebuild.verify(world.pool, world.redis)
    assert (report.same, report.differences) == (True, 0)


async def test_a_deleted_board_leaves_nothing_of_it(world):
    board = await made(world, grace=3600)
    await world.update(board.namespace, ("a", "i1"))
    await reset(world, 1)
    await world.update(board.namespace, ("a", "1:i1"), ("a", "i1"))
    place = await world.project()
    await world.drain()
    await world.control.delete_board(**place, key="late", owner=None)
    assert await names(world) == set()
