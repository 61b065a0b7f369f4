"""The queue of objects to reconcile: each at most once in it, none twice at work, failures later and later.

The rules are client-go's `workqueue`: an object that is added while it is at work is taken again afterwards.
"""

import asyncio
import random
from collections.abc import Callable
from itertools import islice

from leaderboard_operator.metrics import QUEUE_ADDS, QUEUE_DEPTH, QUEUE_RETRIES, QUEUE_SECONDS
from leaderboard_operator.resources import Key

FIRST_RETRY = 0.2
LAST_RETRY = 10.0
"""Seconds before the first and at most before any further try: what failed for an outage is right soon after it."""


class WorkQueue:
    """For one event loop. `name` labels its metrics; `clock` gives seconds."""

    def __init__(self, name: str, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: dict[Key, float] = {}
        self._at_work: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, tuple[float, asyncio.TimerHandle]] = {}
        self._wake = asyncio.Event()
        self._depth = QUEUE_DEPTH.labels(name=name)
        self._adds = QUEUE_ADDS.labels(name=name)
        self._retries = QUEUE_RETRIES.labels(name=name)
        self._seconds = QUEUE_SECONDS.labels(name=name)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Ask for `key` to be reconciled soon."""
        if key in self._at_work:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = self._clock()
            self._adds.inc()
            self._depth.set(len(self._waiting))
            self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for `key` to be reconciled in that time, or sooner if that was asked for already."""
        due = self._clock() + seconds
        known = self._timers.get(key)
        if known is not None:
            if known[0] <= due:
                return
            known[1].cancel()
        self._timers[key] = (due, asyncio.get_running_loop().call_later(seconds, self._due, key))

    def _due(self, key: Key) -> None:
        del self._timers[key]
        self.add(key)

    async def take(self, limit: int) -> list[Key]:
        """Wait until something is asked for, and return up to `limit` keys, the longest waiting first."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        keys = list(islice(self._waiting, limit))
        now = self._clock()
        for key in keys:
            self._seconds.observe(max(0.0, now - self._waiting.pop(key)))
        self._at_work.update(keys)
        self._depth.set(len(self._waiting))
        return keys

    def claim(self, keys: list[Key]) -> list[Key]:
        """Take those of `keys` that neither wait nor are at work, as if they had come by `take`."""
        free = [key for key in keys if key not in self._waiting and key not in self._at_work]
        self._at_work.update(free)
        return free

    def done(self, key: Key, *, failed: bool = False) -> None:
        """Say that the work on `key` ended. After a failure it is tried again by itself."""
        self._at_work.discard(key)
        if failed:
            count = self._failures.get(key, 0)
            self._failures[key] = count + 1
            self._retries.inc()
            pause = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(count, 16))
            self.add_after(key, pause * random.uniform(0.8, 1.0))
        else:
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def forget(self, key: Key) -> None:
        """Drop what is planned for an object that is gone."""
        self._failures.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer[1].cancel()

    def close(self) -> None:
        """Stop the timers."""
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
