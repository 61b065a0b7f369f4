"""Telemetry that keeps what it is given, without a network: for tests of what is recorded."""

from typing import Any

from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from leaderboard.telemetry.otel import Settings, Telemetry, resource_of
from leaderboard.telemetry.sampling import Sampler


class _Kept(MetricExporter):
    def __init__(self) -> None:
        super().__init__()
        self.data: list[Any] = []

    def export(self, metrics_data: Any, timeout_millis: float = 0, **kwargs: Any) -> MetricExportResult:
        self.data.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **kwargs: Any) -> None:
        pass


class Seen:
    """`ratio` of the requests is traced. Spans and logs are there once the telemetry was closed."""

    def __init__(self, *, ratio: float = 1.0, tenants: int = 100) -> None:
        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self.telemetry = Telemetry(
            resource_of("test", instance="test"),
            sampler=Sampler(ratio),
            spans=self._spans,
            metrics=_Kept(),
            logs=self._logs,
            settings=Settings({}),
            tenants=tenants,
        )
        self.telemetry.start()

    def spans(self, name: str = "") -> list[Any]:
        return [span for span in self._spans.get_finished_spans() if not name or span.name == name]

    def logs(self) -> list[Any]:
        return [one.log_record for one in self._logs.get_finished_logs()]

    def points(self, name: str) -> list[Any]:
        return [
            point
            for metric in self.telemetry.metrics.read()
            if metric.name == name
            for point in metric.data.data_points
        ]
