"""What somebody did to Redis or to a row behind control's back is put right, one board at a time or many at once."""

import pytest

from leaderboard.control.reconcile import BoardRequest
from leaderboard.store.redis import keys
from leaderboard.store.redis.boards import BoardState
from support.world import leaderboard, tenant

ENTRIES = {"ann": 5.0, "bob": 7.0}


@pytest.fixture(params=["alone", "in a batch"])
async def repair(world, request):
    """Reconcile the board as the operator does; return what was done."""
    await world.apply(tenant(plan="pro"), owner="uid-t")

    async def repair(document):
        if request.param == "alone":
            return await world.apply(document, owner="uid-b")
        asked = BoardRequest(document=document, tenant_slug="acme", owner="uid-b")
        (outcome,) = await world.control.reconcile_boards([asked], positions=False)
        assert not isinstance(outcome, Exception), outcome
        return outcome

    return repair


@pytest.fixture(params=["FirstToReach", "UserId"])
def make(world, repair, request):
    """Make boards with entries that are in the ledger."""

    async def make(*names):
        found = []
        for name in names:
            document = leaderboard(name, tiePolicy=request.param, maxEntries=10)
            made = await repair(document)
            await world.update(made.namespace, *((user, f"i{score:g}") for user, score in ENTRIES.items()))
            found.append((document, made))
        await world.drain()
        return found

    return make


@pytest.fixture
async def board(make):
    (made,) = await make("global")
    return made


DAMAGE = {
    "the meta is deleted": (["DEL", "meta:{{{0}}}"], "restored 2 entries from the ledger: Redis had lost it"),
    "the entries are deleted": (["DEL", "{0}"], "restored 2 entries from the ledger"),
    "the meta is of another board": (["HSET", "meta:{{{0}}}", "id", "987654"], "restored 2 entries"),
    "the rules are edited": (["HSET", "meta:{{{0}}}", "max", "3"], "wrote the rules to Redis"),
    "the bounds are edited": (["HSET", "meta:{{{0}}}", "bounds", "- 3.0 - -"], "wrote the rules to Redis"),
    "it is suspended in Redis only": (["HSET", "meta:{{{0}}}", "state", "s"], "wrote the rules to Redis"),
    "a rebuild was left lying": (["HSET", "meta:{{{0}}}", "state", "r"], "a rebuild had not finished"),
    "a field of the meta is missing": (["HDEL", "meta:{{{0}}}", "inc"], "something else under its names"),
    "a field of the meta is nonsense": (["HSET", "meta:{{{0}}}", "seq", "many"], "something else under its names"),
    "the meta is no hash": (["SET", "meta:{{{0}}}", "x"], "something else under its names"),
    "the board is no sorted set": (["SET", "{0}", "x"], "something else under its names"),
    "its incarnation went back": (["HSET", "meta:{{{0}}}", "inc", "0"], "an older state than the ledger"),
    "all is deleted": (["FLUSHALL"], "restored 2 entries from the ledger: Redis had lost it"),
}


async def test_what_was_done_to_redis_is_put_right(world, repair, make):
    found = await make(*(f"b{n}" for n in range(len(DAMAGE))))
    async with world.worker():
        for (document, made), (what, (command, said)) in zip(found, DAMAGE.items(), strict=True):
            await world.redis.execute_command(*(part.format(made.namespace) for part in command))
            outcome = await repair(document)
            assert any(said in change for change in outcome.changes), (what, outcome.changes)
            entries = await world.admin.entries(made.namespace, made.board.spec.tie_policy)
            assert {user: score for user, (score, _) in entries.items()} == ENTRIES, what
            assert (await world.admin.read_meta(made.namespace)).state is BoardState.ACTIVE, what
            assert outcome.entries == 2, what
            assert (await repair(document)).changes == (), what


@pytest.mark.parametrize("make", ["FirstToReach"], indirect=True)
async def test_an_order_that_does_not_belong_to_the_entries_is_restored(world, repair, board):
    document, made = board
    for command in (["DEL", "order:{{{0}}}"], ["HSET", "order:{{{0}}}", "eve", "0" * 12]):
        await world.redis.execute_command(*(part.format(made.namespace) for part in command))
        (change,) = (await repair(document)).changes
        assert "did not belong together" in change
        assert set(await world.admin.orders(made.namespace)) == set(ENTRIES)


async def test_a_board_that_was_emptied_by_its_users_is_left_alone(world, repair, board):
    document, made = board
    for user in ENTRIES:
        await world.remove(made.namespace, user)
    assert (await repair(document)).changes == ()  # the ledger does not know yet
    await world.drain()
    outcome = await repair(document)
    assert (outcome.changes, outcome.entries) == ((), 0)


async def test_entries_that_came_after_the_ledger_was_asked_are_not_taken_for_a_loss(world, repair, board):
    document, made = board
    await world.update(made.namespace, ("eve", "i1"))
    outcome = await repair(document)
    assert (outcome.changes, outcome.entries) == ((), 3)


@pytest.mark.parametrize("make", ["UserId"], indirect=True)
async def test_an_edited_row_is_put_right(world, repair, board):
    document, made = board
    for damage, said in {
        "max_entries = 1": "max_entries: 1 -> 10",
        "suspended = true": "suspended: True -> False",
        "public_read = true": "public_read: True -> False",
        'tiers = \'[{"name": "a", "top": 1}]\'': "tiers: (Tier(name='a', top=1, percent=None),) -> ()",
        "deletion_policy = 'Delete'": "deletion_policy: Delete -> Retain",
    }.items():
        async with world.pool.connection() as conn:
            await conn.execute(f"UPDATE leaderboards SET {damage}")
        outcome = await repair(document)
        assert said in outcome.changes
        assert (outcome.board.spec, outcome.entries) == (made.board.spec, 2)
        assert (await repair(document)).changes == ()


@pytest.mark.parametrize("make", ["UserId"], indirect=True)
async def test_a_row_with_another_hash_is_written_anew_and_no_more_is_said(world, repair, board):
    async with world.pool.connection() as conn:
        await conn.execute("UPDATE leaderboards SET spec_hash = ''")
    assert (await repair(board[0])).changes == ()
    assert await world.one("SELECT count(*) FROM leaderboards WHERE spec_hash = ''") == (0,)


async def test_a_board_with_nonsense_in_redis_can_be_deleted(world, repair, board):
    _, made = board
    await world.redis.set(keys.meta(made.namespace), "x")
    await world.control.delete_boards_of("uid-b", retain=False, namespace=None)
    assert not await world.redis.exists(made.namespace, keys.meta(made.namespace), keys.order(made.namespace))
