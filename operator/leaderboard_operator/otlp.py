"""The operator's own metrics over OTLP: what `/metrics` shows, under the same names, beside the spans.

So that one way out is enough where no Prometheus scrapes. Prometheus' counters and histograms are cumulative, as
OTLP's are; a `_total` is left out of a name here and put back by whoever writes to Prometheus.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

_CUMULATIVE = AggregationTemporality.CUMULATIVE


def reader(registry: CollectorRegistry) -> Callable[[int], Iterable[Metric]]:
    """Return what reads `registry` as it stands at a time (Unix nanoseconds); its counters began now."""
    since = time.time_ns()

    def read(now: int) -> Iterator[Metric]:
        for family in registry.collect():
            data = _data(family, since, now)
            if data is not None:
                yield Metric(family.name, family.documentation, "", data)

    return read


def _data(family: Family, since: int, now: int) -> Sum | Gauge | Histogram | None:
    if family.type == "histogram":
        points = list(_histogram(family.samples, since, now))
        return Histogram(points, _CUMULATIVE) if points else None
    suffix = "_total" if family.type == "counter" else ""
    numbers = [
        NumberDataPoint(dict(sample.labels), since, now, sample.value)
        for sample in family.samples
        if sample.name == family.name + suffix  # not when it was made
    ]
    if not numbers:
        return None
    return Sum(numbers, _CUMULATIVE, is_monotonic=True) if family.type == "counter" else Gauge(numbers)


def _histogram(samples: Iterable[Sample], since: int, now: int) -> Iterator[HistogramDataPoint]:
    bounds: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            bounds.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, buckets in bounds.items():
        buckets.sort()
        upto = [int(count) for _, count in buckets]  # each with those below it; OTLP's are without
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=upto[-1],
            sum=sums[labels],
            bucket_counts=[count - below for count, below in zip(upto, [0, *upto], strict=False)],
            explicit_bounds=[bound for bound, _ in buckets[:-1]],  # the last is infinity
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )
