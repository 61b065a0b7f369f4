"""Many boards of many tenants in one statement each: what a batch or a sweep of control asks and writes."""

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from leaderboard.domain.boards import BoardSpec
from leaderboard.domain.documents import DeletionPolicy
from leaderboard.domain.names import LeaderboardId, ProjectId, TenantId
from leaderboard.domain.schedules import next_reset
from leaderboard.store.postgres.boards import (
    RECORD_COLUMNS,
    RECORD_WIDTH,
    BoardRecord,
    bounds_json,
    record,
    reset_json,
    tiers_json,
)
from leaderboard.store.postgres.pool import Connection, Database, connection


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a board is said to be, by names."""

    slug: str
    project: str
    key: str


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What is at a place; None for what there is not."""

    tenant_id: TenantId | None = None
    managed_by: str | None = None
    """The tenant's owner."""
    project_id: ProjectId | None = None
    record: BoardRecord | None = None
    """The board that holds the key, also one that is being deleted."""


class NewBoard(msgspec.Struct, frozen=True, kw_only=True):
    """A board's row before it has an id."""

    project_id: ProjectId
    spec: BoardSpec
    managed_by: str | None
    deletion_policy: DeletionPolicy
    spec_hash: str


_OBSERVE = f"""
SELECT {RECORD_COLUMNS}, r.n, t.id, t.managed_by, p.id
FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[]) r (n, slug, project, key)
LEFT JOIN tenants t ON t.slug = r.slug AND t.deleted_at IS NULL
LEFT JOIN projects p ON p.tenant_id = t.id AND p.name = r.project
LEFT JOIN leaderboards b ON b.project_id = p.id AND b.key = r.key AND b.state <> 'deleted'
"""  # noqa: S608 - a constant of this package


async def observe(database: Database, places: Sequence[Place]) -> list[Sight]:
    """Return what is at each of the places, in their order. Raises DatabaseUnavailable."""
    found = [Sight()] * len(places)
    async with connection(database) as conn:
        rows = await conn.execute(
            _OBSERVE,
            (
                list(range(len(places))),
                [place.slug for place in places],
                [place.project for place in places],
                [place.key for place in places],
            ),
        )
        async for row in rows:
            number, tenant_id, managed_by, project_id = row[RECORD_WIDTH:]
            found[number] = Sight(
                tenant_id=tenant_id,
                managed_by=managed_by,
                project_id=project_id,
                record=None if row[0] is None else record(row),
            )
    return found


async def by_ids(database: Database, board_ids: Collection[LeaderboardId]) -> dict[LeaderboardId, BoardRecord]:
    """Return the boards by id, whatever their state."""
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT {RECORD_COLUMNS} FROM leaderboards b WHERE b.id = ANY(%s)",  # noqa: S608 - as above
            (list(board_ids),),
        )
        return {row[0]: record(row) async for row in rows}


async def counts(database: Database, tenant_ids: Collection[TenantId]) -> dict[TenantId, int]:
    """Return how many boards each tenant has over all its projects, those being deleted included."""
    found = dict.fromkeys(tenant_ids, 0)
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT p.tenant_id, count(*) FROM leaderboards b JOIN projects p ON p.id = b.project_id"
            " WHERE p.tenant_id = ANY(%s) AND b.state <> 'deleted' GROUP BY p.tenant_id",
            (list(tenant_ids),),
        )
        found.update([(TenantId(tenant_id), number) async for tenant_id, number in rows])
    return found


async def taken(conn: Connection, places: Sequence[tuple[ProjectId, str]]) -> set[tuple[ProjectId, str]]:
    """Return those of the places (project and key) that have a board, also one that is being deleted."""
    rows = await conn.execute(
        "SELECT b.project_id, b.key FROM unnest(%s::bigint[], %s::text[]) r (project_id, key)"
        " JOIN leaderboards b ON b.project_id = r.project_id AND b.key = r.key AND b.state <> 'deleted'",
        ([project_id for project_id, _ in places], [key for _, key in places]),
    )
    return {(ProjectId(project_id), key) async for project_id, key in rows}


async def insert(
    conn: Connection, wanted: Sequence[NewBoard], *, now: datetime
) -> dict[tuple[ProjectId, str], LeaderboardId]:
    """Write new boards and return their ids by project and key; one that is there by now is left out.

    The caller holds the tenants' rows.
    """
    rows = await conn.execute(
        "INSERT INTO leaderboards (project_id, key, sort_order, score_update, tie_policy, max_entries, public_read,"
        " suspended, reset, bounds, tiers, next_reset, managed_by, deletion_policy, spec_hash, created_at, updated_at)"
        " SELECT *, %s, %s FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[],"
        " %s::bool[], %s::bool[], %s::jsonb[], %s::jsonb[], %s::jsonb[], %s::timestamptz[], %s::text[], %s::text[],"
        " %s::text[])"
        " ON CONFLICT (project_id, key) WHERE state <> 'deleted' DO NOTHING RETURNING project_id, key, id",
        (
            now,
            now,
            [board.project_id for board in wanted],
            [board.spec.key for board in wanted],
            [board.spec.sort_order.value for board in wanted],
            [board.spec.score_update.value for board in wanted],
            [board.spec.tie_policy.value for board in wanted],
            [board.spec.max_entries for board in wanted],
            [board.spec.public_read for board in wanted],
            [board.spec.suspended for board in wanted],
            [reset_json(board.spec) for board in wanted],
            [bounds_json(board.spec) for board in wanted],
            [tiers_json(board.spec) for board in wanted],
            [next_reset(board.spec.reset, now) for board in wanted],
            [board.managed_by for board in wanted],
            [board.deletion_policy.value for board in wanted],
            [board.spec_hash for board in wanted],
        ),
    )
    return {(project_id, key): board_id async for project_id, key, board_id in rows}
