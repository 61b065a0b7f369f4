"""Boards as they were: the ledger's answer as of any moment is what a replay in plain Python gives.

The replay is a board of its own (a dict and a sort): it knows scores, ties, bounds and resets from domain/boards.py,
and writes the events that the scripts would. What it was after each operation is kept, and is what must come back.
"""

import asyncio
import itertools
import random
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.domain.boards import BoardSpec, ScoreUpdate, SortOrder, TiePolicy
from leaderboard.domain.names import BoardKey, LeaderboardId
from leaderboard.store.postgres import history, ledger
from leaderboard.store.postgres.pool import open_pool
from leaderboard.store.redis.events import EventKind, ScoreEvent

START = datetime(2026, 3, 1, 20, tzinfo=UTC)
END = START + timedelta(days=30)
USERS = ["a", "b", "B", "aa", "é", "用户", "000000000001a"]
MISSING = "never seen"
STEP = timedelta(milliseconds=1)

_ids = itertools.count(1)

# Often in one and the same millisecond; sometimes into another day.
PAUSES = [0, 0, 0, 1, 5, 1000, 1000, 1000, 3_600_000, 30 * 3_600_000]
VALUES = [0.0, 1.0, 1.0, 2.0, 2.0, -1.0, 0.1, 1e300]


def history_of(chance):
    """Up to 80 operations, each with its pause in milliseconds."""
    for _ in range(chance.randint(0, 80)):
        name = chance.choices(["update", "remove", "reset", "bound", "restored"], [85, 8, 2, 3, 2])[0]
        args = {
            "update": (chance.choice(USERS), chance.choice(VALUES)),
            "remove": (chance.choice(USERS),),
            "reset": (),
            "bound": (chance.choice([0, 2, 4, 5]),),
            # Redis lost its memory, was restored, and its clock is behind by so many milliseconds.
            "restored": (chance.choice([0, 3, 7 * 3_600_000]),),
        }[name]
        yield chance.choice(PAUSES), (name, *args)


class Replay:
    """A board as the documents describe it, and the events it wrote."""

    def __init__(self, spec):
        self.id, self.spec, self.most = LeaderboardId(next(_ids)), spec, spec.max_entries
        self.time, self.incarnation, self.seq = START, 1, 0
        self.score, self.reached = {}, {}
        self.events = []
        self.moments = [(datetime.min.replace(tzinfo=UTC), [])]
        """(time, the ranking from then on), in order; while no clock goes back."""
        self.went_back = False

    def emit(self, kind, user="", *, submitted=None, score=None):
        self.seq += 1
        order = ""
        if user and self.spec.tie_policy is TiePolicy.FIRST_TO_REACH:
            if score is not None and score != self.score.get(user):
                self.reached[user] = self.seq
            seq = self.reached[user]
            order = f"{2**48 - 1 - seq if self.spec.sort_order is SortOrder.DESCENDING else seq:012x}"
        self.events.append(
            ScoreEvent(
                id=UUID(int=next(_ids)),
                time=self.time,
                kind=EventKind(kind),
                leaderboard_id=self.id,
                incarnation=self.incarnation,
                seq=self.seq,
                submitted=submitted,
                score=score,
                order=order,
                user=user,
            )
        )

    def better(self, one, other):
        return one > other if self.spec.sort_order is SortOrder.DESCENDING else one < other

    def ranking(self):
        downwards = self.spec.sort_order is SortOrder.DESCENDING
        if self.spec.tie_policy is TiePolicy.FIRST_TO_REACH:
            listed = sorted(self.score, key=lambda user: self.reached[user])
        else:
            listed = sorted(self.score, key=lambda user: user.encode(), reverse=downwards)
        listed.sort(key=lambda user: -self.score[user] if downwards else self.score[user])
        lines = []
        for place, user in enumerate(listed, 1):
            rank = place
            if self.spec.tie_policy is TiePolicy.SHARED:
                rank = 1 + sum(self.better(other, self.score[user]) for other in self.score.values())
            lines.append((place, rank, user, self.score[user]))
        return lines

    def trim(self):
        while self.most and len(self.score) > self.most:
            worst = self.ranking()[-1][2]
            self.emit("t", worst)
            del self.score[worst]

    def update(self, user, value):
        old = self.score.get(user)
        new = value
        if self.spec.score_update is ScoreUpdate.SUM:
            new = (old or 0.0) + value
        elif self.spec.score_update is ScoreUpdate.BEST and old is not None and not self.better(value, old):
            new = old
        self.emit("u", user, submitted=value, score=new)
        self.score[user] = new
        if old is None:
            self.trim()

    def remove(self, user):
        if user in self.score:
            self.emit("r", user)
            del self.score[user]

    def reset(self):
        self.emit("x")
        self.incarnation += 1
        self.score = {}

    def bound(self, most):
        self.most = most
        self.trim()

    def restored(self, behind):
        self.incarnation += 1
        self.time -= timedelta(milliseconds=behind)
        self.went_back |= behind > 0

    def run(self, done):
        for pause, (name, *args) in done:
            self.time += timedelta(milliseconds=pause)
            getattr(self, name)(*args)
            self.moments.append((self.time, self.ranking()))

    def as_of(self, at):
        """The ranking at that time. Where the clock went back: that of the operations with earlier stamps alone."""
        if not self.went_back:
            return [ranking for time, ranking in self.moments if time <= at][-1]
        shadow = Replay(self.spec)
        for event in self.events:
            if event.time > at:
                continue
            if event.kind is EventKind.RESET:
                shadow.score = {}
            elif event.kind is EventKind.UPDATE:
                shadow.score[event.user] = event.score
                if event.order:
                    number = int(event.order, 16)
                    downwards = self.spec.sort_order is SortOrder.DESCENDING
                    shadow.reached[event.user] = 2**48 - 1 - number if downwards else number
            else:
                shadow.score.pop(event.user, None)
        return shadow.ranking()


