"""The operator's work as spans and log records, at a collector that decodes them."""

import contextlib

from support.collector import Collector, attributes
from support.operator import leaderboard, tenant
from support.team import Team


def test_reconciliations_and_sweeps_are_spans_and_logs_arrive(world, name):
    with contextlib.ExitStack() as stack:
        collector = Collector()
        stack.callback(collector.stop)
        pod = world.pod(
            env={
                "LEADERBOARD_TELEMETRY": "1",
                "LEADERBOARD_OPERATOR_SWEEP_SECONDS": "1",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_BSP_SCHEDULE_DELAY": "100",
            }
        )
        pod.start()
        pod.wait_ready()
        team = Team(world.kube, world.platform.url)
        team.apply(tenant(name), leaderboard(f"{name}-global", of=name))
        collector.wait(lambda: collector.spans("reconcile tenant"))
        collector.wait(lambda: collector.spans("reconcile leaderboard"))
        collector.wait(lambda: collector.spans("sweep"))
        first = {attributes(span)["leaderboard.first"] for span in collector.spans("reconcile tenant")}
        assert any(name in key for key in first)
        key = team.secret(tenant(name))["api-key"]
        pod.stop()
        assert any("epoch" in record.body.string_value for record in collector.logs())
        assert key.rpartition("_")[2] not in collector.raw()
