"""Boards rank as a plain Python model does that keeps a dict and sorts a list, whatever is done to them.

The model is written from the documents (domain/boards.py), not from the scripts: it knows no order prefix, no sorted
set and no sequence but the moment at which a member reached its score.
"""

import asyncio
import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis_rig import Rig, connected

from leaderboard.domain.boards import ScoreUpdate, SortOrder, TiePolicy
from leaderboard.domain.scores import check_increment, check_number
from leaderboard.store.redis import keys
from leaderboard.store.redis.events import EventKind
from leaderboard.store.redis.scores import Applied, Refusal

USERS = [
    "a",
    "b",
    "B",
    "aa",
    "é",
    "e\u0301",
    "用户",
    "😀",
    "a b",
    "000000000001a",
    "fffffffffffea",
    "ffffffffffff",
    "0",
    "-",
    "%s\\",
    "\U0010ffff",
    "u" * 128,
]
MISSING = "never seen"

users = st.sampled_from(USERS)
few = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, -1.0, 0.1, 0.2, 0.30000000000000004, 0.3])
extreme = st.sampled_from(
    [1.7e308, -1.7e308, 1.7976931348623157e308, 5e-324, -5e-324, 2.0**53, -(2.0**53), 2.0**53 - 1, 1e15, 1e16, 1e17]
)
numbers = few | few | extreme | st.floats(allow_nan=False, allow_infinity=False)
steps = few | few | st.sampled_from([2.0**53, -(2.0**53), 2.0**53 - 1, 2.0**52, 0.5, 5e-324])
steps |= st.floats(-(2.0**53), 2.0**53)


def operations(rule):
    values = steps if rule is ScoreUpdate.SUM else numbers
    update = st.tuples(users, values)
    retry = st.tuples(st.just("keyed"), users, values, st.sampled_from(["k1", "k2"]))
    batch = st.tuples(st.just("batch"), st.lists(update, min_size=1, max_size=5), st.sampled_from([1, 2, 30]))
    single = update.map(lambda pair: ("update", *pair))
    remove = users.map(lambda user: ("remove", user))
    check = st.tuples(st.just("check"), st.integers(1, 7))
    return st.lists(st.one_of(single, single, single, single, retry, batch, remove, check), max_size=30)


class Model:
    """A board as the documents describe it."""

    def __init__(self, rule, order, tie, most):
        self.rule, self.order, self.tie, self.most = rule, order, tie, most
        self.score = {}
        self.reached = {}
        self.moments = itertools.count()
        self.changes = 0  # events that must be in the outbox
        self.answers = {}

    def better(self, one, other):
        return one > other if self.order is SortOrder.DESCENDING else one < other

    def ranking(self):
        """Users, best first."""
        downwards = self.order is SortOrder.DESCENDING
        if self.tie is TiePolicy.FIRST_TO_REACH:
            listed = sorted(self.score, key=lambda user: self.reached[user])
        else:
            listed = sorted(self.score, key=lambda user: user.encode(), reverse=downwards)
        return sorted(listed, key=lambda user: -self.score[user] if downwards else self.score[user])

    def rank(self, user):
        if user not in self.score:
            return None
        if self.tie is TiePolicy.SHARED:
            return 1 + sum(self.better(other, self.score[user]) for other in self.score.values())
        return self.ranking().index(user) + 1

    def update(self, user, value):
        old, old_rank = self.score.get(user), self.rank(user)
        new = value
        if self.rule is ScoreUpdate.SUM:
            exact = Fraction(old or 0.0) + Fraction(value)
            new = float(exact)
            # At the edge nothing may be rounded away: 2^53 + 1 is 2^53 as a double.
            if abs(new) > 2**53 or (abs(new) == 2**53 and new != exact):
                return Refusal.SCORE_OUT_OF_RANGE
        elif self.rule is ScoreUpdate.BEST and old is not None and not self.better(value, old):
            new = old
        if new != old:
            self.score[user], self.reached[user] = new, next(self.moments)
        self.changes += 1
        if old is None:
            while self.most and len(self.score) > self.most:
                self.drop(self.ranking()[-1])
        return Applied(new, self.rank(user), old, old_rank, False)

    def keyed(self, user, value, key):
        body = (user, value)
        if key in self.answers:
            first, answer = self.answers[key]
            if first != body:
                return Refusal.IDEMPOTENCY_MISMATCH
            return Applied(answer.score, answer.rank, answer.previous_score, answer.previous_rank, True)
        answer = self.update(user, value)
        if isinstance(answer, Applied):
            self.answers[key] = (body, answer)
        return answer

    def drop(self, user):
        del self.reached[user]
        self.changes += 1
        return self.score.pop(user)

    def remove(self, user):
        return self.drop(user) if user in self.score else None