@pytest.fixture
def runner(database):
    """(work) -> what `work(pool)` returns, on an event loop and a pool that last over all examples."""
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database, size=2, timeout=10))
        runner.run(history.set_complete_until(pool, END))
        yield lambda work, *args: runner.run(work(pool, *args))
        runner.run(pool.close())


@pytest.fixture
async def pool(database):
    pool = await open_pool(database, size=4, timeout=10)
    await history.set_complete_until(pool, END)
    yield pool
    await pool.close()


def spec_of(order=SortOrder.DESCENDING, rule=ScoreUpdate.LATEST, tie=TiePolicy.USER_ID, most=0):
    return BoardSpec(key=BoardKey("b"), sort_order=order, score_update=rule, tie_policy=tie, max_entries=most)


async def whole(pool, replay, at, *, page):
    """All lines as of `at`, a page at a time; checks that each page says the same total."""
    lines, totals = [], set()
    while True:
        total, found = await history.top(pool, replay.id, replay.spec, at=at, after=len(lines), limit=page)
        totals.add(total)
        lines += found
        if len(found) < page:
            assert totals == {len(lines)}
            return [tuple(line) for line in lines]


async def check(pool, replay, at, *, page, of=(*USERS, MISSING)):
    """The top as of `at`, and the ranks of some."""
    expected = replay.as_of(at)
    assert await whole(pool, replay, at, page=page) == expected
    standings = {user: (rank, score, len(expected)) for _, rank, user, score in expected}
    for user in of:
        assert await history.rank(pool, replay.id, replay.spec, at=at, member=user) == standings.get(user)


@pytest.mark.parametrize("rule", ScoreUpdate)
@pytest.mark.parametrize("order", SortOrder)
@pytest.mark.parametrize("tie", TiePolicy)
def test_a_board_as_of_any_time_is_what_its_replay_was(runner, rule, order, tie):
    # Of numbers and not of operations: what Hypothesis makes up of those is short, and small boards have few ties.
    @settings(max_examples=10, deadline=None)
    @given(st.sampled_from([0, 0, 3]), st.integers(0, 2**32))
    def agrees(most, seed):
        chance = random.Random(seed)
        replay = Replay(spec_of(order, rule, tie, most))
        replay.run(history_of(chance))
        stamps = sorted({START, *(event.time for event in replay.events)})
        moments = [stamp + by for stamp in stamps for by in (-STEP, timedelta(), STEP / 2, STEP)]
        asked = [stamps[-1], *chance.choices(moments, k=4)]
        kept_from = chance.choice([None, *chance.choices(stamps, k=3)])
        runner(scenario, replay, asked, kept_from)

    agrees()


async def scenario(pool, replay, asked, kept_from):
    # In the order of nobody: the ledger is written by several workers.
    await ledger.append(pool, sorted(replay.events, key=lambda event: event.id.int % 7))
    for number, at in enumerate(asked):
        await check(pool, replay, at, page=3, of=USERS[number::3])
    if kept_from is None:
        return
    oldest = kept_from.date()
    await ledger.drop_partitions_before(pool, oldest)
    dropped = [event.time.date() for event in replay.events if event.time.date() < oldest]
    for at in asked:
        if dropped and at.date() <= max(dropped):
            with pytest.raises(history.Gone) as refused:
                await history.top(pool, replay.id, replay.spec, at=at, after=0, limit=1)
            earliest = refused.value.earliest
            assert earliest == datetime.combine(max(dropped) + timedelta(days=1), datetime.min.time(), UTC)
            await check(pool, replay, earliest, page=4, of=())
        else:
            await check(pool, replay, at, page=4, of=USERS[:2])


async def write(pool, *updates, spec=None):
    """A board with (user, score) a second apart, from START."""
    replay = Replay(spec or spec_of())
    replay.run([(1000, ("update", user, score)) for user, score in updates])
    await ledger.append(pool, replay.events)
    return replay


