"""Who erases a member is killed after each word with a store, and whoever comes next finishes it."""

import asyncio
import contextlib

from leaderboard.control import rebuild
from leaderboard.domain.erasures import ErasureState
from support.dying import Erasure, mortals
from support.traces import traces
from support.world import eventually, leaderboard, tenant, turn_of_seasons

MOST = 200
"""Members, and so moments to die at; there must be fewer."""


async def test_an_eraser_killed_anywhere_leaves_nothing_half_done(world, database, redis_url):
    await world.apply(tenant(plan="pro"))
    boards = [
        (await world.apply(leaderboard("sum", scoreUpdate="Sum", tiePolicy="FirstToReach"))).namespace,
        (await world.apply(leaderboard("shared", scoreUpdate="Sum", tiePolicy="Shared"))).namespace,
    ]
    project = await world.project()
    users = [f"Needle{number:03}" for number in range(MOST)]

    async def score():
        for board in boards:
            await world.update(board, *[(user, "i1") for user in [*users, "a"]])

    await score()
    await world.control.reset_board(**project, key="sum", season=1)
    stop = asyncio.Event()

    async def archive():
        while not stop.is_set():
            await turn_of_seasons(world, now=world.now)
            await asyncio.sleep(0.05)

    async def archived():
        return await world.one("SELECT count(*) FROM seasons WHERE state <> 'archived'") == (0,)

    async def finished():
        async with world.pool.connection() as conn:
            await conn.execute("UPDATE erasures SET attempted_at = NULL WHERE state = 'pending'")
        await world.control.carry_out_erasures(limit=1)  # nothing, while the dead one's session has its lock still
        return await world.one("SELECT count(*) FROM erasures WHERE state = 'pending'") == (0,)

    killed = 0
    async with mortals(database, redis_url) as die_at, world.worker(), asyncio.TaskGroup() as tasks:
        tasks.create_task(archive())
        with contextlib.ExitStack() as stack:
            stack.callback(stop.set)
            await eventually(archived)
            await score()
            for user in users:
                asked = await world.control.request_erasure(
                    project_id=project["project_id"], member=user, requested_by="k" * 16
                )
                ended = await die_at(killed + 1, Erasure())
                assert ended in (0, -9)
                if ended == 0:
                    break
                killed += 1
                await eventually(finished)
                id = asked.erasure.id
                checked = await world.control.check_erasure(id, project_id=project["project_id"], member=user)
                assert checked.receipt.erasure.state is ErasureState.DONE, killed
                assert checked.verified, killed
                assert checked.receipt.touched.season_lines == 1, killed
                assert checked.receipt.touched.entries == 2, killed
                assert checked.receipt.touched.events == 6, killed  # four updates, two removals
                assert await traces(world.pool, world.redis, user) == [], killed
    assert 20 < killed < MOST - 1
    report = await rebuild.verify(world.pool, world.redis)
    assert (report.same, report.differences) == (True, 0)
    assert await world.one("SELECT sum(score_updates)::int FROM usage_rollups") == (4 * (MOST + 1),)
    assert await world.one("SELECT count(*) FROM score_events WHERE kind = 'u'") == (4 * (MOST + 1),)
    names = "SELECT count(*), count(DISTINCT member) FROM season_standings WHERE season = 1"
    assert await world.one(names) == (MOST + 1, MOST + 1)
    (before,) = await world.one("SELECT erased FROM seasons")
    assert before == killed + 1