def text_of(rule, value):
    if rule is ScoreUpdate.SUM:
        return f"i{check_increment(value)!r}"
    return f"s{check_number(value, field='score')!r}"


@pytest.fixture
def runner(redis_url):
    """An event loop of the test's own, with one rig that lasts over all examples."""
    with asyncio.Runner() as runner:
        client = Redis.from_url(redis_url)
        context = connected(redis_url)
        rig = Rig(runner.run(context.__aenter__()), client)

        def run(scenario, *args):
            return runner.run(scenario(rig, *args))

        yield run
        runner.run(context.__aexit__(None, None, None))
        runner.run(client.aclose())


@pytest.mark.parametrize("rule", ScoreUpdate)
@pytest.mark.parametrize("order", SortOrder)
@pytest.mark.parametrize("tie", TiePolicy)
def test_a_board_ranks_as_the_model_does(runner, rule, order, tie):
    @settings(max_examples=60)
    @given(st.sampled_from([0, 0, 1, 3, 6]), operations(rule))
    def agrees(most, done):
        runner(scenario, rule, order, tie, most, done)

    agrees()


async def scenario(rig, rule, order, tie, most, done):
    await rig.client.delete(keys.OUTBOX)
    board = await rig.board(score_update=rule, sort_order=order, tie_policy=tie, max_entries=most)
    model = Model(rule, order, tie, most)
    for operation, *args in [*done, ("check", 3)]:
        if operation == "update":
            user, value = args
            answer = await rig.scores.update(board, user=user, value=text_of(rule, value))
            assert answer == model.update(user, check_number(value, field="f"))
        elif operation == "keyed":
            user, value, key = args
            fingerprint = f"{USERS.index(user)}:{text_of(rule, value)}"
            answer = await rig.scores.update(
                board, user=user, value=text_of(rule, value), idempotency=(key, fingerprint)
            )
            assert answer == model.keyed(user, value, key)
        elif operation == "batch":
            updates = args[0] * args[1]  # of more than one chunk where it is long
            answers = await rig.scores.update_many(board, [(user, text_of(rule, n), None) for user, n in updates])
            assert answers == [model.update(user, check_number(n, field="f")) for user, n in updates]
        elif operation == "remove":
            assert await rig.scores.remove(board, user=args[0]) == model.remove(args[0])
        else:
            await check(rig, board, model, page=args[0])
    await check_ledger(rig, board, model)


async def check(rig, board, model, *, page):
    """Every read agrees with the model."""
    ranking = model.ranking()
    expected = [(model.rank(user), user, model.score[user]) for user in ranking]

    whole = await rig.page(board)
    assert lines(whole) == expected
    assert (whole.total, whole.start) == (len(ranking), 0)

    by_offset = [await rig.page(board, start=start, count=page) for start in range(0, len(ranking) + 1, page)]
    assert [line for part in by_offset for line in lines(part)] == expected

    walked, after = [], None
    while True:
        part = await rig.page(board, count=page, after=after)
        if not part.entries:
            break
        assert part.start == len(walked)
        walked += lines(part)
        after = (part.entries[-1].score, part.last_member)
    assert walked == expected

    total, standings = await rig.scores.members(board, users=[*USERS, MISSING])
    assert total == len(ranking)
    for user, standing in zip([*USERS, MISSING], standings, strict=True):
        assert (standing and (standing.rank, standing.score)) == (
            (model.rank(user), model.score[user]) if user in model.score else None
        )

    for user in [*ranking[:2], *ranking[-2:], MISSING]:
        line = await rig.scores.rank(board, user=user)
        assert (line and (line.total, line.rank, line.score)) == (
            (len(ranking), model.rank(user), model.score[user]) if user in model.score else None
        )
        seen = await rig.scores.around(board, user=user, count=page, render=lambda page: page)
        if user not in model.score:
            assert seen is None
            continue
        start = ranking.index(user) - page // 2
        start = max(0, min(start, len(ranking) - page))
        assert lines(seen) == expected[start : start + page]
        assert user in [entry.user for entry in seen.entries]


