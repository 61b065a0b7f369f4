"""Seasons that are over: how far each is on its way out of Redis, and its final standings."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from leaderboard.domain.names import LeaderboardId
from leaderboard.store.postgres.pool import Connection, Database, connection, transaction

FETCH_ROWS = 500
"""Rows a server-side cursor hands over at once."""
STRETCH = 100
"""Lines between two rests of who writes standings: about two milliseconds of work."""
REST = 4.0
"""How long a rest is, in lengths of the stretch before it. An archive has time; others use the same cores and disk."""


class NotSealed(Exception):
    """Standings that were not written as they should be; nothing of them was kept."""


class SeasonState(StrEnum):
    """How far a season is on its way out of Redis; migration 0009 says what each means."""

    ENDING = "ending"
    ENDED = "ended"
    COPIED = "copied"
    ARCHIVED = "archived"


class Season(NamedTuple):
    """A season that is over. `entries` and `checksum` are None until its standings are here."""

    number: int
    state: SeasonState
    event_id: UUID
    ended_at: datetime
    entries: int | None
    checksum: bytes | None
    late_until: datetime | None = None
    """Until when it takes late updates; None where it takes none."""

    @property
    def readable(self) -> bool:
        """Whether the standings are here, all of them."""
        return self.state in (SeasonState.COPIED, SeasonState.ARCHIVED)


class Final(NamedTuple):
    """One line of final standings: `place` counts lines from 1, `rank` may repeat."""

    place: int
    rank: int
    member: str
    score: float


class Sealed(NamedTuple):
    """What standings amount to: how many lines, and a SHA-256 over them."""

    entries: int
    checksum: bytes


class Seal:
    """Adds standings up. The text that is hashed is, per line, place, rank, score (shortest decimal) and member."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._entries = 0

    def add(self, line: Final) -> None:
        """Add the next line."""
        self._hash.update(f"{line.place} {line.rank} {line.score!r} {line.member}\n".encode())
        self._entries += 1

    def sealed(self) -> Sealed:
        """Return what was added up."""
        return Sealed(self._entries, self._hash.digest())


class _Pace:
    """Lets who goes through many lines rest after each stretch of them; who has few never does."""

    def __init__(self) -> None:
        self._lines = 0
        self._since = time.monotonic()

    async def line(self) -> None:
        """Count a line, and rest where a stretch is over."""
        self._lines += 1
        if self._lines % STRETCH == 0:
            await asyncio.sleep(REST * (time.monotonic() - self._since))
            self._since = time.monotonic()


async def begin(
    database: Database,
    board_id: LeaderboardId,
    number: int,
    *,
    event_id: UUID,
    now: datetime,
    late_until: datetime | None = None,
) -> Season:
    """Write down that a season ends, under the event that will say so; return what was written down first."""
    async with connection(database) as conn:
        await conn.execute(
            "INSERT INTO seasons (leaderboard_id, season, state, event_id, ended_at, late_until)"
            " VALUES (%s, %s, 'ending', %s, %s, %s) ON CONFLICT (leaderboard_id, season) DO NOTHING",
            (board_id, number, event_id, now, late_until),
        )
        found = await get(conn, board_id, number)
    assert found is not None
    return found


async def move(database: Database, board_id: LeaderboardId, number: int, state: SeasonState) -> None:
    """Say how far the season is."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE seasons SET state = %s, archived_at = CASE WHEN %s = 'archived' THEN now() ELSE archived_at END"
            " WHERE leaderboard_id = %s AND season = %s",
            (state.value, state.value, board_id, number),
        )


_COLUMNS = "season, state, event_id, ended_at, entries, checksum, late_until"


async def get(database: Database, board_id: LeaderboardId, number: int) -> Season | None:
    """Return one season that is over, None where there is none of that number. Raises DatabaseUnavailable."""
    found = await page(database, board_id, before=number + 1, limit=1)
    return found[0] if found and found[0].number == number else None


async def page(database: Database, board_id: LeaderboardId, *, before: int | None, limit: int) -> list[Season]:
    """Return up to `limit` seasons that are over, newest first, those before number `before`.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT {_COLUMNS} FROM seasons WHERE leaderboard_id = %s AND (%s::int IS NULL OR season < %s)"  # noqa: S608
            " ORDER BY season DESC LIMIT %s",
            (board_id, before, before, limit),
        )
        return [Season(row[0], SeasonState(row[1]), *row[2:]) async for row in rows]


async def unfinished(database: Database, board_id: LeaderboardId) -> list[int]:
    """Return the numbers of the board's seasons that Redis may still have something of. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT season FROM seasons WHERE state <> 'archived' AND leaderboard_id = %s ORDER BY season", (board_id,)
        )
        return [row[0] async for row in rows]


_DUE = (
    "state <> 'archived' AND CASE WHEN state = 'ending' THEN ended_at < %(cut_short)s"
    " ELSE late_until IS NULL OR late_until <= %(now)s END"
    " AND EXISTS (SELECT FROM leaderboards b WHERE b.id = leaderboard_id AND b.state = 'active')"
)


class Mark(NamedTuple):
    """A place in the order in which `due` goes through the seasons."""

    board: int = 0
    number: int = 0


async def due(
    database: Database, *, now: datetime, cut_short: datetime, after: Mark, limit: int
) -> list[tuple[LeaderboardId, Season]]:
    """Return up to `limit` seasons past `after` that can be archived, or whose reset, begun before `cut_short`, was not
    finished. Not those that take late updates. Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        rows = await conn.execute(
            f"SELECT leaderboard_id, {_COLUMNS} FROM seasons WHERE {_DUE}"  # noqa: S608 - constants of this module
            " AND (leaderboard_id, season) > (%(board)s, %(number)s) ORDER BY leaderboard_id, season LIMIT %(limit)s",
            {"now": now, "cut_short": cut_short, "limit": limit, **after._asdict()},
        )
        return [(LeaderboardId(row[0]), Season(row[1], SeasonState(row[2]), *row[3:])) async for row in rows]


