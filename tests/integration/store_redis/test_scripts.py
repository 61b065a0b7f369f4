"""What the board scripts promise besides the ranking: states, the outbox's bound, idempotency, deletion, moving."""

import asyncio
import math

import pytest
from redis_rig import rig_on

from leaderboard.domain.boards import Board, BoardSpec, TiePolicy
from leaderboard.domain.names import BoardKey, LeaderboardId
from leaderboard.domain.tiers import Tier
from leaderboard.store.redis import keys
from leaderboard.store.redis.boards import BoardState, Snapshot
from leaderboard.store.redis.errors import RedisUnavailable, UnexpectedReply
from leaderboard.store.redis.events import EventKind
from leaderboard.store.redis.limiter import Limiter, lease_size
from leaderboard.store.redis.scores import Applied, Line, Refusal

UNKNOWN = keys.board(7, "race_app", "never-made")


async def every_call(rig, board):
    """The answer of every call that a request can make."""
    many = await rig.scores.update_many(board, [("a", "i1", None), ("b", "i1", None)])
    assert many[0] == many[1]
    total_or_refusal = await rig.scores.members(board, users=["a"])
    return [
        await rig.scores.update(board, user="a", value="i1"),
        await rig.scores.update(board, user="a", value="i1", idempotency=("key", "f")),
        many[0],
        await rig.scores.remove(board, user="a"),
        await rig.page(board),
        await rig.page(board, after=(1.0, "a")),
        await rig.scores.around(board, user="a", count=3, render=lambda page: page),
        await rig.scores.rank(board, user="a"),
        total_or_refusal,
    ]


async def test_a_board_without_meta_is_unavailable_and_nothing_is_written(rig):
    assert set(await every_call(rig, UNKNOWN)) == {Refusal.BOARD_UNAVAILABLE}
    assert await rig.client.dbsize() == 0


async def test_entries_that_survived_their_meta_are_not_shown(rig):
    board = await rig.board()
    await rig.scores.update(board, user="a", value="i1")
    await rig.client.delete(keys.meta(board))
    before = await rig.everything()
    assert set(await every_call(rig, board)) == {Refusal.BOARD_UNAVAILABLE}
    assert await rig.everything() == before


@pytest.mark.parametrize(
    ("state", "word"),
    [(BoardState.SUSPENDED, Refusal.BOARD_SUSPENDED), (BoardState.REBUILDING, Refusal.BOARD_UNAVAILABLE)],
)
async def test_a_board_that_is_not_active_is_left_alone(rig, state, word):
    board = await rig.board()
    await rig.scores.update(board, user="a", value="i1")
    await rig.set_state(board, state)
    before = await rig.everything()
    assert set(await every_call(rig, board)) == {word}
    assert await rig.everything() == before
    await rig.set_state(board, BoardState.ACTIVE)
    assert (await rig.scores.update(board, user="a", value="i1")).score == 2


async def test_a_full_outbox_refuses_writes_and_drops_nothing(redis_url):
    async with rig_on(redis_url, outbox_max=70) as rig:
        board = await rig.board()
        assert len(await rig.scores.update_many(board, [(f"u{n}", "i1", None) for n in range(69)])) == 69
        before = await rig.everything()
        assert await rig.scores.update_many(board, [("a", "i1", None)] * 2) == [Refusal.OUTBOX_FULL] * 2
        assert await rig.everything() == before
        await rig.scores.update(board, user="u0", value="i1")
        before = await rig.everything()
        assert await rig.scores.update(board, user="u0", value="i1") is Refusal.OUTBOX_FULL
        assert await rig.scores.update(board, user="u0", value="i1", idempotency=("k", "f")) is Refusal.OUTBOX_FULL
        assert await rig.scores.remove(board, user="u0") is Refusal.OUTBOX_FULL
        assert await rig.everything() == before
        assert (await rig.page(board, count=1)).total == 69
        await rig.client.xtrim(keys.OUTBOX, maxlen=10, approximate=False)
        assert (await rig.scores.update(board, user="u0", value="i1")).score == 3


