"""Seasons: a board is reset, and what it was goes to the archive in Postgres.

A reset is written down in Postgres before Redis does it (`seasons`, state ``ending``, with the id of the event), so
whoever comes after a crash can tell whether it happened, and finish it: the script does it once per season, and the
ledger has the event where Redis lost what it did. The archive is then made of what Redis put aside, or, where Redis
lost that, of the ledger.
"""

import math
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import uuid4

import msgspec
from redis.asyncio import Redis

from leaderboard.control import namespace
from leaderboard.control.drift import serves, wanted_state
from leaderboard.control.errors import ResetLost, SeasonOver
from leaderboard.control.tools import Tools
from leaderboard.domain.boards import Board, SortOrder, TiePolicy
from leaderboard.domain.names import LeaderboardId, ProjectId
from leaderboard.domain.schedules import next_reset
from leaderboard.store.postgres import boards, ledger, seasons
from leaderboard.store.postgres.boards import BoardState, PlacedBoard
from leaderboard.store.postgres.ledger import Position
from leaderboard.store.postgres.pool import Connection, Pool, lockable, transaction, try_lock
from leaderboard.store.postgres.seasons import Final, Sealed, Season, SeasonState
from leaderboard.store.redis.boards import BoardAdmin
from leaderboard.store.redis.errors import BoardUnavailable

ARCHIVE_LOCK = 3
"""The kind of the lock under which one process at a time archives a board's seasons.

Not the board's own: a large season takes seconds, and control need not wait for it.
"""


async def reset(tools: Tools, *, project_id: ProjectId, key: str, board_key: str, season: int) -> Board:
    """End season `season` of a board and start the next; see `Control.reset_board`."""
    found = await namespace.board_of(tools.pool, project_id, key)
    async with namespace.lock(tools.pool, found.id) as conn:
        board = await namespace.as_it_stands(conn, found.id, key)
        if board.season != season:
            raise SeasonOver(f"leaderboard {key!r} is in season {board.season}, not {season}")
        return await _reset(conn, tools.redis, board, board_key=board_key, now=tools.clock())


async def move_on(pool: Pool, redis: Redis, board_id: LeaderboardId, *, now: datetime) -> Board | None:
    """End the season whose time has come, and finish a reset that somebody began and did not bring to its end.

    May be called at any time; None where there was nothing to do, or somebody else works on the board. However many
    times of the schedule were missed, it is one reset. Raises DatabaseUnavailable, RedisUnavailable.
    """
    place = await boards.place_of(pool, board_id)
    if place is None or place.deleting:
        return None
    async with lockable(pool) as conn:
        if not await try_lock(conn, kind=namespace.BOARD_LOCK, ids=[board_id]):
            return None
        row = await boards.by_id(conn, board_id)
        if row is None or row.state is not BoardState.ACTIVE:
            return None
        board = row.board
        if board.next_reset is None or board.next_reset > now:
            ending = await seasons.get(conn, board_id, board.season)
            if ending is None or ending.state is not SeasonState.ENDING:
                return None
        return await _reset(conn, redis, board, board_key=namespace.key_of(place), now=now)


async def _reset(conn: Connection, redis: Redis, board: Board, *, board_key: str, now: datetime) -> Board:
    admin = BoardAdmin(redis)
    if (await admin.snapshot(board_key)).broken:
        raise BoardUnavailable(f"{board_key} cannot be reset: it has something else under its names")
    grace = 0 if board.spec.reset is None else board.spec.reset.grace_seconds
    ending = await seasons.begin(
        conn,
        board.id,
        board.season,
        event_id=uuid4(),
        now=now,
        late_until=now + timedelta(seconds=grace) if grace else None,
    )
    # In the ledger already: Redis did it, lost it, and was restored from there, as the season that runs.
    if await ledger.place_of_reset(conn, board.id, ending.event_id) is None:
        await admin.reset(
            board_key,
            season=ending.number,
            incarnation=board.incarnation + 1,
            event_id=ending.event_id.hex,
            grace_seconds=_grace_left(ending, now),
        )
    meta = await admin.read_meta(board_key)
    if not serves(meta, board):
        # Opened as it is, it would begin anew at zero, or with half of its entries.
        raise BoardUnavailable(f"{board_key} was reset, and is lost or being restored since")
    async with transaction(conn):
        row = await boards.by_id(conn, board.id, lock=True)
        assert row is not None
        # The rules as they are by now: a document may have changed them meanwhile, the schedule too.
        after = msgspec.structs.replace(
            row.board,
            season=ending.number + 1,
            incarnation=max(board.incarnation, meta.incarnation),
            next_reset=next_reset(row.board.spec.reset, now),
        )
        await boards.start_season(conn, after, now=now)
        await seasons.move(conn, board.id, ending.number, SeasonState.ENDED)
        await seasons.end_graces(conn, board.id, before=ending.number, now=now)
    await admin.write_meta(board_key, after, state=wanted_state(after))
    return after


