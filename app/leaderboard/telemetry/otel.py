"""OpenTelemetry for one process: what code records with, and the exporters behind it.

Spans, metrics and logs leave over OTLP/HTTP in protobuf, by the SDK's exporters. ``LEADERBOARD_TELEMETRY`` switches it
on; the rest are OpenTelemetry's own variables: ``OTEL_EXPORTER_OTLP_*`` (endpoint, headers, time-out, compression,
certificates, for one signal or all), ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER`` and
``_ARG``, ``OTEL_BSP_*`` and ``OTEL_BLRP_*`` (queues), ``OTEL_METRIC_EXPORT_INTERVAL``. Other protocols are not spoken.

Nothing here is global, so a test reads what it caused and nothing else.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from leaderboard import __version__
from leaderboard.config import ConfigError
from leaderboard.telemetry import sampling
from leaderboard.telemetry.logs import OtlpHandler
from leaderboard.telemetry.metrics import Attributes, Metrics, Number, Observed
from leaderboard.telemetry.outlet import Losses, Outlet, Pump
from leaderboard.telemetry.sampling import Sampler
from leaderboard.telemetry.spans import Tracer
from leaderboard.telemetry.tenants import TenantMetrics

FLUSH_SECONDS = 3.0
"""How long the end of a process waits for its telemetry, all signals together: gunicorn gives 25 s for everything."""


class _Resource(Resource):
    """The one resource of a process. The SDK's hashes itself as JSON for every span that is encoded: 3.5 us of 24."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Settings:
    """Sizes of the queues and times between exports, from OpenTelemetry's variables (their times are milliseconds)."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        def number(name: str, default: int) -> int:
            text = environ.get(name) or str(default)
            if not text.isdecimal() or int(text) < 1:
                raise ConfigError(f"{name} must be a whole number above 0, got {text!r}")
            return int(text)

        self.span_queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self.span_batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
        self.span_delay = number("OTEL_BSP_SCHEDULE_DELAY", 1000) / 1000
        self.log_queue = number("OTEL_BLRP_MAX_QUEUE_SIZE", 2048)
        self.log_batch = number("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 512)
        self.log_delay = number("OTEL_BLRP_SCHEDULE_DELAY", 1000) / 1000
        self.metric_interval = number("OTEL_METRIC_EXPORT_INTERVAL", 15_000) / 1000


class Telemetry:
    """What a process records with, and its way out."""

    def __init__(
        self,
        resource: Resource,
        *,
        sampler: Sampler,
        spans: SpanExporter,
        metrics: MetricExporter,
        logs: LogRecordExporter,
        settings: Settings,
        tenants: int,
    ) -> None:
        scope = InstrumentationScope("leaderboard", __version__)
        losses = Losses()
        self._spans: Outlet[ReadableSpan] = Outlet(
            "traces",
            export=lambda batch: spans.export(batch) is SpanExportResult.SUCCESS,
            abort=spans.shutdown,
            losses=losses,
            capacity=settings.span_queue,
            batch=settings.span_batch,
            delay=settings.span_delay,
        )
        self._logs: Outlet[ReadableLogRecord] = Outlet(
            "logs",
            export=lambda batch: logs.export(batch) is LogRecordExportResult.SUCCESS,
            abort=logs.shutdown,
            losses=losses,
            capacity=settings.log_queue,
            batch=settings.log_batch,
            delay=settings.log_delay,
        )
        self.tracer = Tracer(sampler, resource=resource, scope=scope, emit=self._spans.put)
        self.metrics = Metrics()

        def export() -> None:
            read = self.metrics.read()
            data = MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, read, "")], "")])
            if metrics.export(data) is not MetricExportResult.SUCCESS:
                losses.add("metrics", "refused", points(read))

        self._pump = Pump(export=export, abort=metrics.shutdown, every=settings.metric_interval)
        self._ways = (self._spans, self._logs, self._pump)
        self._handler = OtlpHandler(self._logs.put, resource=resource, scope=scope)
        self.tenants = TenantMetrics(self.metrics, cap=tenants)
        self.operations = self.metrics.durations(
            "db.client.operation.duration",
            "Time from a call of a store to its answer",
            "db.system.name",
            "db.operation.name",
            "db.stored_procedure.name",
            "db.collection.name",
            "error.type",
        )
        self._observe_losses(losses)

    def _observe_losses(self, losses: Losses) -> None:
        def dropped() -> list[tuple[Attributes, Number]]:
            return [
                ({"signal": signal, "reason": why}, number) for (signal, why), number in list(losses.dropped.items())
            ]

        def exported() -> list[tuple[Attributes, Number]]:
            return [({"signal": "traces"}, self._spans.exported), ({"signal": "logs"}, self._logs.exported)]

        self.metrics.observe(
            Observed(
                "leaderboard.telemetry.dropped",
                dropped,
                unit="{item}",
                description="Spans, log records and metric points that did not get out",
                sums=True,
            ),
            Observed(
                "leaderboard.telemetry.exported",
                exported,
                unit="{item}",
                description="Spans and log records that the collector took",
                sums=True,
            ),
        )

    def gauge(
        self, name: str, read: Callable[[], Iterable[tuple[Attributes, Number]]], *, unit: str, description: str
    ) -> None:
        """Export what `read` gives, at each export, from another thread."""
        self.metrics.observe(Observed(name, read, unit=unit, description=description))

    def start(self) -> None:
        """Begin exporting, logs too. In the process that records: after any fork."""
        for way in self._ways:
            way.start()
        logging.getLogger().addHandler(self._handler)

    def close(self) -> None:
        """Send what is left, for FLUSH_SECONDS at most, and stop. Blocks; call it once."""
        logging.getLogger().removeHandler(self._handler)
        deadline = time.monotonic() + FLUSH_SECONDS
        for way in self._ways:
            way.stop(deadline=deadline)
        for way in self._ways:
            way.join()


def points(metrics: Sequence[Metric]) -> int:
    """Return how many points `metrics` have."""
    return sum(len(metric.data.data_points) for metric in metrics)


def instance_id() -> str:
    """Return the ``service.instance.id`` of this process: its host and number, stable while it lives."""
    return f"{socket.gethostname()}-{os.getpid()}"


def resource_of(service: str, *, instance: str) -> Resource:
    """Return what describes the process: `service` unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES name another.

    An instance named there gets the process's number: several workers under one name would give zero rates.
    """
    named: dict[str, Any] = dict(OTELResourceDetector().detect().attributes)
    if "service.instance.id" in named:
        instance = f"{named['service.instance.id']}-{os.getpid()}"
    ours = {"service.name": service, "service.namespace": "leaderboard", "service.version": __version__}
    whole = Resource.create({**ours, **named, "service.instance.id": instance})
    return _Resource(dict(whole.attributes), whole.schema_url)


def set_up(
    service: str,
    *,
    instance: str,
    tenants: int = 0,
    ratio: float = sampling.DEFAULT_RATIO,
    environ: Mapping[str, str] = os.environ,
) -> Telemetry:
    """Return the process's telemetry, exporting. `service` is its role: ``leaderboard-api``, ``leaderboard-worker``.

    `tenants` is how many have metrics of their own, `ratio` the share of traces that is sampled where no variable says.
    Raises ConfigError for a wrong variable.
    """
    telemetry = Telemetry(
        resource_of(service, instance=instance),
        sampler=sampling.from_environment(environ, default=ratio),
        spans=OTLPSpanExporter(),
        metrics=OTLPMetricExporter(),
        logs=OTLPLogExporter(),
        settings=Settings(environ),
        tenants=tenants,
    )
    telemetry.start()
    return telemetry