@pytest.mark.parametrize(
    ("rule", "value", "word"),
    [
        ("sum", "s1", Refusal.WRONG_FIELD_SUM),
        ("best", "i1", Refusal.WRONG_FIELD_BEST),
        ("latest", "i1", Refusal.WRONG_FIELD_LATEST),
        ("sum", "i9007199254740994", Refusal.SCORE_OUT_OF_RANGE),
    ],
)
async def test_a_refused_update_leaves_no_trace(rig, rule, value, word):
    board = await rig.board(score_update=rule)
    before = await rig.everything()
    assert await rig.scores.update(board, user="a", value=value) is word
    assert await rig.scores.update(board, user="a", value=value, idempotency=("k", "f")) is word
    assert await rig.everything() == before


async def test_a_refused_update_does_not_stop_the_others_of_its_batch(rig):
    board = await rig.board()
    done = await rig.scores.update_many(board, [("a", "i1", None), ("a", "s1", None), ("a", "i1", None)])
    assert [type(one) for one in done] == [Applied, Refusal, Applied]
    assert done[2].score == 2
    assert [event.seq for event in await rig.events()] == [1, 2]


async def test_a_sum_is_never_negative_zero(rig):
    board = await rig.board()
    for value in ("i-0.0", "i-0.0", "i-1", "i1"):
        await rig.scores.update(board, user="a", value=value)
    assert await rig.client.execute_command("ZSCORE", board, (await rig.client.zrange(board, 0, 0))[0]) in (b"0", 0.0)
    assert {str(event.score) for event in await rig.events()} == {"0.0", "-1.0"}


# --- idempotency


async def test_a_replay_gives_the_first_answer_and_does_nothing(rig):
    board = await rig.board()
    first = await rig.scores.update(board, user="a", value="i5", idempotency=("key", "print"))
    assert first == Applied(5.0, 1, None, None, False)
    await rig.scores.update(board, user="b", value="i100")
    await rig.scores.update(board, user="a", value="i1")
    before = await rig.everything()
    again = await rig.scores.update(board, user="a", value="i5", idempotency=("key", "print"))
    assert again == Applied(5.0, 1, None, None, True)
    other = await rig.scores.update(board, user="a", value="i6", idempotency=("key", "other"))
    assert other is Refusal.IDEMPOTENCY_MISMATCH
    assert await rig.everything() == before


async def test_a_replay_of_an_answer_without_a_rank_has_none_either(rig):
    board = await rig.board(max_entries=1)
    await rig.scores.update(board, user="a", value="i5")
    first = await rig.scores.update(board, user="b", value="i1", idempotency=("key", "print"))
    assert first == Applied(1.0, None, None, None, False)
    again = await rig.scores.update(board, user="b", value="i1", idempotency=("key", "print"))
    assert again == Applied(1.0, None, None, None, True)


async def test_a_replayed_batch_runs_only_what_never_ran(rig):
    board = await rig.board()
    updates = [(f"u{n}", "i1", (f"key:{n}", "f")) for n in range(100)]
    await rig.scores.update_many(board, updates[:70])
    done = await rig.scores.update_many(board, updates)
    assert [one.replayed for one in done] == [True] * 70 + [False] * 30
    assert {one.score for one in done} == {1.0}
    assert len(await rig.events()) == 100


async def test_a_record_lives_as_long_as_it_is_told(redis_url):
    async with rig_on(redis_url, ttl=500) as rig:
        board = await rig.board()
        await rig.scores.update(board, user="a", value="i1", idempotency=("key", "f"))
        assert 490 <= await rig.client.ttl(keys.idempotency(board, "key")) <= 500


