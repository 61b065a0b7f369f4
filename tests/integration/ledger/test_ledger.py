"""The ledger against a real Postgres: exactly once, the fold, partitions and checkpoints."""

import asyncio
import math
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from leaderboard.domain.names import LeaderboardId
from leaderboard.store.postgres import ledger
from leaderboard.store.postgres.pool import DatabaseUnavailable, open_pool
from leaderboard.store.redis.events import EventKind, ScoreEvent

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def pool(database):
    pool = await open_pool(database, size=8, timeout=10)
    yield pool
    await pool.close()


def event(number, user="", score=None, *, kind="u", board=1, incarnation=1, seq=None, time=DAY, order=""):
    return ScoreEvent(
        id=UUID(int=number),
        time=time,
        kind=EventKind(kind),
        leaderboard_id=LeaderboardId(board),
        incarnation=incarnation,
        seq=number if seq is None else seq,
        submitted=score,
        score=score,
        order=order,
        user=user,
    )


async def state(pool, board=1):
    return {row.member: (row.score, row.order_prefix) async for row in ledger.latest(pool, LeaderboardId(board))}


async def one(pool, query, *args):
    async with pool.connection() as conn:
        return await (await conn.execute(query, args)).fetchone()


async def make_board(pool, *, project="default"):
    """Return (project id, board id) of a new board of a new tenant."""
    async with pool.connection() as conn:
        tenant = await conn.execute(
            "INSERT INTO tenants (slug, plan, deletion_policy, spec_hash, created_at, updated_at)"
            " VALUES ('t', 'free', 'Retain', '', now(), now()) RETURNING id"
        )
        made = await conn.execute(
            "INSERT INTO projects (tenant_id, name) VALUES (%s, %s) RETURNING id",
            (*(await tenant.fetchone()), project),
        )
        (project_id,) = await made.fetchone()
        board = await conn.execute(
            "INSERT INTO leaderboards (project_id, key, sort_order, score_update, tie_policy, max_entries, public_read,"
            " suspended, deletion_policy, spec_hash, created_at, updated_at) VALUES"
            " (%s, 'b', 'descending', 'sum', 'user_id', 0, false, false, 'Retain', '', now(), now()) RETURNING id",
            (project_id,),
        )
        return project_id, (await board.fetchone())[0]


async def test_held_updates_are_none_of_the_ledgers_and_told_once_by_their_bound(pool):
    first = [event(n, f"u{n}", 1.0, kind="h", order=f"3:{bound}") for n, bound in ((1, "max_gain"), (2, "min_score"))]
    more = [*first, event(3, "u3", 1.0), event(4, "u4", 7.5, kind="h", order="3:max_gain")]
    told = Counter()
    assert await ledger.append(pool, first, quarantined=told) == 0
    assert told == {"max_gain": 1, "min_score": 1}
    assert await ledger.append(pool, [*more, more[-1]], quarantined=told) == 1
    assert told == {"max_gain": 2, "min_score": 1}
    assert await ledger.append(pool, more) == 0
    assert await one(
        pool, "SELECT season, member, submitted, reason, held_at FROM held_updates WHERE member = 'u4'"
    ) == (
        *(3, "u4", 7.5, "max_gain"),
        DAY,
    )
    assert await one(pool, "SELECT count(*) FROM held_updates") == (3,)


async def test_held_updates_that_cannot_be_stored_are_not_told(pool):
    told = Counter()
    with pytest.raises(psycopg.DataError):
        await ledger.append(
            pool,
            [event(1, "u1", 1.0, kind="h", order="3:max_gain"), event(2, "a", 1.0, seq=2**70)],
            quarantined=told,
        )
    assert told == {}


async def test_a_batch_written_twice_counts_once(pool):
    project, board = await make_board(pool)
    batch = [event(1, "a", 1.0, board=board), event(2, "a", 2.0, board=board), event(3, "a", kind="r", board=board)]
    assert await ledger.append(pool, batch) == 3
    assert await ledger.append(pool, [*batch, event(4, "b", 5.0, board=board)]) == 1
    assert await one(pool, "SELECT count(*) FROM score_events") == (4,)
    assert await one(pool, "SELECT day, score_updates FROM usage_rollups WHERE project_id = %s", project) == (
        date(2026, 3, 1),
        3,  # the removal is no update
    )


