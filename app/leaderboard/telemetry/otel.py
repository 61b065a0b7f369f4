"""OpenTelemetry for one process: a tracer, and the instruments the architecture names.

Latency percentiles, Redis round trips, requests per tenant, rate limiting events, Postgres inserts. Names follow the
semantic conventions where there is one (``http.server.request.duration``, in seconds). Providers belong to the object
and are not global, so a test reads what it caused and nothing else.
"""

import os
import socket
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from leaderboard import __version__

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds. Fine around the 10 ms that the platform promises."""


class Telemetry:
    """What code records with. `service` is the process's role: ``leaderboard-api`` or ``leaderboard-worker``."""

    def __init__(
        self, service: str, *, processors: Sequence[SpanProcessor], readers: Sequence[MetricReader], instance: str
    ) -> None:
        resource = Resource.create(
            {"service.name": service, "service.version": __version__, "service.instance.id": instance}
        )
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        for processor in processors:
            self._tracers.add_span_processor(processor)
        self._meters = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        self.tracer = self._tracers.get_tracer("leaderboard", __version__)
        meter: Meter = self._meters.get_meter("leaderboard", __version__)
        self.request_duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Time to answer a request",
            explicit_bucket_boundaries_advisory=LATENCY_BUCKETS,
        )
        self.redis_duration = meter.create_histogram(
            "leaderboard.redis.round_trip",
            unit="s",
            description="Time from a Redis call to its answer",
            explicit_bucket_boundaries_advisory=LATENCY_BUCKETS,
        )
        self.requests = meter.create_counter(
            "leaderboard.tenant.requests", unit="{request}", description="Requests let through, by tenant"
        )
        self.rate_limited = meter.create_counter(
            "leaderboard.tenant.rate_limited", unit="{request}", description="Requests refused with 429, by tenant"
        )
        self.ledger_events = meter.create_counter(
            "leaderboard.ledger.events", unit="{event}", description="Score events written to Postgres"
        )
        self.ledger_duration = meter.create_histogram(
            "leaderboard.ledger.append", unit="s", description="Time to write one batch of score events to Postgres"
        )

    def close(self) -> None:
        """Hand what was recorded to the processors and readers, and stop them."""
        self._tracers.shutdown()
        self._meters.shutdown()


_propagator = TraceContextTextMapPropagator()


def parent_of(traceparent: str | None, tracestate: str | None = None) -> Context | None:
    """Return the caller's context from its W3C headers, None where it sent none."""
    if traceparent is None:
        return None
    carrier = {"traceparent": traceparent}
    if tracestate is not None:
        carrier["tracestate"] = tracestate
    return _propagator.extract(carrier)


class _Discard(SpanExporter):
    """Where spans end until the exporting of telemetry is set up: recorded, batched, thrown away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        """Drop `spans`."""
        return SpanExportResult.SUCCESS


def instance_id() -> str:
    """Return the ``service.instance.id`` of this process: its host and number, stable while it lives."""
    return f"{socket.gethostname()}-{os.getpid()}"


def set_up(service: str, *, instance: str) -> Telemetry:
    """Return the process's telemetry. Nothing leaves the process yet; recording costs what it will cost."""
    return Telemetry(service, processors=[BatchSpanProcessor(_Discard())], readers=[], instance=instance)