async def test_records_of_two_boards_are_apart(rig):
    boards = [await rig.board(), await rig.board()]
    for board in boards:
        done = await rig.scores.update(board, user="a", value="i1", idempotency=("key", board[-3:]))
        assert not done.replayed


async def test_a_record_of_an_earlier_board_of_that_name_counts_for_nothing(rig):
    board = await rig.board(name="again", id=98)
    await rig.scores.update(board, user="a", value="i5", idempotency=("key", "f"))
    await rig.admin.delete(board, event_id_nonce="e" * 16, event_counter=0)
    await rig.board(name="again", id=99)
    done = await rig.scores.update(board, user="a", value="i6", idempotency=("key", "g"))
    assert done == Applied(6.0, 1, None, None, False)
    assert (await rig.scores.update(board, user="a", value="i6", idempotency=("key", "g"))).replayed


async def test_a_record_outlives_a_rebuild_of_its_board(rig):
    board = await rig.board(name="same", id=98)
    await rig.scores.update(board, user="a", value="i5", idempotency=("key", "f"))
    await rig.board(name="same", id=98, incarnation=2)
    again = await rig.scores.update(board, user="a", value="i5", idempotency=("key", "f"))
    assert again == Applied(5.0, 1, None, None, True)


# --- trim, delete, and moving whole boards


@pytest.mark.parametrize("tie", TiePolicy)
async def test_who_falls_off_the_board_is_told_to_the_ledger(rig, tie):
    board = await rig.board(tie_policy=tie, max_entries=2)
    for user, score in (("a", 3), ("b", 2), ("c", 1), ("d", 5)):
        await rig.scores.update(board, user=user, value=f"i{score}")
    told = await rig.events()
    assert [(event.kind.value, event.user) for event in told] == [
        *(("u", "a"), ("u", "b"), ("u", "c"), ("t", "c"), ("u", "d"), ("t", "b")),
    ]
    # A trim's identity is its update's, but for the last two digits.
    assert told[3].id.hex[:30] == told[2].id.hex[:30]
    assert (told[2].id.hex[30:], told[3].id.hex[30:]) == ("00", "01")


@pytest.mark.parametrize("tie", TiePolicy)
@pytest.mark.parametrize("state", BoardState)
async def test_a_deleted_board_leaves_its_event_and_no_key(rig, tie, state):
    board = await rig.board(tie_policy=tie, incarnation=3)
    await rig.scores.update(board, user="a", value="i1")
    await rig.set_state(board, state)
    assert await rig.admin.delete(board, event_id_nonce="ab" * 8, event_counter=17)
    assert await rig.client.keys("*") == [keys.OUTBOX.encode()]
    last = (await rig.events())[-1]
    assert (last.kind, last.seq, last.incarnation, last.user) == (EventKind.DELETE, 2, 3, "")
    assert last.id.hex == "ab" * 8 + f"{17:014x}" + "00"
    assert not await rig.admin.delete(board, event_id_nonce="ab" * 8, event_counter=18)
    assert len(await rig.events()) == 2


async def test_deleting_clears_what_has_no_meta(rig):
    await rig.client.zadd(UNKNOWN, {"left over": 1})
    await rig.client.hset(keys.order(UNKNOWN), "left over", "0" * 12)
    assert not await rig.admin.delete(UNKNOWN, event_id_nonce="a" * 16, event_counter=0)
    assert await rig.client.dbsize() == 0


async def test_trimming_what_is_not_there_is_refused(rig):
    with pytest.raises(RedisUnavailable, match="board-unavailable"):
        await rig.admin.trim(UNKNOWN, nonce="a" * 16, counter=0)


