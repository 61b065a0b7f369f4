"""Many boards at once: as correct as one at a time, with a few statements for all of them."""

import asyncio
import itertools

import msgspec
import pytest
from psycopg.conninfo import make_conninfo
from redis.asyncio import Redis

from leaderboard.control import namespace
from leaderboard.control.errors import BoardNotFound, ManagedElsewhere, NotDrained, ProjectNotFound, TenantNotFound
from leaderboard.control.reconcile import Adoption, BoardRequest
from leaderboard.domain.boards import TiePolicy
from leaderboard.domain.errors import ImmutableField, QuotaExceeded
from leaderboard.store.postgres import boards
from leaderboard.store.postgres.pool import Busy, DatabaseUnavailable, open_pool, transaction
from leaderboard.store.redis import keys
from leaderboard.store.redis.boards import BoardState
from leaderboard.store.redis.errors import RedisUnavailable
from support.world import leaderboard, tenant


def ask(key="global", *, of="acme", owner=None, adopt=None, known_id=None, tenant_owner=None, **spec):
    return BoardRequest(
        document=leaderboard(key, of=of, **spec),
        tenant_slug=of,
        owner=owner or f"uid-{of}-{spec.get('project', 'default')}-{key}",
        adopt=adopt,
        known_id=known_id,
        tenant_owner=tenant_owner,
    )


@pytest.fixture
async def fleet(world):
    """Reconcile all the requests; every one of them has to succeed."""
    await world.apply(tenant(plan="pro"), owner="uid-acme")

    async def fleet(*requests, positions=False):
        outcomes = await world.control.reconcile_boards(requests, positions=positions)
        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert failed == []
        return outcomes

    return fleet


async def test_boards_of_many_tenants_are_made_in_one_go(world, fleet):
    for slug in ("beta", "gamma"):
        await world.apply(tenant(slug, plan="pro", projects=[{"name": "default"}, {"name": "two"}]))
    requests = [
        ask("b0", sortOrder="Ascending", scoreUpdate="Best", tiePolicy="Shared", maxEntries=7, publicRead=True),
        ask("b1", suspend=True, deletionPolicy="Delete", tiers=[{"name": "a", "top": 3}, {"name": "b", "percent": 2}]),
        *(ask(f"b{n}", of=slug, project="two") for slug in ("gamma", "beta") for n in range(3)),
    ]
    outcomes = await fleet(*requests)
    assert [outcome.board.spec for outcome in outcomes] == [request.document.spec.board() for request in requests]
    assert all(outcome.created and outcome.changes == () and outcome.entries == 0 for outcome in outcomes)
    assert outcomes[2].namespace == f"l:{outcomes[2].tenant_id}:two:b0"
    for request, outcome in zip(requests, outcomes, strict=True):
        assert outcome.board == (await boards.by_id(world.pool, outcome.board.id)).board
        assert outcome.board.managed_by == request.owner
        # As if each had been made by itself: nothing is left to do.
        again = await world.control.reconcile(
            request.document, tenant_slug=request.tenant_slug, owner=request.owner, known_id=outcome.board.id
        )
        assert (again.created, again.changes, again.board) == (False, (), outcome.board)
    assert await world.update(outcomes[0].namespace, ("a", "s3")) == [b"A 3 1 - -"]
    assert (await world.admin.read_meta(outcomes[1].namespace)).state is BoardState.SUSPENDED


@pytest.mark.parametrize("positions", [False, True])
async def test_boards_that_are_as_they_should_be_are_not_touched(world, fleet, positions):
    requests = [ask(f"b{n}") for n in range(5)]
    made = await fleet(*requests)
    await world.update(made[3].namespace, ("a", "i1"), ("b", "i1"))
    rows = await world.one("SELECT array_agg((xmin::text, id) ORDER BY id)::text FROM leaderboards")
    metas = await world.admin.read_metas([outcome.namespace for outcome in made])
    again = await fleet(*requests, positions=positions)
    assert [outcome.entries for outcome in again] == [0, 0, 0, 2, 0]
    assert all(not outcome.created and outcome.changes == () for outcome in again)
    assert [outcome.board for outcome in again] == [outcome.board for outcome in made]
    assert await world.one("SELECT array_agg((xmin::text, id) ORDER BY id)::text FROM leaderboards") == rows
    assert await world.admin.read_metas([outcome.namespace for outcome in made]) == metas


