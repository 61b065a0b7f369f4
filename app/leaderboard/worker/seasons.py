"""Seasons: boards are reset by their schedules, cut-short resets finished, final standings moved to Postgres."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from redis.asyncio import Redis

from leaderboard.control import seasons as control
from leaderboard.control.errors import NotDrained, ResetLost
from leaderboard.domain.names import LeaderboardId
from leaderboard.store.postgres import boards, seasons
from leaderboard.store.postgres.pool import Busy, Pool
from leaderboard.store.postgres.seasons import Mark, NotSealed, Season, SeasonState
from leaderboard.store.redis.errors import BoardUnavailable, RedisFailure
from leaderboard.worker.backoff import take_turns
from leaderboard.worker.seen import SeasonsSeen

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the worker looks for seasons that are over."""
PATIENCE = timedelta(seconds=10)
"""How long a reset may take before it counts as cut short."""
MOST = 100
"""Seasons gone through in one turn."""
DUE = 1_000
"""Boards looked at in one turn because their schedule has come: some of them may be lost, and must not keep others."""
DRAIN_SECONDS = 5.0
"""How long a season that Redis lost waits for its ledger; then the others have their turn."""


class Turn(NamedTuple):
    """What came of one: seasons archived, for how many seconds the oldest has waited that could be, and whether there
    are more to go through."""

    archived: int
    lag: float
    more: bool


async def reset(pool: Pool, redis: Redis, *, now: datetime) -> None:
    """End the seasons whose time has come. Several workers may do it.

    A board that cannot move on holds up no other: its turn comes again. Raises DatabaseUnavailable, RedisUnavailable.
    """
    waiting = list[Exception]()
    for board_id in await boards.due(pool, now=now, limit=DUE):
        try:
            board = await control.move_on(pool, redis, board_id, now=now)
        except BoardUnavailable as error:
            waiting.append(error)
            continue
        if board is not None:
            log.info("board %d is in season %d, by its schedule; next %s", board_id, board.season, board.next_reset)
    if waiting:
        log.warning("%d boards wait for their season to end; the first: %s", len(waiting), waiting[0])


class Archive:
    """Goes through the seasons that can be archived, from where it stopped, also where it was stopped by an error: so
    none that fails each time keeps others from it. Several workers may each have one."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis
        self._after = Mark()

    async def turn(self, *, now: datetime) -> Turn:
        """Archive up to MOST seasons, and finish resets that were cut short.

        Raises DatabaseUnavailable, RedisUnavailable.
        """
        archived, waiting, cut_short = 0, list[Exception](), now - PATIENCE
        found = await seasons.due(self._pool, now=now, cut_short=cut_short, after=self._after, limit=MOST)
        for board_id, season in found:
            self._after = Mark(board_id, season.number)
            try:
                archived += await self._season(board_id, season, now=now)
            except (NotDrained, NotSealed, ResetLost, BoardUnavailable, Busy) as error:
                waiting.append(error)
            except RedisFailure as error:
                raise type(error)(f"season {season.number} of board {board_id}: {error}") from error
        if len(found) < MOST:
            self._after = Mark()
        if waiting:
            log.warning("%d seasons wait to be archived; the first: %s", len(waiting), waiting[0])
        since = await seasons.due_since(self._pool, now=now, cut_short=cut_short)
        return Turn(archived, 0.0 if since is None else (now - since).total_seconds(), len(found) == MOST)

    async def _season(self, board_id: LeaderboardId, season: Season, *, now: datetime) -> bool:
        """Move one season on; return whether it was archived."""
        if season.state is SeasonState.ENDING:
            log.warning("finishing the reset of board %d that ends its season %d", board_id, season.number)
            await control.move_on(self._pool, self._redis, board_id, now=now)
            return False
        sealed = await control.archive(self._pool, self._redis, board_id, season, drain_seconds=DRAIN_SECONDS)
        if sealed is not None:
            log.info("season %d of board %d is archived: %d entries", season.number, board_id, sealed.entries)
        return sealed is not None


async def run(
    pool: Pool, redis: Redis, *, stop: asyncio.Event, clock: Callable[[], datetime], seen: SeasonsSeen | None = None
) -> None:
    """Reset by schedule and archive seasons until `stop` is set; a season that takes long to archive keeps no reset."""
    archive = Archive(pool, redis)

    async def resets() -> bool:
        await reset(pool, redis, now=clock())
        return False

    async def archives() -> bool:
        try:
            done = await archive.turn(now=clock())
        except Exception:
            if seen is not None:
                seen.lag = None
            raise
        if seen is not None:
            seen.archived(done.archived)
            seen.lag = done.lag
        return done.more

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take_turns("resets", resets, stop=stop, pause=LOOK_SECONDS))
        tasks.create_task(take_turns("seasons", archives, stop=stop, pause=LOOK_SECONDS))