async def test_a_moment_that_the_ledger_may_not_have_whole_is_refused(pool):
    replay = await write(pool, ("a", 1.0))
    complete = START + timedelta(seconds=1)
    await history.set_complete_until(pool, complete)
    assert (await history.rank(pool, replay.id, replay.spec, at=complete, member="a")) == (1, 1.0, 1)
    for call in (
        history.top(pool, replay.id, replay.spec, at=complete + STEP, after=0, limit=1),
        history.rank(pool, replay.id, replay.spec, at=complete + STEP, member="a"),
    ):
        with pytest.raises(history.NotYet) as refused:
            await call
        assert refused.value.complete_until == complete


async def test_nothing_is_told_before_a_worker_said_how_far_it_is(pool):
    replay = await write(pool, ("a", 1.0))
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM ledger_progress")
    with pytest.raises(history.NotYet) as refused:
        await history.top(pool, replay.id, replay.spec, at=START, after=0, limit=1)
    assert refused.value.complete_until is None


async def test_a_day_that_a_late_event_brought_back_is_not_taken_for_whole(pool):
    replay = await write(pool, ("a", 1.0), ("b", 2.0))
    await ledger.drop_partitions_before(pool, START.date() + timedelta(days=3))
    replay.run([(0, ("update", "a", 5.0))])
    await ledger.append(pool, replay.events[-1:])
    assert await ledger.partitions(pool) == [START.date()]
    with pytest.raises(history.Gone):
        await history.top(pool, replay.id, replay.spec, at=START + timedelta(seconds=30), after=0, limit=1)
    await check(pool, replay, START + timedelta(days=1), page=2)


async def test_a_board_of_which_nothing_was_dropped_goes_back_to_its_beginning(pool):
    await write(pool, ("a", 1.0))
    await ledger.drop_partitions_before(pool, START.date() + timedelta(days=1))
    young = await write(pool)
    await check(pool, young, START - timedelta(days=300), page=1)


async def test_what_takes_too_long_is_given_up_and_nothing_else_with_it(pool, monkeypatch):
    replay = await write(pool, *((f"u{number}", float(number)) for number in range(50)))
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO score_events (event_time, event_id, leaderboard_id, incarnation, seq, kind, member, score)"
            " SELECT %s, gen_random_uuid(), %s, 1, 100 + n, 'u', 'm' || n, n FROM generate_series(1, 20000) n",
            (replay.time, replay.id),
        )
    monkeypatch.setattr(history, "STATEMENT_SECONDS", 0.001)
    with pytest.raises(history.TooCostly):
        await history.top(pool, replay.id, replay.spec, at=END, after=0, limit=1)
    monkeypatch.undo()
    await check(pool, replay, START + timedelta(seconds=20), page=30)


async def test_no_partition_goes_while_a_moment_is_read(pool):
    replay = await write(pool, ("a", 1.0))
    async with history._moment(pool, replay.id, at=START):
        drop = asyncio.create_task(ledger.drop_partitions_before(pool, START.date() + timedelta(days=1)))
        async with pool.connection() as conn:
            while not (
                await (
                    await conn.execute(
                        "SELECT count(*) FROM pg_locks WHERE relation = 'score_events'::regclass AND NOT granted"
                    )
                ).fetchone()
            )[0]:
                await asyncio.sleep(0.01)
        assert await ledger.partitions(pool) == [START.date()]
    assert await drop == [ledger.partition_name(START.date())]


def test_it_reads_indexes_and_no_day_after(database):
    """100,000 events of 500 boards in 30 days."""
    given = {"board": 7, "member": "m5", "at": datetime(2026, 1, 20, 12, tzinfo=UTC), "after": 0, "limit": 10}
    with psycopg.connect(database) as conn:
        for day in range(30):
            first = date(2026, 1, 1) + timedelta(days=day)
            conn.execute(
                f"CREATE TABLE {ledger.partition_name(first)} PARTITION OF score_events"
                f" FOR VALUES FROM ('{first}Z') TO ('{first + timedelta(days=1)}Z')"
            )
        conn.execute(
            "INSERT INTO score_events (event_time, event_id, leaderboard_id, incarnation, seq, kind, member, score)"
            " SELECT '2026-01-01Z'::timestamptz + n * interval '25.9 s', gen_random_uuid(), n % 500, 1, n, 'u',"
            " 'm' || n % 997, 1 FROM generate_series(0, 99999) n"
        )
        conn.execute("ANALYZE score_events")
        for spec in (spec_of(order, tie=tie) for order in SortOrder for tie in TiePolicy):
            for query in (history.top_query(spec), history.rank_query(spec)):
                plan = "\n".join(row[0] for row in conn.execute("EXPLAIN " + query, given))
                assert "Index" in plan
                assert "Seq Scan" not in plan
                # The place after the last reset is a bound of the index, not a filter over all events.
                assert "Index Cond: ((leaderboard_id = '7'::smallint) AND (ROW(" in plan, plan
                assert "score_events_20260120" in plan
                assert "score_events_20260121" not in plan
        conn.rollback()
