"""API keys in Postgres: what a key's id stands for, and the rows control works on.

Only the HMAC of a key is ever stored.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from leaderboard.domain.keys import Scope
from leaderboard.domain.names import ProjectId, TenantId
from leaderboard.domain.plans import Quotas
from leaderboard.store.postgres.pool import Database, connection
from leaderboard.store.postgres.tenants import effective_quotas


class KeyState(StrEnum):
    """Where a key is in its life. A pending key was never delivered and opens nothing."""

    PENDING = "pending"
    ACTIVE = "active"
    REVOKED = "revoked"


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that a request with this key needs to know. Times are aware; `suspended` is the tenant's."""

    key_id: str
    hmac: bytes
    scope: Scope
    state: KeyState
    expires_at: datetime | None
    revoked_at: datetime | None
    tenant_id: TenantId
    tenant_slug: str
    project_id: ProjectId
    project: str
    quotas: Quotas
    suspended: bool
    home_region: str | None
    allowed_origins: tuple[str, ...]
    """The project's: whose pages may use its read keys."""


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One key as control sees it. `rotation_trigger` is the document's value when the key was issued; `at_once` says
    that the one before was lost, and ends without grace when this one takes over.
    """

    id: str
    project_id: ProjectId
    hmac: bytes
    scope: Scope
    state: KeyState
    rotation_trigger: str | None
    created_at: datetime
    activated_at: datetime | None
    expires_at: datetime | None
    at_once: bool = False


_LOOKUP = """
SELECT k.id, k.hmac, k.scope, k.state, k.expires_at, k.revoked_at,
       t.id, t.slug, p.id, p.name, t.suspended, t.home_region,
       l.max_leaderboards, l.requests_per_second, t.max_leaderboards, t.requests_per_second, p.allowed_origins
FROM api_keys k
JOIN projects p ON p.id = k.project_id
JOIN tenants t ON t.id = p.tenant_id AND t.deleted_at IS NULL
JOIN plans l ON l.name = t.plan
WHERE k.id = %s
"""


async def lookup(database: Database, key_id: str) -> KeyRecord | None:
    """Return what the key `key_id` stands for, None where there is no such key or its tenant was deleted.

    The caller checks the HMAC, state, expiry and suspension. Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        row = await (await conn.execute(_LOOKUP, (key_id,))).fetchone()
    if row is None:
        return None
    return KeyRecord(
        key_id=row[0],
        hmac=row[1],
        scope=Scope(row[2]),
        state=KeyState(row[3]),
        expires_at=row[4],
        revoked_at=row[5],
        tenant_id=TenantId(row[6]),
        tenant_slug=row[7],
        project_id=ProjectId(row[8]),
        project=row[9],
        suspended=row[10],
        home_region=row[11],
        quotas=effective_quotas(row[12], row[13], row[14], row[15]),
        allowed_origins=tuple(row[16]),
    )


_ROW = "k.id, k.project_id, k.hmac, k.scope, k.state, k.rotation_trigger, k.created_at, k.activated_at, k.expires_at"


async def of_tenant(database: Database, tenant_id: TenantId) -> list[KeyRow]:
    """Return every key of the tenant's document that is not revoked, oldest first."""
    return await of_tenants(database, [tenant_id])


async def of_tenants(database: Database, tenant_ids: Collection[TenantId]) -> list[KeyRow]:
    """Return every key of the tenants' documents that is not revoked, oldest first: none that was made by the API."""
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT {_ROW}, k.at_once FROM api_keys k JOIN projects p ON p.id = k.project_id"  # noqa: S608 - a constant
            " WHERE p.tenant_id = ANY(%s) AND k.state <> 'revoked' AND NOT k.made_by_api"
            " ORDER BY k.created_at, k.id",
            (list(tenant_ids),),
        )
        return [
            KeyRow(
                id=row[0],
                project_id=ProjectId(row[1]),
                hmac=row[2],
                scope=Scope(row[3]),
                state=KeyState(row[4]),
                rotation_trigger=row[5],
                created_at=row[6],
                activated_at=row[7],
                expires_at=row[8],
                at_once=row[9],
            )
            async for row in rows
        ]


class ProjectKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key as its project's people see it. `managed` says that a custom resource keeps it in a Secret."""

    id: str
    name: str | None
    scope: Scope
    made_by_api: bool
    managed: bool
    created_at: datetime
    expires_at: datetime | None


