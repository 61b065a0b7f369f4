"""What a request may rely on once its key is known: tenant, project, scope and limits."""

import hmac
from collections.abc import Awaitable, Callable

import msgspec

from leaderboard.domain import keys as api_keys
from leaderboard.domain.errors import InvalidApiKey
from leaderboard.domain.names import ProjectId, TenantId
from leaderboard.store.postgres import keys as key_rows
from leaderboard.store.postgres import tenants as tenant_rows
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.redis import keys as redis_keys


class KeyContext(msgspec.Struct, frozen=True, kw_only=True):
    """An API key's place and rights. `namespace` is what every Redis key of the project starts with.

    `rate` in requests per second; `expires_at` in seconds of the Unix epoch, None for a key without an end.
    """

    key_id: str
    tenant_id: TenantId
    tenant: str
    """Its slug."""
    project_id: ProjectId
    project: str
    scope: api_keys.Scope
    allowed: tuple[api_keys.Scope, ...]
    rate: int
    suspended: bool
    home_region: str | None
    expires_at: float | None
    namespace: str
    bucket: str
    """Where the tenant's tokens are kept; empty for a session, whose limiter is in memory."""
    policy: str
    """The RateLimit-Policy header, which does not change from request to request."""
    origins: tuple[str, ...] = ()
    """Whose pages may see what is read with the key; none for a key that may write."""


def key_lookup(pool: Pool, *, pepper: bytes) -> Callable[[str], Awaitable[KeyContext | None]]:
    """Return the look-up of a whole API key: its context, or None for a key that opens nothing.

    Raises DatabaseUnavailable.
    """

    async def lookup(text: str) -> KeyContext | None:
        try:
            key = api_keys.parse_key(text)
        except InvalidApiKey:
            return None
        row = await key_rows.lookup(pool, key.id)
        if row is None or row.state is not key_rows.KeyState.ACTIVE:
            return None
        if not hmac.compare_digest(row.hmac, api_keys.digest(key, pepper=pepper)):
            return None
        return _context(row, bucket=redis_keys.rate_limit(row.tenant_id))

    return lookup


def session_lookup(pool: Pool) -> Callable[[str], Awaitable[KeyContext | None]]:
    """Return the look-up of a session's key by its id, for which the session's seal vouches.

    Raises DatabaseUnavailable.
    """

    async def lookup(key_id: str) -> KeyContext | None:
        row = await key_rows.lookup(pool, key_id)
        if row is None or row.state is not key_rows.KeyState.ACTIVE:
            return None
        return _context(row, bucket="")

    return lookup


def _context(row: key_rows.KeyRecord, *, bucket: str) -> KeyContext:
    return KeyContext(
        key_id=row.key_id,
        tenant_id=row.tenant_id,
        tenant=row.tenant_slug,
        project_id=row.project_id,
        project=row.project,
        scope=row.scope,
        allowed=row.scope.included,
        rate=row.quotas.requests_per_second,
        suspended=row.suspended,
        home_region=row.home_region,
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        namespace=redis_keys.board(row.tenant_id, row.project, ""),
        bucket=bucket,
        policy=policy(row.quotas.requests_per_second),
        origins=row.allowed_origins if row.scope is api_keys.Scope.READ else (),
    )


def project_lookup(pool: Pool) -> Callable[[str], Awaitable[KeyContext | None]]:
    """Return the look-up of ``tenant/project`` for the public route: a context that may read, with its own bucket."""

    async def lookup(name: str) -> KeyContext | None:
        slug, _, project = name.partition("/")
        row = await tenant_rows.find_project(pool, slug, project)
        if row is None:
            return None
        return KeyContext(
            key_id="",
            tenant_id=row.tenant_id,
            tenant=slug,
            project_id=row.project_id,
            project=project,
            scope=api_keys.Scope.READ,
            allowed=api_keys.Scope.READ.included,
            rate=row.quotas.requests_per_second,
            suspended=row.suspended,
            home_region=row.home_region,
            expires_at=None,
            namespace=redis_keys.board(row.tenant_id, project, ""),
            bucket=redis_keys.public_rate_limit(row.tenant_id),
            policy=policy(row.quotas.requests_per_second),
        )

    return lookup


def policy(rate: int) -> str:
    """Return the RateLimit-Policy of a plan (draft-ietf-httpapi-ratelimit-headers): `rate` requests in 1 second."""
    return f'"plan";q={rate};w=1'
