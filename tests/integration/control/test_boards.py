"""Boards through Control, on real stores: quotas, crash safety, drift, deletion."""

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis

from leaderboard.control.errors import (
    AlreadyExists,
    BoardNotFound,
    ManagedElsewhere,
    NotDrained,
    ProjectNotFound,
    TenantNotFound,
)
from leaderboard.domain.boards import BoardSpec, SortOrder
from leaderboard.domain.bounds import Bounds
from leaderboard.domain.errors import ImmutableField, QuotaExceeded
from leaderboard.domain.names import BoardKey, ProjectId, TenantId
from leaderboard.store.postgres import boards, ledger
from leaderboard.store.redis import keys
from leaderboard.store.redis.boards import BoardState, tiers_of
from leaderboard.store.redis.errors import RedisUnavailable
from support.world import leaderboard, tenant

SPEC = BoardSpec(key=BoardKey("global"))


@pytest.fixture
async def place(world):
    await world.apply(tenant())
    return await world.project()


async def test_a_made_board_takes_scores_at_once(world, place):
    board = await world.control.put_board(**place, spec=SPEC, create=True)
    key = keys.board(place["tenant_id"], "default", "global")
    assert await world.update(key, ("ann", "i5")) == [b"A 5 1 - -"]
    assert await boards.get(world.pool, place["project_id"], "global") == board
    (row,) = await boards.list_page(world.pool, place["project_id"], after=None, limit=10)
    assert (row.id, row.spec, row.created_at) == (board.id, SPEC, world.now)


async def test_making_it_again_is_refused(world, place):
    await world.control.put_board(**place, spec=SPEC, create=True)
    for spec in (SPEC, msgspec.structs.replace(SPEC, max_entries=5)):
        with pytest.raises(AlreadyExists):
            await world.control.put_board(**place, spec=spec, create=True)
    assert (await boards.get(world.pool, place["project_id"], "global")).spec == SPEC