async def test_meta_is_read_as_it_was_written_and_keeps_its_sequence(rig):
    board = await rig.board(
        id=5,
        name="m",
        incarnation=4,
        score_update="best",
        sort_order="ascending",
        tie_policy="shared",
        max_entries=9,
        public_read=True,
    )
    meta = await rig.admin.read_meta(board)
    assert (meta.id, meta.incarnation, meta.rule, meta.order, meta.tie) == (5, 4, "b", "a", "s")
    assert (meta.max_entries, meta.public, meta.state, meta.seq) == (9, True, BoardState.ACTIVE, 0)
    await rig.scores.update(board, user="a", value="s1")
    await rig.board(id=5, name="m", incarnation=4, state=BoardState.SUSPENDED)
    meta = await rig.admin.read_meta(board)
    assert (meta.seq, meta.state, meta.public) == (1, BoardState.SUSPENDED, False)
    assert await rig.admin.read_metas([UNKNOWN, board]) == [None, meta]


@pytest.mark.parametrize("tie", TiePolicy)
async def test_a_line_has_the_tiers_of_its_moment(rig, tie):
    tiers = (Tier(name="a", top=1), Tier(name="ü", percent=0.57))
    board = await rig.board(name="m", id=5, tie_policy=tie, tiers=tiers)
    assert await rig.scores.rank(board, user="a") is None
    await rig.scores.update(board, user="a", value="i2.5")
    assert await rig.scores.rank(board, user="a") == Line(1, 2.5, 1, tiers)
    await rig.board(name="m", id=5, tie_policy=tie)
    assert await rig.scores.rank(board, user="a") == Line(1, 2.5, 1, ())
    await rig.client.hdel(keys.meta(board), "tiers")  # as of before there were tiers
    assert await rig.scores.rank(board, user="a") == Line(1, 2.5, 1, ())
    for nonsense in ("gold", "[{}]", '[{"name": 5}]'):
        await rig.client.hset(keys.meta(board), "tiers", nonsense)
        with pytest.raises(UnexpectedReply, match="tiers that cannot be read"):
            await rig.scores.rank(board, user="a")


@pytest.mark.parametrize("tie", TiePolicy)
@pytest.mark.parametrize("order", ["descending", "ascending"])
async def test_a_restored_board_is_the_board_it_was(rig, tie, order):
    board = await rig.board(tie_policy=tie, sort_order=order, score_update="latest")
    scores = [0.1, 0.30000000000000004, -5e-324, 1.7e308, -1.7e308, 2.0**53, 1e16, 3.0]
    await rig.scores.update_many(
        board, [(f"ü{n % 2500}", f"s{scores[n * 7 % len(scores)]!r}", None) for n in range(5000)]
    )
    was = [(entry.rank, entry.user, entry.score) for entry in (await rig.page(board, count=5000)).entries]
    entries, orders, seq = (
        await rig.admin.entries(board, tie),
        await rig.admin.orders(board),
        (await rig.admin.read_meta(board)).seq,
    )
    assert len(entries) == 2500
    token = await rig.admin.close(board)
    await rig.client.zadd(board, {"f" * 12 + "stranger": 1})
    triples = ((user, score, prefix) for user, (score, prefix) in entries.items())
    await rig.admin.restore(board, triples, tie, token=token)
    await rig.set_state(board, BoardState.ACTIVE)
    assert [(entry.rank, entry.user, entry.score) for entry in (await rig.page(board, count=5000)).entries] == was
    assert (await rig.admin.entries(board, tie), await rig.admin.orders(board)) == (entries, orders)
    assert (await rig.scores.update(board, user="ü0", value="s7")).previous_score == entries["ü0"][0]
    assert (await rig.events())[-1].seq == seq + 1
    assert (await rig.page(board)).total == 2500


async def test_a_restore_without_meta_is_allowed_and_not_yet_seen(rig):
    token = await rig.admin.close(UNKNOWN)
    await rig.admin.restore(UNKNOWN, [("a", 1.0, "0" * 12)], TiePolicy.FIRST_TO_REACH, token=token)
    assert await rig.page(UNKNOWN) is Refusal.BOARD_UNAVAILABLE


BOARD = Board(id=LeaderboardId(5), spec=BoardSpec(key=BoardKey("b")))


