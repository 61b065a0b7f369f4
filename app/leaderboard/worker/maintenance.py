"""Housekeeping: partitions made ahead, old ones dropped behind a checkpoint; flushes and hours of usage forgotten."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from leaderboard.store.postgres import ledger, usage
from leaderboard.store.postgres.pool import DatabaseUnavailable, Pool
from leaderboard.worker.backoff import Backoff

log = logging.getLogger(__name__)

EVERY_SECONDS = 600.0
DAYS_AHEAD = 2
"""Days after today that have a partition ready: an outage of the worker over midnight costs nothing."""
KEEP_FLUSHES = timedelta(days=1)
KEEP_HOURS = timedelta(days=35)
"""Longer than the API answers hours for."""


async def once(pool: Pool, *, retention_days: int, now: datetime) -> None:
    """Do all of it for the moment `now`; may be repeated, by several workers at once. Raises DatabaseUnavailable."""
    today = now.astimezone(UTC).date()
    made = await ledger.ensure_partitions(pool, [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)])
    forgotten = await usage.prune_flushes(pool, before=now - KEEP_FLUSHES)
    await usage.prune_hours(pool, before=now - KEEP_HOURS)
    dropped = []
    if retention_days > 0:
        dropped = await ledger.drop_partitions_before(pool, today - timedelta(days=retention_days))
    if made or dropped:
        log.info("partitions made: %s; dropped: %s; flushes forgotten: %d", made, dropped, forgotten)


async def run(pool: Pool, *, retention_days: int, stop: asyncio.Event, clock: Callable[[], datetime]) -> None:
    """Keep house now and every `EVERY_SECONDS` until `stop` is set."""
    outage = Backoff("PostgreSQL (maintenance)", stop=stop)
    while not stop.is_set():
        try:
            await once(pool, retention_days=retention_days, now=clock())
        except DatabaseUnavailable as error:
            await outage.wait(error)
            continue
        outage.over()
        try:
            await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
        except TimeoutError:
            continue