def _grace_left(ending: Season, now: datetime) -> int:
    """Return for how many seconds from now the season takes late updates."""
    return 0 if ending.late_until is None else max(0, math.ceil((ending.late_until - now).total_seconds()))


async def archive(
    pool: Pool, redis: Redis, board_id: LeaderboardId, season: Season, *, drain_seconds: float
) -> Sealed | None:
    """Move a season that has ended to Postgres and out of Redis; None where there is no such board any more.

    Also None while the season takes late updates, or somebody else archives one of the board's. Holds a few thousand
    entries at a time. May be repeated after a crash anywhere. Not before the reset is in the ledger: from then on a
    Redis that loses its memory, or goes back in time, is restored as it has to be. Raises NotDrained where the ledger
    is behind, ResetLost; DatabaseUnavailable, RedisUnavailable.
    """
    place = await boards.place_of(pool, board_id)
    if place is None or place.deleting:
        return None
    admin, board_key = BoardAdmin(redis), namespace.key_of(place)
    async with lockable(pool) as conn:
        if not await try_lock(conn, kind=ARCHIVE_LOCK, ids=[board_id]):
            return None
        now = await seasons.get(conn, board_id, season.number)
        sealed = None
        if now is not None and now.state is SeasonState.ENDED:
            if now.late_until is not None:
                if not await admin.close_season(board_key, season.number):
                    return None
                # Those are waited for too: the ledger may have to say what the season was.
                await namespace.drained(redis, seconds=drain_seconds)
            end = await _end(pool, redis, place, now, drain_seconds=drain_seconds)
            lost = not await admin.has_season(board_key, season.number)
            if now.late_until is not None and not lost:
                # Late updates come after the reset: a Redis that went back in time may have lost some of them.
                number = await admin.late_number(board_key, season.number)
                lost = number is None or number < await ledger.last_before(pool, board_id, end)
            async with transaction(conn):
                lines = (
                    _from_ledger(pool, place.board, end)
                    if lost
                    else admin.season_entries(board_key, season.number, place.board.spec)
                )
                sealed = await seasons.write(conn, board_id, season.number, ranked(lines, place.board.spec.tie_policy))
        await admin.drop_season(board_key, season.number)
        await seasons.move(conn, board_id, season.number, SeasonState.ARCHIVED)
        if place.board.spec.reset is not None and place.board.spec.reset.keep_seasons > 0:
            await seasons.prune(conn, board_id, before=place.board.season - place.board.spec.reset.keep_seasons)
    return sealed


async def _end(pool: Pool, redis: Redis, place: PlacedBoard, season: Season, *, drain_seconds: float) -> Position:
    """Return where in the board's history the season ends. Raises NotDrained, ResetLost."""
    board = place.board
    end = await ledger.place_of_reset(pool, board.id, season.event_id)
    if end is None:
        await namespace.drained(redis, seconds=drain_seconds)
        end = await ledger.place_of_reset(pool, board.id, season.event_id)
    if end is not None:
        return end
    # It is in the ledger unless it was among the last that Redis was told before it lost its memory.
    async with namespace.lock(pool, board.id):
        again = await BoardAdmin(redis).reset(
            namespace.key_of(place),
            season=season.number,
            incarnation=board.incarnation,
            event_id=season.event_id.hex,
        )
    raise ResetLost(
        f"Redis lost the reset of {place.path} that ended season {season.number}"
        + (
            "; it is done again"
            if again
            else ", and the board was restored since: its entries are those of both seasons"
        )
    )


async def _from_ledger(pool: Pool, board: Board, end: Position) -> AsyncIterator[tuple[str, float]]:
    # On a connection of its own: the archive's is busy with what is written to it.
    descending = board.spec.sort_order is SortOrder.DESCENDING
    async for row in ledger.final(pool, board.id, before=end, descending=descending):
        yield row.member, row.score


async def ranked(entries: AsyncIterator[tuple[str, float]], tie: TiePolicy) -> AsyncIterator[Final]:
    """Number (user, score) pairs, best first: each line has a place, and by `tie` equal scores share a rank."""
    place, rank, before = 0, 0, None
    async for member, score in entries:
        place += 1
        if tie is not TiePolicy.SHARED or score != before:
            rank, before = place, score
        yield Final(place, rank, member, score)