@pytest.mark.parametrize("tie", TiePolicy)
@pytest.mark.parametrize("overtaken", ["closed", "restored", "opened", "written"])
async def test_who_was_overtaken_in_a_restore_changes_nothing(rig, tie, overtaken):
    """A process that was stopped in the middle, or cut off from the lock it had, wakes up later."""
    board = keys.board(7, "race_app", "b")
    late = await rig.admin.close(board)
    await rig.admin.restore(board, [("old", 1.0, "0" * 12)], tie, token=late)
    if overtaken == "opened":
        assert await rig.admin.open([(board, BOARD, BoardState.ACTIVE)]) == [True]
    elif overtaken == "written":
        await rig.admin.write_meta(board, BOARD, state=BoardState.ACTIVE)
    else:
        token = await rig.admin.close(board)
        await rig.admin.restore(board, [("new", 2.0, "1" * 12)], tie, token=token)
        if overtaken == "restored":
            await rig.admin.reopen(board, BOARD, state=BoardState.ACTIVE, seq=9, token=token)
            await rig.scores.update(board, user="newer", value="i1")
    before = await rig.everything()
    for entries in ([], [("late", 3.0, "2" * 12)]):
        with pytest.raises(RedisUnavailable, match="another process"):
            await rig.admin.restore(board, entries, tie, token=late)
    with pytest.raises(RedisUnavailable, match="another process"):
        await rig.admin.reopen(board, BOARD, state=BoardState.ACTIVE, seq=0, token=late)
    assert await rig.everything() == before


async def test_a_board_is_opened_once(rig):
    board = keys.board(7, "race_app", "b")
    await rig.client.zadd(board, {"ghost": 1})
    await rig.client.script_flush()
    first = await asyncio.gather(*(rig.admin.open([(board, BOARD, BoardState.ACTIVE)]) for _ in range(3)))
    assert sorted(first) == [[False], [False], [True]]
    assert (await rig.scores.update(board, user="a", value="i1")).rank == 1
    assert await rig.admin.open([(board, BOARD, BoardState.ACTIVE)]) == [False]
    snapshot = await rig.admin.snapshot(board)
    assert (snapshot.meta.seq, snapshot.entries, snapshot.orders) == (1, 1, 1)
    assert await rig.admin.snapshots([UNKNOWN, board]) == [Snapshot(), snapshot]


# --- what a write costs


async def test_a_write_in_the_steady_state_is_one_round_trip(rig):
    """Counted by the server: every command it ran, those inside the scripts included."""
    updates, rate = 2000, 50_000
    board = await rig.board(max_entries=100_000)
    limiter = Limiter(rig.redis, clock=lambda: 0.0)  # time stands still: no lease expires
    bucket = keys.rate_limit(7)
    await rig.scores.update_many(board, [(f"u{n}", "i1", None) for n in range(500)])
    await limiter.take(bucket, rate=rate)

    async def calls():
        stats = await rig.client.info("commandstats")
        return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}

    async def player(start):
        for number in range(start, updates, 32):
            if limiter.take_held(bucket, rate=rate) is None:
                assert (await limiter.take(bucket, rate=rate)).allowed
            await rig.scores.update(board, user=f"u{number % 500}", value="i1")

    before = await calls()
    await asyncio.gather(*(player(start) for start in range(32)))
    await limiter.close()
    after = await calls()
    ran = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}

    leases = ran.get("time", 0)  # TIME is run by the lease script and by nothing else
    assert leases <= math.ceil(updates / lease_size(rate)) + 1
    assert ran["evalsha"] == updates + leases
    assert ran["xadd"] == updates
    inside = {"hmget", "hget", "hset", "hincrby", "xlen", "xadd", "zscore", "zrevrank", "zrem", "zadd", "get", "set"}
    assert set(ran) - inside - {"time", "evalsha", "info"} == set()
