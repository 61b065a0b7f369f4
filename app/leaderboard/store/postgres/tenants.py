"""Tenants and their projects."""

from datetime import datetime
from typing import NamedTuple

import msgspec

from leaderboard.domain.documents import DeletionPolicy
from leaderboard.domain.names import ProjectId, TenantId
from leaderboard.domain.plans import QuotaOverrides, Quotas, effective
from leaderboard.store.postgres.pool import Database, connection


class PublicProject(NamedTuple):
    """What the public route needs of a project. `suspended` and `home_region` are the tenant's."""

    tenant_id: TenantId
    project_id: ProjectId
    quotas: Quotas
    suspended: bool
    home_region: str | None


class TenantRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as it stands. `quotas` are its plan's limits with its own overrides."""

    id: TenantId
    slug: str
    display_name: str | None
    plan: str
    overrides: QuotaOverrides
    quotas: Quotas
    suspended: bool
    prevent_deletion: bool
    deletion_policy: DeletionPolicy
    home_region: str | None
    managed_by: str | None
    spec_hash: str


class ProjectRow(msgspec.Struct, frozen=True, kw_only=True):
    """A project of a tenant."""

    id: ProjectId
    name: str


class TenantValues(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a tenant that a document decides."""

    display_name: str | None
    plan: str
    max_leaderboards: int | None
    requests_per_second: int | None
    suspended: bool
    prevent_deletion: bool
    deletion_policy: DeletionPolicy
    home_region: str | None
    spec_hash: str


def effective_quotas(plan_boards: int, plan_rate: int, own_boards: int | None, own_rate: int | None) -> Quotas:
    """Return the limits in force from the plan's columns and the tenant's own."""
    return effective(
        Quotas(max_leaderboards=plan_boards, requests_per_second=plan_rate),
        QuotaOverrides(max_leaderboards=own_boards, requests_per_second=own_rate),
    )


async def find_project(database: Database, slug: str, project: str) -> PublicProject | None:
    """Return the project `project` of the tenant `slug`, None without either. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT t.id, p.id, t.suspended, t.home_region, l.max_leaderboards, l.requests_per_second,"
                " t.max_leaderboards, t.requests_per_second"
                " FROM tenants t JOIN projects p ON p.tenant_id = t.id JOIN plans l ON l.name = t.plan"
                " WHERE t.slug = %s AND t.deleted_at IS NULL AND p.name = %s",
                (slug, project),
            )
        ).fetchone()
    if row is None:
        return None
    return PublicProject(
        tenant_id=TenantId(row[0]),
        project_id=ProjectId(row[1]),
        suspended=row[2],
        home_region=row[3],
        quotas=effective_quotas(row[4], row[5], row[6], row[7]),
    )


_SELECT = """
SELECT t.id, t.slug, t.display_name, t.plan, t.max_leaderboards, t.requests_per_second, t.suspended,
       t.prevent_deletion, t.deletion_policy, t.home_region, t.managed_by, t.spec_hash,
       l.max_leaderboards, l.requests_per_second
FROM tenants t JOIN plans l ON l.name = t.plan
WHERE t.deleted_at IS NULL AND {condition}
"""
_BY_SLUG = _SELECT.format(condition="t.slug = %s")
_BY_ID = _SELECT.format(condition="t.id = %s")
_LOCK = " FOR NO KEY UPDATE OF t"


async def by_slug(database: Database, slug: str, *, lock: bool = False) -> TenantRow | None:
    """Return the tenant `slug` that is not deleted; `lock` keeps others from changing it until the transaction ends."""
    return await _one(database, _BY_SLUG + (_LOCK if lock else ""), slug)


async def by_id(database: Database, tenant_id: TenantId, *, lock: bool = False) -> TenantRow | None:
    """Return the tenant `tenant_id` that is not deleted; `lock` as in `by_slug`."""
    return await _one(database, _BY_ID + (_LOCK if lock else ""), tenant_id)


async def _one(database: Database, query: str, key: str | int) -> TenantRow | None:
    async with connection(database) as conn:
        row = await (await conn.execute(query, (key,))).fetchone()
    if row is None:
        return None
    return TenantRow(
        id=TenantId(row[0]),
        slug=row[1],
        display_name=row[2],
        plan=row[3],
        overrides=QuotaOverrides(max_leaderboards=row[4], requests_per_second=row[5]),
        suspended=row[6],
        prevent_deletion=row[7],
        deletion_policy=DeletionPolicy(row[8]),
        home_region=row[9],
        managed_by=row[10],
        spec_hash=row[11],
        quotas=effective_quotas(row[12], row[13], row[4], row[5]),
    )


async def plan_names(database: Database) -> list[str]:
    """Return the names of the plans there are."""
    async with connection(database) as conn:
        return [row[0] async for row in await conn.execute("SELECT name FROM plans ORDER BY name")]


async def insert(
    database: Database, slug: str, values: TenantValues, *, managed_by: str | None, now: datetime
) -> TenantId | None:
    """Write a new tenant and return its id, None where another made that slug meanwhile."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "INSERT INTO tenants (slug, display_name, plan, max_leaderboards, requests_per_second, suspended,"
                " prevent_deletion, deletion_policy, home_region, spec_hash, managed_by, created_at, updated_at)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (slug) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
                (slug, *_columns(values), managed_by, now, now),
            )
        ).fetchone()
    return None if row is None else TenantId(row[0])


async def update(database: Database, tenant_id: TenantId, values: TenantValues, *, now: datetime) -> None:
    """Write what a document decides over what is there."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE tenants SET display_name = %s, plan = %s, max_leaderboards = %s, requests_per_second = %s,"
            " suspended = %s, prevent_deletion = %s, deletion_policy = %s, home_region = %s, spec_hash = %s,"
            " updated_at = %s WHERE id = %s",
            (*_columns(values), now, tenant_id),
        )


def _columns(values: TenantValues) -> tuple[object, ...]:
    return (
        values.display_name,
        values.plan,
        values.max_leaderboards,
        values.requests_per_second,
        values.suspended,
        values.prevent_deletion,
        values.deletion_policy.value,
        values.home_region,
        values.spec_hash,
    )


async def projects(database: Database, tenant_id: TenantId) -> list[ProjectRow]:
    """Return the tenant's projects by name."""
    async with connection(database) as conn:
        rows = await conn.execute("SELECT id, name FROM projects WHERE tenant_id = %s ORDER BY name", (tenant_id,))
        return [ProjectRow(id=ProjectId(row[0]), name=row[1]) async for row in rows]


async def add_project(database: Database, tenant_id: TenantId, name: str) -> None:
    """Write a project; one that is there already stays as it is."""
    async with connection(database) as conn:
        await conn.execute(
            "INSERT INTO projects (tenant_id, name) VALUES (%s, %s) ON CONFLICT (tenant_id, name) DO NOTHING",
            (tenant_id, name),
        )


async def suspend(database: Database, tenant_id: TenantId, *, now: datetime) -> None:
    """Stop every key of the tenant, as a step of deleting it."""
    async with connection(database) as conn:
        await conn.execute("UPDATE tenants SET suspended = true, updated_at = %s WHERE id = %s", (now, tenant_id))


async def mark_deleted(database: Database, tenant_id: TenantId, *, now: datetime) -> None:
    """Give the tenant's slug free; its rows stay, so that the ledger and the bills stay joinable."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE tenants SET deleted_at = %s, updated_at = %s WHERE id = %s AND deleted_at IS NULL",
            (now, now, tenant_id),
        )
