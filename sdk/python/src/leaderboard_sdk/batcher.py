"""Sends updates of many threads together."""

import queue
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Protocol, Self

from leaderboard_sdk import core
from leaderboard_sdk.answers import Update, UpdateResult
from leaderboard_sdk.errors import LeaderboardError

MAX_WAITING = 10_000
"""Twenty requests of the default size."""

_Waiting = tuple[Update, "Future[UpdateResult]"]


class Sender(Protocol):
    """What a batcher needs of a client."""

    def _update_each(self, updates: Iterable[Update]) -> list[UpdateResult | LeaderboardError]:
        """Send the updates, return for each its own result or its own error."""


class Batcher:
    """Sends up to `max_batch` updates, or those of `max_delay` seconds, in one request; one request at a time.

    So updates of one user are applied in the order they were submitted. Use it in a `with` block, or close it.
    `max_waiting` may wait to be sent.
    """

    def __init__(
        self, client: Sender, *, max_batch: int = 500, max_delay: float = 0.02, max_waiting: int = MAX_WAITING
    ) -> None:
        if max_waiting < 1:
            raise ValueError("max_waiting must be at least 1")
        self._client = client
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(max_waiting)
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="leaderboard-batcher", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(
        self, leaderboard: str, user: str, *, increment: float | None = None, score: float | None = None
    ) -> "Future[UpdateResult]":
        """Hand in an update. Its future has its own result, or raises its own LeaderboardError.

        Blocks while `max_waiting` wait to be sent, so never call it from a future's callback, which may hold up the
        sending. Raises ValueError for an update that cannot be sent and RuntimeError after `close`.
        """
        update = Update(leaderboard=leaderboard, user=user, increment=increment, score=score)
        core.encoded(update)  # raises here and not for the others of its batch
        future: Future[UpdateResult] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled: it may be on its way
        with self._lock:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.put((update, future))
        return future

    def close(self) -> None:
        """Send what waits and return when all of it is answered."""
        with self._lock:
            if not self._closed:
                self._waiting.put(None)
                self._closed = True
        self._thread.join()

    def _work(self) -> None:
        open_ = True
        while open_:
            first = self._waiting.get()
            if first is None:
                return
            batch = [first]
            deadline = time.monotonic() + self._max_delay
            while len(batch) < self._max_batch:
                try:
                    item = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                if item is None:
                    open_ = False
                    break
                batch.append(item)
            self._send(batch)

    def _send(self, batch: list[_Waiting]) -> None:
        try:
            results = self._client._update_each([update for update, _ in batch])
        except Exception as error:  # noqa: BLE001  # whatever it was, it is raised where the results are waited for
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, LeaderboardError):
                future.set_exception(result)
            else:
                future.set_result(result)
