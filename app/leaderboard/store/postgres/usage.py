"""Usage per day and project: what the bill and ``GET /v1/usage`` are made of.

Requests and refusals come from the API processes' flushes; score updates are counted by the ledger as it writes them.
A day is a UTC day.
"""

from collections.abc import Mapping
from datetime import date, datetime

import msgspec

from leaderboard.domain.names import ProjectId, TenantId
from leaderboard.store.postgres.pool import Database, connection, transaction


class UsageDay(msgspec.Struct, frozen=True, kw_only=True):
    """What one project did in one day."""

    day: date
    requests: int
    score_updates: int
    rate_limited: int


async def flush(
    database: Database,
    *,
    boot_nonce: str,
    sequence: int,
    counts: Mapping[tuple[date, ProjectId], tuple[int, int]],
) -> bool:
    """Add `counts`, (day, project) -> (requests, rate limited), exactly once under (boot_nonce, sequence).

    Returns False where that flush was counted already, so a flush whose answer was lost may be sent again.
    Raises DatabaseUnavailable.
    """
    rows = sorted(counts.items())  # in one order everywhere: two flushes cannot lock each other out
    async with transaction(database) as conn:
        first = await conn.execute(
            "INSERT INTO usage_flushes (boot_nonce, sequence) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (boot_nonce, sequence),
        )
        if first.rowcount == 0:
            return False
        await conn.execute(
            "INSERT INTO usage_rollups AS u (day, project_id, requests, rate_limited)"
            " SELECT * FROM unnest(%s::date[], %s::bigint[], %s::bigint[], %s::bigint[])"
            " ON CONFLICT (day, project_id) DO UPDATE SET requests = u.requests + excluded.requests,"
            " rate_limited = u.rate_limited + excluded.rate_limited",
            (
                [day for (day, _), _ in rows],
                [project for (_, project), _ in rows],
                [requests for _, (requests, _) in rows],
                [limited for _, (_, limited) in rows],
            ),
        )
    return True


async def read(database: Database, project_id: ProjectId, *, first_day: date, last_day: date) -> list[UsageDay]:
    """Return the project's days from `first_day` to `last_day`, both included; a day without use has no entry.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT day, requests, score_updates, rate_limited FROM usage_rollups"
            " WHERE project_id = %s AND day BETWEEN %s AND %s ORDER BY day",
            (project_id, first_day, last_day),
        )
        return [UsageDay(day=row[0], requests=row[1], score_updates=row[2], rate_limited=row[3]) async for row in rows]


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """Usage added up."""

    requests: int
    score_updates: int
    rate_limited: int


async def of_tenant(database: Database, tenant_id: TenantId, *, first_day: date, last_day: date) -> Used:
    """Return what all projects of the tenant used from `first_day` to `last_day`, both included.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT coalesce(sum(u.requests), 0)::bigint, coalesce(sum(u.score_updates), 0)::bigint,"
                " coalesce(sum(u.rate_limited), 0)::bigint"
                " FROM projects p JOIN usage_rollups u ON u.project_id = p.id"
                " WHERE p.tenant_id = %s AND u.day BETWEEN %s AND %s",
                (tenant_id, first_day, last_day),
            )
        ).fetchone()
    assert row is not None
    return Used(requests=row[0], score_updates=row[1], rate_limited=row[2])


async def prune_flushes(database: Database, *, before: datetime) -> int:
    """Forget the flushes counted before that time: no process retries one that long. Returns how many."""
    async with connection(database) as conn:
        return (await conn.execute("DELETE FROM usage_flushes WHERE flushed_at < %s", (before,))).rowcount
