"""A board's namespace in Redis, made to agree with its row and its ledger.

Every function here is called with the board's lock held (see `lock`) on the connection it came with, so that no two
processes work on one namespace; each step may be repeated after a crash.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from leaderboard.control.drift import agrees, damage, doubtful, wanted_state
from leaderboard.control.errors import BoardNotFound, NotDrained
from leaderboard.domain.boards import Board
from leaderboard.domain.names import LeaderboardId, ProjectId
from leaderboard.store.postgres import boards, ledger
from leaderboard.store.postgres.boards import BoardState, PlacedBoard
from leaderboard.store.postgres.pool import Connection, Database, locked
from leaderboard.store.redis import keys
from leaderboard.store.redis.boards import BoardAdmin, Snapshot
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.events import EventIds

DRAIN_SECONDS = 30.0
"""How long to wait for the worker to move a board's events to the ledger before saying that none is running."""
_POLL_SECONDS = 0.05
BOARD_LOCK = 2
"""The kind of the lock under which one process at a time works on a board."""


def key_of(place: PlacedBoard) -> str:
    """Return the board's key in Redis."""
    return keys.board(place.tenant_id, place.project, place.board.spec.key)


def lock(database: Database, board_id: LeaderboardId) -> AbstractAsyncContextManager[Connection]:
    """Keep every other process from working on the board's row and namespace; lends the connection to use."""
    return locked(database, kind=BOARD_LOCK, id=board_id)


async def board_of(database: Database, project_id: ProjectId, key: str) -> Board:
    """Return the project's board. Raises BoardNotFound, DatabaseUnavailable."""
    found = await boards.get(database, project_id, key)
    if found is None:
        raise BoardNotFound(f"there is no leaderboard {key!r}")
    return found


async def as_it_stands(conn: Connection, board_id: LeaderboardId, name: str) -> Board:
    """Return the board as it is now that its lock is held; `name` is what people call it.

    Raises BoardNotFound where it was deleted meanwhile.
    """
    row = await boards.by_id(conn, board_id)
    if row is None or row.state is not BoardState.ACTIVE:
        raise BoardNotFound(f"leaderboard {name!r} was deleted meanwhile")
    return row.board


async def ensure(
    conn: Connection,
    redis: Redis,
    board: Board,
    *,
    board_key: str,
    new: bool,
    ids: EventIds,
    now: datetime,
    drain_seconds: float = DRAIN_SECONDS,
) -> tuple[str, ...]:
    """Make Redis agree with the board's row, and return what had to be done, for people to read.

    `new` says the row was just made, so that there can be no history. Raises NotDrained, RedisUnavailable,
    DatabaseUnavailable.
    """
    admin = BoardAdmin(redis)
    # The ledger before the meta: what the ledger has was in Redis first, so it can be ahead only of a Redis that lost.
    position = await ledger.max_position(conn, board.id)
    seen = await admin.snapshot(board_key)
    if seen.broken:
        await admin.discard(board_key)
    if seen.meta is not None and seen.meta.id != board.id:
        await admin.delete(board_key, event_id_nonce=ids.nonce, event_counter=ids.take())
        seen = Snapshot()
    if seen.meta is None and new:
        await admin.open([(board_key, board, wanted_state(board))])
        return ()
    reason = damage(board, seen, position=position)
    if reason is None and doubtful(seen, position=position) and await ledger.inhabited(conn, [board.id]):
        reason = "Redis had lost its entries"
    if reason is not None:
        board, members = await restore(conn, redis, board, board_key=board_key, now=now, drain_seconds=drain_seconds)
        return (f"restored {members} entries from the ledger: {reason}", *await _fit(admin, board, board_key, ids))
    done: tuple[str, ...] = ()
    if not agrees(board, seen):
        await admin.write_meta(board_key, board, state=wanted_state(board))
        done = ("wrote the rules to Redis",)
    return (*done, *await _fit(admin, board, board_key, ids))


async def _fit(admin: BoardAdmin, board: Board, board_key: str, ids: EventIds) -> tuple[str, ...]:
    if not board.spec.max_entries:
        return ()
    trimmed = 0
    while dropped := await admin.trim(board_key, nonce=ids.nonce, counter=ids.take()):
        trimmed += dropped
    return (f"trimmed {trimmed} entries past max_entries",) if trimmed else ()


async def restore(
    conn: Connection, redis: Redis, board: Board, *, board_key: str, now: datetime, drain_seconds: float
) -> tuple[Board, int]:
    """Write the board's entries and meta anew from the ledger; return the board as it is then, and how many entries.

    Nobody can read or write the board meanwhile. Its events that are still in the outbox are waited for, so that none
    is left out. Holds the entries in memory, about 250 bytes each. Raises NotDrained, RedisUnavailable,
    DatabaseUnavailable.
    """
    admin = BoardAdmin(redis)
    if (await admin.snapshot(board_key)).broken:
        await admin.discard(board_key)
    token = await admin.close(board_key)
    await drained(redis, seconds=drain_seconds)
    position = await ledger.max_position(conn, board.id)
    entries = [(row.member, row.score, row.order_prefix) async for row in ledger.latest(conn, board.id)]
    await admin.restore(board_key, entries, board.spec.tie_policy, token=token)
    if position.seq:
        # What follows has to be newer than all there was, also than what Redis lost before the ledger had it.
        incarnation = max(board.incarnation, position.incarnation) + 1
        await boards.set_incarnation(conn, board.id, incarnation, now=now)
        board = msgspec.structs.replace(board, incarnation=incarnation)
    await admin.reopen(board_key, board, state=wanted_state(board), seq=position.seq, token=token)
    return board, len(entries)


async def drained(redis: Redis, *, seconds: float) -> None:
    """Wait until everything that is in the outbox now has left it.

    The board accepts no writes by now, so none of its events can come later. Entries leave only when they are in the
    ledger (or set aside as undecodable).
    """
    try:
        newest = await redis.xrevrange(keys.OUTBOX, count=1)
        if not newest:
            return
        last = _stream_id(newest[0][0])
        deadline = asyncio.get_running_loop().time() + seconds
        while oldest := await redis.xrange(keys.OUTBOX, count=1):
            if _stream_id(oldest[0][0]) > last:
                return
            if asyncio.get_running_loop().time() > deadline:
                waiting = await redis.xlen(keys.OUTBOX)
                raise NotDrained(
                    f"the outbox still holds {waiting} events after {seconds:g} s, and some may be of this board. "
                    "Start the worker (`leaderboard work`), then do this again"
                )
            await asyncio.sleep(_POLL_SECONDS)
    except RedisError as error:
        raise RedisUnavailable(f"the outbox cannot be read: {error}") from error


def _stream_id(entry_id: Any) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)
