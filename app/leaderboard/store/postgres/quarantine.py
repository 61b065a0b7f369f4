"""Updates that were held because they break their board's bounds, and what was decided about them."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from leaderboard.domain.bounds import Broken
from leaderboard.domain.names import LeaderboardId
from leaderboard.store.postgres.pool import Connection, Database, connection
from leaderboard.store.redis.events import ScoreEvent


class HoldState(StrEnum):
    """What became of a held update."""

    HELD = "held"
    """It waits for a decision."""
    RELEASING = "releasing"
    """It was to be released, and whoever did so was cut short: releasing it again finishes it."""
    RELEASED = "released"
    REJECTED = "rejected"


WAITING = (HoldState.HELD, HoldState.RELEASING)
"""States in which it waits for a decision."""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A held update. `submitted` is the increment (Sum) or the score (Best, Latest) that was sent.

    `event_id` is that of the update which releases it. `decided_by` is the id of an API key.
    """

    id: UUID
    season: int
    member: str
    submitted: float
    bound: Broken
    held_at: datetime
    state: HoldState = HoldState.HELD
    event_id: UUID | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    note: str | None = None


_COLUMNS = (
    "id, season, member, submitted, reason, held_at, state, event_id, decided_by, decided_at, note"  # as Hold has them
)


def _hold(row: Sequence[Any]) -> Hold:
    values = dict(zip(Hold.__struct_fields__, row, strict=True))
    return Hold(**values | {"bound": Broken(values["bound"]), "state": HoldState(values["state"])})


async def add(conn: Connection, events: Sequence[ScoreEvent]) -> Counter[Broken]:
    """Write down updates that were held; those that are there already change nothing, whatever became of them.

    Returns how many were new, by the bound that they broke. Raises ValueError for an event that is none.
    """
    rows = []
    for event in events:
        season, _, bound = event.order.partition(":")
        rows.append((event.id, event.leaderboard_id, int(season), event.user, event.submitted, bound, event.time))
    new = await conn.execute(
        "WITH inserted AS ("
        "  INSERT INTO held_updates (id, leaderboard_id, season, member, submitted, reason, held_at)"
        "  SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::int[], %b::text[], %b::float8[], %b::text[],"
        "                       %b::timestamptz[])"
        "  ON CONFLICT (id) DO NOTHING RETURNING reason"
        ") SELECT reason, count(*) FROM inserted GROUP BY 1",
        [list(column) for column in zip(*rows, strict=True)],
    )
    return Counter({Broken(reason): count async for reason, count in new})


async def get(database: Database, board_id: LeaderboardId, id: UUID) -> Hold | None:
    """Return a held update of the board. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                f"SELECT {_COLUMNS} FROM held_updates WHERE id = %s AND leaderboard_id = %s",  # noqa: S608 - a constant
                (id, board_id),
            )
        ).fetchone()
    return None if row is None else _hold(row)


def page_query(*, waiting: bool, of_member: bool, paged: bool) -> LiteralString:
    """Return the query of `page`; a test looks at its plan."""
    return (
        f"SELECT {_COLUMNS} FROM held_updates WHERE leaderboard_id = %(board)s"  # noqa: S608 - a constant
        # Written out, so that the planner sees that it is the condition of the index held_updates_waiting.
        + (" AND state IN ('held', 'releasing')" if waiting else " AND state = %(state)s")
        + (" AND member = %(member)s" if of_member else "")
        + (" AND (held_at, id) < (%(held_at)s, %(id)s)" if paged else "")
        + " ORDER BY held_at DESC, id DESC LIMIT %(limit)s"
    )


async def page(
    database: Database,
    board_id: LeaderboardId,
    *,
    state: HoldState | None,
    member: str | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Hold]:
    """Return up to `limit` held updates of the board in that state (of `member` only, where given), the newest first.

    `state` None is what waits for a decision, also such whose release was cut short. Raises DatabaseUnavailable.
    """
    query = page_query(waiting=state is None, of_member=member is not None, paged=before is not None)
    async with connection(database) as conn:
        rows = await conn.execute(
            query,
            {
                "board": board_id,
                "state": None if state is None else state.value,
                "member": member,
                "held_at": None if before is None else before[0],
                "id": None if before is None else before[1],
                "limit": limit,
            },
        )
        return [_hold(row) async for row in rows]


async def of_member(database: Database, board_id: LeaderboardId, member: str, *, after: UUID, limit: int) -> list[Hold]:
    """Return up to `limit` of a member's held updates by id, those past `after`. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT {_COLUMNS} FROM held_updates WHERE leaderboard_id = %s AND member = %s"  # noqa: S608 - a constant
            " AND id > %s ORDER BY id LIMIT %s",
            (board_id, member, after, limit),
        )
        return [_hold(row) async for row in rows]


async def decide(database: Database, hold: Hold) -> None:
    """Write what was decided; the caller has the board's lock. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE held_updates SET state = %s, event_id = %s, decided_by = %s, decided_at = %s, note = %s"
            " WHERE id = %s",
            (hold.state.value, hold.event_id, hold.decided_by, hold.decided_at, hold.note, hold.id),
        )
