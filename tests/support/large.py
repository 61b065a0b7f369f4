"""A tenant as large as the dashboard has to bear, and the stores for it."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg

from leaderboard.local.postgres import EmbeddedPostgres
from leaderboard.local.process import Log, wait_until
from leaderboard.local.redis import EmbeddedRedis
from leaderboard.store.postgres import migrate
from leaderboard_sdk import Client, Update
from support.platform import Platform
from support.tenants import Tenant, make_tenant

_BATCH = 1_000


@contextlib.contextmanager
def stores(
    folder: Path, *, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[EmbeddedPostgres, EmbeddedRedis]]:
    """Run an embedded Postgres, migrated, and an embedded Redis in `folder`; their lines go to ``stores.log`` there."""
    log = Log(folder / "stores.log")
    postgres = EmbeddedPostgres(folder / "postgres", log=log, settings=settings)
    redis = EmbeddedRedis(folder / "redis", log=log)
    try:
        postgres.start()
        redis.start()
        migrate.apply(postgres.url)
        yield postgres, redis
    finally:
        redis.stop()
        postgres.stop()
        log.close()


def fill(platform: Platform, *, members: int, boards: int, days: int) -> Tenant:
    """Make a tenant with `boards` leaderboards, `members` on the one named ``global``, and usage of `days` days.

    Returns when all updates are in the ledger and Postgres knows how large its tables are.
    """
    tenant = make_tenant(platform, slug="large", quotas={"maxLeaderboards": boards, "requestsPerSecond": 100_000})
    with Client(platform.url, tenant.key) as sdk:
        for number in range(1, boards):
            sdk.create_leaderboard(f"board-{number:04}")
        for start in range(0, members, _BATCH):
            some = range(start, min(start + _BATCH, members))
            sdk.update_many(Update(leaderboard="global", user=f"user-{n:06}", increment=n + 1) for n in some)

        def written() -> int:
            return sum(day.score_updates for day in sdk.usage().days)

        assert wait_until(lambda: written() >= members, seconds=120, pause=0.5)
    with psycopg.connect(platform.database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO usage_rollups (project_id, day, requests, score_updates, rate_limited)"
            " SELECT p.id, (now() AT TIME ZONE 'UTC')::date - d, 90000 + d, 70000 + d, d"
            " FROM projects p, generate_series(1, %s) d WHERE p.tenant_id = %s",
            (days - 1, tenant.id),
        )
        connection.execute(
            "INSERT INTO usage_hours (project_id, hour, requests, score_updates, rate_limited)"
            " SELECT p.id, date_trunc('hour', now()) - make_interval(hours => h), 3000 + h, 2000 + h, h"
            " FROM projects p, generate_series(1, 30 * 24) h WHERE p.tenant_id = %s",
            (tenant.id,),
        )
        # Other tenants' boards, so that this one's are no great part of the table.
        other = make_tenant(platform, slug="other", projects=[f"project-{number}" for number in range(30)])
        connection.execute(
            "INSERT INTO leaderboards (project_id, key, sort_order, score_update, tie_policy, max_entries, public_read,"
            " suspended, deletion_policy, spec_hash, created_at, updated_at)"
            " SELECT b.project_id, 'other-' || n, b.sort_order, b.score_update, b.tie_policy, b.max_entries,"
            " b.public_read, b.suspended, b.deletion_policy, b.spec_hash, b.created_at, b.updated_at"
            " FROM leaderboards b JOIN projects p ON p.id = b.project_id, generate_series(1, %s) n"
            " WHERE p.tenant_id = %s",
            (boards, other.id),
        )
        # And so many tenants, projects and keys that none of these tables is one that Postgres may as well read whole.
        connection.execute(
            "INSERT INTO tenants (slug, plan, deletion_policy, spec_hash, created_at, updated_at)"
            " SELECT 'copy-' || n, t.plan, t.deletion_policy, t.spec_hash, t.created_at, t.updated_at"
            " FROM tenants t, generate_series(1, 2000) n WHERE t.id = %s",
            (other.id,),
        )
        connection.execute(
            "INSERT INTO projects (tenant_id, name) SELECT id, 'default' FROM tenants WHERE slug LIKE 'copy-%'"
        )
        connection.execute(
            "INSERT INTO api_keys (id, project_id, hmac, scope, state, created_at)"
            " SELECT lpad(p.id::text, 16, '0'), p.id, sha256(p.id::text::bytea), 'read', 'active', now()"
            " FROM projects p JOIN tenants t ON t.id = p.tenant_id WHERE t.slug LIKE 'copy-%'"
        )
        connection.execute("ANALYZE")
    return tenant
