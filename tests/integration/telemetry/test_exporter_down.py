"""A collector that refuses, hangs or dies: requests do not notice, nothing grows, and what is lost is counted."""

import json
import logging
import time

import pytest

from leaderboard.telemetry import otel
from leaderboard.telemetry.otel import FLUSH_SECONDS
from support.client import Connection
from support.collector import attributes
from support.tenants import make_tenant

UPDATE = {"leaderboard": "global", "user": "u1", "increment": 5}


@pytest.fixture
def traced_all(collector, monkeypatch):
    """Telemetry of this process that exports to the collector, with small queues."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")

    def make(**more):
        environ = {
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            **more,
        }
        return otel.set_up("leaderboard-test", instance="one", ratio=1.0, environ=environ)

    return make


def trace(telemetry, number):
    for _ in range(number):
        with telemetry.tracer.work("reconcile", {}):
            pass


def dropped(telemetry):
    """How many items of each signal were dropped, by why."""
    return {
        (point.attributes["signal"], point.attributes["reason"]): point.value
        for metric in telemetry.metrics.read()
        if metric.name == "leaderboard.telemetry.dropped"
        for point in metric.data.data_points
    }


def test_what_is_refused_is_counted_and_said_once(collector, traced_all, caplog):
    collector.refusing = True
    telemetry = traced_all()
    with caplog.at_level(logging.WARNING):
        trace(telemetry, 50)
        collector.wait(lambda: collector.asked >= 3)
        telemetry.close()
    lost = dropped(telemetry)
    assert lost["traces", "refused"] == 50
    assert lost["metrics", "refused"] > 0
    lines = [record for record in caplog.records if "telemetry does not get out" in record.getMessage()]
    assert len(lines) == 1


def test_a_hanging_collector_costs_a_queue_and_no_more(collector, traced_all):
    collector.hanging = True
    telemetry = traced_all(OTEL_METRIC_EXPORT_INTERVAL="3600000")
    trace(telemetry, 50)
    collector.wait(lambda: collector.asked >= 1)  # the first batch hangs there now
    trace(telemetry, 5_000)
    began = time.monotonic()
    telemetry.close()
    took = time.monotonic() - began
    lost = dropped(telemetry)
    assert lost["traces", "ended"] == 100  # the queue's bound
    assert took < FLUSH_SECONDS + 5  # a bound, not a speed: the export itself would hang for a minute


def test_a_collector_that_comes_back_gets_what_comes_then(collector, traced_all):
    telemetry = traced_all(OTEL_METRIC_EXPORT_INTERVAL="3600000")
    trace(telemetry, 10)
    collector.wait(lambda: len(collector.spans()) == 10)
    collector.refusing = True
    before = collector.asked
    trace(telemetry, 10)
    collector.wait(lambda: collector.asked > before)
    collector.refusing = False
    trace(telemetry, 10)
    telemetry.close()
    assert len(collector.spans()) == 20
    assert dropped(telemetry) == {("traces", "refused"): 10}


@pytest.mark.parametrize("fault", ["killed", "hanging", "refusing"])
async def test_requests_do_not_notice(make_platform, collector, fault):
    env = {
        "LEADERBOARD_TELEMETRY": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BSP_MAX_QUEUE_SIZE": "64",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "32",
        "OTEL_TRACES_SAMPLER_ARG": "1",
    }
    platform = make_platform(env=env)
    tenant = make_tenant(platform)
    connection = Connection(platform.url)
    for _ in range(50):
        answer = await connection.request("POST", "/v1/scores/update", key=tenant.key, body=UPDATE)
        assert answer.status == 200
    collector.wait(lambda: collector.spans("POST /v1/scores/update"))
    if fault == "killed":
        collector.stop()
    else:
        setattr(collector, fault, True)
    for number in range(1_000):
        answer = await connection.request("POST", "/v1/scores/update", key=tenant.key, body=UPDATE)
        assert (answer.status, answer.json()["score"]) == (200, 5 * (number + 51))
    await connection.close()
    if fault == "killed":
        collector.start()
    else:
        setattr(collector, fault, False)
    collector.wait(lambda: lost(collector, "traces") > 0)
    platform.stop_api()  # in time: it asserts so
    said = [json.loads(line) for line in platform.lines("api") if "telemetry" in line]
    assert [line["level"] for line in said] == ["warning"]


def lost(collector, signal):
    """What the API says it dropped."""
    points = collector.points("leaderboard.telemetry.dropped").values()
    return sum(point.as_int for point in points if attributes(point)["signal"] == signal)
