"""How what Redis has of a board may differ from its row and its ledger. Nothing here does I/O."""

from typing import TypeGuard

from leaderboard.domain.boards import Board, TiePolicy
from leaderboard.store.postgres.ledger import Position
from leaderboard.store.redis.boards import BoardMeta, BoardState, Snapshot, meta_of

LOST = "Redis had lost it"


def wanted_state(board: Board) -> BoardState:
    """Return what the scripts may do with the board when all is well."""
    return BoardState.SUSPENDED if board.spec.suspended else BoardState.ACTIVE


def serves(meta: BoardMeta | None, board: Board) -> TypeGuard[BoardMeta]:
    """Whether Redis has the board itself, and it is not being restored."""
    return meta is not None and meta.id == board.id and meta.state is not BoardState.REBUILDING


def damage(board: Board, seen: Snapshot, *, position: Position | None) -> str | None:
    """Return why the board has to be restored from the ledger, None where nothing says so.

    `position` is the ledger's, None where it was not asked. What was `seen` need not be of one moment, but then an
    order hash that does not fit may be the work of that moment.
    """
    if seen.broken:
        return "Redis had something else under its names"
    if seen.meta is None:
        return LOST
    if seen.meta.state is BoardState.REBUILDING:
        return "a rebuild had not finished"
    if seen.meta.incarnation != board.incarnation or (position is not None and seen.meta.seq < position.seq):
        return "Redis had an older state than the ledger"
    if board.spec.tie_policy is TiePolicy.FIRST_TO_REACH and seen.orders != seen.entries:
        return "its entries and their order did not belong together"
    return None


def doubtful(seen: Snapshot, *, position: Position) -> bool:
    """Whether an empty board had better be compared with the ledger, which has all of its events by now."""
    return seen.meta is not None and seen.entries == 0 and 0 < seen.meta.seq == position.seq


def agrees(board: Board, seen: Snapshot) -> bool:
    """Whether the meta is the one the board should have."""
    return seen.meta is not None and seen.meta == meta_of(board, state=wanted_state(board), seq=seen.meta.seq)
