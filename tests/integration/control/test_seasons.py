"""Resets and archives on real stores, and whatever a crash leaves half done."""

import asyncio
import hashlib
import random
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from leaderboard.control import namespace, rebuild
from leaderboard.control.errors import BoardNotFound, SeasonOver
from leaderboard.control.outcome import BoardRequest
from leaderboard.store.postgres import boards, seasons
from leaderboard.store.postgres.seasons import Final, SeasonState
from leaderboard.store.redis import keys
from leaderboard.store.redis.boards import BoardAdmin
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.worker import seasons as worker
from support.world import eventually, leaderboard, tenant, turn_of_seasons


@pytest.fixture
async def board(world):
    """A board on which a, b and c are, c best; its outcome."""
    await world.apply(tenant())
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"), ("b", "i2"), ("c", "i3"))
    return made


async def reset(world, season, key="global"):
    return await world.control.reset_board(**await world.project(), key=key, season=season)


async def turn(world):
    """One turn of the worker's, a minute later: whatever was begun counts as cut short."""
    async with world.worker():
        return (await turn_of_seasons(world, now=world.now + timedelta(minutes=1))).archived


async def final(world, board, season):
    return await seasons.top(world.pool, board.board.id, season, after=0, limit=1000)


async def entries(world, board):
    return {
        user: score
        for user, (score, _) in (await world.admin.entries(board.namespace, board.board.spec.tie_policy)).items()
    }


async def names(world):
    return {name.decode() for name in await world.redis.keys("*global*")}


FIRST = [Final(1, 1, "c", 3.0), Final(2, 2, "b", 2.0), Final(3, 3, "a", 1.0)]


async def test_a_reset_empties_the_board_and_the_worker_archives_what_it_was(world, board):
    after = await reset(world, 1)
    assert (after.season, after.incarnation) == (2, board.board.incarnation + 1)
    assert await entries(world, board) == {}
    await world.update(board.namespace, ("a", "i5"))
    assert await turn(world) == 1
    assert await final(world, board, 1) == FIRST
    (over,) = await seasons.page(world.pool, board.board.id, before=None, limit=10)
    assert (over.number, over.state, over.entries) == (1, SeasonState.ARCHIVED, 3)
    assert await entries(world, board) == {"a": 5.0}
    assert await names(world) == {board.namespace, keys.meta(board.namespace), keys.order(board.namespace)}
    report = await rebuild.verify(world.pool, world.redis)
    assert (report.same, report.differences) == (True, 0)


async def test_the_checksum_is_that_of_the_documented_text(world, board):
    await reset(world, 1)
    await turn(world)
    over = await seasons.get(world.pool, board.board.id, 1)
    assert over.checksum == hashlib.sha256(b"1 1 3.0 c\n2 2 2.0 b\n3 3 1.0 a\n").digest()


async def test_the_same_reset_twice_ends_one_season(world, board):
    await reset(world, 1)
    with pytest.raises(SeasonOver, match="is in season 2, not 1"):
        await reset(world, 1)
    with pytest.raises(SeasonOver):
        await reset(world, 7)
    with pytest.raises(BoardNotFound):
        await reset(world, 1, key="other")


