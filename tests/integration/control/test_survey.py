"""Looking at many tenants at once, without touching any."""

from datetime import timedelta

import pytest

from leaderboard.control.reconcile import TenantRequest
from leaderboard.store.redis import keys as redis_keys
from support.world import Sink, leaderboard, tenant

PROJECTS = [{"name": "default"}, {"name": "two"}]


@pytest.fixture
async def sinks(world):
    """Three tenants of resources, each with a sink that keeps its keys."""
    sinks = {slug: Sink(keeps=True) for slug in ("a", "b", "c")}
    for slug, sink in sinks.items():
        await world.apply(tenant(slug, projects=PROJECTS), owner=f"uid-{slug}", sink=sink)
    return sinks


def ask(slug, sink, *, owner=None, **spec):
    return TenantRequest(
        document=tenant(slug, **{"projects": PROJECTS, **spec}), owner=owner or f"uid-{slug}", sink=sink
    )


async def survey(world, sinks, **changed):
    """Ask for all three; `changed` are the spec fields of b."""
    return await world.control.survey_tenants(
        [ask(slug, sink, **(changed if slug == "b" else {})) for slug, sink in sinks.items()]
    )


async def test_tenants_as_they_should_be_are_told_of_in_order(world, sinks):
    await world.apply(leaderboard(of="b"))
    told = await world.redis.xlen(redis_keys.REVOCATIONS)
    found = await survey(world, sinks)
    assert [outcome.boards for outcome in found] == [0, 1, 0]
    for slug, outcome in zip(sinks, found, strict=True):
        alone = await world.apply(tenant(slug, projects=PROJECTS), owner=f"uid-{slug}", sink=sinks[slug])
        assert outcome == alone
        assert [key.project for key in outcome.keys_in_force] == ["default", "two"]
    assert await world.redis.xlen(redis_keys.REVOCATIONS) == told + 3  # of `apply`: the survey tells nobody anything


@pytest.mark.parametrize(
    "spec",
    [
        {"displayName": "B"},
        {"suspend": True},
        {"plan": "gold"},
        {"allowedNamespaces": {"from": "All"}},
        {"projects": [*PROJECTS, {"name": "three"}]},
        {"apiKey": {"rotationTrigger": "1"}},
        {"apiKey": {"scope": "read"}},
        {"owner": "uid-x"},
    ],
    ids=str,
)
async def test_another_wish_is_no_survey_s_business(world, sinks, spec):
    found = await survey(world, sinks, **spec)
    assert [outcome is None for outcome in found] == [False, True, False]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE tenants SET suspended = true WHERE slug = 'b'",
        "UPDATE tenants SET spec_hash = '' WHERE slug = 'b'",
        "UPDATE tenants SET managed_by = NULL, adoptable_from = 'games' WHERE slug = 'b'",
        "UPDATE tenants SET deleted_at = now() WHERE slug = 'b'",
        "UPDATE api_keys SET state = 'revoked' WHERE id = '{0}'",
        "UPDATE api_keys SET state = 'pending' WHERE id = '{0}'",
        "UPDATE api_keys SET hmac = decode(repeat('00', 32), 'hex') WHERE id = '{0}'",
        "UPDATE api_keys SET expires_at = now() WHERE id = '{0}'",
        "DELETE FROM api_keys WHERE id = '{0}'",
        "DELETE FROM api_keys WHERE id = '{0}'; DELETE FROM projects WHERE id NOT IN (SELECT project_id FROM api_keys)",
    ],
)
async def test_what_was_done_to_postgres_is_noticed(world, sinks, damage):
    async with world.pool.connection() as conn:
        for statement in damage.format(sinks["b"].delivered[1].key.id).split(";"):
            await conn.execute(statement)
    found = await survey(world, sinks)
    assert [outcome is None for outcome in found] == [False, True, False]


async def test_a_lost_secret_is_noticed(world, sinks):
    sinks["b"].lose(project="two")
    assert (await survey(world, sinks))[1] is None


async def test_a_sink_that_cannot_be_asked_concerns_its_tenant_only(world, sinks):
    async def away(*_):
        raise RuntimeError("the API server is away")

    sinks["b"].holds = away
    assert [outcome is None for outcome in await survey(world, sinks)] == [False, True, False]


async def test_a_key_in_its_grace_is_told_of(world, sinks):
    rotated = {"apiKey": {"rotationTrigger": "1", "gracePeriod": "1h"}}
    await world.apply(tenant("b", projects=PROJECTS, **rotated), owner="uid-b", sink=sinks["b"])
    first, _, second, _ = (given.key.id for given in sinks["b"].delivered)
    held = (await survey(world, sinks, **rotated))[1].keys_in_force[0]
    assert (held.id, held.previous_id, held.previous_expires_at) == (second, first, world.now + timedelta(hours=1))


async def test_a_project_that_is_in_no_document_any_more_is_noted(world, sinks):
    (found,) = await world.control.survey_tenants([ask("a", sinks["a"], projects=[{"name": "default"}])])
    assert found is None  # the document is another one
    await world.apply(tenant("a"), owner="uid-a", sink=sinks["a"])
    (found,) = await world.control.survey_tenants([ask("a", sinks["a"], projects=[{"name": "default"}])])
    assert "two" in found.notes[0]


async def test_a_tenant_that_is_not_there_needs_a_reconciliation(world):
    assert await world.control.survey_tenants([ask("nobody", Sink(keeps=True))]) == [None]
    assert await world.control.survey_tenants([]) == []
