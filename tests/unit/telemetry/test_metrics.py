"""The lean aggregation gives what the SDK's own instruments would."""

import random

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from leaderboard.telemetry.metrics import BOUNDS, MAX_SERIES, Metrics, Observed


def encoded(metrics):
    """The metrics as OTLP has them, by name."""
    scope = ScopeMetrics(InstrumentationScope("test"), metrics.read(), "")
    message = encode_metrics(MetricsData([ResourceMetrics(Resource({}), [scope], "")]))
    return {metric.name: metric for metric in message.resource_metrics[0].scope_metrics[0].metrics}


def test_a_histogram_is_the_sdks():
    values = [*BOUNDS, 0.0, 100.0, *(random.Random(7).expovariate(100) for _ in range(1_000))]
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    theirs = provider.get_meter("test").create_histogram("h", explicit_bucket_boundaries_advisory=BOUNDS)
    ours = Metrics()
    series = ours.durations("h", "", "route").of("/x")
    for value in values:
        theirs.record(value, {"route": "/x"})
        series.record(value)
    (expected,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    (point,) = encoded(ours)["h"].histogram.data_points
    assert list(point.bucket_counts) == list(expected.bucket_counts)
    assert list(point.explicit_bounds) == list(expected.explicit_bounds)
    assert (point.count, point.sum) == (expected.count, pytest.approx(expected.sum))
    assert [(one.key, one.value.string_value) for one in point.attributes] == [("route", "/x")]
    assert not point.HasField("min")
    provider.shutdown()


def test_counters_are_cumulative_sums_from_when_they_began():
    metrics = Metrics()
    counter = metrics.counts("c", "what it counts", unit="{thing}").of()
    counter.value += 2
    encoded(metrics)
    counter.value += 3
    metric = encoded(metrics)["c"]
    (point,) = metric.sum.data_points
    assert (point.as_int, metric.unit, metric.description, metric.sum.is_monotonic) == (
        5,
        "{thing}",
        "what it counts",
        1,
    )
    assert metric.sum.aggregation_temporality == 2  # cumulative, in OTLP
    assert 0 < point.start_time_unix_nano <= point.time_unix_nano


def test_what_is_observed_is_read_at_each_export():
    metrics, now = Metrics(), {"in": 1, "out": 1.5}
    metrics.observe(
        Observed("level", lambda: [({}, now["in"])], unit="1", description=""),
        Observed("grows", lambda: [({"a": "b"}, now["out"])], unit="1", description="", sums=True),
        Observed("silent", list, unit="1", description=""),
    )
    encoded(metrics)
    now["in"] = 7
    found = encoded(metrics)
    assert found["level"].gauge.data_points[0].as_int == 7
    assert found["grows"].sum.data_points[0].as_double == 1.5
    assert "silent" not in found


def test_a_metric_has_a_bound_and_says_when_it_is_passed():
    metrics = Metrics()
    family = metrics.counts("c", "", "n", unit="1")
    for number in range(MAX_SERIES + 500):
        family.of(number).value += 1
    points = encoded(metrics)["c"].sum.data_points
    assert len(points) == MAX_SERIES + 1
    assert sum(point.as_int for point in points) == MAX_SERIES + 500
    (overflow,) = [point for point in points if point.attributes[0].key == "otel.metric.overflow"]
    assert overflow.as_int == 500


def test_labels_that_are_empty_are_left_out():
    metrics = Metrics()
    metrics.durations("h", "", "a", "b").of("x", "").record(1.0)
    assert [one.key for one in encoded(metrics)["h"].histogram.data_points[0].attributes] == ["a"]
