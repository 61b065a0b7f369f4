"""What the operator's registry says, as OTLP's metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from leaderboard_operator.otlp import reader


def read(registry):
    return {metric.name: metric.data.data_points for metric in reader(registry)(1_000)}


def test_a_counter_is_a_sum_that_only_grows():
    registry = CollectorRegistry()
    Counter("reconcile", "Reconciliations", ["result"], registry=registry).labels(result="success").inc(3)
    (metric,) = reader(registry)(1_000)
    assert (metric.name, metric.description, metric.data.is_monotonic) == ("reconcile", "Reconciliations", True)
    (point,) = metric.data.data_points
    assert (point.attributes, point.value, point.time_unix_nano) == ({"result": "success"}, 3, 1_000)


def test_a_gauge_is_a_gauge():
    registry = CollectorRegistry()
    Gauge("depth", "Waiting", registry=registry).set(7)
    (point,) = read(registry)["depth"]
    assert (point.attributes, point.value) == ({}, 7)


def test_a_histogram_counts_each_observation_in_one_bucket():
    registry = CollectorRegistry()
    seconds = Histogram("seconds", "Time", ["kind"], buckets=(0.1, 1.0), registry=registry)
    for value in (0.05, 0.06, 0.1, 0.5, 5.0):  # a bound is in its own bucket, as Prometheus has it
        seconds.labels(kind="a").observe(value)
    seconds.labels(kind="b").observe(2.0)
    points = {point.attributes["kind"]: point for point in read(registry)["seconds"]}
    assert points["a"].explicit_bounds == [0.1, 1.0]
    assert points["a"].bucket_counts == [3, 1, 1]
    assert points["a"].count == 5
    assert points["a"].sum == 0.05 + 0.06 + 0.1 + 0.5 + 5.0
    assert points["b"].bucket_counts == [0, 0, 1]


def test_what_has_no_series_yet_is_left_out():
    registry = CollectorRegistry()
    Counter("reconcile", "Reconciliations", ["result"], registry=registry)
    assert read(registry) == {}