async def of_project(database: Database, project_id: ProjectId, *, now: datetime) -> list[ProjectKey]:
    """Return every key of the project that works at the time `now`, oldest first."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT k.id, k.name, k.scope, k.made_by_api, t.managed_by IS NOT NULL, k.created_at, k.expires_at"
            " FROM api_keys k JOIN projects p ON p.id = k.project_id JOIN tenants t ON t.id = p.tenant_id"
            " WHERE k.project_id = %s AND k.state = 'active'"
            " AND (k.expires_at IS NULL OR k.expires_at > %s) ORDER BY k.created_at, k.id",
            (project_id, now),
        )
        return [
            ProjectKey(
                id=row[0],
                name=row[1],
                scope=Scope(row[2]),
                made_by_api=row[3],
                managed=row[4] and not row[3],
                created_at=row[5],
                expires_at=row[6],
            )
            async for row in rows
        ]


async def insert_active(
    database: Database,
    *,
    key_id: str,
    project_id: ProjectId,
    hmac: bytes,
    scope: Scope,
    name: str | None,
    instead_of: str | None,
    now: datetime,
) -> None:
    """Write a key of the API that works at once. One `instead_of` a document's key is the document's in its place."""
    async with connection(database) as conn:
        await conn.execute(
            "INSERT INTO api_keys (id, project_id, hmac, scope, name, state, created_at, activated_at,"
            " made_by_api, rotation_trigger)"
            " SELECT %s, %s, %s, %s, %s, 'active', %s, %s, coalesce(o.made_by_api, true), o.rotation_trigger"
            " FROM (SELECT 1) AS one LEFT JOIN api_keys o ON o.id = %s",
            (key_id, project_id, hmac, scope.value, name, now, now, instead_of),
        )


async def insert_pending(
    database: Database,
    *,
    key_id: str,
    project_id: ProjectId,
    hmac: bytes,
    scope: Scope,
    rotation_trigger: str | None,
    at_once: bool,
    now: datetime,
) -> None:
    """Write a new key that opens nothing yet."""
    async with connection(database) as conn:
        await conn.execute(
            "INSERT INTO api_keys (id, project_id, hmac, scope, state, rotation_trigger, at_once, created_at)"
            " VALUES (%s, %s, %s, %s, 'pending', %s, %s, %s)",
            (key_id, project_id, hmac, scope.value, rotation_trigger, at_once, now),
        )


async def drop_pending(database: Database, key_ids: Sequence[str]) -> None:
    """Delete those of `key_ids` that were never activated."""
    async with connection(database) as conn:
        await conn.execute("DELETE FROM api_keys WHERE id = ANY(%s) AND state = 'pending'", (list(key_ids),))


async def activate(database: Database, key_id: str, *, now: datetime) -> bool:
    """Let a pending key open its project. False where it is pending no more."""
    async with connection(database) as conn:
        done = await conn.execute(
            "UPDATE api_keys SET state = 'active', activated_at = %s WHERE id = %s AND state = 'pending'",
            (now, key_id),
        )
        return done.rowcount == 1


async def expire(database: Database, key_id: str, *, at: datetime) -> None:
    """End an active key at the given time, never later than what was set before."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE api_keys SET expires_at = least(coalesce(expires_at, %s), %s) WHERE id = %s AND state = 'active'",
            (at, at, key_id),
        )


async def expire_of_tenant(database: Database, tenant_id: TenantId, *, at: datetime) -> None:
    """End every active key of the tenant at the given time, never later than what was set before."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE api_keys SET expires_at = least(coalesce(expires_at, %s), %s) WHERE state = 'active'"
            " AND project_id IN (SELECT id FROM projects WHERE tenant_id = %s)",
            (at, at, tenant_id),
        )


async def rescope(database: Database, key_id: str, *, scope: Scope) -> None:
    """Change what an active key may do."""
    async with connection(database) as conn:
        await conn.execute("UPDATE api_keys SET scope = %s WHERE id = %s", (scope.value, key_id))


async def revoke(database: Database, key_id: str, *, now: datetime) -> bool:
    """Mark the key revoked; repeating it changes nothing. False where there is no such key."""
    async with connection(database) as conn:
        done = await conn.execute(
            "UPDATE api_keys SET state = 'revoked', revoked_at = coalesce(revoked_at, %s) WHERE id = %s",
            (now, key_id),
        )
        return done.rowcount == 1


async def revoke_of_tenant(database: Database, tenant_id: TenantId, *, now: datetime) -> list[str]:
    """Mark every key of the tenant revoked and return the ids of those that were not yet."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "UPDATE api_keys SET state = 'revoked', revoked_at = %s WHERE state <> 'revoked'"
            " AND project_id IN (SELECT id FROM projects WHERE tenant_id = %s) RETURNING id",
            (now, tenant_id),
        )
        return [row[0] async for row in rows]
