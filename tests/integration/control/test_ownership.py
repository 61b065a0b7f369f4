"""Who owns tenants and boards: given up, offered, taken over, and made again under the id they had."""

import pytest
from redis.asyncio import Redis

from leaderboard.control.errors import ManagedElsewhere, TenantNotFound
from leaderboard.control.reconcile import Adoption
from leaderboard.domain.documents import DeletionPolicy
from leaderboard.domain.errors import ImmutableField
from leaderboard.store.postgres import boards, identity, keys, tenants
from leaderboard.store.redis.errors import RedisUnavailable
from support.world import Sink, leaderboard, tenant

GAMES = Adoption(namespace="games", home=True)
OTHER = Adoption(namespace="other", home=True)
GUEST = Adoption(namespace="guests", home=False)


async def state_of(world, key_id):
    return (await world.one("SELECT state FROM api_keys WHERE id = %s", key_id))[0]


async def row(world, slug="acme"):
    return await tenants.by_slug(world.pool, slug)


# -- tenants


async def test_a_tenant_of_the_command_line_is_taken_over_when_it_was_offered(world):
    made = await world.apply(tenant())
    old = world.sink.delivered[0].key.id
    with pytest.raises(ManagedElsewhere, match=r"leaderboard offer acme .*leaderboard\.saas/adopt"):
        await world.apply(tenant(), owner="uid-1")
    with pytest.raises(ManagedElsewhere, match="leaderboard offer acme --namespace games"):
        await world.apply(tenant(), owner="uid-1", adopt=GAMES)
    await world.control.offer("acme", namespace="games")
    with pytest.raises(ManagedElsewhere, match="adopt"):
        await world.apply(tenant(), owner="uid-1")
    with pytest.raises(ManagedElsewhere) as refusal:
        await world.apply(tenant(), owner="uid-1", adopt=OTHER)
    assert "games" not in str(refusal.value)  # what is offered to whom is not everybody's business
    sink = Sink(keeps=True)
    taken = await world.apply(tenant(displayName="Acme"), owner="uid-1", adopt=GAMES, sink=sink)
    assert (taken.tenant_id, taken.created) == (made.tenant_id, False)
    assert "adopted" in taken.changes[0]
    assert ((await row(world)).managed_by, (await row(world)).adoptable_from) == ("uid-1", None)
    # Others use the old key: it ends like a rotated one, not like a lost one.
    (new,) = sink.delivered
    assert (await keys.lookup(world.pool, old)).expires_at > world.now
    assert [(key.id, key.previous_id) for key in taken.keys_in_force] == [(new.key.id, old)]
    again = await world.apply(tenant(displayName="Acme"), owner="uid-1", adopt=GAMES, sink=sink)
    assert (again.changes, len(sink.delivered)) == ((), 1)


async def test_a_crash_in_an_adoption_does_not_end_the_old_key_at_once(world):
    await world.apply(tenant())
    old = world.sink.delivered[0].key.id
    await world.control.offer("acme", namespace="games")
    sink = Sink(keeps=True)
    sink.crash = "before"
    with pytest.raises(RuntimeError):
        await world.apply(tenant(), owner="uid-1", adopt=GAMES, sink=sink)
    sink.crash = None
    taken = await world.apply(tenant(), owner="uid-1", adopt=GAMES, sink=sink)
    assert await state_of(world, old) == "active"
    assert taken.keys_in_force[0].previous_id == old


async def test_an_adoption_that_redis_cannot_be_told_of_does_not_happen(world):
    await world.apply(tenant())
    await world.control.offer("acme", namespace="games")
    away = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisUnavailable):
        await world.another_control(redis=away).reconcile(tenant(), owner="uid-1", adopt=GAMES, sink=Sink(keeps=True))
    await away.aclose()
    assert (await row(world)).managed_by is None


async def test_only_what_nobody_owns_is_taken_over(world):
    await world.apply(tenant(), owner="uid-1")
    with pytest.raises(ManagedElsewhere, match="uid-1"):
        await world.apply(tenant(), owner="uid-2", adopt=GAMES)
    with pytest.raises(ManagedElsewhere, match="uid-1"):
        await world.control.offer("acme", namespace="games")
    with pytest.raises(TenantNotFound):
        await world.control.offer("nobody", namespace="games")


