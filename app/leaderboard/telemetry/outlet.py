"""The way out of the process: bounded queues, a thread for each signal, and nobody who waits for them.

What the collector does not take is dropped and counted, never kept: a queue that is full takes nothing more, and a
batch that the SDK's exporter gave up (it tries again for ``OTEL_EXPORTER_OTLP_TIMEOUT``, 10 s) is gone. Of an outage
the log has one line a minute. Metrics lose nothing but their points in time: they are cumulative.
"""

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
"""How long the log does not repeat that telemetry is being dropped."""

Item = TypeVar("Item")


class Losses:
    """What did not get out, of all signals of a process; says so in the log."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_line = float("-inf")
        self._said = 0
        self._lock = threading.Lock()
        self.dropped: dict[tuple[str, str], int] = {}
        """Items by (signal, why): ``full`` where the queue was, ``refused`` where the collector did not take them,
        ``ended`` where the process did not wait any longer."""

    def add(self, signal: str, why: str, number: int) -> None:
        """Count `number` items; once a minute at most there is a line about all of them."""
        with self._lock:
            self.dropped[signal, why] = self.dropped.get((signal, why), 0) + number
            now = self._clock()
            if now < self._next_line:
                return
            self._next_line = now + QUIET_SECONDS
            total, self._said = sum(self.dropped.values()) - self._said, sum(self.dropped.values())
        # The exceptions of failed exports and their frames hold each other and what was to be sent. The API's collector
        # is tuned for requests that leave no such cycles (api/asgi.py): it would find them after hours.
        gc.collect()
        log.warning(
            "telemetry does not get out: %d items dropped since this was last said (%s: %s)", total, signal, why
        )


class Outlet(Generic[Item]):
    """One signal's queue and the thread that empties it.

    `export` sends a batch and says whether it was taken; `abort` makes an export that is under way give up. `delay` in
    seconds is how long an item waits for others to go with it.
    """

    def __init__(
        self,
        signal: str,
        *,
        export: Callable[[Sequence[Item]], bool],
        abort: Callable[[], None],
        losses: Losses,
        capacity: int,
        batch: int,
        delay: float,
    ) -> None:
        self.exported = 0
        self._signal = signal
        self._export = export
        self._abort = abort
        self._losses = losses
        self._capacity = capacity
        self._batch = batch
        self._delay = delay
        self._queue: deque[Item] = deque()
        self._full = 0
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"telemetry-{signal}", daemon=True)

    def start(self) -> None:
        """Begin exporting. In the process that records: threads do not survive a fork."""
        self._thread.start()

    def put(self, item: Item) -> None:
        """Take an item, or count it as dropped; from any thread."""
        queue = self._queue
        if len(queue) >= self._capacity:
            self._full += 1  # told by the thread: this may be the hot path
            return
        queue.append(item)
        if len(queue) == self._batch:
            self._wake.set()

    def stop(self, *, deadline: float) -> None:
        """Ask for the end: what is queued is still sent, until `deadline` (of time.monotonic)."""
        self._deadline = deadline
        self._stop.set()
        self._wake.set()

    def join(self) -> None:
        """Wait for the end, at most until the deadline; then give up what is left."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        self._abort()
        if self._queue:
            self._losses.add(self._signal, "ended", len(self._queue))
            self._queue.clear()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._delay)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        queue = self._queue
        for _ in range(-(-len(queue) // self._batch)):  # what came meanwhile waits for its own time
            if self._stop.is_set() and time.monotonic() >= self._deadline:
                return
            batch = [queue.popleft() for _ in range(min(self._batch, len(queue)))]
            try:
                taken = self._export(batch)
            except Exception:
                log.exception("telemetry (%s) could not be encoded", self._signal)
                taken = False
            number = len(batch)
            batch.clear()  # frames of a failed export may hold it for a while
            if taken:
                self.exported += number
            else:
                self._losses.add(self._signal, "refused", number)
        full, self._full = self._full, 0
        if full:
            self._losses.add(self._signal, "full", full)


class Pump:
    """Exports what `export` reads, every `every` seconds and once more at the end."""

    def __init__(self, *, export: Callable[[], None], abort: Callable[[], None], every: float) -> None:
        self._export = export
        self._abort = abort
        self._every = every
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="telemetry-metrics", daemon=True)

    def start(self) -> None:
        """Begin. In the process that records: threads do not survive a fork."""
        self._thread.start()

    def stop(self, *, deadline: float) -> None:
        """Ask for the last export, until `deadline` (of time.monotonic)."""
        self._deadline = deadline
        self._stop.set()

    def join(self) -> None:
        """Wait for the end, at most until the deadline."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        self._abort()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._export()
        self._export()
