"""Whose tenants and boards there are, by the custom resources' UIDs; and which keys replaced one that was lost."""

import pytest

from leaderboard.domain.documents import DeletionPolicy
from support.world import Sink, leaderboard, tenant


async def test_what_belongs_to_resources_is_told_by_their_uids(world):
    assert await world.control.owners() == (set(), set())
    await world.apply(tenant(), owner="uid-t")
    await world.apply(tenant("by-hand"))
    await world.apply(leaderboard("one"), owner="uid-b")
    await world.apply(leaderboard("two"), owner="uid-c")
    await world.apply(leaderboard("by-hand"))
    assert await world.control.owners() == ({"uid-t"}, {"uid-b", "uid-c"})


@pytest.mark.parametrize("retain", [True, False])
async def test_what_was_deleted_or_given_up_belongs_to_nobody(world, retain):
    await world.apply(tenant(), owner="uid-t")
    await world.apply(leaderboard("one"), owner="uid-b")
    await world.control.delete_boards_of("uid-b", retain=retain, namespace="games")
    assert await world.control.owners() == ({"uid-t"}, set())
    policy = DeletionPolicy.RETAIN if retain else DeletionPolicy.DELETE
    await world.control.delete_tenant("acme", owner="uid-t", policy=policy, namespace="games")
    assert await world.control.owners() == (set(), set())


async def test_a_board_that_is_half_deleted_still_has_its_owner(world):
    """Otherwise nobody would be told to finish it."""
    await world.apply(tenant(), owner="uid-t")
    await world.apply(leaderboard("one"), owner="uid-b")
    async with world.pool.connection() as conn:
        await conn.execute("UPDATE leaderboards SET state = 'deleting'")
    assert await world.control.owners() == ({"uid-t"}, {"uid-b"})


class TestReplacedKeys:
    """A key that was due is the owner's wish; one that was lost is told as a repair."""

    @pytest.fixture
    async def sink(self, world):
        sink = Sink(keeps=True)
        (first,) = (await world.apply(tenant(), sink=sink)).keys
        assert (first.previous_id, first.lost) == (None, False)
        return sink

    async def test_one_that_was_rotated_was_not_lost(self, world, sink):
        (key,) = (await world.apply(tenant(apiKey={"rotationTrigger": "march"}), sink=sink)).keys
        assert (key.previous_id, key.lost) == (sink.delivered[0].key.id, False)

    async def test_one_that_its_sink_has_not_any_more_was(self, world, sink):
        sink.lose()
        (key,) = (await world.apply(tenant(), sink=sink)).keys
        assert (key.id, key.previous_id, key.lost) == (sink.delivered[1].key.id, sink.delivered[0].key.id, True)

    async def test_so_was_one_that_is_due_as_well(self, world, sink):
        sink.lose()
        (key,) = (await world.apply(tenant(apiKey={"rotationTrigger": "march"}), sink=sink)).keys
        assert key.lost

    async def test_so_was_one_whose_replacement_was_delivered_before_a_crash(self, world, sink):
        sink.lose()
        sink.crash = "after"
        with pytest.raises(RuntimeError):
            await world.apply(tenant(), sink=sink)
        sink.crash = None
        (key,) = (await world.apply(tenant(), sink=sink)).keys
        assert (key.id, key.lost) == (sink.delivered[1].key.id, True)
