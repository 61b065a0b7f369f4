"""A member's data, all of a project's boards, in pages that each cost little.

Board by board in the order of their ids, and of each: its place, what a checkpoint says, its final standings, its
events, its updates that were held. A place in that order is all a cursor holds.
"""

from datetime import datetime
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from leaderboard.control.tools import Tools
from leaderboard.domain.names import ProjectId
from leaderboard.store.postgres import erasures, members, quarantine
from leaderboard.store.postgres.erasures import ProjectBoard
from leaderboard.store.postgres.ledger import Position
from leaderboard.store.postgres.quarantine import Hold
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.events import EventKind
from leaderboard.store.redis.members import MemberStore, Place, Unavailable

BOARDS = 200
"""Boards looked into at once."""
CHUNKS = 10
"""Chunks of boards that one page goes through; it may be empty, and then the next goes on."""
MOST_BOARDS = 50
"""Boards of one page that have something: each costs a few statements."""


class Stage(IntEnum):
    """What comes of a board, in order."""

    PLACE = 0
    SEASONS = 1
    EVENTS = 2
    HELD = 3


class Cursor(NamedTuple):
    """Where a page goes on: in a board, past a season's number, an event's place, or a held update's id in two."""

    board: int = 0
    stage: Stage = Stage.PLACE
    first: int = 0
    second: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a member in one place. `deleted`: the board is."""

    leaderboard: str
    deleted: bool


class Standing(Record, frozen=True, kw_only=True):
    """Its place on a board."""

    score: float
    rank: int


class Checkpoint(Record, frozen=True, kw_only=True):
    """Its score as the ledger had it when it dropped old events."""

    score: float


class FinalStanding(Record, frozen=True, kw_only=True):
    """Its line in a season's final standings."""

    season: int
    score: float
    rank: int


class Event(Record, frozen=True, kw_only=True):
    """One event of the ledger."""

    id: str
    time: datetime
    kind: EventKind
    submitted: float | None
    score: float | None


class Held(Record, frozen=True, kw_only=True):
    """One update that was held, and what became of it."""

    hold: Hold


async def page(
    tools: Tools, *, project_id: ProjectId, member: str, cursor: Cursor, limit: int
) -> tuple[list[Record], Cursor | None]:
    """Return up to `limit` records, and where the next page goes on; see `Control.data_of_member`."""
    records: list[Record] = []
    visited = 0
    for _ in range(CHUNKS):
        boards = await erasures.boards_of(tools.pool, project_id, first=cursor.board, after=0, limit=BOARDS)
        if not boards:
            return records, None
        last = boards[-1].id
        # In the middle of a board that has many events: they are not counted once more for every page.
        begun = boards[0].id == cursor.board and cursor.stage is not Stage.PLACE
        if begun:
            on = await _of_board(tools, boards[0], None, member, cursor, limit, records)
            if on is not None:
                return records, on
            boards = boards[1:]
        for board, place in await _with_something(tools, boards, member):
            if visited == MOST_BOARDS or len(records) == limit:
                return records, Cursor(board.id)
            visited += 1
            on = await _of_board(tools, board, place, member, Cursor(board.id), limit, records)
            if on is not None:
                return records, on
        cursor = Cursor(last + 1)
    return records, cursor


async def _with_something(
    tools: Tools, boards: list[ProjectBoard], member: str
) -> list[tuple[ProjectBoard, Place | None]]:
    live = [board for board in boards if not board.deleted]
    looked = await MemberStore(tools.redis).look([board.namespace for board in live], member)
    places: dict[int, Place] = {}
    for board, place in zip(live, looked, strict=True):
        if isinstance(place, Unavailable):
            if place.restoring:
                raise RedisUnavailable(f"the leaderboard {board.key!r} is being restored")
        elif place is not None:
            places[board.id] = place
    there = await erasures.found(tools.pool, [board.id for board in boards], member)
    return [(board, places.get(board.id)) for board in boards if board.id in there or board.id in places]


async def _of_board(
    tools: Tools,
    board: ProjectBoard,
    place: Place | None,
    member: str,
    cursor: Cursor,
    limit: int,
    records: list[Record],
) -> Cursor | None:
    """Add records of one board, and return where to go on in it; None where that is all of it."""
    key, deleted = board.key, board.deleted
    if cursor.stage is Stage.PLACE:
        if place is not None and place.score is not None and place.rank is not None:
            records.append(Standing(leaderboard=key, deleted=deleted, score=place.score, rank=place.rank))
        if len(records) == limit:
            return Cursor(board.id, Stage.SEASONS, -1)
        cursor = Cursor(board.id, Stage.SEASONS, -1)
    if cursor.stage is Stage.SEASONS:
        if cursor.first == -1:
            kept = await members.checkpoint(tools.pool, board.id, member)
            if kept is not None:
                records.append(Checkpoint(leaderboard=key, deleted=deleted, score=kept))
        room = limit - len(records)
        lines = await members.final_lines(tools.pool, board.id, member, after=max(cursor.first, 0), limit=room)
        for line in lines:
            records.append(
                FinalStanding(leaderboard=key, deleted=deleted, season=line.season, score=line.score, rank=line.rank)
            )
        if len(records) == limit:
            return Cursor(board.id, Stage.SEASONS, lines[-1].season if lines else 0)
        cursor = Cursor(board.id, Stage.EVENTS)
    if cursor.stage is Stage.EVENTS:
        room = limit - len(records)
        on = await _events(tools, board, member, cursor, room, records)
        if on is not None:
            return on
        cursor = Cursor(board.id, Stage.HELD)
    room = limit - len(records)
    after = UUID(int=cursor.first << 64 | cursor.second)
    holds = await quarantine.of_member(tools.pool, board.id, member, after=after, limit=room)
    records += [Held(leaderboard=key, deleted=deleted, hold=hold) for hold in holds]
    if len(holds) < room:
        return None
    last = holds[-1].id.int
    return Cursor(board.id, Stage.HELD, last >> 64, last & (2**64 - 1))


async def _events(
    tools: Tools, board: ProjectBoard, member: str, cursor: Cursor, room: int, records: list[Record]
) -> Cursor | None:
    """Add up to `room` events, and return where to go on; None where those are all."""
    after = Position(cursor.first, cursor.second)
    happened = await members.events(tools.pool, board.id, member, after=after, limit=room)
    for event in happened:
        records.append(
            Event(
                leaderboard=board.key,
                deleted=board.deleted,
                id=event.id.hex,
                time=event.time,
                kind=event.kind,
                submitted=event.submitted,
                score=event.score,
            )
        )
    if len(happened) < room:
        return None
    return Cursor(board.id, Stage.EVENTS, *happened[-1].position)