async def test_the_command_line_keeps_what_it_offered_until_it_is_taken(world):
    await world.apply(tenant())
    await world.control.offer("acme", namespace="games")
    await world.control.offer("acme", namespace="other")
    await world.apply(tenant(displayName="still mine"))
    with pytest.raises(ManagedElsewhere):
        await world.apply(tenant(), owner="uid-1", adopt=GAMES)
    await world.apply(tenant(), owner="uid-1", adopt=OTHER)
    with pytest.raises(ManagedElsewhere):
        await world.apply(tenant())


async def test_a_retained_tenant_comes_back_with_its_boards_and_new_keys(world):
    sink = Sink(keeps=True)
    made = await world.apply(tenant(), owner="uid-1", sink=sink)
    board = await world.apply(leaderboard(), owner="uid-b")
    await world.update(board.namespace, ("a", "i7"))
    await world.control.delete_boards_of("uid-b", retain=True, namespace="games")
    await world.control.delete_tenant("acme", owner="uid-1", policy=DeletionPolicy.RETAIN, namespace="games")
    back = await world.apply(tenant(), owner="uid-2", adopt=GAMES, sink=sink)
    assert (back.tenant_id, back.created, back.boards) == (made.tenant_id, False, 1)
    assert "adopted" in back.changes[0]
    first, second = (given.key.id for given in sink.delivered)
    assert (await state_of(world, first), await state_of(world, second)) == ("revoked", "active")
    assert not (await keys.lookup(world.pool, second)).suspended
    assert (await world.revocations())[-1] == ("key", second)
    again = await world.apply(leaderboard(), owner="uid-c", adopt=GAMES)
    assert (again.board.id, again.entries, again.created) == (board.board.id, 1, False)
    assert again.changes == ("adopted",)


@pytest.mark.parametrize("adopt", [None, OTHER])
async def test_a_retained_tenant_comes_back_only_to_whom_it_was_kept_for(world, adopt):
    made = await world.apply(tenant(), owner="uid-1")
    await world.control.delete_tenant("acme", owner="uid-1", namespace="games")
    fresh = await world.apply(tenant(), owner="uid-2", adopt=adopt)
    assert fresh.created
    assert fresh.tenant_id != made.tenant_id
    # And the slug is taken by then: the retained one stays where it is.
    with pytest.raises(ManagedElsewhere):
        await world.apply(tenant(), owner="uid-3", adopt=GAMES)


async def test_of_several_retained_tenants_the_newest_comes_back(world):
    ids = []
    for n in range(3):
        made = await world.apply(tenant(), owner=f"uid-{n}")
        ids.append(made.tenant_id)
        world.pass_time(minutes=1)
        await world.control.delete_tenant("acme", owner=f"uid-{n}", namespace="games" if n < 2 else "other")
    assert (await world.apply(tenant(), owner="uid-9", adopt=GAMES)).tenant_id == ids[1]


async def test_a_retained_tenant_can_be_offered_to_another_namespace(world):
    made = await world.apply(tenant(), owner="uid-1")
    await world.control.delete_tenant("acme", owner="uid-1", namespace="games")
    await world.control.offer("acme", namespace="other")
    assert (await world.apply(tenant(), owner="uid-2", adopt=OTHER)).tenant_id == made.tenant_id


async def test_a_deleted_tenant_does_not_come_back(world):
    made = await world.apply(tenant(deletionPolicy="Delete"), owner="uid-1")
    await world.control.delete_tenant("acme", owner="uid-1", namespace="games")
    back = await world.apply(tenant(), owner="uid-2", adopt=GAMES)
    assert back.created
    assert back.tenant_id != made.tenant_id


async def test_an_owner_may_delete_what_its_row_still_protects(world):
    await world.apply(tenant(preventDeletion=True), owner="uid-1")
    await world.control.delete_tenant("acme", owner="uid-1", namespace="games", protected=False)
    assert await row(world) is None


async def lose_tenant(world):
    for table in ("leaderboards", "api_keys", "projects", "tenants"):
        async with world.pool.connection() as conn:
            await conn.execute(f"DELETE FROM {table}")


