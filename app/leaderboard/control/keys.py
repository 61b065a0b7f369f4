"""API keys: issued, rotated and revoked.

A key is written as pending, then delivered, then made active: a crash anywhere leaves either a key that works and that
somebody has, or a pending one that the next reconcile drops or finishes.

What changes the worth of a key is told to the API workers twice: before the commit, so that nothing changes while
Redis cannot be told; and after it, because a worker that asked Postgres in between read the old row again.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Literal, Protocol

import msgspec
from redis.asyncio import Redis

from leaderboard.control.plan import KeyPlan
from leaderboard.domain.documents import ApiKeySpec
from leaderboard.domain.keys import ID_ENTROPY_BYTES, SECRET_ENTROPY_BYTES, ApiKey, digest, make_key
from leaderboard.domain.names import ProjectId, TenantId
from leaderboard.store.postgres import keys
from leaderboard.store.postgres.pool import Connection, transaction
from leaderboard.store.redis import revocations

KEY_ENTROPY_BYTES = ID_ENTROPY_BYTES + SECRET_ENTROPY_BYTES

Forget = tuple[Literal["key", "tenant"], str]
"""One entry of the revocation stream: kind and id (a tenant's id is its number in decimal)."""


class KeyDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A new key on its way to whoever asked for it; the only place its text ever is."""

    tenant: str
    tenant_id: TenantId
    project: str
    key: ApiKey
    previous_id: str | None = None
    previous_expires_at: datetime | None = None


class KeySink(Protocol):
    """Where new keys go: the terminal, or a Secret."""

    @property
    def keeps(self) -> bool:
        """Whether what was delivered stays there to be asked for, so that a key it has not is a lost one (a Secret);
        else it is shown once (the terminal).
        """

    async def deliver(self, delivery: KeyDelivery) -> None:
        """Hand the key over; it does not work yet. May be called for a project again, then with another key."""

    async def holds(self, project: str, key_id: str, hmac: bytes) -> bool:
        """Whether the key was delivered and is still there: its id and the HMAC of its text are these.

        Asked of keys on their way and, where the sink keeps them, of the one in force.
        """


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that took over, with the one before it."""

    project: str
    id: str
    previous_id: str | None
    previous_expires_at: datetime | None
    lost: bool = False
    """Whether the one before was lost, rather than due to be replaced."""


@asynccontextmanager
async def announced(conn: Connection, redis: Redis, *, forget: Sequence[Forget]) -> AsyncIterator[None]:
    """A transaction that commits only when Redis took `forget`, and tells it again afterwards.

    Raises RedisUnavailable: before the commit nothing changed; after it the change holds in Postgres, and has to be
    repeated for the workers to know at once.
    """
    async with transaction(conn):
        yield
        for kind, id in forget:
            await revocations.publish(redis, kind=kind, id=id)
    for kind, id in forget:
        await revocations.publish(redis, kind=kind, id=id)


async def carry_out(
    plan: KeyPlan,
    *,
    conn: Connection,
    redis: Redis,
    tenant: str,
    tenant_id: TenantId,
    project: str,
    project_id: ProjectId,
    spec: ApiKeySpec,
    sink: KeySink,
    entropy: bytes,
    env: str,
    pepper: bytes,
    now: datetime,
) -> IssuedKey | None:
    """Do what `plan` says for one project; return the key that took over, if one did."""
    if plan.drop:
        await keys.drop_pending(conn, plan.drop)
    if plan.rescope:
        async with announced(conn, redis, forget=[("key", id) for id in plan.rescope]):
            for key_id in plan.rescope:
                await keys.rescope(conn, key_id, scope=spec.scope)
    ends = now + plan.grace
    previous = plan.retire[-1] if plan.retire else None
    new_id = plan.activate
    if plan.issue is not None:
        key = make_key(entropy, env=env)
        await keys.insert_pending(
            conn,
            key_id=key.id,
            project_id=project_id,
            hmac=digest(key, pepper=pepper),
            scope=spec.scope,
            rotation_trigger=spec.rotation_trigger,
            at_once=plan.at_once,
            now=now,
        )
        await sink.deliver(
            KeyDelivery(
                tenant=tenant,
                tenant_id=tenant_id,
                project=project,
                key=key,
                previous_id=previous,
                previous_expires_at=ends if previous else None,
            )
        )
        new_id = key.id
    if new_id is None:
        return None
    # The new key too: a worker may have met it while it was pending and remembers that it opened nothing.
    async with announced(conn, redis, forget=[("key", id) for id in (new_id, *plan.retire)]):
        await keys.activate(conn, new_id, now=now)
        for key_id in plan.retire:
            if plan.grace:
                await keys.expire(conn, key_id, at=ends)
            else:
                await keys.revoke(conn, key_id, now=now)
    return IssuedKey(
        project=project,
        id=new_id,
        previous_id=previous,
        previous_expires_at=ends if previous else None,
        lost=plan.at_once,
    )