async def test_an_empty_batch_is_nothing_to_do(world):
    assert await world.control.reconcile_boards([], positions=True) == []


async def test_the_first_come_first_into_the_quota(world, fleet):
    await world.apply(tenant("small", quotas={"maxLeaderboards": 3}))
    await world.apply(leaderboard("old", of="small"))
    requests = [ask(key, of=of) for key in ("a", "b", "c", "d") for of in ("small", "acme")]
    outcomes = await world.control.reconcile_boards(requests, positions=False)
    refused = [isinstance(outcome, QuotaExceeded) for outcome in outcomes]
    assert refused == [False, False, False, False, True, False, True, False]
    await world.control.delete_boards_of("uid-small-default-a", retain=False, namespace=None)
    outcomes = await world.control.reconcile_boards(requests[2:], positions=False)
    assert [isinstance(outcome, QuotaExceeded) for outcome in outcomes] == [False, False, False, False, True, False]


async def test_concurrent_batches_cannot_exceed_the_quota(world):
    await world.apply(tenant(quotas={"maxLeaderboards": 25}))
    await world.apply(tenant("other", quotas={"maxLeaderboards": 25}))
    # The tenants in another order each time, with boards of their own and shared ones.
    batches = [
        [ask(f"b{part}-{n}" if n % 2 else f"shared-{n}", of=of, owner=f"uid-{part}") for n in range(10) for of in slugs]
        for part, slugs in enumerate([("acme", "other"), ("other", "acme")] * 3)
    ]
    done = await asyncio.gather(
        *(world.another_control().reconcile_boards(batch, positions=False) for batch in batches)
    )
    for outcome in itertools.chain.from_iterable(done):
        assert not isinstance(outcome, Exception) or isinstance(outcome, QuotaExceeded | ManagedElsewhere), outcome
    counts = "SELECT array_agg(n) FROM (SELECT count(*) n FROM leaderboards GROUP BY project_id) counts"
    assert await world.one(counts) == ([25, 25],)


async def test_of_two_for_one_place_the_first_has_it(world, fleet):
    outcomes = await world.control.reconcile_boards(
        [ask(owner="uid-1"), ask("other"), ask(owner="uid-2"), ask(owner="uid-1")], positions=False
    )
    assert outcomes[0].created
    assert isinstance(outcomes[2], ManagedElsewhere)
    assert (outcomes[3].created, outcomes[3].board) == (False, outcomes[0].board)


async def test_what_is_wrong_with_one_is_wrong_with_no_other(world, fleet):
    await fleet(ask("mine", owner="uid-1"), ask("yours", owner="uid-2"))
    await world.apply(leaderboard("nobodys"))
    bad_key = leaderboard("x")
    bad_key = msgspec.structs.replace(bad_key, spec=msgspec.structs.replace(bad_key.spec, key="No Key"))
    outcomes = await world.control.reconcile_boards(
        [
            ask(of="nobody"),
            ask(project="nothing"),
            ask("elsewhere", tenant_owner="uid-x"),
            ask("yours", owner="uid-1"),
            ask("nobodys", owner="uid-1"),
            ask("mine", owner="uid-1", sortOrder="Ascending"),
            BoardRequest(document=bad_key, tenant_slug="acme", owner="uid-1"),
            ask("broken", owner="uid-\x00"),
            ask("good", tenant_owner="uid-acme"),
            ask("mine", owner="uid-1", maxEntries=4),
        ],
        positions=False,
    )
    refusals = [TenantNotFound, ProjectNotFound, TenantNotFound, ManagedElsewhere, ManagedElsewhere, ImmutableField]
    assert [type(outcome) for outcome in outcomes[:6]] == refusals
    assert "No Key" in str(outcomes[6])
    assert "NUL" in str(outcomes[7])
    assert outcomes[8].created
    # The place had been named before in this batch: it was looked at after all the others.
    assert outcomes[9].changes == ("max_entries: 0 -> 4", "wrote the rules to Redis")


