"""Tenants, projects and keys through Control, on real stores."""

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from leaderboard.control.errors import BoardsLeft, DeletionPrevented, KeyNotFound, ManagedElsewhere, TenantNotFound
from leaderboard.domain.documents import DeletionPolicy
from leaderboard.domain.errors import InvalidDocument
from leaderboard.domain.keys import Scope, digest
from leaderboard.store.postgres import boards, keys, tenants
from leaderboard.store.redis.errors import RedisUnavailable
from support.world import PEPPER, leaderboard, tenant


async def state_of(world, key_id):
    return await world.one("SELECT state FROM api_keys WHERE id = %s", key_id)


async def test_a_new_tenant_gets_its_projects_and_a_key_for_each(world):
    outcome = await world.apply(tenant(projects=[{"name": "default"}, {"name": "race_app"}], plan="pro"))
    assert outcome.created
    assert [given.project for given in world.sink.delivered] == ["default", "race_app"]
    key = world.sink.delivered[1].key
    record = await keys.lookup(world.pool, key.id)
    assert record.hmac == digest(key, pepper=PEPPER)
    assert (record.project, record.tenant_slug, record.scope) == ("race_app", "acme", Scope.ADMIN)
    assert (record.state, record.expires_at, record.suspended) == (keys.KeyState.ACTIVE, None, False)
    assert record.quotas.max_leaderboards == 1000
    assert await keys.lookup(world.pool, "0" * 16) is None


async def test_applying_the_same_again_changes_nothing(world):
    await world.apply(tenant())
    before = await world.one("SELECT * FROM tenants")
    world.pass_time(hours=1)
    again = await world.apply(tenant())
    assert (again.created, again.changes, again.keys) == (False, (), ())
    assert await world.one("SELECT * FROM tenants") == before


async def test_concurrent_first_applies_make_one_tenant_and_one_key(world):
    outcomes = await asyncio.gather(*(world.apply(tenant()) for _ in range(5)))
    assert len({outcome.tenant_id for outcome in outcomes}) == 1
    assert sum(outcome.created for outcome in outcomes) == 1
    assert len(world.sink.delivered) == 1


async def test_a_project_left_out_stays_and_is_said_so(world):
    await world.apply(tenant(projects=[{"name": "default"}, {"name": "old"}]))
    outcome = await world.apply(tenant(projects=[{"name": "default"}, {"name": "new"}]))
    assert "project new added" in outcome.changes
    assert any("old" in note for note in outcome.notes)
    assert (await tenants.find_project(world.pool, "acme", "old")) is not None


async def test_an_unknown_plan_is_refused_with_those_there_are(world):
    with pytest.raises(InvalidDocument, match="enterprise, free, pro"):
        await world.apply(tenant(plan="gold"))


@pytest.mark.parametrize(
    "change",
    [{"suspend": True}, {"plan": "pro"}, {"quotas": {"requestsPerSecond": 7}}, {"homeRegion": "eu"}],
    ids=str,
)
async def test_what_workers_cache_is_forgotten_when_it_changes(world, change):
    outcome = await world.apply(tenant())
    await world.redis.flushall()
    await world.apply(tenant(**change))
    assert await world.revocations() == [("tenant", str(outcome.tenant_id))]
    await world.redis.flushall()
    await world.apply(tenant(**change, displayName="Acme"))
    assert await world.revocations() == []


async def test_another_owner_is_refused(world):
    await world.apply(tenant(), owner="uid-1")
    for owner in (None, "uid-2"):
        with pytest.raises(ManagedElsewhere, match="uid-1"):
            await world.apply(tenant(displayName="x"), owner=owner)
    await world.apply(tenant("other"))
    with pytest.raises(ManagedElsewhere):
        await world.apply(tenant("other"), owner="uid-1")


async def test_a_key_that_was_never_delivered_is_dropped_and_issued_again(world):
    world.sink.crash = "before"
    with pytest.raises(RuntimeError):
        await world.apply(tenant())
    assert await world.one("SELECT state, count(*) FROM api_keys GROUP BY 1") == ("pending", 1)
    world.sink.crash = None
    await world.apply(tenant())
    assert await world.one("SELECT state, count(*) FROM api_keys GROUP BY 1") == ("active", 1)
    assert await state_of(world, world.sink.delivered[0].key.id) == ("active",)


async def test_a_key_that_was_delivered_before_a_crash_is_made_active(world):
    world.sink.crash = "after"
    with pytest.raises(RuntimeError):
        await world.apply(tenant())
    (delivery,) = world.sink.delivered
    assert await state_of(world, delivery.key.id) == ("pending",)
    world.sink.crash = None
    outcome = await world.apply(tenant())
    assert [key.id for key in outcome.keys] == [delivery.key.id]
    assert len(world.sink.delivered) == 1
    assert await state_of(world, delivery.key.id) == ("active",)


async def test_rotation_keeps_the_old_key_for_the_grace_period(world):
    await world.apply(tenant())
    old = world.sink.delivered[0].key.id
    await world.redis.flushall()
    outcome = await world.apply(tenant(apiKey={"rotationTrigger": "1", "gracePeriod": "2h"}))
    new = world.sink.delivered[1]
    ends = world.now + timedelta(hours=2)
    assert (new.previous_id, new.previous_expires_at) == (old, ends)
    assert (outcome.keys[0].previous_id, outcome.keys[0].previous_expires_at) == (old, ends)
    assert (await keys.lookup(world.pool, old)).expires_at == ends
    assert (await keys.lookup(world.pool, old)).state is keys.KeyState.ACTIVE
    assert ("key", old) in await world.revocations()
    await world.apply(tenant(apiKey={"rotationTrigger": "1", "gracePeriod": "2h"}))
    assert len(world.sink.delivered) == 2


