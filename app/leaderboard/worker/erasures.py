"""Erasures of members that somebody asked for: carried out until each has its receipt."""

import asyncio
import contextlib
import logging

from leaderboard.control import erasures as control
from leaderboard.control.tools import Tools
from leaderboard.store.postgres.pool import DatabaseUnavailable
from leaderboard.store.redis.errors import RedisFailure
from leaderboard.worker.backoff import Backoff

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the worker looks for erasures."""
MOST = 20
"""Erasures of one turn."""


async def run(tools: Tools, *, stop: asyncio.Event) -> None:
    """Carry out erasures until `stop` is set."""
    outage = Backoff("the stores (erasures)", stop=stop)
    while not stop.is_set():
        try:
            await control.carry_out(tools, limit=MOST)
        except (DatabaseUnavailable, RedisFailure) as error:
            await outage.wait(error)
            continue
        except Exception as error:
            # The erasure is pending still, and the ledger, in the same process, goes on.
            log.exception("a turn of the erasures failed")
            await outage.wait(error)
            continue
        outage.over()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
