"""Boards as rows: what control decided and the API lists."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from leaderboard.domain.boards import Board, BoardSpec, ScoreUpdate, SortOrder, TiePolicy
from leaderboard.domain.bounds import Bounds
from leaderboard.domain.documents import DeletionPolicy
from leaderboard.domain.names import BoardKey, LeaderboardId, ProjectId, TenantId
from leaderboard.domain.schedules import ResetSpec, next_reset
from leaderboard.domain.tiers import Tier
from leaderboard.store.postgres.pool import Database, connection


class BoardRow(Board, frozen=True, kw_only=True):
    """A board with its dates, as lists show it."""

    created_at: datetime
    updated_at: datetime


class PlacedBoard(msgspec.Struct, frozen=True, kw_only=True):
    """A board with where it is: enough to name its Redis keys and to say which one it is."""

    tenant_id: TenantId
    tenant: str
    project_id: ProjectId
    project: str
    board: Board
    deleting: bool = False

    @property
    def path(self) -> str:
        """``slug/project/key``, as the command line takes it."""
        return f"{self.tenant}/{self.project}/{self.board.spec.key}"


_COLUMNS = (
    "b.id, b.key, b.sort_order, b.score_update, b.tie_policy, b.max_entries, b.public_read, b.suspended, b.reset,"
    " b.incarnation, b.managed_by, b.season, b.next_reset, b.bounds, b.tiers"
)
_WIDTH = 15
"""How many they are; what a query asks for besides comes after them."""


def _fields(row: Sequence[Any]) -> dict[str, Any]:
    return {
        "id": LeaderboardId(row[0]),
        "spec": BoardSpec(
            key=BoardKey(row[1]),
            sort_order=SortOrder(row[2]),
            score_update=ScoreUpdate(row[3]),
            tie_policy=TiePolicy(row[4]),
            max_entries=row[5],
            public_read=row[6],
            suspended=row[7],
            reset=None if row[8] is None else msgspec.convert(row[8], ResetSpec),
            bounds=None if row[13] is None else msgspec.convert(row[13], Bounds),
            tiers=() if row[14] is None else msgspec.convert(row[14], tuple[Tier, ...]),
        ),
        "incarnation": row[9],
        "managed_by": row[10],
        "season": row[11],
        "next_reset": row[12],
    }


def reset_json(spec: BoardSpec) -> str | None:
    """Return the `reset` of a board as its column takes it."""
    return None if spec.reset is None else msgspec.json.encode(spec.reset).decode()


def bounds_json(spec: BoardSpec) -> str | None:
    """Return the `bounds` of a board as its column takes them."""
    return None if spec.bounds is None else msgspec.json.encode(spec.bounds).decode()


def tiers_json(spec: BoardSpec) -> str | None:
    """Return the `tiers` of a board as their column takes them."""
    return msgspec.json.encode(spec.tiers).decode() if spec.tiers else None


async def get(database: Database, project_id: ProjectId, key: str) -> Board | None:
    """Return the board `key` of the project, None where there is none or it is being deleted.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                f"SELECT {_COLUMNS} FROM leaderboards b"  # noqa: S608 - a constant of this module
                " WHERE b.project_id = %s AND b.key = %s AND b.state = 'active'",
                (project_id, key),
            )
        ).fetchone()
    return None if row is None else Board(**_fields(row))


async def get_row(database: Database, project_id: ProjectId, key: str) -> BoardRow | None:
    """As `get`, with the dates."""
    found = await list_page(database, project_id, only=key, after=None, limit=1)
    return found[0] if found else None


async def list_page(
    database: Database, project_id: ProjectId, *, after: str | None, limit: int, only: str | None = None
) -> list[BoardRow]:
    """Return up to `limit` boards of the project in the order of their keys' bytes, those past `after`.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT {_COLUMNS}, b.created_at, b.updated_at FROM leaderboards b"  # noqa: S608 - as above
            " WHERE b.project_id = %s AND b.state = 'active' AND (%s::text IS NULL OR b.key > %s)"
            " AND (%s::text IS NULL OR b.key = %s) ORDER BY b.key LIMIT %s",
            (project_id, after, after, only, only, limit),
        )
        return [BoardRow(**_fields(row), created_at=row[_WIDTH], updated_at=row[_WIDTH + 1]) async for row in rows]


class BoardState(StrEnum):
    """Where a board's row is in its life."""

    ACTIVE = "active"
    DELETING = "deleting"
    DELETED = "deleted"


