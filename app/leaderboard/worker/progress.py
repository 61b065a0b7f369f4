"""How far the ledger is: every second, the moment up to which it has every event.

An entry leaves the outbox once it is in the ledger, and a new one is stamped with no time before now. So all that
happened before the oldest entry is there; with an empty outbox, all that happened before now. By Redis's clock.
"""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis
from redis.exceptions import RedisError

from leaderboard.store.postgres import history
from leaderboard.store.postgres.pool import DatabaseUnavailable, Pool
from leaderboard.store.redis import keys
from leaderboard.worker.backoff import Backoff

log = logging.getLogger(__name__)

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
    outage = Backoff("the stores (progress)", stop=stop)
    while not stop.is_set():
        try:
            await once(pool, redis)
        except (DatabaseUnavailable, RedisError) as error:
            await outage.wait(error)
            continue
        except Exception as error:
            # Whatever it was, it is the history's: the ledger, in the same process, goes on.
            log.exception("the ledger's progress was not written down")
            await outage.wait(error)
            continue
        outage.over()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), INTERVAL_SECONDS)
