"""Seasons: boards are reset by their schedules, cut-short resets finished, final standings moved to Postgres."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from redis.asyncio import Redis

from leaderboard.control import seasons as control
from leaderboard.control.errors import NotDrained, ResetLost
from leaderboard.store.postgres import boards, seasons
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.postgres.seasons import NotSealed, SeasonState
from leaderboard.store.redis.errors import BoardUnavailable
from leaderboard.worker.backoff import take_turns
from leaderboard.worker.seen import SeasonsSeen

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the worker looks for seasons that are over."""
PATIENCE = timedelta(seconds=10)
"""How long a reset may take before it counts as cut short."""
MOST = 100
"""Seasons archived in one turn."""
DUE = 1_000
"""Boards looked at in one turn because their schedule has come: some of them may be lost, and must not keep others."""
DRAIN_SECONDS = 5.0
"""How long a season that Redis lost waits for its ledger; then the others have their turn."""


class Turn(NamedTuple):
    """What came of one: seasons archived, and how many seconds ago the oldest ended that could not be."""

    archived: int
    lag: float


async def once(pool: Pool, redis: Redis, *, now: datetime) -> Turn:
    """Move on what there is, MOST at a time. Several workers may do it.

    A board that cannot move on holds up no other. Raises DatabaseUnavailable, RedisUnavailable; a board whose turn that
    ended comes again in the next.
    """
    archived, oldest, waiting = 0, now, list[Exception]()
    for board_id in await boards.due(pool, now=now, limit=DUE):
        try:
            board = await control.move_on(pool, redis, board_id, now=now)
        except BoardUnavailable as error:
            waiting.append(error)
            continue
        if board is not None:
            log.info("board %d is in season %d, by its schedule; next %s", board_id, board.season, board.next_reset)
    for board_id, season in await seasons.unfinished(pool, limit=MOST):
        try:
            if season.state is SeasonState.ENDING:
                if now - season.ended_at > PATIENCE:
                    log.warning("finishing the reset of board %d that ends its season %d", board_id, season.number)
                    await control.move_on(pool, redis, board_id, now=now)
                continue
            if season.late_until is not None and season.late_until > now:
                continue
            sealed = await control.archive(pool, redis, board_id, season, drain_seconds=DRAIN_SECONDS)
        except (NotDrained, NotSealed, ResetLost, BoardUnavailable) as error:
            waiting.append(error)
            oldest = min(oldest, season.ended_at)
            continue
        if sealed is not None:
            archived += 1
            log.info("season %d of board %d is archived: %d entries", season.number, board_id, sealed.entries)
    if waiting:
        log.warning("%d boards wait for their season to end or to be archived; the first: %s", len(waiting), waiting[0])
    return Turn(archived, (now - oldest).total_seconds())


async def run(
    pool: Pool, redis: Redis, *, stop: asyncio.Event, clock: Callable[[], datetime], seen: SeasonsSeen | None = None
) -> None:
    """Reset by schedule and archive seasons until `stop` is set."""

    async def turn() -> bool:
        try:
            done = await once(pool, redis, now=clock())
        except Exception:
            if seen is not None:
                seen.lag = None
            raise
        if seen is not None:
            seen.archived(done.archived)
            seen.lag = done.lag
        return done.archived == MOST

    await take_turns("seasons", turn, stop=stop, pause=LOOK_SECONDS)
