"""Tenants and their projects."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from psycopg import errors

from leaderboard.domain.bills import Prices
from leaderboard.domain.documents import DeletionPolicy
from leaderboard.domain.names import ProjectId, TenantId
from leaderboard.domain.plans import QuotaOverrides, Quotas, effective
from leaderboard.store.postgres.pool import Connection, Database, connection


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
    adoptable_from: str | None = None
    """The namespace whose resource may take the tenant over while nobody owns it."""


class ProjectRow(msgspec.Struct, frozen=True, kw_only=True):
    """A project of a tenant."""

    id: ProjectId
    name: str
    allowed_origins: tuple[str, ...] = ()


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
       l.max_leaderboards, l.requests_per_second, t.adoptable_from
FROM tenants t JOIN plans l ON l.name = t.plan
WHERE t.deleted_at IS NULL AND {condition}
"""
_BY_SLUG = _SELECT.format(condition="t.slug = %s")
_BY_ID = _SELECT.format(condition="t.id = %s")
_BY_SLUGS = _SELECT.format(condition="t.slug = ANY(%s)")
_BY_IDS = _SELECT.format(condition="t.id = ANY(%s) ORDER BY t.id")
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
    return None if row is None else _tenant(row)


async def by_slugs(database: Database, slugs: Sequence[str]) -> list[TenantRow]:
    """Return those of the tenants `slugs` that there are, in any order."""
    async with connection(database) as conn:
        return [_tenant(row) async for row in await conn.execute(_BY_SLUGS, (list(slugs),))]


async def lock(conn: Connection, tenant_ids: Collection[TenantId]) -> list[TenantRow]:
    """Return those of the tenants that are not deleted, which nobody else changes until the transaction ends.

    In one order everywhere, so that two of these cannot lock each other out.
    """
    return [_tenant(row) async for row in await conn.execute(_BY_IDS + _LOCK, (list(tenant_ids),))]


def _tenant(row: Sequence[Any]) -> TenantRow:
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
        adoptable_from=row[14],
    )


async def plan_names(database: Database) -> list[str]:
    """Return the names of the plans there are."""
    async with connection(database) as conn:
        return [row[0] async for row in await conn.execute("SELECT name FROM plans ORDER BY name")]


async def insert(
    database: Database,
    slug: str,
    values: TenantValues,
    *,
    managed_by: str | None,
    now: datetime,
    known_id: TenantId | None = None,
) -> TenantId | None:
    """Write a new tenant and return its id, None where another made that slug meanwhile.

    With `known_id`, one that `identity.claim` let through, under that id; None also where that is taken by now.
    """
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "INSERT INTO tenants (id, slug, display_name, plan, max_leaderboards, requests_per_second, suspended,"
                " prevent_deletion, deletion_policy, home_region, spec_hash, managed_by, created_at, updated_at)"
                " OVERRIDING SYSTEM VALUE"
                " VALUES (coalesce(%s, nextval(pg_get_serial_sequence('tenants', 'id'))),"
                " %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING RETURNING id",
                (known_id, slug, *_columns(values), managed_by, now, now),
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
        rows = await conn.execute(
            "SELECT id, name, allowed_origins FROM projects WHERE tenant_id = %s ORDER BY name", (tenant_id,)
        )
        return [ProjectRow(id=ProjectId(row[0]), name=row[1], allowed_origins=tuple(row[2])) async for row in rows]


async def projects_of(database: Database, tenant_ids: Collection[TenantId]) -> dict[TenantId, list[ProjectRow]]:
    """Return the projects of each of the tenants, by name."""
    found: dict[TenantId, list[ProjectRow]] = {tenant_id: [] for tenant_id in tenant_ids}
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT tenant_id, id, name, allowed_origins FROM projects"
            " WHERE tenant_id = ANY(%s) ORDER BY tenant_id, name",
            (list(tenant_ids),),
        )
        async for tenant_id, project_id, name, origins in rows:
            found[tenant_id].append(ProjectRow(id=project_id, name=name, allowed_origins=tuple(origins)))
    return found


async def add_project(database: Database, tenant_id: TenantId, name: str) -> None:
    """Write a project; one that is there already stays as it is."""
    async with connection(database) as conn:
        await conn.execute(
            "INSERT INTO projects (tenant_id, name) VALUES (%s, %s) ON CONFLICT (tenant_id, name) DO NOTHING",
            (tenant_id, name),
        )