async def due_since(database: Database, *, now: datetime, cut_short: datetime) -> datetime | None:
    """Return since when the longest of what `due` has is waiting, None where there is none.

    Raises DatabaseUnavailable.
    """
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT min(CASE WHEN state = 'ending' THEN ended_at ELSE coalesce(late_until, ended_at) END)"  # noqa: S608
                f" FROM seasons WHERE {_DUE}",
                {"now": now, "cut_short": cut_short},
            )
        ).fetchone()
    assert row is not None
    since: datetime | None = row[0]
    return since


async def end_graces(database: Database, board_id: LeaderboardId, *, before: int, now: datetime) -> None:
    """Say that the board's seasons before number `before` take late updates no longer than until `now`."""
    async with connection(database) as conn:
        await conn.execute(
            "UPDATE seasons SET late_until = %s"
            " WHERE leaderboard_id = %s AND season < %s AND state <> 'archived' AND late_until > %s",
            (now, board_id, before, now),
        )


async def write(conn: Connection, board_id: LeaderboardId, number: int, lines: AsyncIterator[Final]) -> Sealed:
    """Write the final standings and read them back; return what both amount to. In one transaction of the caller's.

    Holds a line at a time. Raises NotSealed where what is read is not what was written, or the season is gone.
    """
    written, pace = Seal(), _Pace()
    async with conn.cursor() as cursor:
        copying = (
            "COPY season_standings (leaderboard_id, season, place, rank, member, score) FROM STDIN (FORMAT BINARY)"
        )
        async with cursor.copy(copying) as copy:
            copy.set_types(["int8", "int4", "int8", "int8", "text", "float8"])
            async for line in lines:
                await pace.line()
                written.add(line)
                await copy.write_row((board_id, number, *line))
    sealed, there = written.sealed(), Seal()
    async for line in read(conn, board_id, number):
        await pace.line()
        there.add(line)
    if there.sealed() != sealed:
        raise NotSealed(f"season {number} of board {board_id}: what was written down is not what was read")
    done = await conn.execute(
        "UPDATE seasons SET state = 'copied', entries = %s, checksum = %s"
        " WHERE leaderboard_id = %s AND season = %s AND state = 'ended'",
        (sealed.entries, sealed.checksum, board_id, number),
    )
    if done.rowcount != 1:
        raise NotSealed(f"season {number} of board {board_id} is gone, or was archived by another")
    return sealed


async def read(conn: Connection, board_id: LeaderboardId, number: int) -> AsyncIterator[Final]:
    """Yield all lines of the final standings in order, through a cursor: inside a transaction of the caller's."""
    async with conn.cursor("final", scrollable=False) as cursor:
        cursor.itersize = FETCH_ROWS
        await cursor.execute(
            "SELECT place, rank, member, score FROM season_standings WHERE leaderboard_id = %s AND season = %s"
            " ORDER BY place",
            (board_id, number),
        )
        async for row in cursor:
            yield Final(*row)


async def top(database: Database, board_id: LeaderboardId, number: int, *, after: int, limit: int) -> list[Final]:
    """Return up to `limit` lines of the final standings past place `after`. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        rows = await conn.execute(
            "SELECT place, rank, member, score FROM season_standings"
            " WHERE leaderboard_id = %s AND season = %s AND place > %s ORDER BY place LIMIT %s",
            (board_id, number, after, limit),
        )
        return [Final(*row) async for row in rows]


async def of_member(database: Database, board_id: LeaderboardId, number: int, member: str) -> Final | None:
    """Return one member's line of the final standings, None where it has none. Raises DatabaseUnavailable."""
    async with connection(database) as conn:
        row = await (
            await conn.execute(
                "SELECT place, rank, member, score FROM season_standings"
                " WHERE leaderboard_id = %s AND season = %s AND member = %s",
                (board_id, number, member),
            )
        ).fetchone()
    return None if row is None else Final(*row)


async def forget(database: Database, board_id: LeaderboardId) -> None:
    """Remove all seasons of a board that is deleted."""
    async with transaction(database) as conn:
        # The rows first: an archive that is writing lines now finds its row gone and keeps nothing, or was faster, is
        # waited for here, and its lines are seen by the second statement.
        await conn.execute("DELETE FROM seasons WHERE leaderboard_id = %s", (board_id,))
        await conn.execute("DELETE FROM season_standings WHERE leaderboard_id = %s", (board_id,))


async def prune(database: Database, board_id: LeaderboardId, *, before: int) -> None:
    """Remove the archived seasons of a board before number `before`, with their standings."""
    async with transaction(database) as conn:
        # The rows before their lines, as everybody locks them.
        await conn.execute(
            "SELECT FROM seasons WHERE leaderboard_id = %s AND season < %s AND state = 'archived'"
            " ORDER BY season FOR UPDATE",
            (board_id, before),
        )
        await conn.execute(
            "DELETE FROM season_standings l USING seasons s WHERE l.leaderboard_id = %s AND l.season < %s"
            " AND s.leaderboard_id = l.leaderboard_id AND s.season = l.season AND s.state = 'archived'",
            (board_id, before),
        )
        await conn.execute(
            "DELETE FROM seasons WHERE leaderboard_id = %s AND season < %s AND state = 'archived'", (board_id, before)
        )
