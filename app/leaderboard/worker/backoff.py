"""Waiting out a dependency that is away: growing pauses with jitter, a log line when it goes and when it is back."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from leaderboard.store.postgres.pool import DatabaseUnavailable
from leaderboard.store.redis.errors import RedisFailure

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0
"""Also how long after its return a dependency may stay unused."""


class Backoff:
    """The outages of one dependency, `what` by name. Not for concurrent use."""

    def __init__(self, what: str, *, stop: asyncio.Event) -> None:
        self._what = what
        self._stop = stop
        self._failures = 0

    async def wait(self, error: Exception) -> None:
        """Pause before the next attempt, shorter when asked to stop. The first failure in a row is logged."""
        if self._failures == 0:
            log.warning("%s: outage, trying again until it is over: %s", self._what, error)
        pause = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)
        self._failures += 1
        try:
            await asyncio.wait_for(self._stop.wait(), pause)
        except TimeoutError:
            return

    def over(self) -> None:
        """Say that it works (again)."""
        if self._failures:
            log.info("%s: the outage is over after %d failed attempts", self._what, self._failures)
        self._failures = 0


async def take_turns(what: str, turn: Callable[[], Awaitable[bool]], *, stop: asyncio.Event, pause: float) -> None:
    """Call `turn` until `stop` is set, `pause` seconds apart; at once where it answers that there is more to do.

    For what is beside the ledger: whatever becomes of a turn, the ledger, in the same process, goes on.
    """
    outage = Backoff(f"the stores ({what})", stop=stop)
    while not stop.is_set():
        try:
            more = await turn()
        except (DatabaseUnavailable, RedisFailure, RedisError) as error:
            await outage.wait(error)
            continue
        except Exception as error:
            log.exception("a turn of the %s failed", what)
            await outage.wait(error)
            continue
        outage.over()
        if more:
            continue
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
