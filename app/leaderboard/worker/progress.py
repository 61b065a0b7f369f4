"""How far the ledger is: every second, the moment up to which it has every event.

An entry leaves the outbox once it is in the ledger, and a new one is stamped with no time before now. So all that
happened before the oldest entry is there; with an empty outbox, all that happened before now. By Redis's clock.
"""

import asyncio
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from leaderboard.store.postgres import history
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.redis import keys
from leaderboard.worker.backoff import take_turns

INTERVAL_SECONDS = 1.0
_STEP = timedelta(milliseconds=1)


async def once(pool: Pool, redis: Redis) -> datetime:
    """Write down how far the ledger is and return it; several workers may. Raises DatabaseUnavailable, RedisError."""
    pipe = redis.pipeline(transaction=True)
    pipe.time()
    pipe.xrange(keys.OUTBOX, count=1)
    (seconds, micros), oldest = await pipe.execute()
    milliseconds = int(oldest[0][0].partition(b"-")[0]) if oldest else seconds * 1000 + micros // 1000
    # More may come, or be on its way, of this very millisecond.
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC) + (milliseconds % 1000) * _STEP - _STEP
    await history.set_complete_until(pool, moment)
    return moment


async def run(pool: Pool, redis: Redis, *, stop: asyncio.Event) -> None:
    """Write it down until `stop` is set."""

    async def turn() -> bool:
        await once(pool, redis)
        return False

    await take_turns("progress", turn, stop=stop, pause=INTERVAL_SECONDS)