async def test_rotation_without_grace_revokes_at_once(world):
    await world.apply(tenant())
    await world.apply(tenant(apiKey={"rotationTrigger": "1", "gracePeriod": "0s"}))
    assert await state_of(world, world.sink.delivered[0].key.id) == ("revoked",)
    assert await state_of(world, world.sink.delivered[1].key.id) == ("active",)


async def test_a_crash_in_a_rotation_leaves_the_old_key_working_until_the_new_one_does(world):
    await world.apply(tenant(projects=[{"name": "a"}, {"name": "b"}]))
    world.sink.crash = "after"
    rotated = tenant(projects=[{"name": "a"}, {"name": "b"}], apiKey={"rotationTrigger": "1", "gracePeriod": "0s"})
    with pytest.raises(RuntimeError):
        await world.apply(rotated)
    old = [given.key.id for given in world.sink.delivered[:2]]
    assert [await state_of(world, key) for key in old] == [("active",), ("active",)]
    world.sink.crash = None
    await world.apply(rotated)
    assert [await state_of(world, key) for key in old] == [("revoked",), ("revoked",)]
    assert await world.one("SELECT count(*) FROM api_keys WHERE state = 'active'") == (2,)
    assert len(world.sink.delivered) == 4  # each project once more


async def test_rotate_every_goes_by_the_clock(world):
    document = tenant(apiKey={"rotateEvery": "48h", "gracePeriod": "1h"})
    await world.apply(document)
    world.pass_time(hours=47)
    await world.apply(document)
    assert len(world.sink.delivered) == 1
    world.pass_time(hours=1)
    await world.apply(document)
    await world.apply(document)
    assert len(world.sink.delivered) == 2


async def test_a_changed_scope_reaches_the_key_and_the_workers(world):
    await world.apply(tenant())
    key = world.sink.delivered[0].key.id
    await world.redis.flushall()
    await world.apply(tenant(apiKey={"scope": "read"}))
    assert (await keys.lookup(world.pool, key)).scope is Scope.READ
    assert await world.revocations() == [("key", key)]


async def test_a_revoked_key_is_told_to_the_workers(world):
    await world.apply(tenant())
    key = world.sink.delivered[0].key.id
    await world.control.revoke(key)
    await world.control.revoke(key)
    assert (await keys.lookup(world.pool, key)).state is keys.KeyState.REVOKED
    assert ("key", key) in await world.revocations()
    with pytest.raises(KeyNotFound):
        await world.control.revoke("nosuchkey")


async def test_a_revocation_that_redis_does_not_take_leaves_the_key_as_it_was(world):
    await world.apply(tenant())
    key = world.sink.delivered[0].key.id
    away = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisUnavailable):
        await world.another_control(redis=away).revoke(key)
    await away.aclose()
    assert (await keys.lookup(world.pool, key)).state is keys.KeyState.ACTIVE


async def test_deleting_with_retain_keeps_the_boards_and_ends_the_keys(world):
    outcome = await world.apply(tenant())
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"))
    await world.control.delete_tenant("acme")
    assert await keys.lookup(world.pool, world.sink.delivered[0].key.id) is None
    assert ("tenant", str(outcome.tenant_id)) in await world.revocations()
    assert await world.redis.zcard(made.namespace) == 1
    assert await tenants.find_project(world.pool, "acme", "default") is None
    with pytest.raises(TenantNotFound):
        await world.control.delete_tenant("acme")
    again = await world.apply(tenant())
    assert again.created
    assert again.tenant_id != outcome.tenant_id


async def test_deleting_with_delete_takes_the_boards_along(world):
    await world.apply(tenant(deletionPolicy="Delete"))
    made = [await world.apply(leaderboard(key)) for key in ("a", "b")]
    await world.control.delete_tenant("acme")
    for outcome in made:
        assert await world.admin.read_meta(outcome.namespace) is None
        assert (await boards.by_id(world.pool, outcome.board.id))[1] is boards.BoardState.DELETED


async def test_a_protected_tenant_is_not_deleted(world):
    await world.apply(tenant(preventDeletion=True))
    with pytest.raises(DeletionPrevented):
        await world.control.delete_tenant("acme", policy=DeletionPolicy.DELETE)


async def test_a_tenant_with_boards_of_custom_resources_is_not_touched(world):
    await world.apply(tenant())
    await world.apply(leaderboard(), owner="uid-board")
    with pytest.raises(BoardsLeft, match=r"belong to custom resources \(1\)"):
        await world.control.delete_tenant("acme", policy=DeletionPolicy.DELETE)
    assert (await keys.lookup(world.pool, world.sink.delivered[0].key.id)).state is keys.KeyState.ACTIVE


async def test_applying_again_tells_the_workers_again(world):
    """A suspension whose second telling failed is in the row already; the next apply has to tell it all the same."""
    await world.apply(tenant(suspend=True))
    before = len(await world.revocations())
    await world.apply(tenant(suspend=True))
    assert len(await world.revocations()) == before + 1
