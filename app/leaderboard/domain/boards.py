"""Boards: the fixed rules of one leaderboard and what may change in it."""

from datetime import datetime
from enum import StrEnum

import msgspec

from leaderboard.domain.bounds import Bounds, check_bounds
from leaderboard.domain.errors import ImmutableField, InvalidDocument
from leaderboard.domain.names import BoardKey, LeaderboardId
from leaderboard.domain.schedules import ResetSpec, check_reset
from leaderboard.domain.tiers import Tier, check_tiers

MAX_ENTRIES_LIMIT = 10_000_000
"""Largest `max_entries` accepted; 0 means unbounded."""
MAX_SEASON = 2**31 - 1
"""Largest number of a season."""


class SortOrder(StrEnum):
    """Which end of the board is rank 1."""

    DESCENDING = "descending"
    ASCENDING = "ascending"


class ScoreUpdate(StrEnum):
    """What an update does to the stored score."""

    SUM = "sum"
    """Adds the increment; a new member starts at 0."""
    BEST = "best"
    """Keeps the better of stored and submitted, by the board's order."""
    LATEST = "latest"
    """Keeps the submitted score."""


class TiePolicy(StrEnum):
    """How members with equal scores are ranked."""

    FIRST_TO_REACH = "first_to_reach"
    """Who reached the score first is better. A member that leaves a score and returns queues again."""
    USER_ID = "user_id"
    """By the bytes of the user id, in the board's own direction (a descending board lists ids descending)."""
    SHARED = "shared"
    """Equal scores share a rank and the next is skipped: 1, 2, 2, 4 (standard competition ranking)."""


class BoardSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks of a board; everything but the key has a default.

    `key`, `sort_order`, `score_update` and `tie_policy` are fixed at creation. `max_entries` is a count of members,
    0 for no bound; the worst are trimmed. `public_read` lets anybody read the top through the public route. `tiers`
    are best first.
    """

    key: BoardKey
    sort_order: SortOrder = SortOrder.DESCENDING
    score_update: ScoreUpdate = ScoreUpdate.SUM
    tie_policy: TiePolicy = TiePolicy.FIRST_TO_REACH
    max_entries: int = 0
    public_read: bool = False
    suspended: bool = False
    reset: ResetSpec | None = None
    bounds: Bounds | None = None
    tiers: tuple[Tier, ...] = ()


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """A board as it stands: its spec with the identity the platform gave it.

    `incarnation` counts from 1 and grows when the board restarts (a rebuild, a reset); the pair of it and the
    per-board sequence orders every event the board ever had.
    """

    id: LeaderboardId
    spec: BoardSpec
    incarnation: int = 1
    season: int = 1
    """Counts from 1; each reset ends one and starts the next."""
    next_reset: datetime | None = None
    """When the schedule ends the season (UTC), or was to end it a moment ago; None without a schedule."""
    managed_by: str | None = None
    """Who owns it: None for the REST API, else the UID of the custom resource."""


def check_spec(spec: BoardSpec) -> BoardSpec:
    """Return `spec`, or raise InvalidDocument or InvalidName where a value is out of its bounds."""
    if not 0 <= spec.max_entries <= MAX_ENTRIES_LIMIT:
        raise InvalidDocument(f"max_entries must be 0 (no bound) to {MAX_ENTRIES_LIMIT}, got {spec.max_entries}")
    if spec.reset is not None:
        check_reset(spec.reset)
    if spec.bounds is not None:
        check_bounds(spec.bounds)
    check_tiers(spec.tiers)
    return spec


def check_change(current: BoardSpec, wanted: BoardSpec) -> BoardSpec:
    """Return `wanted`, or raise ImmutableField where it changes what is fixed at creation."""
    for field in ("key", "sort_order", "score_update", "tie_policy"):
        before, after = getattr(current, field), getattr(wanted, field)
        if before != after:
            raise ImmutableField(field, current=str(before), wanted=str(after))
    return check_spec(wanted)
