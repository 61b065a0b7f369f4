"""Client of the leaderboard platform. `Client` blocks, `AsyncClient` is for asyncio; both do the same.

`core`, `retries`, `answers` and `errors` do no I/O: they say what to send, what an answer means and whether to try
again. `client`, `aio` and the two batchers only send and wait.
"""

from leaderboard_sdk.aio import AsyncClient
from leaderboard_sdk.answers import (
    Around,
    Entry,
    Erasure,
    ErasureCheck,
    HistoryRank,
    HistoryTop,
    Leaderboard,
    LeaderboardPage,
    Members,
    Rank,
    ResetRule,
    Season,
    SeasonRank,
    Seasons,
    SeasonTop,
    SignedSeason,
    Top,
    Touched,
    Update,
    UpdateResult,
    Usage,
    UsageDay,
    UserData,
)
from leaderboard_sdk.async_batcher import AsyncBatcher
from leaderboard_sdk.batcher import Batcher
from leaderboard_sdk.client import Client
from leaderboard_sdk.errors import (
    ApiError,
    Conflict,
    InDoubt,
    InsufficientScope,
    InvalidApiKey,
    InvalidRequest,
    LeaderboardError,
    NotFound,
    RateLimited,
    TransportError,
    Unavailable,
)

__all__ = [
    "ApiError",
    "Around",
    "AsyncBatcher",
    "AsyncClient",
    "Batcher",
    "Client",
    "Conflict",
    "Entry",
    "Erasure",
    "ErasureCheck",
    "HistoryRank",
    "HistoryTop",
    "InDoubt",
    "InsufficientScope",
    "InvalidApiKey",
    "InvalidRequest",
    "Leaderboard",
    "LeaderboardError",
    "LeaderboardPage",
    "Members",
    "NotFound",
    "Rank",
    "RateLimited",
    "ResetRule",
    "Season",
    "SeasonRank",
    "SeasonTop",
    "Seasons",
    "SignedSeason",
    "Top",
    "Touched",
    "TransportError",
    "Unavailable",
    "Update",
    "UpdateResult",
    "Usage",
    "UsageDay",
    "UserData",
]