async def test_one_event_twice_in_a_batch_counts_once(pool):
    project, board = await make_board(pool)
    twin = event(1, "a", 1.0, board=board)
    assert await ledger.append(pool, [twin, twin]) == 1
    assert await one(pool, "SELECT score_updates FROM usage_rollups WHERE project_id = %s", project) == (1,)


async def test_concurrent_writers_of_the_same_batches_count_once(pool):
    project, board = await make_board(pool)
    days = [DAY + timedelta(days=n % 3) for n in range(300)]
    batches = [
        [event(n, f"u{n % 7}", 1.0, board=board, time=days[n]) for n in range(start, start + 100)]
        for start in (0, 50, 100, 150, 200)
    ]
    inserted = await asyncio.gather(*(ledger.append(pool, batch) for batch in [*batches, *reversed(batches)]))
    assert sum(inserted) == 300
    for table in ("usage_rollups", "usage_hours"):
        assert await one(pool, f"SELECT sum(score_updates) FROM {table} WHERE project_id = %s", project) == (300,)


async def test_an_unknown_board_does_not_stop_the_others(pool):
    _, board = await make_board(pool)
    assert await ledger.append(pool, [event(1, "a", 1.0, board=999_999), event(2, "a", 1.0, board=board)]) == 2


async def test_an_event_belongs_to_its_utc_day(pool):
    project, board = await make_board(pool)
    late = datetime(2026, 3, 1, 23, 59, 59, 999000, tzinfo=UTC)
    await ledger.append(
        pool,
        [
            event(1, "a", 1.0, board=board, time=late),
            event(2, "a", 2.0, board=board, time=late + timedelta(milliseconds=1)),
        ],
    )
    assert await ledger.partitions(pool) == [date(2026, 3, 1), date(2026, 3, 2)]
    assert await one(pool, "SELECT count(*) FROM usage_rollups WHERE project_id = %s", project) == (2,)
    hours = "SELECT count(*), sum(score_updates)::int FROM usage_hours WHERE project_id = %s AND hour = %s"
    assert await one(pool, hours, project, datetime(2026, 3, 1, 23, tzinfo=UTC)) == (1, 1)
    assert await one(pool, hours, project, datetime(2026, 3, 2, 0, tzinfo=UTC)) == (1, 1)


async def test_scores_come_back_bit_for_bit(pool):
    scores = [0.1 + 0.2, 5e-324, -math.pi * 1e300, 2.0**53, 1e22, 0.0, -1.5]
    await ledger.append(pool, [event(n, f"u{n}", score, order=f"{n:012x}") for n, score in enumerate(scores, 1)])
    assert await state(pool) == {f"u{n}": (score, f"{n:012x}") for n, score in enumerate(scores, 1)}


async def test_the_newest_event_wins_by_incarnation_then_sequence(pool):
    await ledger.append(
        pool,
        [
            event(1, "a", 1.0, seq=9),
            event(2, "a", 2.0, seq=10),
            event(3, "a", 3.0, seq=2, incarnation=2, time=DAY - timedelta(hours=1)),  # Redis's clock went back
            event(4, "b", 7.0, seq=8),
            event(5, "b", kind="t", seq=11),
        ],
    )
    assert await state(pool) == {"a": (3.0, "")}
    assert await ledger.max_position(pool, LeaderboardId(1)) == (2, 2)
    assert await ledger.max_position(pool, LeaderboardId(2)) == (0, 0)


@pytest.mark.parametrize("kind", ["x", "d"])
async def test_nothing_before_a_reset_or_deletion_counts(pool, kind):
    await ledger.append(pool, [event(1, "a", 1.0), event(2, "b", 2.0), event(3, kind=kind), event(4, "b", 5.0)])
    assert await state(pool) == {"b": (5.0, "")}


