"""A member that was erased is nowhere: looked for in every column and every key; and everything still adds up."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from leaderboard.control import erasures, rebuild
from leaderboard.control.errors import ErasureNotFound
from leaderboard.control.rebuild import Verdict
from leaderboard.domain.erasures import ErasureState, Touched
from leaderboard.store.postgres import ledger, seasons, standings
from leaderboard.store.postgres.seasons import Final, Seal
from leaderboard.store.postgres.standings import Entry, Taken
from leaderboard.store.redis import keys
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.store.redis.scores import Applied, Scores
from leaderboard.worker import snapshots
from support.traces import traces
from support.world import eventually, leaderboard, tenant, turn_of_seasons

MARK = "Needle7Xq"
USER = f'{MARK} "ü" *?[a]\\'
"""What patterns, JSON and arrays have to escape is in it."""

BOARDS = {
    "sum": {"scoreUpdate": "Sum", "tiePolicy": "FirstToReach"},
    "best": {"scoreUpdate": "Best", "tiePolicy": "UserId", "sortOrder": "Ascending"},
    "latest": {"scoreUpdate": "Latest", "tiePolicy": "Shared"},
    "short": {"scoreUpdate": "Best", "tiePolicy": "FirstToReach", "maxEntries": 3},
    "gone": {"scoreUpdate": "Sum"},
    "kept": {"scoreUpdate": "Sum"},
    "bounded": {"scoreUpdate": "Sum", "bounds": {"maxScore": 999, "maxGain": 999, "perSeconds": 604_800}},
}


@pytest.fixture
async def scores(redis_url):
    hot = Multiplexer(redis_url, timeout=5)
    await hot.start(wait=5)
    yield Scores(hot, ids=EventIds(b"hotnonce"), outbox_max=10**6, idempotency_ttl=3600)
    await hot.close()


@dataclasses.dataclass
class Project:
    """A project with BOARDS."""

    world: Any
    slug: str
    place: dict[str, Any]
    namespaces: dict[str, str]

    @property
    def id(self):
        return self.place["project_id"]

    async def board(self, key):
        return (await self.world.place(f"{self.slug}/default/{key}")).board

    async def send(self, board, *users, value=None):
        def number(user):
            return random.Random(user).randint(1, 99)

        letter = "i" if BOARDS[board]["scoreUpdate"] == "Sum" else "s"
        return await self.world.update(
            self.namespaces[board], *[(user, value or f"{letter}{number(user)}") for user in users]
        )

    async def reset(self, board, season):
        await self.world.control.reset_board(**self.place, key=board, season=season)

    async def request(self, member=USER):
        asked = await self.world.control.request_erasure(project_id=self.id, member=member, requested_by="k" * 16)
        return asked.erasure

    async def erase(self, member=USER):
        """Ask for it, and let the worker work until it is done."""
        asked = await self.request(member)
        async with working(self.world):
            assert await self.world.control.carry_out_erasures(limit=10) == 1
        return await self.world.control.erasure(asked.id, project_id=self.id)

    async def check(self, id, member=USER):
        return await self.world.control.check_erasure(id, project_id=self.id, member=member)


async def project_of(world, slug="acme"):
    await world.apply(tenant(slug, plan="pro"))
    made = {key: (await world.apply(leaderboard(key, of=slug, **spec))).namespace for key, spec in BOARDS.items()}
    return Project(world, slug, await world.project(slug), made)


@pytest.fixture
async def project(world):
    return await project_of(world)


@contextlib.asynccontextmanager
async def working(world) -> AsyncIterator[None]:
    """What the worker does beside the erasures: the outbox and the seasons."""
    stop = asyncio.Event()

    async def archive():
        while not stop.is_set():
            await turn_of_seasons(world, now=world.now)
            await asyncio.sleep(0.02)

    async with world.worker(), asyncio.TaskGroup() as tasks:
        tasks.create_task(archive())
        try:
            yield
        finally:
            stop.set()


async def archived(world):
    return await world.one("SELECT count(*) FROM seasons WHERE state <> 'archived'") == (0,)


async def fill(project, scores):
    """Let the member be on all boards: trimmed, removed, reset and archived; and others beside it."""
    world, others = project.world, ["a", "b", "c", "d"]
    for board in BOARDS:
        await project.send(board, USER, *others)
    await project.send("short", "a", "b", "c", value="s1000")  # the member is trimmed
    await world.remove(project.namespaces["latest"], USER)
    await project.send("latest", USER)
    await project.reset("sum", 1)
    await project.reset("latest", 1)
    async with working(world):
        await eventually(lambda: archived(world))
    await project.send("sum", USER, *others)
    await project.send("latest", *others)
    await project.reset("best", 1)  # ended, and not archived
    await world.control.delete_board(**project.place, key="gone")
    await project.send("bounded", USER, value="i1000")  # it is held
    items = [(user, "i1", (f"match-1:{at}", "fingerprint")) for at, user in enumerate([USER, "a", USER])]
    answers = await scores.update_many(project.namespaces["kept"], items)
    assert all(isinstance(answer, Applied) for answer in answers)
    await world.drain()


async def look_at(project, scores, board, *, member=""):
    """Make a snapshot as the dashboard does."""
    found = await project.board(board)
    await standings.wish(project.world.pool, found.id, member=member, seconds=60)
    await snapshots.once(project.world.pool, scores)
    assert await standings.read(project.world.pool, found.id, member=member, max_age=60) is not None


async def everything(world, query):
    async with world.pool.connection() as conn:
        return await (await conn.execute(query)).fetchall()


async def totals(world):
    """What must stay: the usage; per board and day how many updates there were, what was sent, what came of it."""
    return (
        await everything(world, "SELECT * FROM usage_rollups ORDER BY day, project_id"),
        await everything(world, "SELECT * FROM usage_hours ORDER BY hour, project_id"),
        await everything(
            world,
            "SELECT leaderboard_id, event_time::date, count(*), sum(submitted), sum(score), count(DISTINCT member)"
            " FROM score_events WHERE kind = 'u' GROUP BY 1, 2 ORDER BY 1, 2",
        ),
        await everything(
            world,
            "SELECT leaderboard_id, season, sum(rank), sum(score), count(*) FROM season_standings GROUP BY 1, 2"
            " ORDER BY 1, 2",
        ),
    )


async def same(world):
    report = await rebuild.verify(world.pool, world.redis)
    return (report.same, report.differences) == (True, 0)


async def test_an_erased_member_is_nowhere_and_everything_adds_up(world, project, scores):
    await fill(project, scores)
    kept = await project.board("kept")
    await look_at(project, scores, "kept")
    await look_at(project, scores, "kept", member=USER)
    await look_at(project, scores, "kept", member="a")
    await world.redis.xadd(keys.SET_ASIDE, {"e": "\x1f".join(["not ours", "u", str(kept.id), USER])})
    async with world.pool.connection() as conn:
        await conn.execute("ANALYZE")
    before = await totals(world)
    # The search finds what there is; a place that it cannot see would make the rest of the test worthless.
    there = set(await traces(world.pool, world.redis, MARK))
    assert there & set(keys.gains(project.namespaces["bounded"]))
    assert there >= {
        f"{ledger.partition_name(world.now.date())}.member",
        "season_standings.member",
        "standings.member",
        "standings.entries",
        "held_updates.member",
        "statistics of season_standings.member",
        project.namespaces["kept"],
        keys.order(project.namespaces["kept"]),
        keys.season(project.namespaces["best"], 1),
        keys.SET_ASIDE,
    }

    assert any(
        name in keys.gains(project.namespaces["bounded"]) for name in await traces(world.pool, world.redis, MARK)
    )

    receipt = await project.erase()

    assert receipt.erasure.state is ErasureState.DONE
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)
    after = await totals(world)
    assert after[:3] == before[:3]
    assert set(before[3]) < set(after[3])  # one season more was archived meanwhile
    assert {line.leaderboard for line in receipt.lines} == set(BOARDS)
    touched = receipt.touched
    assert (touched.entries, touched.season_lines, touched.snapshots, touched.set_aside) == (3, 3, 3, 1)
    assert touched.held == 1
    assert (await project.check(receipt.erasure.id)).verified


async def test_final_standings_keep_their_lines_under_a_checksum_of_their_own(world, project, scores):
    await fill(project, scores)
    sum_board = await project.board("sum")
    before = await seasons.top(world.pool, sum_board.id, 1, after=0, limit=100)
    old = await seasons.get(world.pool, sum_board.id, 1)
    await project.erase()
    lines = await seasons.top(world.pool, sum_board.id, 1, after=0, limit=100)
    (erased,) = [line for line in lines if line.member.startswith("erased-")]
    named = [Final(line.place, line.rank, USER, line.score) if line == erased else line for line in lines]
    assert named == before
    seal = Seal()
    for line in lines:
        seal.add(line)
    over = await seasons.get(world.pool, sum_board.id, 1)
    assert (over.checksum, over.entries) == seal.sealed()[::-1]
    assert over.checksum != old.checksum
    assert await world.one("SELECT erased FROM seasons WHERE leaderboard_id = %s AND season = 1", sum_board.id) == (1,)


async def test_pseudonyms_of_different_boards_have_nothing_in_common(world, project, scores):
    await fill(project, scores)
    await project.erase()
    names = await everything(
        world,
        "SELECT leaderboard_id, array_agg(DISTINCT member) FROM score_events WHERE member ~ '^erased-' GROUP BY 1",
    )
    assert len(names) == len(BOARDS)
    assert len({name for _, (name,) in names}) == len(BOARDS)


async def test_a_rebuild_does_not_bring_a_member_back(world, project, scores):
    await fill(project, scores)
    await project.erase()
    await world.redis.flushall()
    for place in await rebuild.missing(world.pool, world.redis):
        await rebuild.rebuild(world.pool, world.redis, place)
    assert await same(world)
    assert await traces(world.pool, world.redis, MARK) == []
    boards = [name for key, name in project.namespaces.items() if key != "gone"]
    users = [user for name in boards for user in await world.redis.zrange(name, 0, -1)]
    assert len(users) > 10
    assert not [user for user in users if b"erased-" in user]


async def test_nor_does_the_ledger_when_its_days_are_dropped(world, project, scores):
    await fill(project, scores)
    async with world.pool.connection() as conn:  # some of what is known of the member is in checkpoints
        for name in project.namespaces:
            board = await conn.execute("SELECT id FROM leaderboards WHERE key = %s", (name,))
            (board_id,) = await board.fetchone()
            await conn.execute(
                "INSERT INTO score_checkpoints VALUES (%s, %s, 0, 1, 5, 'abcdefabcdef')", (board_id, USER)
            )
    receipt = await project.erase()
    assert receipt.touched.checkpoints == len(BOARDS)
    assert await traces(world.pool, world.redis, MARK) == []
    await ledger.drop_partitions_before(world.pool, world.now.date() + timedelta(days=1))
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)


async def test_nobody_gives_a_receipt_that_says_so(world, project, scores):
    await project.send("sum", "a")
    await world.drain()
    receipt = await project.erase("nobody")
    assert (receipt.lines, receipt.touched) == ([], Touched())
    assert (await project.check(receipt.erasure.id, "nobody")).verified


async def test_suspended_boards_are_no_exception(world, project):
    await project.send("sum", USER, "a")
    await world.apply(leaderboard("sum", **BOARDS["sum"], suspend=True))
    assert (await world.remove(project.namespaces["sum"], USER)) == b"board-suspended"
    assert (await project.erase()).touched.entries == 1
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)


async def test_other_projects_and_tenants_keep_their_member_of_the_same_name(world, project, scores):
    other = await project_of(world, "other")
    await world.apply(tenant(projects=[{"name": "default"}, {"name": "second"}], plan="pro"))
    second = await world.apply(leaderboard("sum", project="second"))
    for namespace in (other.namespaces["sum"], second.namespace, project.namespaces["sum"]):
        await world.update(namespace, (USER, "i3"), ("a", "i1"))
    await world.redis.xadd(
        keys.SET_ASIDE, {"e": "\x1f".join(["not ours", "u", str((await other.board("sum")).id), USER])}
    )
    await other.reset("sum", 1)
    await world.update(other.namespaces["sum"], (USER, "i4"))
    receipt = await project.erase()
    assert receipt.touched.events == 2  # an update, and the removal
    assert await world.control.erasure(receipt.erasure.id, project_id=None) == receipt
    for namespace, score in ((other.namespaces["sum"], 4), (second.namespace, 3)):
        members = await world.redis.zrange(namespace, 0, -1, withscores=True)
        assert [(user[12:].decode(), number) for user, number in members if MARK in user.decode()] == [(USER, score)]
    assert await seasons.of_member(world.pool, (await other.board("sum")).id, 1, USER) is not None
    assert await world.redis.xlen(keys.SET_ASIDE) == 1
    assert await same(world)
    with pytest.raises(ErasureNotFound):
        await other.check(receipt.erasure.id)
    with pytest.raises(ErasureNotFound):
        await world.control.erasure(receipt.erasure.id, project_id=other.id)


async def test_a_snapshot_that_is_being_taken_is_waited_for(world, project):
    """It was read before the member left the board, and is written after."""
    await project.send("kept", USER)
    await world.drain()
    board = await project.board("kept")
    await standings.wish(world.pool, board.id, member="", seconds=60)

    async def waited_for():
        waiting = (
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted"
        )
        return await world.one(waiting) == (1,)

    async with world.pool.connection() as conn, conn.transaction():
        assert await standings.hold(conn)
        await standings.write(conn, [Taken(board.id, "", 1, [Entry(1, USER, 5)])])
        erasing = asyncio.create_task(project.erase())
        await eventually(waited_for)
    assert (await erasing).touched.snapshots == 1
    assert await traces(world.pool, world.redis, MARK) == []


async def test_who_is_written_while_the_erasure_goes_on_is_erased_too(world, project, scores, monkeypatch):
    await fill(project, scores)
    drained, rounds = erasures.namespace.drained, []

    async def written_in_between(redis, *, seconds):
        await drained(redis, seconds=seconds)
        rounds.append(1)
        if len(rounds) <= 2:  # once before the rows are renamed, once before the last look
            await project.send("sum", USER)

    monkeypatch.setattr(erasures.namespace, "drained", written_in_between)
    receipt = await project.erase()
    assert len(rounds) > 2
    assert receipt.erasure.state is ErasureState.DONE
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)


async def test_who_is_written_on_and_on_is_waited_for(world, project, scores, monkeypatch):
    await fill(project, scores)
    drained = erasures.namespace.drained

    async def written_in_between(redis, *, seconds):
        await drained(redis, seconds=seconds)
        await project.send("sum", USER)

    monkeypatch.setattr(erasures.namespace, "drained", written_in_between)
    asked = await project.request()
    async with working(world):
        assert await world.control.carry_out_erasures(limit=10) == 0
        monkeypatch.undo()
        waiting = await world.control.erasure(asked.id, project_id=project.id)
        assert waiting.erasure.state is ErasureState.PENDING
        assert "written again" in waiting.erasure.waits_for
        assert not (await project.check(asked.id)).verified
        await everything(world, "UPDATE erasures SET attempted_at = NULL RETURNING 1")
        assert await world.control.carry_out_erasures(limit=10) == 1
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)


async def test_who_comes_back_is_a_new_member(world, project, scores):
    await fill(project, scores)
    first = await project.erase()
    await project.send("sum", USER, value="i7")
    await world.drain()
    assert await world.redis.zscore(project.namespaces["sum"], (await order_of(world, project, "sum")) + USER) == 7
    checked = await project.check(first.erasure.id)
    assert (checked.intact, checked.subject, checked.verified) == (True, True, False)
    assert (checked.found.entries, checked.found.events) == (1, 1)
    await project.send("latest", USER)
    await project.reset("sum", 2)
    await project.reset("latest", 2)
    await world.drain()
    not_archived = await project.check(first.erasure.id)
    assert (not_archived.found.entries, not_archived.found.season_lines) == (0, 2)
    again = await project.erase()
    assert again.erasure.id != first.erasure.id
    assert (await project.check(first.erasure.id)).verified
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)


async def order_of(world, project, board):
    return (await world.admin.orders(project.namespaces[board]))[USER]


async def test_a_member_that_only_the_ledger_has_is_removed_there(world, project):
    """Redis lost its last writes and nobody has noticed yet: the board has no such member, its ledger has."""
    await project.send("best", USER, "a")
    await world.drain()
    await world.redis.zrem(project.namespaces["best"], USER)
    assert not await same(world)
    receipt = await project.erase()
    assert (receipt.touched.entries, receipt.touched.events) == (0, 2)
    assert await same(world)
    assert await traces(world.pool, world.redis, MARK) == []


async def test_a_board_that_is_being_restored_is_waited_for(world, project):
    await project.send("best", USER, "a")
    await world.drain()
    await world.admin.close(project.namespaces["best"])
    asked = await project.request()
    async with working(world):
        assert await world.control.carry_out_erasures(limit=10) == 0
    waiting = await world.control.erasure(asked.id, project_id=project.id)
    assert "'best' is being restored" in waiting.erasure.waits_for
    await rebuild.rebuild(world.pool, world.redis, await world.place("acme/default/best"))
    await everything(world, "UPDATE erasures SET attempted_at = NULL RETURNING 1")
    async with working(world):
        assert await world.control.carry_out_erasures(limit=10) == 1
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)


async def test_a_board_that_redis_lost_is_not_brought_back_with_the_member(world, project):
    await project.send("best", USER, "a")
    await world.drain()
    await world.redis.delete(keys.meta(project.namespaces["best"]), project.namespaces["best"])
    asked = await project.request()
    async with working(world):
        assert await world.control.carry_out_erasures(limit=10) == 0  # by its ledger the member is on it
    (report,) = (await rebuild.verify(world.pool, world.redis, only=[await world.place("acme/default/best")])).boards
    assert report.verdict is Verdict.MISSING
    await rebuild.rebuild(world.pool, world.redis, await world.place("acme/default/best"))
    await everything(world, "UPDATE erasures SET attempted_at = NULL RETURNING 1")
    async with working(world):
        assert await world.control.carry_out_erasures(limit=10) == 1
    assert (await world.control.erasure(asked.id, project_id=None)).erasure.state is ErasureState.DONE
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)


async def test_only_a_season_with_the_member_is_waited_for_while_it_takes_late_updates(world, project, monkeypatch):
    monkeypatch.setattr(erasures, "SEASON_SECONDS", 1.0)
    world.now = datetime.now(UTC)  # Redis's clock, which decides on late updates
    for key in ("long", "nobody"):
        project.namespaces[key] = (await world.apply(leaderboard(key, reset={"graceSeconds": 3600}))).namespace
    await world.update(project.namespaces["long"], ("a", "i1"))
    await project.reset("long", 1)
    await project.reset("nobody", 1)
    assert (await project.erase()).erasure.state is ErasureState.DONE  # the member is in neither
    await world.update(project.namespaces["long"], (USER, "1:i5"))
    waits = await project.request()
    async with working(world):
        assert await world.control.carry_out_erasures(limit=10) == 0
        found = (await world.control.erasure(waits.id, project_id=project.id)).erasure
        assert "1 seasons that are over are not archived yet" in found.waits_for
        await project.reset("long", 2)  # the next reset ends the grace
        await everything(world, "UPDATE erasures SET attempted_at = NULL RETURNING 1")
        monkeypatch.undo()
        assert await world.control.carry_out_erasures(limit=10) == 1
    lines = await seasons.top(world.pool, (await project.board("long")).id, 1, after=0, limit=10)
    assert [line.score for line in lines] == [5, 1]
    assert USER not in [line.member for line in lines]


async def test_without_a_worker_for_the_outbox_it_waits(world, project):
    await project.send("sum", USER)
    asked = await project.request()
    control = world.another_control(drain_seconds=0.2)
    assert await control.carry_out_erasures(limit=10) == 0
    assert "outbox" in (await control.erasure(asked.id, project_id=None)).erasure.waits_for


async def test_asked_for_twice_it_is_one(world, project):
    await project.send("sum", USER)
    first, second = await asyncio.gather(project.request(), project.request())
    assert first.id == second.id
    assert await world.one("SELECT count(*) FROM erasures") == (1,)


async def test_several_workers_do_it_once(world, project, scores):
    await fill(project, scores)
    users = [USER, "a", "b"]
    for user in users:
        await project.request(user)
    controls = [world.another_control() for _ in range(3)]

    async def work(control):
        done = 0
        while await world.one("SELECT count(*) FROM erasures WHERE state = 'pending'") != (0,):
            done += await control.carry_out_erasures(limit=10)
            await asyncio.sleep(0.01)
        return done

    async with working(world):
        assert sum(await asyncio.gather(*map(work, controls))) == len(users)
    assert await traces(world.pool, world.redis, MARK) == []
    assert await same(world)


SPOILT = {
    "another member": "UPDATE erasures SET digest = sha256('x')",
    "another moment": "UPDATE erasures SET finished_at = finished_at + interval '1 second'",
    "another project's": "UPDATE erasures SET requested_by = 'somebody'",
    "fewer events": "UPDATE erasure_boards SET events = events - 1",
    "another board": "UPDATE erasure_boards SET leaderboard = 'x'",
    "a board less": "DELETE FROM erasure_boards WHERE leaderboard = 'sum'",
    "another mac": "UPDATE erasures SET mac = sha256('x')",
}


async def test_a_spoilt_receipt_does_not_verify(world, project, scores):
    await fill(project, scores)
    receipt = await project.erase()
    assert (await project.check(receipt.erasure.id)).verified
    for what, statement in SPOILT.items():
        async with world.pool.connection() as conn, conn.transaction(force_rollback=True):
            await conn.execute(statement)
            tools = world.control._tools
            found = await erasures.erasures.get(conn, receipt.erasure.id)
            lines = await erasures.erasures.lines(conn, receipt.erasure.id)
            assert not erasures.sealed(tools.pepper, found, lines), what


async def test_a_receipt_is_of_nobody_else(world, project):
    receipt = await project.erase()
    checked = await project.check(receipt.erasure.id, "somebody else")
    assert (checked.intact, checked.subject, checked.verified) == (True, False, False)