class BoardRecord(NamedTuple):
    """A board's row as control decides on it."""

    board: Board
    state: BoardState
    deletion_policy: DeletionPolicy
    spec_hash: str
    adoptable_from: str | None
    """The namespace whose resource may take the board over while nobody owns it."""


RECORD_COLUMNS = f"{_COLUMNS}, b.state, b.deletion_policy, b.spec_hash, b.adoptable_from"
"""What `record` reads, of leaderboards AS b."""
RECORD_WIDTH = _WIDTH + 4
"""How many they are."""


def record(row: Sequence[Any]) -> BoardRecord:
    """Return the record that starts a row of RECORD_COLUMNS."""
    state, policy, spec_hash, adoptable_from = row[_WIDTH:RECORD_WIDTH]
    return BoardRecord(Board(**_fields(row)), BoardState(state), DeletionPolicy(policy), spec_hash, adoptable_from)


async def find(database: Database, project_id: ProjectId, key: str) -> BoardRecord | None:
    """Return the board that holds the key, also one that is being deleted."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                f"SELECT {RECORD_COLUMNS} FROM leaderboards b"  # noqa: S608 - as above
                " WHERE b.project_id = %s AND b.key = %s AND b.state <> 'deleted'",
                (project_id, key),
            )
        ).fetchone()
    return None if row is None else record(row)


async def by_id(database: Database, board_id: LeaderboardId, *, lock: bool = False) -> BoardRecord | None:
    """Return the board with its state, whatever that is; `lock` keeps its row as it is until the transaction ends."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                f"SELECT {RECORD_COLUMNS} FROM leaderboards b WHERE b.id = %s"  # noqa: S608 - as above
                + (" FOR NO KEY UPDATE" if lock else ""),
                (board_id,),
            )
        ).fetchone()
    return None if row is None else record(row)


async def count_of_tenant(database: Database, tenant_id: TenantId) -> int:
    """Return how many boards the tenant has over all its projects, those being deleted included."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT count(*) FROM leaderboards b JOIN projects p ON p.id = b.project_id"
                " WHERE p.tenant_id = %s AND b.state <> 'deleted'",
                (tenant_id,),
            )
        ).fetchone()
    assert row is not None
    return int(row[0])


async def insert(
    database: Database,
    project_id: ProjectId,
    spec: BoardSpec,
    *,
    managed_by: str | None,
    deletion_policy: DeletionPolicy,
    spec_hash: str,
    now: datetime,
    known_id: LeaderboardId | None = None,
    incarnation: int = 1,
    season: int = 1,
) -> LeaderboardId:
    """Write a new board and return its id. The caller holds the tenant's row.

    With `known_id`, one that `identity.claim` let through, the board gets that id.
    """
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "INSERT INTO leaderboards (id, project_id, key, sort_order, score_update, tie_policy, max_entries,"
                " public_read, suspended, reset, bounds, tiers, managed_by, deletion_policy, spec_hash, incarnation,"
                " season, next_reset, created_at, updated_at) OVERRIDING SYSTEM VALUE"
                " VALUES (coalesce(%s, nextval(pg_get_serial_sequence('leaderboards', 'id'))),"
                " %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
                (
                    known_id,
                    project_id,
                    spec.key,
                    spec.sort_order.value,
                    spec.score_update.value,
                    spec.tie_policy.value,
                    spec.max_entries,
                    spec.public_read,
                    spec.suspended,
                    reset_json(spec),
                    bounds_json(spec),
                    tiers_json(spec),
                    managed_by,
                    deletion_policy.value,
                    spec_hash,
                    incarnation,
                    season,
                    next_reset(spec.reset, now),
                    now,
                    now,
                ),
            )
        ).fetchone()
    assert row is not None
    return LeaderboardId(row[0])


async def update(
    database: Database,
    board_id: LeaderboardId,
    spec: BoardSpec,
    *,
    deletion_policy: DeletionPolicy | None,
    spec_hash: str,
    now: datetime,
) -> None:
    """Write what a document decides of a board over what is there; `deletion_policy` None keeps it."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE leaderboards SET sort_order = %s, score_update = %s, tie_policy = %s, max_entries = %s,"
            " public_read = %s, suspended = %s,"
            " next_reset = CASE WHEN reset ->> 'schedule' IS NOT DISTINCT FROM %s AND reset ->> 'time_zone' = %s"
            " THEN next_reset ELSE %s END, reset = %s, bounds = %s, tiers = %s,"
            " deletion_policy = coalesce(%s, deletion_policy), spec_hash = %s, updated_at = %s WHERE id = %s",
            (
                spec.sort_order.value,
                spec.score_update.value,
                spec.tie_policy.value,
                spec.max_entries,
                spec.public_read,
                spec.suspended,
                None if spec.reset is None else spec.reset.schedule,
                None if spec.reset is None else spec.reset.time_zone,
                next_reset(spec.reset, now),  # one that is overdue stays so, unless the schedule is another
                reset_json(spec),
                bounds_json(spec),
                tiers_json(spec),
                None if deletion_policy is None else deletion_policy.value,
                spec_hash,
                now,
                board_id,
            ),
        )