def lines(page):
    return [(entry.rank, entry.user, entry.score) for entry in page.entries]


async def check_ledger(rig, board, model):
    """The outbox alone gives the same board: the latest event of each member says what it has."""
    told = await rig.events()
    meta = await rig.admin.read_meta(board)
    assert len(told) == model.changes
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert meta.seq == len(told)
    assert len({event.id for event in told}) == len(told)
    assert {(event.leaderboard_id, event.incarnation) for event in told} <= {(meta.id, meta.incarnation)}

    folded = {}
    for event in sorted(told, key=lambda event: (event.incarnation, event.seq)):
        if event.kind is EventKind.UPDATE:
            folded[event.user] = (event.score, event.order)
        else:
            assert event.score is None
            assert folded.pop(event.user)[1] == event.order
    entries = await rig.admin.entries(board, model.tie)
    assert entries == folded
    assert {user: score for user, (score, _) in entries.items()} == model.score
    assert all(math.copysign(1, score) == 1 for score, _ in entries.values() if score == 0)
    ordered = model.tie is TiePolicy.FIRST_TO_REACH
    assert await rig.admin.orders(board) == ({user: order for user, (_, order) in entries.items()} if ordered else {})


@pytest.mark.parametrize("order", SortOrder)
@pytest.mark.parametrize("tie", TiePolicy)
async def test_a_cursor_goes_on_in_its_place_when_its_member_has_gone(rig, order, tie):
    board = await rig.board(score_update=ScoreUpdate.LATEST, sort_order=order, tie_policy=tie)
    await rig.scores.update_many(board, [(f"user-{n:03}", f"s{n % 4}", None) for n in range(60)])
    for at in (0, 7, 29, 55, 55):  # the last is the end of the board by then
        listed = [entry.user for entry in (await rig.page(board)).entries]
        part = await rig.page(board, start=at, count=1)
        after = (part.entries[0].score, part.last_member)
        await rig.scores.remove(board, user=listed[at])
        rest = await rig.page(board, after=after)
        assert [entry.user for entry in rest.entries] == listed[at + 1 :]


async def test_a_large_trim_numbers_its_events_apart(rig):
    board = await rig.board(score_update=ScoreUpdate.LATEST)
    await rig.scores.update_many(board, [(f"user-{n}", f"s{n}", None) for n in range(700)])
    await rig.client.hset(keys.meta(board), "max", 10)
    answer = await rig.scores.update(board, user="new", value="s-1")
    assert (answer.rank, answer.previous_rank) == (None, None)
    dropped = 255
    while more := await rig.admin.trim(board, nonce="f" * 16, counter=dropped):
        assert more <= 255
        dropped += more
    assert dropped == 691
    told = await rig.events()
    # A call is one step and has one time, however long it takes: nobody ever saw the board between its events.
    assert len({event.time for event in told[700 : 700 + 1 + 255]}) == 1
    assert len(told) == len({event.id for event in told}) == 700 + 1 + 691
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert [entry.user for entry in (await rig.page(board)).entries] == [f"user-{n}" for n in range(699, 689, -1)]


async def test_a_user_that_looks_like_an_order_prefix_and_another_user_is_somebody_else(rig):
    board = await rig.board()
    await rig.scores.update(board, user="a", value="i1")
    (member,) = await rig.client.zrange(board, 0, -1)
    twin = member.decode()
    await rig.scores.update(board, user=twin, value="i1")
    assert (await rig.scores.update(board, user="a", value="i5")).score == 6
    assert await rig.scores.remove(board, user=twin) == 1
    total, (standing, gone) = await rig.scores.members(board, users=["a", twin])
    assert (total, standing.score, gone) == (1, 6, None)
