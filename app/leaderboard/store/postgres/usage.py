"""Usage per project, by day for good and by hour for some weeks: what the bill and ``GET /v1/usage`` are made of.

Requests, refusals and problems come from the API processes' flushes; score updates are counted by the ledger as it
writes them. Days and hours are those of UTC.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeVar

import msgspec

from leaderboard.domain.names import ProjectId, TenantId
from leaderboard.store.postgres.pool import Connection, Database, connection, transaction


class UsageDay(msgspec.Struct, frozen=True, kw_only=True):
    """What one project did in one day."""

    day: date
    requests: int
    score_updates: int
    rate_limited: int


class Counts(NamedTuple):
    """What the API counts of a project's requests: let through, answered 429, another 4xx, 5xx."""

    requests: int = 0
    rate_limited: int = 0
    client_errors: int = 0
    server_errors: int = 0


_When = TypeVar("_When", date, datetime)

_COUNTED = ", ".join(Counts._fields)
_ADDED = ", ".join(f"{name} = u.{name} + excluded.{name}" for name in Counts._fields)


async def flush(
    database: Database,
    *,
    boot_nonce: str,
    sequence: int,
    counts: Mapping[tuple[datetime, ProjectId], Counts],
) -> bool:
    """Add `counts` of (hour, project) to both tables, exactly once under (boot_nonce, sequence).

    Returns False where that flush was counted already, so a flush whose answer was lost may be sent again.
    Raises DatabaseUnavailable.
    """
    days: dict[tuple[date, ProjectId], Counts] = {}
    for (hour, project), counted in counts.items():
        day = (hour.astimezone(UTC).date(), project)
        days[day] = add(days.get(day, Counts()), counted)
    async with transaction(database) as conn:
        first = await conn.execute(
            "INSERT INTO usage_flushes (boot_nonce, sequence) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (boot_nonce, sequence),
        )
        if first.rowcount == 0:
            return False
        await _add(conn, "usage_hours", "hour", "timestamptz", counts)
        await _add(conn, "usage_rollups", "day", "date", days)
    return True


def add(one: Counts, other: Counts) -> Counts:
    """Return the sum of two counts."""
    return Counts(*(mine + its for mine, its in zip(one, other, strict=True)))


async def _add(
    conn: Connection, table: str, column: str, kind: str, counts: Mapping[tuple[_When, ProjectId], Counts]
) -> None:
    rows: list[tuple[tuple[_When, ProjectId], Counts]] = sorted(
        counts.items()
    )  # in one order everywhere: two flushes cannot lock each other out
    await conn.execute(
        f"INSERT INTO {table} AS u ({column}, project_id, {_COUNTED})"  # noqa: S608 - constants of this module
        f" SELECT * FROM unnest(%s::{kind}[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
        f" ON CONFLICT ({column}, project_id) DO UPDATE SET {_ADDED}",
        (
            [at for (at, _), _ in rows],
            [project for (_, project), _ in rows],
            *([counted[field] for _, counted in rows] for field in range(len(Counts._fields))),
        ),
    )


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


class Step(StrEnum):
    """How long a point of a series is."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """Its duration."""
        return timedelta(hours=1) if self is Step.HOUR else timedelta(days=1)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What one project did in the hour or day that began `at`."""

    at: datetime
    requests: int = 0
    score_updates: int = 0
    rate_limited: int = 0
    client_errors: int = 0
    server_errors: int = 0


async def series(
    database: Database, project_id: ProjectId, *, step: Step, first_day: date, last_day: date, now: datetime
) -> list[Point]:
    """Return one point for every step of the days from `first_day` to `last_day` that has begun by `now`.

    A step without use has zeros; so have hours that were pruned. Raises DatabaseUnavailable.
    """
    start = datetime.combine(first_day, time(), UTC)
    end = min(datetime.combine(last_day, time(), UTC) + timedelta(days=1) - timedelta(microseconds=1), now)
    query = (
        "SELECT hour, requests, score_updates, rate_limited, client_errors, server_errors FROM usage_hours"
        " WHERE project_id = %s AND hour BETWEEN %s AND %s"
        if step is Step.HOUR
        else "SELECT day::timestamp AT TIME ZONE 'UTC', requests, score_updates, rate_limited, client_errors,"
        " server_errors FROM usage_rollups"
        " WHERE project_id = %s AND day BETWEEN (%s AT TIME ZONE 'UTC')::date AND (%s AT TIME ZONE 'UTC')::date"
    )
    async with connection(database) as conn:
        rows = await conn.execute(query, (project_id, start, end))
        used = {
            row[0]: Point(
                at=row[0].astimezone(UTC),
                requests=row[1],
                score_updates=row[2],
                rate_limited=row[3],
                client_errors=row[4],
                server_errors=row[5],
            )
            async for row in rows
        }
    moments = (start + number * step.length for number in range(max(0, (end - start) // step.length + 1)))
    return [used.get(at) or Point(at=at) for at in moments]


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


async def prune_hours(database: Database, *, before: datetime) -> int:
    """Forget the hours that began before that time; their days stay. Returns how many."""
    async with connection(database) as conn:
        return (await conn.execute("DELETE FROM usage_hours WHERE hour < %s", (before,))).rowcount
