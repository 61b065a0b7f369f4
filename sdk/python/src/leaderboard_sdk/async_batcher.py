"""Sends updates of many tasks together."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from leaderboard_sdk import core
from leaderboard_sdk.answers import Update, UpdateResult
from leaderboard_sdk.batcher import MAX_WAITING
from leaderboard_sdk.errors import LeaderboardError

_Waiting = tuple[Update, "asyncio.Future[UpdateResult]"]


class AsyncSender(Protocol):
    """What a batcher needs of a client."""

    async def _update_each(self, updates: Iterable[Update]) -> list[UpdateResult | LeaderboardError]:
        """Send the updates, return for each its own result or its own error."""


class AsyncBatcher:
    """What `Batcher` is, for asyncio. Make it in a running event loop; use ``async with``, or close it."""

    def __init__(
        self, client: AsyncSender, *, max_batch: int = 500, max_delay: float = 0.02, max_waiting: int = MAX_WAITING
    ) -> None:
        if max_waiting < 1:
            raise ValueError("max_waiting must be at least 1")
        self._client = client
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._waiting: asyncio.Queue[_Waiting | None] = asyncio.Queue(max_waiting)
        self._closed = False
        self._lock = asyncio.Lock()
        self._task = asyncio.get_running_loop().create_task(self._work(), name="leaderboard-batcher")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def submit(
        self, leaderboard: str, user: str, *, increment: float | None = None, score: float | None = None
    ) -> "asyncio.Future[UpdateResult]":
        """Hand in an update and return its future, which has its own result or raises its own LeaderboardError.

        Waits while `max_waiting` wait to be sent. Raises ValueError for an update that cannot be sent, RuntimeError
        after `close`.
        """
        update = Update(leaderboard=leaderboard, user=user, increment=increment, score=score)
        core.encoded(update)  # raises here and not for the others of its batch
        future: asyncio.Future[UpdateResult] = asyncio.get_running_loop().create_future()
        async with self._lock:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            await self._waiting.put((update, future))
        return future

    async def close(self) -> None:
        """Send what waits and return when all of it is answered.

        Cancelled (by a time-out, for one), it leaves the sending go on, and may be called again.
        """
        async with self._lock:
            if not self._closed:
                await self._waiting.put(None)
                self._closed = True
        await asyncio.shield(self._task)

    async def _work(self) -> None:
        open_ = True
        while open_:
            first = await self._waiting.get()
            if first is None:
                return
            batch = [first]
            try:
                async with asyncio.timeout(self._max_delay):
                    while len(batch) < self._max_batch:
                        item = await self._waiting.get()
                        if item is None:
                            open_ = False
                            break
                        batch.append(item)
            except TimeoutError:
                pass
            await self._send(batch)

    async def _send(self, batch: list[_Waiting]) -> None:
        try:
            results = await self._client._update_each([update for update, _ in batch])
        except Exception as error:  # noqa: BLE001  # whatever it was, it is raised where the results are waited for
            for _, future in batch:
                if not future.done():  # cancelled by who waited
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, LeaderboardError):
                future.set_exception(result)
            else:
                future.set_result(result)