async def test_members_come_in_the_order_of_their_bytes_through_a_server_side_cursor(pool, monkeypatch):
    monkeypatch.setattr(ledger, "FETCH_ROWS", 7)
    users = ["Z", "a", "é", "日本", "a-", "\U0001f600", *(f"u{n}" for n in range(50))]
    await ledger.append(pool, [event(n, user, 1.0) for n, user in enumerate(users, 1)])
    assert [row.member async for row in ledger.latest(pool, LeaderboardId(1))] == sorted(users, key=str.encode)


async def test_dropping_partitions_changes_no_boards_state(pool):
    chance = random.Random(7)
    history, number = [], 0
    for day in range(6):
        for _ in range(300):
            number += 1
            board, user = chance.randint(1, 3), f"u{chance.randint(1, 40)}"
            kind = chance.choices("urtx", (90, 6, 6, 0.3))[0]
            # Sometimes the clock runs back over midnight: the order of days is not the order of events.
            time = DAY + timedelta(days=day - (chance.random() < 0.1))
            score = chance.uniform(-9, 9) if kind == "u" else None
            history.append(event(number, "" if kind == "x" else user, score, kind=kind, board=board, time=time))
    await ledger.append(pool, history)
    before = [(await state(pool, board), await ledger.max_position(pool, LeaderboardId(board))) for board in (1, 2, 3)]
    assert all(members for members, _ in before)
    for day in range(7):
        await ledger.drop_partitions_before(pool, (DAY + timedelta(days=day)).date())
        after = [
            (await state(pool, board), await ledger.max_position(pool, LeaderboardId(board))) for board in (1, 2, 3)
        ]
        assert after == before
    assert await ledger.partitions(pool) == []
    assert await one(pool, "SELECT count(*) FROM score_checkpoints WHERE score IS NULL") == (0,)
    (left,) = await one(pool, "SELECT count(*) FROM score_checkpoints")
    assert left == sum(len(members) for members, _ in before)


async def test_drop_says_what_it_dropped_and_keeps_the_rest(pool):
    await ledger.append(pool, [event(n, "a", float(n), time=DAY + timedelta(days=n)) for n in range(1, 4)])
    assert await ledger.drop_partitions_before(pool, date(2026, 3, 3)) == ["score_events_20260302"]
    assert await ledger.partitions(pool) == [date(2026, 3, 3), date(2026, 3, 4)]
    assert await ledger.drop_partitions_before(pool, date(2026, 3, 3)) == []


async def test_writers_go_on_while_partitions_are_made_and_dropped(pool):
    _, board = await make_board(pool)

    async def write(start):
        for n in range(start, start + 20):
            time = DAY + timedelta(days=n % 5)
            await repeated(ledger.append, [event(n, f"u{n}", float(n), board=board, seq=n, time=time)])

    async def repeated(call, *args):
        """A late event and the drop of its day may wait for each other; one of them is then told to come again."""
        for _ in range(20):
            try:
                return await call(pool, *args)
            except DatabaseUnavailable as error:
                assert "deadlock" in str(error) or "lock timeout" in str(error)  # noqa: PT017
        raise AssertionError("twenty deadlocks in a row")

    async def drop():
        for day in range(1, 4):
            await ledger.ensure_partitions(pool, [(DAY + timedelta(days=day + 10)).date()])
            await repeated(ledger.drop_partitions_before, (DAY + timedelta(days=day)).date())

    await asyncio.gather(*(write(1000 * n) for n in range(1, 5)), drop())
    assert len(await state(pool, board)) == 80


async def test_a_broken_event_is_refused_and_nothing_of_its_batch_is_written(pool):
    with pytest.raises(psycopg.DataError):
        await ledger.append(pool, [event(1, "a", 1.0), event(2, "a", 1.0, seq=2**70)])
    assert await one(pool, "SELECT count(*) FROM score_events") == (0,)


async def test_a_batch_of_nothing_but_deletions_is_written(pool):
    assert await ledger.append(pool, [event(1, kind="d"), event(2, kind="d", board=2)]) == 2
    assert await ledger.append(pool, []) == 0
