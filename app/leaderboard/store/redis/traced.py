"""The multiplexer with telemetry: how long calls take, and spans of those that belong to a traced request.

Used only where telemetry is on. A call's time is that from the write which carried it to the read which brought its
answer: calls that went together share a clock reading and a search for the bucket, so that it costs 1 us a call. A
script that appends to the outbox is given the span's traceparent, which goes with the events.
"""

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanKind

from leaderboard.store.redis import scripts
from leaderboard.store.redis.errors import RedisFailure
from leaderboard.store.redis.multiplexer import Multiplexer, Prepared, _Connection
from leaderboard.telemetry.metrics import BOUNDS, Duration
from leaderboard.telemetry.otel import Telemetry
from leaderboard.telemetry.spans import CURRENT, Span, Value

_SCRIPT_NAMES = {script.sha: script.name for script in scripts.ALL}
_APPENDING = frozenset({scripts.UPDATE.name, scripts.REMOVE.name})
"""Scripts that take a traceparent for the events they append."""

Argument = str | bytes | int | float


class _Timed(_Connection):
    """A connection that knows how long each call took. `lost` is told how many answers never came."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, lost: Callable[[int], None]) -> None:
        super().__init__(loop)
        self._tell_lost = lost
        self.series: deque[Duration] = deque()
        """Where the calls that wait for their answer count; the handshake's, which come before any other, do not."""
        self._writes: deque[tuple[float, int]] = deque()
        """When a write left, and how many of its calls are not answered yet."""

    def flush(self) -> None:
        """As the base class."""
        new = len(self.waiting) - self._written
        super().flush()
        if new:
            self._writes.append((time.perf_counter(), new))

    def data_received(self, data: bytes) -> None:
        """As the base class."""
        before = len(self.waiting)
        super().data_received(data)
        answered = before - len(self.waiting)
        now = time.perf_counter()
        series = self.series
        while answered > 0:
            left, number = self._writes.popleft()
            taken = min(number, answered)
            if taken < number:
                self._writes.appendleft((left, number - taken))
            answered -= taken
            if not series:
                continue
            seconds = now - left
            bucket = bisect_left(BOUNDS, seconds)
            for _ in range(taken):
                one = series.popleft()
                one.counts[bucket] += 1
                one.total += seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """As the base class."""
        self._tell_lost(self._written)
        super().connection_lost(exc)


class TracedMultiplexer(Multiplexer):
    """A multiplexer whose calls are seen."""

    def __init__(self, url: str, *, telemetry: Telemetry, timeout: float, max_in_flight: int) -> None:
        super().__init__(url, timeout=timeout, max_in_flight=max_in_flight)
        self._operations = telemetry.operations
        self._series: dict[Any, Duration] = {}
        self._lost_calls = telemetry.metrics.counts(
            "leaderboard.redis.lost_calls", "Calls whose answer a broken connection never brought", unit="{call}"
        ).of()
        telemetry.gauge(
            "leaderboard.redis.in_flight",
            lambda: [({}, self.in_flight)],
            unit="{call}",
            description="Calls on the hot connection that wait for their answer",
        )
        telemetry.gauge(
            "leaderboard.redis.connected",
            lambda: [({}, int(self.connected))],
            unit="{connection}",
            description="Whether the hot connection is up",
        )

    def call(self, *args: Argument) -> "asyncio.Future[Any]":
        """As Multiplexer.call."""
        above = CURRENT.get()
        if above is None:
            waiter = super().call(*args)
            self._sent(args)
            return waiter
        span = _begin(above, args)
        if _script(args) in _APPENDING:
            span.attributes["leaderboard.outbox.append"] = True  # inside the script, as one step with the change
            args = (*args, span.traceparent)
        try:
            waiter = super().call(*args)
        except RedisFailure as error:
            span.fail(error)
            span.end()
            raise
        self._sent(args)
        waiter.add_done_callback(lambda future: _end(span, future))
        return waiter

    def call_prepared(self, prepared: Prepared, *rest: str) -> "asyncio.Future[Any]":
        """As Multiplexer.call_prepared; a traced call has one argument more and is packed anew."""
        if CURRENT.get() is not None:
            return self.call(*prepared.args, *rest)
        waiter = super().call_prepared(prepared, *rest)
        self._sent(prepared.args)
        return waiter

    def shared(self, key: object, args: tuple[Argument, ...], decode: Callable[[Any], Any]) -> "asyncio.Future[Any]":
        """As Multiplexer.shared; a traced caller that joined another's read has a span of its own."""
        connection = self._connection
        before = 0 if connection is None else connection.calls
        waiter = super().shared(key, args, decode)
        if connection is not None and connection.calls != before:  # not joined: sent
            self._sent(args)
        above = CURRENT.get()
        if above is not None:
            span = _begin(above, args)
            waiter.add_done_callback(lambda future: _end(span, future))
        return waiter

    def _protocol(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        return _Timed(loop, lost=self._lose)

    def _lose(self, number: int) -> None:
        self._lost_calls.value += number

    def _sent(self, args: tuple[Argument, ...]) -> None:
        # The second argument of EVALSHA names the script; of others the first says it all.
        series = self._series.get(args[1] if args[0] == "EVALSHA" else args[0])
        if series is None:
            series = self._operations.of("redis", str(args[0]), _script(args), "", "")
            self._series[args[1] if args[0] == "EVALSHA" else args[0]] = series
        self._connection.series.append(series)  # type: ignore[union-attr]  # `_protocol` made it, and it is ready


def _script(args: tuple[Argument, ...]) -> str:
    return _SCRIPT_NAMES.get(str(args[1]), "") if args[0] == "EVALSHA" else ""


def _begin(above: Span, args: tuple[Argument, ...]) -> Span:
    operation, script = str(args[0]), _script(args)
    attributes: dict[str, Value] = {"db.system.name": "redis", "db.operation.name": operation}
    if script:
        attributes["db.stored_procedure.name"] = script
    return above.child(f"{operation} {script}" if script else operation, SpanKind.CLIENT, attributes)


def _end(span: Span, future: "asyncio.Future[Any]") -> None:
    if future.cancelled():
        span.fail(None, kind="cancelled")
    elif (error := future.exception()) is not None:
        span.fail(error)
    span.end()