async def test_a_lost_tenant_is_made_again_under_its_id(world):
    await world.apply(tenant("first"))
    sink = Sink(keeps=True)
    made = await world.apply(tenant(), owner="uid-1", sink=sink)
    board = await world.apply(leaderboard(), owner="uid-b")
    await world.update(board.namespace, ("a", "i7"))
    await lose_tenant(world)
    again = await world.apply(tenant(), owner="uid-1", sink=sink, known_id=made.tenant_id)
    assert (again.tenant_id, again.created) == (made.tenant_id, True)
    assert "made again under the id it had" in again.changes[0]
    assert len(sink.delivered) == 2
    back = await world.apply(leaderboard(), owner="uid-b", known_id=board.board.id)
    assert (back.board.id, back.namespace, back.entries) == (board.board.id, board.namespace, 1)
    assert await world.update(board.namespace, ("a", "i1")) == [b"A 8 1 7 1"]


async def test_an_id_that_is_somebody_elses_is_not_given_again(world):
    other = await world.apply(tenant("other"), owner="uid-o")
    await world.control.delete_tenant("other", owner="uid-o", namespace="games")
    made = await world.apply(tenant(), owner="uid-1", known_id=other.tenant_id)
    assert made.created
    assert made.tenant_id != other.tenant_id


async def test_ids_go_on_past_one_that_was_given_again(world):
    """A database restored from a backup: its sequences are behind what the resources remember."""
    assert (await world.apply(tenant("a"), owner="uid-a", known_id=50)).tenant_id == 50
    assert (await world.apply(tenant("b"), owner="uid-b", known_id=20)).tenant_id == 20
    assert (await world.apply(tenant("c"), owner="uid-c")).tenant_id == 51
    made = await world.apply(leaderboard(of="a"), owner="uid-1", known_id=900)
    assert made.board.id == 900
    assert (await world.apply(leaderboard("next", of="a"), owner="uid-2")).board.id == 901


@pytest.mark.parametrize("made_up", [0, -1, identity.FARTHEST + 10, 2**63 - 1])
async def test_an_id_that_cannot_be_is_not_taken(world, made_up):
    """Who may edit a status could use up all the numbers there are."""
    made = await world.apply(tenant(), owner="uid-1", known_id=made_up)
    assert made.tenant_id == 1
    assert (await world.apply(leaderboard(), owner="uid-b", known_id=made_up)).board.id == 1


# -- boards


@pytest.fixture
async def acme(world):
    await world.apply(tenant(), owner="uid-t")
    return await world.project()


@pytest.mark.parametrize(
    ("left_in", "adopt", "allowed"),
    [
        (None, GAMES, True),  # made with the API: whoever is at home with the Tenant
        (None, GUEST, False),
        ("games", GAMES, True),
        ("guests", GUEST, True),
        ("guests", GAMES, False),
        ("games", GUEST, False),
        ("games", None, False),
        (None, None, False),
    ],
)
async def test_a_board_is_taken_over_from_where_it_was_left(world, acme, left_in, adopt, allowed):
    if left_in is None:
        await world.apply(leaderboard())
    else:
        await world.apply(leaderboard(), owner="uid-1")
        await world.control.delete_board(**acme, key="global", owner="uid-1", retain=True, namespace=left_in)
    if not allowed:
        with pytest.raises(ManagedElsewhere) as refusal:
            await world.apply(leaderboard(), owner="uid-2", adopt=adopt)
        assert "guests" not in str(refusal.value)
        return
    taken = await world.apply(leaderboard(maxEntries=5), owner="uid-2", adopt=adopt)
    assert taken.changes == ("adopted", "max_entries: 0 -> 5", "wrote the rules to Redis")
    assert taken.board.managed_by == "uid-2"
    assert (await boards.by_id(world.pool, taken.board.id)).adoptable_from is None


async def test_a_board_of_other_rules_is_not_taken_over(world, acme):
    await world.apply(leaderboard())
    with pytest.raises(ImmutableField):
        await world.apply(leaderboard(sortOrder="Ascending"), owner="uid-2", adopt=GAMES)
    assert (await boards.get(world.pool, acme["project_id"], "global")).managed_by is None


async def test_a_board_of_somebody_is_never_taken_over(world, acme):
    await world.apply(leaderboard(), owner="uid-1")
    with pytest.raises(ManagedElsewhere, match="uid-1"):
        await world.apply(leaderboard(), owner="uid-2", adopt=GAMES)