async def test_concurrent_makers_of_one_board_make_one(world, place):
    made = await asyncio.gather(
        *(world.control.put_board(**place, spec=SPEC, create=True) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(result, AlreadyExists) for result in made) == 5


async def test_concurrent_makers_cannot_exceed_the_quota(world):
    await world.apply(tenant(projects=[{"name": "a"}, {"name": "b"}], quotas={"maxLeaderboards": 7}))
    places = [await world.project(name=name) for name in ("a", "b")]
    made = await asyncio.gather(
        *(
            world.control.put_board(**places[n % 2], spec=BoardSpec(key=BoardKey(f"b{n}")), create=True)
            for n in range(30)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, QuotaExceeded) for result in made) == 23
    assert await boards.count_of_tenant(world.pool, places[0]["tenant_id"]) == 7


async def test_a_deleted_board_gives_its_place_back(world):
    await world.apply(tenant(quotas={"maxLeaderboards": 1}))
    place = await world.project()
    first = await world.control.put_board(**place, spec=SPEC, create=True)
    await world.control.delete_board(**place, key="global")
    second = await world.control.put_board(**place, spec=SPEC, create=True)
    assert second.id != first.id


async def test_what_is_not_there_is_named(world, place):
    with pytest.raises(BoardNotFound):
        await world.control.put_board(**place, spec=SPEC, create=False)
    with pytest.raises(BoardNotFound):
        await world.control.delete_board(**place, key="global")
    with pytest.raises(TenantNotFound):
        await world.control.put_board(**{**place, "tenant_id": TenantId(999)}, spec=SPEC, create=True)
    with pytest.raises(ProjectNotFound):
        await world.control.put_board(**{**place, "project_id": ProjectId(999)}, spec=SPEC, create=True)
    with pytest.raises(TenantNotFound):
        await world.apply(leaderboard(of="nobody"))
    with pytest.raises(ProjectNotFound):
        await world.apply(leaderboard(project="nothing"))


async def test_a_foreign_tenants_project_is_no_place_for_a_board(world, place):
    await world.apply(tenant("other"))
    with pytest.raises(ProjectNotFound):
        await world.control.put_board(
            **{**await world.project("other"), "tenant_id": place["tenant_id"]}, spec=SPEC, create=True
        )


async def test_a_change_reaches_redis_and_fixed_fields_do_not_change(world, place):
    made = await world.apply(leaderboard(publicRead=False))
    outcome = await world.apply(leaderboard(publicRead=True, suspend=True))
    assert set(outcome.changes) >= {"public_read: False -> True", "suspended: False -> True"}
    meta = await world.admin.read_meta(made.namespace)
    assert (meta.public, meta.state) == (True, BoardState.SUSPENDED)
    with pytest.raises(ImmutableField):
        await world.apply(leaderboard(sortOrder="Ascending"))
    with pytest.raises(ImmutableField):
        await world.control.put_board(
            **place, spec=msgspec.structs.replace(SPEC, sort_order=SortOrder.ASCENDING), create=False
        )


async def test_tiers_reach_redis_and_a_meta_from_before_there_were_any_has_none(world, place):
    tiers = [{"name": "a", "top": 3}, {"name": "Ürün", "percent": 2.5}]
    made = await world.apply(leaderboard(tiers=tiers))
    meta = await world.admin.read_meta(made.namespace)
    assert tiers_of(meta.tiers.encode()) == made.board.spec.tiers
    assert (await world.apply(leaderboard(tiers=tiers))).changes == ()
    await world.redis.hdel(keys.meta(made.namespace), "tiers")
    assert (await world.apply(leaderboard(tiers=tiers))).changes == ("wrote the rules to Redis",)
    assert await world.admin.read_meta(made.namespace) == meta
    await world.apply(leaderboard())
    await world.redis.hdel(keys.meta(made.namespace), "tiers")
    assert (await world.apply(leaderboard())).changes == ()
    assert (await world.admin.read_meta(made.namespace)).tiers == ""


async def test_bounds_of_a_document_reach_redis_and_are_its_owners(world, place):
    made = await world.apply(leaderboard(), owner="uid-b")
    assert (await world.admin.read_meta(made.namespace)).bounds == ""
    bounds = {"minScore": -1e300, "maxGain": 0.1, "perSeconds": 3600}
    await world.apply(leaderboard(bounds=bounds), owner="uid-b")
    assert (await world.admin.read_meta(made.namespace)).bounds == "-1e+300 - 0.1 3600"
    row = await boards.get(world.pool, place["project_id"], "global")
    assert row.spec.bounds == Bounds(min_score=-1e300, max_gain=0.1, per_seconds=3600)
    assert (await world.update(made.namespace, ("ann", "i1")))[0].startswith(b"A 1 - - - max_gain ")
    with pytest.raises(ManagedElsewhere):
        await world.control.put_board(**place, spec=msgspec.structs.replace(row.spec, bounds=None), create=False)
    assert (await world.apply(leaderboard(bounds=bounds), owner="uid-b")).changes == ()
    await world.apply(leaderboard(), owner="uid-b")
    assert (await world.admin.read_meta(made.namespace)).bounds == ""
    assert await world.update(made.namespace, ("ann", "i1")) == [b"A 1 1 - -"]


async def test_a_lower_max_entries_trims_with_events(world, place):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, *[(f"u{n:04}", f"i{n}") for n in range(600)])
    await world.control.put_board(**place, spec=msgspec.structs.replace(SPEC, max_entries=3), create=False)
    await world.drain()
    left = await world.admin.entries(made.namespace, SPEC.tie_policy)
    assert sorted(left) == ["u0597", "u0598", "u0599"]
    assert {row.member async for row in ledger.latest(world.pool, made.board.id)} == set(left)
    assert (await world.apply(leaderboard(maxEntries=3))).changes == ()


async def test_the_owner_of_a_board_is_the_only_one_to_change_it(world, place):
    await world.apply(leaderboard(), owner="uid-1")
    with pytest.raises(ManagedElsewhere):
        await world.control.put_board(**place, spec=msgspec.structs.replace(SPEC, max_entries=3), create=False)
    with pytest.raises(ManagedElsewhere):
        await world.control.delete_board(**place, key="global")
    await world.control.delete_board(**place, key="global", owner="uid-1", retain=True)
    await world.control.delete_board(**place, key="global")


