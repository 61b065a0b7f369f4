"""Updates that were held: looked at, released or rejected.

A release is written down before Redis applies it, with the id of its event, so whoever comes after a crash can tell
whether it happened: the ledger has the event, or Redis answers as it did the first time.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from leaderboard.control import namespace
from leaderboard.control.errors import AlreadyDecided, HoldNotFound, HoldNotReady, NotDrained
from leaderboard.control.tools import Tools
from leaderboard.domain.boards import Board, ScoreUpdate
from leaderboard.domain.names import ProjectId
from leaderboard.store.postgres import ledger, quarantine
from leaderboard.store.postgres.pool import Connection
from leaderboard.store.postgres.quarantine import WAITING, Hold, HoldState
from leaderboard.store.redis import quarantine as redis_quarantine
from leaderboard.store.redis.scores import Applied, Refusal

ARRIVE_SECONDS = 2.0
"""How long one that is not in Postgres may be on its way there."""
IN_DOUBT_SECONDS = 5.0
"""How long a release that was cut short waits for the ledger, to know whether it happened."""


class Outlook(NamedTuple):
    """Score and rank that a held update would come to if it were released now."""

    score: float
    rank: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A held update; `outlook` is None where it waits no more, or is for another season than the one that runs."""

    hold: Hold
    outlook: Outlook | None = None


async def page(
    tools: Tools,
    *,
    project_id: ProjectId,
    key: str,
    board_key: str,
    state: HoldState | None,
    member: str | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
    outlook: bool = True,
) -> list[Seen]:
    """Return held updates of a board, the newest first; see `Control.held_updates`."""
    board = await namespace.board_of(tools.pool, project_id, key)
    found = await quarantine.page(tools.pool, board.id, state=state, member=member, before=before, limit=limit)
    if not outlook:
        return [Seen(hold=hold) for hold in found]
    return await _seen(tools, board, board_key, found)


async def one(tools: Tools, *, project_id: ProjectId, key: str, board_key: str, id: UUID) -> Seen:
    """Return a held update of a board. Raises BoardNotFound, HoldNotFound."""
    board = await namespace.board_of(tools.pool, project_id, key)
    return (await _seen(tools, board, board_key, [await _find(tools, board, id)]))[0]


async def release(
    tools: Tools, *, project_id: ProjectId, key: str, board_key: str, id: UUID, by: str, note: str | None
) -> Hold | Refusal:
    """Apply a held update; see `Control.release`."""
    board = await namespace.board_of(tools.pool, project_id, key)
    await _find(tools, board, id)
    async with namespace.lock(tools.pool, board.id) as conn:
        board, hold = await _locked(conn, board, id)
        done = False
        match hold.state:
            case HoldState.RELEASED:
                return hold
            case HoldState.REJECTED:
                raise AlreadyDecided(f"the update {id.hex} was rejected; send it anew where it should count after all")
            case HoldState.HELD:
                hold = msgspec.structs.replace(
                    hold,
                    state=HoldState.RELEASING,
                    event_id=UUID(bytes=tools.entropy(8) + bytes(8)),
                    decided_by=by,
                    decided_at=tools.clock(),
                    note=note,
                )
                await quarantine.decide(conn, hold)
            case HoldState.RELEASING:
                # Redis knows by the id for a day whether it was done; then the ledger has known for long.
                assert hold.event_id is not None
                await _arrived(tools, board, id, seconds=IN_DOUBT_SECONDS)
                done = await ledger.has(conn, board.id, hold.member, hold.event_id)
        if not done:
            assert hold.event_id is not None
            outcome = await redis_quarantine.release(
                tools.redis,
                board_key,
                id=id.hex,
                user=hold.member,
                value=_value(board, hold),
                nonce=hold.event_id.bytes[:8].hex(),
            )
            if not isinstance(outcome, Applied):
                await quarantine.decide(conn, _undecided(hold))
                return outcome
        hold = msgspec.structs.replace(hold, state=HoldState.RELEASED)
        await quarantine.decide(conn, hold)
        return hold


async def reject(tools: Tools, *, project_id: ProjectId, key: str, id: UUID, by: str, note: str | None) -> Hold:
    """Let a held update never count; see `Control.reject`."""
    board = await namespace.board_of(tools.pool, project_id, key)
    await _find(tools, board, id)
    async with namespace.lock(tools.pool, board.id) as conn:
        board, hold = await _locked(conn, board, id)
        if hold.state is HoldState.REJECTED:
            return hold
        if hold.state is not HoldState.HELD:
            raise AlreadyDecided(
                f"the update {id.hex} was released; to undo it, send the opposite or remove the member"
                if hold.state is HoldState.RELEASED
                else f"the update {id.hex} is being released; release it again to finish that"
            )
        hold = msgspec.structs.replace(
            hold, state=HoldState.REJECTED, decided_by=by, decided_at=tools.clock(), note=note
        )
        await quarantine.decide(conn, hold)
        return hold


def _undecided(hold: Hold) -> Hold:
    return msgspec.structs.replace(
        hold, state=HoldState.HELD, event_id=None, decided_by=None, decided_at=None, note=None
    )


def _value(board: Board, hold: Hold) -> str:
    return f"{hold.season}:!{_letter(board)}{hold.submitted!r}"


def _letter(board: Board) -> str:
    return "i" if board.spec.score_update is ScoreUpdate.SUM else "s"


async def _find(tools: Tools, board: Board, id: UUID) -> Hold:
    hold = await quarantine.get(tools.pool, board.id, id)
    if hold is None:
        # Who was just answered that it is held may be here before the worker.
        await _arrived(tools, board, id, seconds=ARRIVE_SECONDS)
        hold = await quarantine.get(tools.pool, board.id, id)
    if hold is None:
        raise HoldNotFound(f"the leaderboard {board.spec.key!r} has no held update {id.hex}")
    return hold


async def _arrived(tools: Tools, board: Board, id: UUID, *, seconds: float) -> None:
    try:
        await namespace.drained(tools.redis, seconds=seconds)
    except NotDrained as error:
        raise HoldNotReady(f"the held update {id.hex} of the leaderboard {board.spec.key!r}: {error}") from error


async def _locked(conn: Connection, board: Board, id: UUID) -> tuple[Board, Hold]:
    board = await namespace.as_it_stands(conn, board.id, board.spec.key)
    hold = await quarantine.get(conn, board.id, id)
    if hold is None:
        raise HoldNotFound(f"the held update {id.hex} was erased meanwhile")
    return board, hold


async def _seen(tools: Tools, board: Board, board_key: str, holds: Sequence[Hold]) -> list[Seen]:
    asked = [hold for hold in holds if hold.state in WAITING and hold.season == board.season]
    outlooks: dict[UUID, Outlook] = {}
    if asked:
        values = [(hold.member, f"{_letter(board)}{hold.submitted!r}") for hold in asked]
        found = await redis_quarantine.would(tools.redis, board_key, values)
        outlooks = {hold.id: Outlook(*each) for hold, each in zip(asked, found, strict=bool(found))}
    return [Seen(hold=hold, outlook=outlooks.get(hold.id)) for hold in holds]
