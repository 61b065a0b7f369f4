"""The multiplexer with telemetry: a span and a round-trip time for every call. Used only where telemetry is on."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanKind, StatusCode

from leaderboard.store.redis.multiplexer import Multiplexer, Prepared
from leaderboard.store.redis.scripts import ALL
from leaderboard.telemetry.otel import Telemetry

_SCRIPT_NAMES = {script.sha: script.name for script in ALL}


class TracedMultiplexer(Multiplexer):
    """A multiplexer whose calls are seen."""

    def __init__(self, url: str, *, telemetry: Telemetry, timeout: float, max_in_flight: int) -> None:
        super().__init__(url, timeout=timeout, max_in_flight=max_in_flight)
        self._telemetry = telemetry

    def call(self, *args: str | bytes | int | float) -> "asyncio.Future[Any]":
        """As Multiplexer.call."""
        waiter = super().call(*args)
        self._watch_call(args, waiter)
        return waiter

    def call_prepared(self, prepared: Prepared, *rest: str) -> "asyncio.Future[Any]":
        """As Multiplexer.call_prepared."""
        waiter = super().call_prepared(prepared, *rest)
        self._watch_call(prepared.args, waiter)
        return waiter

    def shared(
        self, key: object, args: tuple[str | bytes | int | float, ...], decode: Callable[[Any], Any]
    ) -> "asyncio.Future[Any]":
        """As Multiplexer.shared; a caller that joined another's read has a span of its own."""
        waiter = super().shared(key, args, decode)
        self._watch_call(args, waiter)
        return waiter

    def _watch_call(self, args: tuple[Any, ...], waiter: "asyncio.Future[Any]") -> None:
        command = str(args[0])
        name = _SCRIPT_NAMES.get(str(args[1]), "script") if command == "EVALSHA" else command.lower()
        span = self._telemetry.tracer.start_span(
            f"redis {name}",
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "redis", "db.operation.name": command, "db.stored_procedure.name": name},
        )
        started = time.perf_counter()

        def done(future: "asyncio.Future[Any]") -> None:
            self._telemetry.redis_duration.record(time.perf_counter() - started, {"db.stored_procedure.name": name})
            if future.cancelled():
                span.set_status(StatusCode.ERROR, "cancelled")
            elif (error := future.exception()) is not None:
                span.record_exception(error)
                span.set_status(StatusCode.ERROR, type(error).__name__)
            span.end()

        waiter.add_done_callback(done)