async def test_a_crash_between_row_and_redis_is_finished_by_the_next_call(world, place):
    away = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisUnavailable):
        await world.another_control(redis=away).put_board(**place, spec=SPEC, create=True)
    await away.aclose()
    with pytest.raises(AlreadyExists):  # it is there, and now it is whole
        await world.control.put_board(**place, spec=SPEC, create=True)
    assert await world.update(keys.board(place["tenant_id"], "default", "global"), ("a", "i1")) == [b"A 1 1 - -"]


async def test_a_deletion_cut_short_is_finished_by_the_next_call(world, place):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"))
    away = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisUnavailable):
        await world.another_control(redis=away).delete_board(**place, key="global")
    await away.aclose()
    assert await boards.get(world.pool, place["project_id"], "global") is None
    again = await world.apply(leaderboard())
    assert again.created
    assert again.board.id != made.board.id
    assert await world.redis.zcard(again.namespace) == 0
    await world.drain()
    assert [row async for row in ledger.latest(world.pool, made.board.id)] == []
    assert (await boards.by_id(world.pool, made.board.id))[1] is boards.BoardState.DELETED


async def test_a_deleted_boards_events_stay_in_the_ledger(world, place):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"))
    await world.control.delete_board(**place, key="global")
    await world.drain()
    assert await world.one("SELECT count(*) FROM score_events WHERE leaderboard_id = %s", made.board.id) == (2,)
    assert not await world.redis.exists(made.namespace, keys.meta(made.namespace), keys.order(made.namespace))


async def test_lost_meta_is_written_only_after_the_entries_are_back(world, place):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"), ("b", "i7"), ("a", "i2"))
    await world.drain()
    before = await world.admin.entries(made.namespace, SPEC.tie_policy)
    await world.redis.flushall()
    outcome = await world.apply(leaderboard())
    assert "restored 2 entries" in outcome.changes[0]
    assert await world.admin.entries(made.namespace, SPEC.tie_policy) == before
    meta = await world.admin.read_meta(made.namespace)
    assert (meta.seq, meta.incarnation, meta.state) == (3, 2, BoardState.ACTIVE)
    assert outcome.board.incarnation == 2


async def test_lost_meta_waits_for_the_worker(world, place):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"))
    await world.redis.delete(keys.meta(made.namespace))
    with pytest.raises(NotDrained, match="leaderboard work"):
        await world.another_control(drain_seconds=0.2).reconcile(leaderboard())
    assert await world.admin.read_meta(made.namespace) is None
    async with world.worker():
        await world.apply(leaderboard())
    assert set(await world.admin.entries(made.namespace, SPEC.tie_policy)) == {"a"}


async def test_a_redis_older_than_the_ledger_is_restored(world, place):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"))
    old = {key: await world.redis.dump(key) for key in await world.redis.keys("*{l:*") + [made.namespace.encode()]}
    await world.update(made.namespace, ("b", "i1"))
    await world.drain()
    for key, value in old.items():
        await world.redis.restore(key, 0, value, replace=True)
    outcome = await world.apply(leaderboard())
    assert any("older state" in change for change in outcome.changes)
    assert set(await world.admin.entries(made.namespace, SPEC.tie_policy)) == {"a", "b"}


async def test_a_foreign_board_under_the_key_is_cleared_away(world, place):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("a", "i1"))
    await world.drain()
    await world.redis.hset(keys.meta(made.namespace), "id", 987654)
    async with world.worker():
        await world.apply(leaderboard())
    assert (await world.admin.read_meta(made.namespace)).id == made.board.id
    assert set(await world.admin.entries(made.namespace, SPEC.tie_policy)) == {"a"}


async def test_boards_are_listed_by_page(world, place):
    for key in ("b", "a.1", "a-1", "c"):
        await world.apply(leaderboard(key))
    first = await boards.list_page(world.pool, place["project_id"], after=None, limit=3)
    assert [row.spec.key for row in first] == ["a-1", "a.1", "b"]
    rest = await boards.list_page(world.pool, place["project_id"], after="b", limit=3)
    assert [row.spec.key for row in rest] == ["c"]