async def test_of_many_resets_at_once_one_is_done(world, board):
    done = await asyncio.gather(*(reset(world, 1) for _ in range(8)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["Board"] + ["SeasonOver"] * 7
    assert (await world.place()).board.season == 2


@pytest.mark.parametrize("redis_did_it", [False, True])
@pytest.mark.parametrize("lost", [False, True])
async def test_a_reset_that_was_cut_short_is_finished_by_the_worker(world, board, redis_did_it, lost):
    if lost:
        await world.drain()
    event_id = uuid4()
    await seasons.begin(world.pool, board.board.id, 1, event_id=event_id, now=world.now)
    if redis_did_it:
        assert await world.admin.reset(
            board.namespace, season=1, incarnation=board.board.incarnation + 1, event_id=event_id.hex
        )
        await world.update(board.namespace, ("a", "i7"))
    if lost:
        await world.drain()
        await world.redis.flushall()
        async with world.worker():
            await rebuild.rebuild(world.pool, world.redis, await world.place())
    await turn(world)  # finishes the reset
    await turn(world)  # and archives
    assert (await world.place()).board.season == 2
    assert await final(world, board, 1) == FIRST
    assert await entries(world, board) == ({"a": 7.0} if redis_did_it else {})
    meta = await world.admin.read_meta(board.namespace)
    assert (meta.season, meta.incarnation) == (2, (await world.place()).board.incarnation)
    assert (await rebuild.verify(world.pool, world.redis)).same


async def test_a_reset_that_was_cut_short_is_finished_although_its_season_is_to_take_late_updates(world, board):
    late_until = world.now + timedelta(hours=1)
    await seasons.begin(world.pool, board.board.id, 1, event_id=uuid4(), now=world.now, late_until=late_until)
    assert await turn(world) == 0
    assert (await world.place()).board.season == 2
    over = await seasons.get(world.pool, board.board.id, 1)
    assert (over.state, over.late_until) == (SeasonState.ENDED, late_until)


async def test_a_reset_that_was_cut_short_is_finished_by_the_next_caller(world, board):
    event_id = uuid4()
    await seasons.begin(world.pool, board.board.id, 1, event_id=event_id, now=world.now)
    await world.admin.reset(board.namespace, season=1, incarnation=board.board.incarnation + 1, event_id=event_id.hex)
    assert (await reset(world, 1)).season == 2
    await turn(world)
    assert await final(world, board, 1) == FIRST
    assert await world.one("SELECT count(*) FROM score_events WHERE kind = 'x'") == (1,)


async def test_one_that_somebody_is_at_is_left_alone(world, board):
    await seasons.begin(world.pool, board.board.id, 1, event_id=uuid4(), now=world.now)
    await turn_of_seasons(world, now=world.now)
    assert (await world.place()).board.season == 1
    assert await entries(world, board) == {"a": 1.0, "b": 2.0, "c": 3.0}


@pytest.mark.parametrize("tie", ["FirstToReach", "UserId", "Shared"])
@pytest.mark.parametrize("order", ["Descending", "Ascending"])
async def test_what_redis_lost_is_archived_from_the_ledger_just_the_same(world, tie, order):
    await world.apply(tenant())
    made = await world.apply(leaderboard(tiePolicy=tie, sortOrder=order, scoreUpdate="Latest", maxEntries=20))
    twin = await world.apply(leaderboard("twin", tiePolicy=tie, sortOrder=order, scoreUpdate="Latest", maxEntries=20))
    for season in (1, 2):
        chance = random.Random(season)
        for _ in range(150):
            user, value = f"ü{chance.randint(1, 40)}", f"s{chance.choice([0.1, 2, 2, 3, -1e300])}"
            for each in (made, twin):
                if value == "s-1e+300":
                    await world.remove(each.namespace, user)
                else:
                    await world.update(each.namespace, (user, value))
        for key in ("global", "twin"):
            await reset(world, season, key=key)
    for season in (1, 2):
        await world.redis.delete(keys.season(made.namespace, season))
    assert await turn(world) == 4
    for season in (1, 2):
        lines = await final(world, made, season)
        assert lines == await final(world, twin, season)
        assert 10 < len(lines) <= 20


async def test_what_cannot_be_archived_yet_is_told_and_holds_up_nobody(world, board, monkeypatch):
    monkeypatch.setattr(worker, "DRAIN_SECONDS", 0.1)
    other = await world.apply(leaderboard("other"))
    await world.update(other.namespace, ("z", "i1"))
    await reset(world, 1, key="other")
    await world.drain()
    await reset(world, 1)  # and the ledger does not know of it yet
    late = await turn_of_seasons(world, now=world.now + timedelta(seconds=90))
    assert (late.archived, late.lag) == (1, 90.0)
    assert await final(world, other, 1) == [Final(1, 1, "z", 1.0)]
    assert await turn(world) == 1
    assert await final(world, board, 1) == FIRST


async def test_what_cannot_be_archived_does_not_keep_the_turn(world, board, monkeypatch):
    monkeypatch.setattr(worker, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(worker, "MOST", 1)
    other = await world.apply(leaderboard("other"))
    await reset(world, 1, key="other")
    await world.drain()
    await reset(world, 1)  # and the ledger does not know of it yet
    archive = worker.Archive(world.pool, world.redis)
    assert await archive.turn(now=world.now) == (0, 0.0, True)
    assert await archive.turn(now=world.now) == (1, 0.0, True)
    assert await final(world, other, 1) == []
    assert await archive.turn(now=world.now) == (0, 0.0, False)
    async with world.worker():
        assert (await archive.turn(now=world.now)).archived == 1  # from the first again
    assert await final(world, board, 1) == FIRST


async def test_nor_does_one_that_fails_each_time(world, board):
    other = await world.apply(leaderboard("other"))
    for key in ("global", "other"):
        await reset(world, 1, key=key)
    await world.redis.delete(keys.season(board.namespace, 1))
    await world.redis.set(keys.season(board.namespace, 1), "not ours")
    archive = worker.Archive(world.pool, world.redis)
    async with world.worker():
        with pytest.raises(RedisUnavailable, match=f"season 1 of board {board.board.id}: .*WRONGTYPE"):
            await archive.turn(now=world.now)
        assert (await archive.turn(now=world.now)).archived == 1
    assert (await seasons.get(world.pool, other.board.id, 1)).state is SeasonState.ARCHIVED


async def test_a_board_that_somebody_works_on_holds_up_no_others_schedule(world):
    world.now = datetime(2026, 11, 30, 8, 59, 30, tzinfo=UTC)
    busy = await scheduled(world)
    await world.apply(leaderboard("other", reset={"schedule": "0 9 * * *"}))
    world.pass_time(minutes=1)
    async with namespace.lock(world.pool, busy.board.id):  # as a rebuild does
        await worker.reset(world.pool, world.redis, now=world.now)
        assert (await world.place("acme/default/other")).board.season == 2
        assert (await world.place()).board.season == 1
    await worker.reset(world.pool, world.redis, now=world.now)
    assert (await world.place()).board.season == 2


async def test_a_board_with_something_else_under_its_names_holds_up_no_others_schedule(world):
    world.now = datetime(2026, 11, 30, 8, 59, 30, tzinfo=UTC)
    broken = await scheduled(world)
    await world.apply(leaderboard("other", reset={"schedule": "0 9 * * *"}))
    await world.redis.hset(keys.meta(broken.namespace), "seq", "many")
    world.pass_time(minutes=1)
    await worker.reset(world.pool, world.redis, now=world.now)
    assert (await world.place("acme/default/other")).board.season == 2
    assert await seasons.get(world.pool, broken.board.id, 1) is None
    async with world.worker():
        await world.apply(leaderboard(reset={"schedule": "0 9 * * *"}))  # puts it right, as a sweep would
    await worker.reset(world.pool, world.redis, now=world.now)
    assert (await world.place()).board.season == 2


async def test_a_board_that_redis_lost_holds_up_no_others_schedule(world):
    world.now = datetime(2026, 11, 30, 8, 59, 30, tzinfo=UTC)
    lost = await scheduled(world)
    other = await world.apply(leaderboard("other", reset={"schedule": "0 9 * * *"}))
    await world.update(lost.namespace, ("a", "i1"))
    await world.drain()
    await world.redis.delete(lost.namespace, keys.meta(lost.namespace), keys.order(lost.namespace))
    world.pass_time(minutes=1)
    await turn(world)
    assert (await world.place("acme/default/other")).board.season == 2
    assert (await world.place()).board.season == 1
    async with world.worker():
        await rebuild.rebuild(world.pool, world.redis, await world.place())
    await turn(world)
    assert (await world.place()).board.season == 2
    assert await final(world, lost, 1) == [Final(1, 1, "a", 1.0)]
    assert other.board.season == 1


async def dump(world, board):
    """What Redis has of a board, as a snapshot on disk would."""
    names = [board.namespace, keys.meta(board.namespace), keys.order(board.namespace)]
    return {name: await world.redis.dump(name) for name in names}


async def go_back(world, dumped):
    """Redis comes back as it was, without what it was told since and the ledger did not have."""
    await world.redis.flushall()
    for name, value in dumped.items():
        await world.redis.restore(name, 0, value)


async def test_a_reset_that_redis_lost_before_the_ledger_had_it_is_done_again(world, board):
    await world.drain()
    before = await dump(world, board)
    await reset(world, 1)
    await go_back(world, before)
    assert await turn(world) == 0  # the reset, again
    assert await entries(world, board) == {}
    assert await turn(world) == 1
    assert await final(world, board, 1) == FIRST
    assert (await world.place()).board.season == 2
    assert (await rebuild.verify(world.pool, world.redis)).same


async def test_a_redis_that_went_back_before_the_reset_is_restored_after_it(world, board):
    await world.drain()
    before = await dump(world, board)
    await reset(world, 1)
    await world.update(board.namespace, ("a", "i5"))
    await world.drain()
    await go_back(world, before)
    assert await turn(world) == 1  # from the ledger
    assert await final(world, board, 1) == FIRST
    async with world.worker():
        await world.apply(leaderboard())  # as a sweep would look at it
    assert await entries(world, board) == {"a": 5.0}
    assert (await world.admin.read_meta(board.namespace)).season == 2


async def test_a_redis_that_went_back_is_reset_by_its_schedule_once_it_was_restored(world):
    world.now = datetime(2026, 11, 30, 8, 59, 30, tzinfo=UTC)
    board = await scheduled(world)
    await world.update(board.namespace, ("a", "i1"))
    await world.drain()
    before = await dump(world, board)
    world.pass_time(minutes=1)
    await worker.reset(world.pool, world.redis, now=world.now)
    await world.update(board.namespace, ("b", "i5"))
    await world.drain()
    await go_back(world, before)
    world.pass_time(days=1)
    for _ in range(2):
        await turn(world)
    assert (await world.place()).board.season == 2
    assert await entries(world, board) == {"a": 1.0}
    async with world.worker():
        await rebuild.rebuild(world.pool, world.redis, await world.place())
    for _ in range(2):
        await turn(world)
    assert (await world.place()).board.season == 3
    assert await final(world, board, 1) == [Final(1, 1, "a", 1.0)]
    assert await final(world, board, 2) == [Final(1, 1, "b", 5.0)]
    assert await entries(world, board) == {}


@pytest.mark.parametrize("restoring", [False, True])
async def test_a_reset_is_not_finished_on_a_board_that_was_lost_since(world, board, restoring):
    event_id = uuid4()
    await seasons.begin(world.pool, board.board.id, 1, event_id=event_id, now=world.now)
    await world.admin.reset(board.namespace, season=1, incarnation=board.board.incarnation + 1, event_id=event_id.hex)
    await world.update(board.namespace, ("a", "i7"))
    await world.drain()
    await world.redis.flushall()
    if restoring:
        await world.admin.close(board.namespace)
    await turn(world)
    assert (await world.place()).board.season == 1
    assert (await rebuild.missing(world.pool, world.redis)) != []
    async with world.worker():
        await rebuild.rebuild(world.pool, world.redis, await world.place())
    for _ in range(2):
        await turn(world)
    assert (await world.place()).board.season == 2
    assert await entries(world, board) == {"a": 7.0}
    assert await final(world, board, 1) == FIRST
    assert (await rebuild.verify(world.pool, world.redis)).same


async def test_a_board_restored_without_its_reset_says_so_and_keeps_everything(world, board, caplog):
    await world.drain()
    before = await dump(world, board)
    await reset(world, 1)
    await go_back(world, before)
    async with world.worker():
        await world.apply(leaderboard())  # a sweep was faster
    assert await turn(world) == 0
    assert "its entries are those of both seasons" in caplog.text
    assert await entries(world, board) == {"a": 1.0, "b": 2.0, "c": 3.0}


async def test_a_season_in_which_nobody_scored_is_archived_empty(world):
    await world.apply(tenant())
    made = await world.apply(leaderboard())
    await reset(world, 1)
    assert await turn(world) == 1
    over = await seasons.get(world.pool, made.board.id, 1)
    assert (over.state, over.entries) == (SeasonState.ARCHIVED, 0)


async def test_an_archive_that_was_cut_short_between_the_stores_is_finished(world, board):
    await reset(world, 1)
    await turn(world)
    # As if the worker had died after the copy was committed.
    await world.redis.zadd(keys.season(board.namespace, 1), {"left over": 1})
    await seasons.move(world.pool, board.board.id, 1, SeasonState.COPIED)
    assert await turn(world) == 0  # nothing was copied again
    assert (await seasons.get(world.pool, board.board.id, 1)).state is SeasonState.ARCHIVED
    assert await final(world, board, 1) == FIRST
    assert not await world.admin.has_season(board.namespace, 1)


async def test_two_workers_archive_a_season_once(world, board):
    await reset(world, 1)
    async with world.worker():
        done = await asyncio.gather(*(turn_of_seasons(world, now=world.now) for _ in range(4)))
    assert sum(turn.archived for turn in done) == 1
    assert await final(world, board, 1) == FIRST


async def test_a_deleted_board_leaves_nothing_of_its_seasons(world, board):
    await reset(world, 1)
    await turn(world)
    await world.update(board.namespace, ("a", "i1"))
    await reset(world, 2)
    await world.control.delete_board(**await world.project(), key="global")
    assert await names(world) == set()
    assert await world.one("SELECT (SELECT count(*) FROM seasons), (SELECT count(*) FROM season_standings)") == (0, 0)
    again = await world.apply(leaderboard())
    assert again.board.season == 1


async def test_lines_that_are_written_while_the_board_is_deleted_go_with_it(world, board):
    async def lines():
        for line in FIRST:
            yield line

    await reset(world, 1)
    async with world.pool.connection() as conn:
        async with conn.transaction():
            await seasons.write(conn, board.board.id, 1, lines())
            deletion = asyncio.create_task(seasons.forget(world.pool, board.board.id))

            async def waits():
                return await world.one("SELECT count(*) FROM pg_locks WHERE NOT granted") != (0,)

            await eventually(waits)
        await deletion
    assert await world.one("SELECT (SELECT count(*) FROM seasons), (SELECT count(*) FROM season_standings)") == (0, 0)


async def test_a_board_that_is_not_in_redis_cannot_be_reset_and_nothing_is_lost(world, board):
    await world.drain()
    await world.redis.flushall()
    with pytest.raises(RedisUnavailable, match="cannot be reset"):
        await reset(world, 1)
    async with world.worker():
        await rebuild.rebuild(world.pool, world.redis, await world.place())
    assert (await reset(world, 1)).season == 2
    await turn(world)
    assert await final(world, board, 1) == FIRST


async def test_a_rebuilt_board_is_in_its_season_with_its_entries(world, board):
    await reset(world, 1)
    await world.update(board.namespace, ("z", "i9"))
    await world.drain()
    await world.redis.flushall()
    async with world.worker():
        await rebuild.rebuild(world.pool, world.redis, await world.place())
    assert await entries(world, board) == {"z": 9.0}
    assert (await world.admin.read_meta(board.namespace)).season == 2
    assert await turn(world) == 1
    assert await final(world, board, 1) == FIRST


async def test_an_update_for_one_season_counts_in_no_other(world, board):
    assert await world.update(board.namespace, ("a", "1:i1")) == [b"A 2 3 1 3"]  # b had 2 before
    await reset(world, 1)
    assert await world.update(board.namespace, ("a", "1:i1"), ("a", "2:i1"), ("a", "3:i1"), ("a", "2:s1")) == [
        b"E season-over",
        b"A 1 1 - -",
        b"E season-over",
        b"E wrong-field s",
    ]


async def test_boards_from_before_seasons_are_in_the_first(world, board):
    await world.redis.hdel(keys.meta(board.namespace), "season")
    assert await world.update(board.namespace, ("a", "1:i1")) == [b"A 2 3 1 3"]  # b had 2 before
    assert (await reset(world, 1)).season == 2


# Schedules


async def scheduled(world, **reset):
    await world.apply(tenant())
    return await world.apply(leaderboard(reset={"schedule": "0 9 * * *", **reset}))


async def test_a_schedule_resets_and_what_was_missed_is_made_up_for_once(world):
    world.now = datetime(2026, 11, 30, 8, 59, 30, tzinfo=UTC)
    made = await scheduled(world)
    assert made.board.next_reset == datetime(2026, 11, 30, 9, tzinfo=UTC)
    await world.update(made.namespace, ("a", "i1"))
    async with world.worker():
        await turn_of_seasons(world, now=world.now)
        assert (await world.place()).board.season == 1
        # Nobody was there for three days.
        world.pass_time(days=3)
        for _ in range(3):
            await turn_of_seasons(world, now=world.now)
    board = (await world.place()).board
    assert (board.season, board.next_reset) == (2, datetime(2026, 12, 3, 9, tzinfo=UTC))
    assert await final(world, made, 1) == [Final(1, 1, "a", 1.0)]


async def test_workers_at_once_reset_once(world):
    world.now = datetime(2026, 11, 30, 8, 59, 30, tzinfo=UTC)
    await scheduled(world)
    world.pass_time(minutes=1)
    async with world.worker():
        await asyncio.gather(*(turn_of_seasons(world, now=world.now) for _ in range(4)))
    assert (await world.place()).board.season == 2


async def test_another_document_with_the_same_schedule_does_not_swallow_a_reset_that_is_due(world):
    world.now = datetime(2026, 11, 30, 8, 59, 30, tzinfo=UTC)
    made = await scheduled(world)
    world.pass_time(minutes=1)
    await world.apply(leaderboard(reset={"schedule": "0 9 * * *"}, maxEntries=5))
    await world.apply(leaderboard(reset={"schedule": "0 9 * * *", "keepSeasons": 3, "graceSeconds": 5}, maxEntries=5))
    assert await boards.due(world.pool, now=world.now, limit=10) == [made.board.id]
    # Another schedule starts anew, and none has no next time.
    after = await world.apply(leaderboard(reset={"schedule": "0 10 * * *", "timeZone": "Asia/Tokyo"}, maxEntries=5))
    assert after.board.next_reset == datetime(2026, 12, 1, 1, tzinfo=UTC)
    assert after.changes
    assert (await world.apply(leaderboard(maxEntries=5))).board.next_reset is None


async def test_a_schedule_that_is_taken_away_during_a_reset_stays_away(world, monkeypatch):
    world.now = datetime(2026, 11, 30, 8, 59, 30, tzinfo=UTC)
    await scheduled(world)
    world.pass_time(minutes=1)
    real = BoardAdmin.reset

    async def meanwhile(*args, **kwargs):
        # What applying a document does to the row, before it waits for the board's lock.
        async with world.pool.connection() as conn:
            await conn.execute("UPDATE leaderboards SET reset = NULL, next_reset = NULL")
        return await real(*args, **kwargs)

    monkeypatch.setattr(BoardAdmin, "reset", meanwhile)
    await worker.reset(world.pool, world.redis, now=world.now)
    board = (await world.place()).board
    assert (board.season, board.next_reset, board.spec.reset) == (2, None, None)


async def test_a_reset_by_hand_leaves_the_schedule_as_it_is(world):
    world.now = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
    await scheduled(world)
    assert (await reset(world, 1)).next_reset == datetime(2026, 11, 30, 9, tzinfo=UTC)


async def test_only_the_newest_seasons_are_kept(world):
    made = await scheduled(world, keepSeasons=2)
    for season in range(1, 6):
        await world.update(made.namespace, ("a", f"i{season}"))
        await reset(world, season)
        await turn(world)
    kept = await seasons.page(world.pool, made.board.id, before=None, limit=10)
    assert [over.number for over in kept] == [5, 4]
    assert await world.one("SELECT array_agg(season ORDER BY season) FROM season_standings") == ([4, 5],)


async def test_boards_made_many_at_once_have_their_schedules(world):
    await world.apply(tenant())
    documents = [leaderboard(f"b{n}", reset={"schedule": "0 9 * * *"} if n else None) for n in range(3)]
    requests = [BoardRequest(document=document, tenant_slug="acme", owner="uid") for document in documents]
    outcomes = await world.control.reconcile_boards(requests, positions=False)
    assert [outcome.board.next_reset is None for outcome in outcomes] == [True, False, False]
    rows = [(await world.place(f"acme/default/b{n}")).board for n in range(3)]
    assert [row.next_reset for row in rows] == [outcome.board.next_reset for outcome in outcomes]