async def test_nothing_is_taken_of_a_tenant_that_is_another_resources(world, acme):
    with pytest.raises(TenantNotFound):
        await world.apply(leaderboard(), owner="uid-1", tenant_owner="uid-x")
    assert (await world.apply(leaderboard(), owner="uid-1", tenant_owner="uid-t")).created


async def test_what_a_resource_leaves_behind_is_found_by_its_uid(world, acme):
    first = await world.apply(leaderboard("a"), owner="uid-1")
    other = await world.apply(leaderboard("b"), owner="uid-2")
    await world.control.delete_tenant("acme", owner="uid-t", namespace="games")
    await world.control.delete_boards_of("uid-1", retain=False, namespace="games")
    await world.control.delete_boards_of("uid-1", retain=False, namespace="games")
    assert (await boards.by_id(world.pool, first.board.id)).state is boards.BoardState.DELETED
    assert not await world.redis.exists(first.namespace, f"meta:{{{first.namespace}}}")
    assert (await boards.by_id(world.pool, other.board.id)).board.managed_by == "uid-2"


async def test_a_deletion_that_has_begun_is_not_retained(world, acme):
    made = await world.apply(leaderboard(), owner="uid-1")
    away = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisUnavailable):
        await world.another_control(redis=away).delete_boards_of("uid-1", retain=False, namespace="games")
    await away.aclose()
    await world.control.delete_boards_of("uid-1", retain=True, namespace="games")
    assert (await boards.by_id(world.pool, made.board.id)).state is boards.BoardState.DELETED


async def lose_boards(world):
    async with world.pool.connection() as conn:
        await conn.execute("DELETE FROM leaderboards")


async def test_a_lost_board_keeps_its_entries_and_its_place_in_history(world, acme):
    await world.apply(leaderboard("first"))
    made = await world.apply(leaderboard(), owner="uid-1")
    await world.update(made.namespace, ("a", "i1"), ("b", "i2"))
    await world.drain()
    # A rebuild has moved it on: the new row has to say so too.
    await world.redis.delete(f"meta:{{{made.namespace}}}")
    await world.apply(leaderboard(), owner="uid-1")
    await world.update(made.namespace, ("c", "i3"))  # not in the ledger yet
    await lose_boards(world)
    again = await world.apply(leaderboard(), owner="uid-1", known_id=made.board.id)
    assert (again.board.id, again.board.incarnation, again.entries) == (made.board.id, 2, 3)
    assert again.changes == ("made again under the id it had: its row was gone",)
    await world.drain()
    assert (await world.apply(leaderboard(), owner="uid-1")).changes == ()


async def test_a_board_lost_from_both_comes_back_from_the_ledger(world, acme):
    made = await world.apply(leaderboard(), owner="uid-1")
    await world.update(made.namespace, ("a", "i1"), ("b", "i2"))
    await world.drain()
    await lose_boards(world)
    await world.redis.flushall()
    again = await world.apply(leaderboard(), owner="uid-1", known_id=made.board.id)
    assert (again.board.id, again.entries) == (made.board.id, 2)


async def test_a_known_id_gives_no_right_to_anothers_history(world, acme):
    """A status can say anything: the id counts only while nobody has it, and Redis does not say otherwise."""
    victim = await world.apply(leaderboard("victim"))
    await world.update(victim.namespace, ("secret", "i1"))
    await world.drain()
    thief = await world.apply(leaderboard("thief"), owner="uid-1", known_id=victim.board.id)
    assert (thief.board.id != victim.board.id, thief.entries) == (True, 0)
    place = await world.project()
    await world.control.delete_board(**place, key="victim")
    again = await world.apply(leaderboard("again"), owner="uid-2", known_id=victim.board.id)
    assert (again.board.id != victim.board.id, again.entries) == (True, 0)


async def test_a_known_id_that_redis_contradicts_is_not_used(world, acme):
    made = await world.apply(leaderboard(), owner="uid-1")
    await lose_boards(world)
    async with world.worker():
        again = await world.apply(leaderboard(), owner="uid-1", known_id=made.board.id + 5)
    assert again.board.id == made.board.id + 1
    assert (await world.admin.read_meta(again.namespace)).id == again.board.id