async def test_changes_adoptions_and_known_ids_are_carried_out_too(world, fleet):
    made = await fleet(ask("a"), ask("b", maxEntries=10))
    await world.update(made[1].namespace, *((f"u{n}", f"i{n}") for n in range(5)))
    await world.apply(leaderboard("nobodys"))
    home = Adoption(namespace="games", home=True)
    async with world.worker():  # what is lost is looked for in the ledger, once that has everything
        outcomes = await fleet(
            ask("a", suspend=True),
            ask("b", maxEntries=2),
            ask("nobodys", owner="uid-1", adopt=home),
            ask("lost", known_id=77),
            ask("new", adopt=home),
        )
    assert [outcome.changes[:1] for outcome in outcomes] == [
        ("suspended: False -> True",),
        ("max_entries: 10 -> 2",),
        ("adopted",),
        ("made again under the id it had: its row was gone",),
        (),
    ]
    assert (outcomes[1].entries, outcomes[3].board.id, outcomes[4].created) == (2, 77, True)


async def test_a_deletion_cut_short_is_finished_first(world, fleet):
    (made,) = await fleet(ask(owner="uid-1"))
    away = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisUnavailable):
        await world.another_control(redis=away).delete_boards_of("uid-1", retain=False, namespace=None)
    await away.aclose()
    (again,) = await fleet(ask(owner="uid-2"))
    assert again.created
    assert again.board.id != made.board.id


async def test_a_crash_before_redis_is_made_good_by_the_next_batch(world, fleet):
    requests = [ask(f"b{n}") for n in range(20)]
    away = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisUnavailable):
        await world.another_control(redis=away).reconcile_boards(requests, positions=False)
    await away.aclose()
    outcomes = await fleet(*requests)
    assert await world.one("SELECT count(*) FROM leaderboards") == (20,)
    assert all(not outcome.created and "Redis had lost it" in outcome.changes[0] for outcome in outcomes)
    for outcome in outcomes:
        assert await world.update(outcome.namespace, ("a", "i1")) == [b"A 1 1 - -"]
    assert all(outcome.changes == () for outcome in await fleet(*requests))


async def test_an_emptied_redis_gets_all_boards_back(world, fleet):
    requests = [ask(f"b{n}", tiePolicy=("Shared" if n % 2 else "FirstToReach")) for n in range(9)]
    made = await fleet(*requests)
    for n, outcome in enumerate(made[:3]):
        await world.update(outcome.namespace, *((f"u{m}", "i1") for m in range(n)))
    await world.drain()
    await world.redis.flushall()
    outcomes = await fleet(*requests)
    assert [outcome.entries for outcome in outcomes] == [0, 1, 2, 0, 0, 0, 0, 0, 0]
    assert [outcome.board.incarnation for outcome in outcomes] == [1, 2, 2, 1, 1, 1, 1, 1, 1]
    assert all(outcome.changes == () for outcome in await fleet(*requests))


async def test_lost_boards_wait_for_the_ledger_and_the_others_do_not(world, fleet):
    made = await fleet(ask("a"), ask("b"))
    await world.update(made[0].namespace, ("ann", "i1"))
    await world.redis.delete(keys.meta(made[0].namespace), keys.meta(made[1].namespace))
    outcomes = await world.another_control(drain_seconds=0.2).reconcile_boards(
        [ask("a"), ask("b"), ask("new")], positions=False
    )
    assert [type(outcome) for outcome in outcomes[:2]] == [NotDrained] * 2
    assert outcomes[2].created
    async with world.worker():
        outcomes = await fleet(ask("a"), ask("b"))
    assert [outcome.entries for outcome in outcomes] == [1, 0]


async def test_entries_without_a_meta_are_nobodys(world, fleet):
    row = await world.project()
    await world.redis.zadd(keys.board(row["tenant_id"], "default", "global"), {"ghost": 1})
    (made,) = await fleet(ask())
    assert (made.created, await world.redis.zcard(made.namespace)) == (True, 0)


async def test_another_boards_meta_under_the_name_is_cleared_away(world, fleet):
    (ghost,) = await fleet(ask("ghost"))
    row = await world.project()
    place = keys.board(row["tenant_id"], "default", "global")
    await world.redis.copy(keys.meta(ghost.namespace), keys.meta(place))
    async with world.worker():
        (made,) = await fleet(ask())
    assert (await world.admin.read_meta(place)).id == made.board.id != ghost.board.id


