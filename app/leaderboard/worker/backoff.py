"""Waiting out a dependency that is away: growing pauses with jitter, a log line when it goes and when it is back."""

import asyncio
import logging
import random

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
