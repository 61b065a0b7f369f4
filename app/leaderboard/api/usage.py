"""Usage: each process adds up requests and refusals per project and flushes them to Postgres every 5 seconds.

A flush carries (boot nonce, sequence), so one that is sent twice counts once. A kill loses what one flush would have
carried. Score updates are not counted here: the bill takes them from the ledger.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import date, datetime

from leaderboard.domain.names import ProjectId
from leaderboard.store.postgres import usage
from leaderboard.store.postgres.pool import DatabaseUnavailable, Pool

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0

Counts = dict[tuple[date, ProjectId], tuple[int, int]]


class UsageMeter:
    """Counts in memory, flushes in the background. `now` gives aware UTC time, `boot_nonce` names this process."""

    def __init__(self, pool: Pool, *, boot_nonce: str, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._boot_nonce = boot_nonce
        self._now = now
        self._requests: dict[ProjectId, int] = {}
        self._limited: dict[ProjectId, int] = {}
        self._sequence = 0
        self._unsent: list[tuple[int, Counts]] = []
        self._task: asyncio.Task[None] | None = None

    def request(self, project: ProjectId) -> None:
        """Count one request that was let through."""
        self._requests[project] = self._requests.get(project, 0) + 1

    def limited(self, project: ProjectId) -> None:
        """Count one request that the rate limiter refused."""
        self._limited[project] = self._limited.get(project, 0) + 1

    async def start(self) -> None:
        """Begin flushing."""
        self._task = asyncio.create_task(self._keep_flushing(), name="usage-flush")

    async def close(self) -> None:
        """Stop, and flush what is left."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.flush()

    async def flush(self) -> None:
        """Write what was counted since the last flush; what Postgres does not take now goes with the next one."""
        requests, self._requests = self._requests, {}
        limited, self._limited = self._limited, {}
        if requests or limited:
            # The day a flush falls on: at midnight up to five seconds of requests count for the new day.
            day = self._now().date()
            counts: Counts = {
                (day, project): (requests.get(project, 0), limited.get(project, 0))
                for project in requests.keys() | limited.keys()
            }
            self._sequence += 1
            self._unsent.append((self._sequence, counts))
        while self._unsent:
            sequence, counts = self._unsent[0]
            try:
                await usage.flush(self._pool, boot_nonce=self._boot_nonce, sequence=sequence, counts=counts)
            except DatabaseUnavailable as error:
                log.warning("usage not flushed, kept for the next try: %s", error, extra={"unsent": len(self._unsent)})
                self._merge_unsent()
                return
            self._unsent.pop(0)

    def _merge_unsent(self) -> None:
        # The first may have been counted though its answer was lost: it keeps its number. The others were never sent
        # and can be one, so that an outage of hours is two flushes and not thousands.
        if len(self._unsent) <= 2:
            return
        merged: Counts = {}
        for _, counts in self._unsent[1:]:
            for key, (requests, limited) in counts.items():
                before = merged.get(key, (0, 0))
                merged[key] = (before[0] + requests, before[1] + limited)
        self._unsent[1:] = [(self._unsent[1][0], merged)]

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