async def mark(database: Database, board_id: LeaderboardId, state: BoardState, *, now: datetime) -> None:
    """Move a board on in its life."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE leaderboards SET state = %s, updated_at = %s, deleted_at = CASE WHEN %s THEN %s END WHERE id = %s",
            (state.value, now, state is BoardState.DELETED, now, board_id),
        )


async def release(database: Database, board_id: LeaderboardId, *, adoptable_from: str | None, now: datetime) -> None:
    """Let nobody own the board any more; its data stays, and a resource of `adoptable_from` may take it over."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE leaderboards SET managed_by = NULL, adoptable_from = %s, updated_at = %s WHERE id = %s",
            (adoptable_from, now, board_id),
        )


async def adopt(database: Database, board_id: LeaderboardId, *, owner: str, now: datetime) -> None:
    """Let `owner` own the board, which the caller has locked and may adopt."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE leaderboards SET managed_by = %s, adoptable_from = NULL, updated_at = %s"
            " WHERE id = %s AND managed_by IS NULL",
            (owner, now, board_id),
        )


async def start_season(database: Database, board: Board, *, now: datetime) -> None:
    """Write the season that runs, with the incarnation it begins in and when the schedule ends it."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE leaderboards SET season = %s, incarnation = %s, next_reset = %s, updated_at = %s WHERE id = %s",
            (board.season, board.incarnation, board.next_reset, now, board.id),
        )


async def due(database: Database, *, now: datetime, limit: int) -> list[LeaderboardId]:
    """Return boards whose schedule has come, the longest overdue first."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT id FROM leaderboards WHERE next_reset <= %s AND state = 'active' ORDER BY next_reset LIMIT %s",
            (now, limit),
        )
        return [LeaderboardId(board_id) async for (board_id,) in rows]


async def set_incarnation(database: Database, board_id: LeaderboardId, incarnation: int, *, now: datetime) -> None:
    """Write the board's incarnation."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE leaderboards SET incarnation = %s, updated_at = %s WHERE id = %s", (incarnation, now, board_id)
        )


_PLACED = (
    f"SELECT {_COLUMNS}, t.id, t.slug, p.id, p.name, b.state = 'deleting'"  # noqa: S608 - as above
    " FROM leaderboards b JOIN projects p ON p.id = b.project_id JOIN tenants t ON t.id = p.tenant_id"
    " WHERE b.state <> 'deleted' AND "
)


async def placed(database: Database, *, tenant_id: TenantId | None = None) -> list[PlacedBoard]:
    """Return the boards that are not deleted (those being deleted included) of one tenant, or of all that are not."""
    return await _placed(
        database,
        "t.deleted_at IS NULL AND (%s::bigint IS NULL OR t.id = %s) ORDER BY t.id, p.name, b.key",
        tenant_id,
        tenant_id,
    )


async def owned(database: Database, owner: str) -> list[PlacedBoard]:
    """Return the boards of the custom resource `owner` that are not deleted, whatever became of their tenants."""
    return await _placed(database, "b.managed_by = %s ORDER BY b.id", owner)


async def _placed(database: Database, condition: str, *args: object) -> list[PlacedBoard]:
    async with connection(database) as conn:
        return [
            PlacedBoard(
                board=Board(**_fields(row)),
                tenant_id=TenantId(row[_WIDTH]),
                tenant=row[_WIDTH + 1],
                project_id=ProjectId(row[_WIDTH + 2]),
                project=row[_WIDTH + 3],
                deleting=row[_WIDTH + 4],
            )
            async for row in await conn.execute(_PLACED + condition, args)
        ]


async def place_of(database: Database, board_id: LeaderboardId) -> PlacedBoard | None:
    """Return the board with where it is, None where it is deleted."""
    found = await _placed(database, "b.id = %s", board_id)
    return found[0] if found else None


async def owners(database: Database) -> set[str]:
    """Return the UIDs of the custom resources that own boards."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT DISTINCT managed_by FROM leaderboards WHERE managed_by IS NOT NULL AND state <> 'deleted'"
        )
        return {row[0] async for row in rows}
