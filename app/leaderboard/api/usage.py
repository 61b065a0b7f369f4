"""Usage: each process adds up requests, refusals and problems per project, and flushes them every 5 seconds.

A flush carries (boot nonce, sequence), so one that is sent twice counts once. A kill loses what one flush would have
carried. Score updates are not counted here: the bill takes them from the ledger.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from leaderboard.domain.names import ProjectId
from leaderboard.store.postgres import usage
from leaderboard.store.postgres.pool import DatabaseUnavailable, Pool
from leaderboard.store.postgres.usage import Counts

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0

Hours = dict[tuple[datetime, ProjectId], Counts]


class UsageMeter:
    """Counts in memory, flushes in the background. `now` gives aware UTC time, `boot_nonce` names this process."""

    def __init__(self, pool: Pool, *, boot_nonce: str, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._boot_nonce = boot_nonce
        self._now = now
        self._requests: dict[ProjectId, int] = {}
        self._limited: dict[ProjectId, int] = {}
        self._client_errors: dict[ProjectId, int] = {}
        self._server_errors: dict[ProjectId, int] = {}
        self._sequence = 0
        self._unsent: list[tuple[int, Hours]] = []
        self._task: asyncio.Task[None] | None = None

    def request(self, project: ProjectId) -> None:
        """Count one request that was let through."""
        self._requests[project] = self._requests.get(project, 0) + 1

    def limited(self, project: ProjectId) -> None:
        """Count one request that the rate limiter refused."""
        self._limited[project] = self._limited.get(project, 0) + 1

    def problem(self, req: Any, resp: Any) -> None:
        """Count the problem that `resp` is, where a key opened a project; a 429 of the limiter is counted by it."""
        context = getattr(req.context, "key", None)
        if context is None or not context.bucket:  # a session's mistakes are not the backend's
            return
        status = resp.status_code
        if status != 429:
            counter = self._server_errors if status >= 500 else self._client_errors
            counter[context.project_id] = counter.get(context.project_id, 0) + 1

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
        # In the order of Counts.
        counted = (self._requests, self._limited, self._client_errors, self._server_errors)
        self._requests, self._limited, self._client_errors, self._server_errors = {}, {}, {}, {}
        projects = {project for counter in counted for project in counter}
        if projects:
            # The hour a flush falls on: at its begin up to five seconds of requests count for the new one.
            hour = self._now().replace(minute=0, second=0, microsecond=0)
            counts = {
                (hour, project): Counts(*(counter.get(project, 0) for counter in counted)) for project in projects
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
        merged: Hours = {}
        for _, counts in self._unsent[1:]:
            for key, counted in counts.items():
                merged[key] = usage.add(merged.get(key, Counts()), counted)
        self._unsent[1:] = [(self._unsent[1][0], merged)]

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
