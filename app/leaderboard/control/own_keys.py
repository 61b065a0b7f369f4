"""The keys that a project's own people make, rotate and revoke, beside the one that its Tenant document keeps.

`tenancy` never sees those that were made here. The document's own key may be rotated and revoked here too, unless a
custom resource manages the tenant: the operator's Secret would be left with a key that is no more.
"""

from datetime import datetime, timedelta

import msgspec

from leaderboard.control.errors import KeyManaged, KeyNotFound, TenantNotFound
from leaderboard.control.keys import KEY_ENTROPY_BYTES, announced
from leaderboard.control.tools import TENANT_LOCK, Tools
from leaderboard.domain.errors import QuotaExceeded
from leaderboard.domain.keys import ApiKey, Scope, digest, make_key
from leaderboard.domain.names import ProjectId, TenantId, line
from leaderboard.store.postgres import keys, tenants
from leaderboard.store.postgres.keys import ProjectKey
from leaderboard.store.postgres.pool import Connection, connection, locked, transaction

MAX_KEYS = 100
"""Keys in force that a project may have besides its document's."""
MAX_NAME = 64
MAX_GRACE = timedelta(days=30)


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was just made; the only place its text ever is. `previous_expires_at` is the end of the one before."""

    key: ApiKey
    name: str | None
    scope: Scope
    created_at: datetime
    previous_expires_at: datetime | None = None


async def of_project(tools: Tools, project_id: ProjectId) -> list[ProjectKey]:
    """Return the keys in force, oldest first; see `Control.keys_of`."""
    async with connection(tools.pool) as conn:
        return await keys.of_project(conn, project_id, now=tools.clock())


async def make(tools: Tools, *, tenant_id: TenantId, project_id: ProjectId, scope: Scope, name: str | None) -> NewKey:
    """Make a key; see `Control.make_key`."""
    if name is not None:
        line(name, field="name", longest=MAX_NAME)
    async with locked(tools.pool, kind=TENANT_LOCK, id=tenant_id) as conn, transaction(conn):
        await _tenant(conn, tenant_id)
        there = await keys.of_project(conn, project_id, now=tools.clock())
        if sum(key.made_by_api for key in there) >= MAX_KEYS:
            raise QuotaExceeded("API keys of a project", limit=MAX_KEYS)
        return await _insert(tools, conn, project_id=project_id, scope=scope, name=name)


async def rotate(tools: Tools, *, tenant_id: TenantId, project_id: ProjectId, key_id: str, grace: timedelta) -> NewKey:
    """Replace a key by a new one; see `Control.rotate_key`."""
    async with locked(tools.pool, kind=TENANT_LOCK, id=tenant_id) as conn:
        async with announced(conn, tools.redis, forget=[("key", key_id)]):
            old = await _changeable(tools, conn, tenant_id=tenant_id, project_id=project_id, key_id=key_id)
            new = await _insert(tools, conn, project_id=project_id, scope=old.scope, name=old.name, instead_of=old)
            ends = new.created_at + grace
            if grace:
                await keys.expire(conn, key_id, at=ends)
            else:
                await keys.revoke(conn, key_id, now=new.created_at)
        # One that was to end before does so, whatever the grace.
        known = ends if old.expires_at is None else min(ends, old.expires_at)
        return msgspec.structs.replace(new, previous_expires_at=known)


async def revoke(tools: Tools, *, tenant_id: TenantId, project_id: ProjectId, key_id: str) -> None:
    """End a key at once; see `Control.revoke_key`."""
    async with (
        locked(tools.pool, kind=TENANT_LOCK, id=tenant_id) as conn,
        announced(conn, tools.redis, forget=[("key", key_id)]),
    ):
        await _changeable(tools, conn, tenant_id=tenant_id, project_id=project_id, key_id=key_id)
        await keys.revoke(conn, key_id, now=tools.clock())


async def _tenant(conn: Connection, tenant_id: TenantId) -> None:
    # Locked: a deletion revokes the keys there are, and must not miss one that is being made.
    if await tenants.by_id(conn, tenant_id, lock=True) is None:
        raise TenantNotFound("the tenant was deleted meanwhile")


async def _changeable(
    tools: Tools, conn: Connection, *, tenant_id: TenantId, project_id: ProjectId, key_id: str
) -> ProjectKey:
    await _tenant(conn, tenant_id)
    for key in await keys.of_project(conn, project_id, now=tools.clock()):
        if key.id == key_id:
            if key.managed:
                raise KeyManaged(
                    f"the key {key_id} is in the Secret of a Tenant resource: change the resource's"
                    " apiKey.rotationTrigger to rotate it"
                )
            return key
    raise KeyNotFound(f"the project has no API key {key_id[:40]!r} in force")


async def _insert(
    tools: Tools,
    conn: Connection,
    *,
    project_id: ProjectId,
    scope: Scope,
    name: str | None,
    instead_of: ProjectKey | None = None,
) -> NewKey:
    key = make_key(tools.entropy(KEY_ENTROPY_BYTES), env=tools.key_env)
    now = tools.clock()
    await keys.insert_active(
        conn,
        key_id=key.id,
        project_id=project_id,
        hmac=digest(key, pepper=tools.pepper),
        scope=scope,
        name=name,
        instead_of=None if instead_of is None else instead_of.id,
        now=now,
    )
    return NewKey(key=key, name=name, scope=scope, created_at=now)