async def test_a_redis_that_went_back_in_time_is_found_with_positions_only(world, fleet):
    (made,) = await fleet(ask())
    await world.update(made.namespace, ("a", "i1"))
    names = [made.namespace, keys.meta(made.namespace), keys.order(made.namespace)]
    old = {name: await world.redis.dump(name) for name in names}
    await world.update(made.namespace, ("b", "i1"))
    await world.drain()
    for name, value in old.items():
        await world.redis.restore(name, 0, value, replace=True)
    (before,) = await fleet(ask())
    assert (before.changes, before.entries) == ((), 1)
    (after,) = await fleet(ask(), positions=True)
    assert "older state" in after.changes[0]
    assert after.entries == 2


async def test_two_leaders_at_once_lose_no_score(world, fleet):
    """Whoever is second to write a new board's meta must not wipe what came since the first did."""
    requests = [ask(f"b{n}") for n in range(60)]
    row = await world.project()
    names = [keys.board(row["tenant_id"], "default", request.document.spec.key) for request in requests]
    taken = dict.fromkeys(names, 0)
    stop = asyncio.Event()

    async def play():
        while not stop.is_set():
            for name in names:
                if await world.update(name, ("ann", "i1")) != b"board-unavailable":
                    taken[name] += 1

    async def lead():
        await asyncio.gather(*(world.another_control().reconcile_boards(requests, positions=False) for _ in range(4)))

    async with world.worker():
        player = asyncio.create_task(play())
        await lead()
        await lead()
        stop.set()
        await player
    for name in names:
        entries = await world.admin.entries(name, TiePolicy.FIRST_TO_REACH)
        assert sum(score for score, _ in entries.values()) == taken[name]
    assert sum(taken.values()) > 0


async def test_a_board_that_somebody_works_on_does_not_hold_up_the_others(world, fleet):
    made = await fleet(ask("a"), ask("b"))
    await world.redis.delete(*(keys.meta(outcome.namespace) for outcome in made))
    async with namespace.lock(world.pool, made[0].board.id):
        batch = asyncio.create_task(fleet(ask("a"), ask("b")))
        while await world.admin.read_meta(made[1].namespace) is None:
            await asyncio.sleep(0.01)
        assert not batch.done()
    assert all("Redis had lost it" in outcome.changes[0] for outcome in await batch)


async def test_a_tenant_that_somebody_holds_does_not_hold_up_the_others(world, fleet, database):
    busy = await world.apply(tenant("busy", plan="pro"))
    impatient = await open_pool(make_conninfo(database, options="-c lock_timeout=100ms"), size=4, timeout=10)
    requests = [*(ask(f"b{n}", of="busy") for n in range(100)), ask()]
    async with transaction(world.pool) as conn:
        await conn.execute("SELECT 1 FROM tenants WHERE id = %s FOR UPDATE", (busy.tenant_id,))
        outcomes = await world.another_control(pool=impatient).reconcile_boards(requests, positions=False)
    await impatient.close()
    assert [type(outcome) for outcome in outcomes[:-1]] == [Busy] * 100
    assert outcomes[-1].created
    assert len({id(outcome) for outcome in outcomes}) < 10  # not each of them waited
    assert all(outcome.created for outcome in await fleet(*requests[:-1]))


async def test_what_may_not_be_made_is_not(world, fleet):
    (made,) = await fleet(ask("there"))
    closed = [
        msgspec.structs.replace(ask(key, suspend=True), may_create=False, known_id=None) for key in ("there", "not")
    ]
    outcomes = await world.control.reconcile_boards(closed, positions=False)
    assert outcomes[0].board.id == made.board.id
    assert outcomes[0].changes[0] == "suspended: False -> True"
    assert isinstance(outcomes[1], BoardNotFound)


async def test_a_store_that_is_away_is_said_once(world, fleet):
    requests = [ask(f"b{n}") for n in range(3)]
    pool = await open_pool("postgresql://x@127.0.0.1:1/x", size=2, timeout=0.2)
    with pytest.raises(DatabaseUnavailable):
        await world.another_control(pool=pool).reconcile_boards(requests, positions=False)
    await pool.close()
    await fleet(*requests)
    away = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises(RedisUnavailable):
        await world.another_control(redis=away).reconcile_boards(requests, positions=False)
    await away.aclose()
