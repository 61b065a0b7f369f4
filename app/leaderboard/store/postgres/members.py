"""What the tables have of one member of one board, in pages: for whoever asks for it."""

from typing import NamedTuple

from leaderboard.domain.names import LeaderboardId
from leaderboard.store.postgres.ledger import LedgerEvent, Position
from leaderboard.store.postgres.pool import Database, connection
from leaderboard.store.redis.events import EventKind


class FinalLine(NamedTuple):
    """A member's line in the final standings of a season."""

    season: int
    rank: int
    score: float


async def checkpoint(database: Database, board_id: LeaderboardId, member: str) -> float | None:
    """Return the score that the ledger keeps of dropped partitions, None where it keeps none.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT score FROM score_checkpoints WHERE leaderboard_id = %s AND member = %s", (board_id, member)
            )
        ).fetchone()
    return None if row is None else row[0]


async def final_lines(
    database: Database, board_id: LeaderboardId, member: str, *, after: int, limit: int
) -> list[FinalLine]:
    """Return up to `limit` lines, the seasons past `after`, oldest first. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT season, rank, score FROM season_standings WHERE leaderboard_id = %s AND season > %s"
            " AND member = %s ORDER BY season LIMIT %s",
            (board_id, after, member, limit),
        )
        return [FinalLine(*row) async for row in rows]


async def events(
    database: Database, board_id: LeaderboardId, member: str, *, after: Position, limit: int
) -> list[LedgerEvent]:
    """Return up to `limit` events past a place, oldest first: one look into an index per partition.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT event_id, event_time, kind, incarnation, seq, member, submitted, score FROM score_events"
            " WHERE leaderboard_id = %s AND member = %s AND (incarnation, seq) > (%s, %s)"
            " ORDER BY incarnation, seq LIMIT %s",
            (board_id, member, after.incarnation, after.seq, limit),
        )
        return [
            LedgerEvent(row[0], row[1], EventKind(row[2]), Position(row[3], row[4]), row[5], row[6], row[7])
            async for row in rows
        ]
