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
from leaderboard.store.postgres.pool import Busy, Pool
from leaderboard.store.postgres.seasons import Mark, NotSealed, SeasonState
from leaderboard.store.redis.errors import BoardUnavailable
from leaderboard.worker.backoff import take_turns
from leaderboard.worker.seen import SeasonsSeen

log = logging.getLogger(__name__)

FIRST = Mark()
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
    """What came of one: seasons archived, for how many seconds the oldest has waited that could be, and where to go on;
    None there after the last."""

    archived: int
    lag: float
    on: Mark | None


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


async def archive(pool: Pool, redis: Redis, *, now: datetime, after: Mark = FIRST) -> Turn:
    """Archive up to MOST seasons, those past `after`, and finish resets that were cut short. Several workers may do it.

    A season that cannot be archived holds up no other: its turn comes again. Raises DatabaseUnavailable,
    RedisUnavailable.
    """
    archived, waiting, cut_short = 0, list[Exception](), now - PATIENCE
    found = await seasons.due(pool, now=now, cut_short=cut_short, after=after, limit=MOST)
    for board_id, season in found:
        try:
            if season.state is SeasonState.ENDING:
                log.warning("finishing the reset of board %d that ends its season %d", board_id, season.number)
                await control.move_on(pool, redis, board_id, now=now)
                continue
            sealed = await control.archive(pool, redis, board_id, season, drain_seconds=DRAIN_SECONDS)
        except (NotDrained, NotSealed, ResetLost, BoardUnavailable, Busy) as error:
            waiting.append(error)
            continue
        if sealed is not None:
            archived += 1
            log.info("season %d of board %d is archived: %d entries", season.number, board_id, sealed.entries)
    if waiting:
        log.warning("%d seasons wait to be archived; the first: %s", len(waiting), waiting[0])
    since = await seasons.due_since(pool, now=now, cut_short=cut_short)
    last = Mark(found[-1][0], found[-1][1].number) if len(found) == MOST else None
    return Turn(archived, 0.0 if since is None else (now - since).total_seconds(), last)


async def run(
    pool: Pool, redis: Redis, *, stop: asyncio.Event, clock: Callable[[], datetime], seen: SeasonsSeen | None = None
) -> None:
    """Reset by schedule and archive seasons until `stop` is set; a season that takes long to archive keeps no reset."""
    after = FIRST

    async def resets() -> bool:
        await reset(pool, redis, now=clock())
        return False

    async def archives() -> bool:
        nonlocal after
        try:
            done = await archive(pool, redis, now=clock(), after=after)
        except Exception:
            if seen is not None:
                seen.lag = None
            raise
        if seen is not None:
            seen.archived(done.archived)
            seen.lag = done.lag
        after = done.on or FIRST
        return done.on is not None

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take_turns("resets", resets, stop=stop, pause=LOOK_SECONDS))
        tasks.create_task(take_turns("seasons", archives, stop=stop, pause=LOOK_SECONDS))