async def set_origins(database: Database, tenant_id: TenantId, name: str, origins: Sequence[str]) -> None:
    """Say whose pages may use the read keys of a project."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE projects SET allowed_origins = %s WHERE tenant_id = %s AND name = %s",
            (list(origins), tenant_id, name),
        )


async def prices(database: Database, plan: str) -> Prices:
    """Return what the plan costs; it has to be one that there is."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT monthly_price, included_updates, price_per_million FROM plans WHERE name = %s", (plan,)
            )
        ).fetchone()
    assert row is not None
    return Prices(monthly=row[0], included_updates=row[1], per_million=row[2])


async def suspend(database: Database, tenant_id: TenantId, *, now: datetime) -> None:
    """Stop every key of the tenant, as a step of deleting it."""
    async with connection(database) as conn:
        await conn.execute("UPDATE tenants SET suspended = true, updated_at = %s WHERE id = %s", (now, tenant_id))


async def mark_deleted(database: Database, tenant_id: TenantId, *, adoptable_from: str | None, now: datetime) -> None:
    """Give the tenant's slug free; its rows stay, so that the ledger and the bills stay joinable.

    `adoptable_from` is the namespace whose resource may have it back: nobody owns it then.
    """
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE tenants SET deleted_at = %s, updated_at = %s, adoptable_from = %s,"
            " managed_by = CASE WHEN %s::text IS NULL THEN managed_by END WHERE id = %s AND deleted_at IS NULL",
            (now, now, adoptable_from, adoptable_from, tenant_id),
        )


# -- giving away and taking over


async def offer(database: Database, tenant_id: TenantId, *, namespace: str, now: datetime) -> None:
    """Let a resource of `namespace` take the tenant over, as long as nobody owns it."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE tenants SET adoptable_from = %s, updated_at = %s WHERE id = %s AND managed_by IS NULL",
            (namespace, now, tenant_id),
        )


async def offer_retained(database: Database, slug: str, *, namespace: str) -> bool:
    """Let a resource of `namespace` have the newest retained tenant `slug` instead of whom it was kept for.

    False where there is none.
    """
    async with connection(database) as conn:
        done = await conn.execute(
            "UPDATE tenants SET adoptable_from = %s WHERE id = (SELECT id FROM tenants WHERE slug = %s"
            " AND deleted_at IS NOT NULL AND managed_by IS NULL AND adoptable_from IS NOT NULL"
            " ORDER BY deleted_at DESC, id DESC LIMIT 1)",
            (namespace, slug),
        )
        return done.rowcount == 1


async def adopt(database: Database, tenant_id: TenantId, *, owner: str, now: datetime) -> None:
    """Let `owner` own the tenant, which the caller has locked and may adopt."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE tenants SET managed_by = %s, adoptable_from = NULL, updated_at = %s"
            " WHERE id = %s AND managed_by IS NULL",
            (owner, now, tenant_id),
        )


async def adopt_retained(
    database: Database, slug: str, *, namespace: str, owner: str, now: datetime
) -> TenantId | None:
    """Bring the newest deleted tenant `slug` that `namespace` may have back to life, owned by `owner`; return its id.

    None where there is none, or where somebody else has the slug by now.
    """
    async with connection(database) as conn:
        try:
            row = await (
                await conn.execute(
                    "UPDATE tenants SET deleted_at = NULL, managed_by = %s, adoptable_from = NULL, updated_at = %s"
                    " WHERE id = (SELECT id FROM tenants WHERE slug = %s AND deleted_at IS NOT NULL"
                    "  AND managed_by IS NULL AND adoptable_from = %s ORDER BY deleted_at DESC, id DESC LIMIT 1)"
                    " AND deleted_at IS NOT NULL RETURNING id",
                    (owner, now, slug, namespace),
                )
            ).fetchone()
        except errors.UniqueViolation:
            return None
    return None if row is None else TenantId(row[0])


async def owners(database: Database) -> set[str]:
    """Return the UIDs of the custom resources that own tenants."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT DISTINCT managed_by FROM tenants WHERE managed_by IS NOT NULL AND deleted_at IS NULL"
        )
        return {row[0] async for row in rows}
