"""API and worker as processes, telemetry on, and a collector that decodes what they send."""

import contextlib
import json
import logging
import urllib.error
import urllib.request

import pytest

from leaderboard.config import ConfigError
from leaderboard.telemetry import otel
from support.collector import attributes
from support.tenants import make_tenant

UPDATE = {"leaderboard": "global", "user": "u1", "increment": 5}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def environment(collector, **more):
    return {
        "LEADERBOARD_TELEMETRY": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "OTEL_TRACES_SAMPLER_ARG": "0",
        **more,
    }


def send(url, key, *, body=UPDATE, headers=(), path="/v1/scores/update"):
    request = urllib.request.Request(
        url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json", **dict(headers)},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_traced_write_is_one_story_from_http_to_postgres(make_platform, collector):
    platform = make_platform(workers=2, env=environment(collector))
    tenant = make_tenant(platform)
    assert send(platform.url, tenant.key, headers=SAMPLED) == 200
    assert send(platform.url, tenant.key) == 200
    (insert,) = collector.wait(lambda: collector.spans("INSERT score_events"))
    (batch,) = collector.wait(lambda: collector.spans("process outbox"))
    (server,) = collector.wait(lambda: collector.spans("POST /v1/scores/update"))
    (script,) = collector.wait(lambda: collector.spans("EVALSHA update"))
    assert server.trace_id.hex() == script.trace_id.hex() == TRACE
    assert script.parent_span_id == server.span_id
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(script.trace_id, script.span_id)]
    assert (insert.trace_id, insert.parent_span_id) == (batch.trace_id, batch.span_id)


def test_metrics_of_every_process_arrive_under_an_instance_of_its_own(make_platform, collector):
    platform = make_platform(
        workers=2, env=environment(collector, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=ci")
    )
    tenant = make_tenant(platform)
    for _ in range(3):
        assert send(platform.url, tenant.key) == 200
    assert send(platform.url, "lb_live_wrong") == 401

    def counted(name):
        return sum(getattr(point, "count", 0) or point.as_int for point in collector.points(name).values())

    collector.wait(lambda: counted("leaderboard.ledger.events") == 3)
    collector.wait(lambda: counted("leaderboard.tenant.requests") == 3)
    instances = collector.wait(
        lambda: {r["service.instance.id"] for r in collector.resources() if r["service.name"] == "leaderboard-api"}
    )
    collector.wait(
        lambda: (
            len({r["service.instance.id"] for r in collector.resources() if r["service.name"] == "leaderboard-api"})
            == 2
        )
    )
    assert instances
    assert {r["service.name"] for r in collector.resources()} == {"leaderboard-api", "leaderboard-worker"}
    assert {r["deployment.environment.name"] for r in collector.resources()} == {"ci"}
    statuses = {}
    for (_, labels), point in collector.points("http.server.request.duration").items():
        if dict(labels).get("http.route") == "/v1/scores/update":
            status = dict(labels)["http.response.status_code"]
            statuses[status] = statuses.get(status, 0) + point.count
    assert statuses == {200: 3, 401: 1}
    for name in (
        "leaderboard.outbox.length",
        "leaderboard.outbox.lag",
        "leaderboard.seasons.lag",
        "leaderboard.erasures.lag",
        "leaderboard.erasures.done",
        "leaderboard.quarantine.held",
        "redis.memory.used",
        "db.client.operation.duration",
        "db.client.connection.count",
        "db.client.connection.max",
        "leaderboard.limiter.tokens",
        "leaderboard.redis.connected",
        "leaderboard.telemetry.exported",
    ):
        assert collector.wait(lambda name=name: collector.points(name)), name


def test_open_streams_are_counted_of_live_boards_and_standings_together(make_platform, collector):
    platform = make_platform(env=environment(collector))
    tenant = make_tenant(platform)
    assert send(platform.url, tenant.key) == 200

    def told():
        return [point.as_int for point in collector.points("leaderboard.streams.open").values()]

    collector.wait(lambda: told() == [0])
    with contextlib.ExitStack() as opened:
        for path in ("stream", "standings/stream"):
            request = urllib.request.Request(
                f"{platform.url}/v1/leaderboards/global/{path}", headers={"Authorization": f"Bearer {tenant.key}"}
            )
            opened.enter_context(urllib.request.urlopen(request, timeout=30))
        collector.wait(lambda: told() == [2])
    collector.wait(lambda: told() == [0])


def test_an_operator_of_the_resource_may_name_the_service_and_not_merge_its_processes(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "scores")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1,service.version=9")
    resource = otel.resource_of("leaderboard-api", instance="host-1")
    assert resource.attributes["service.name"] == "scores"
    assert resource.attributes["service.version"] == "9"
    assert resource.attributes["service.instance.id"].startswith("pod-1-")


@pytest.mark.parametrize("value", ["0", "-1", "often"])
def test_a_wrong_setting_is_named(monkeypatch, value):
    with pytest.raises(ConfigError, match="OTEL_METRIC_EXPORT_INTERVAL"):
        otel.Settings({"OTEL_METRIC_EXPORT_INTERVAL": value})


def test_no_key_and_no_password_is_in_anything_that_leaves(make_platform, collector):
    platform = make_platform(env=environment(collector, OTEL_TRACES_SAMPLER_ARG="1", LEADERBOARD_LOG_LEVEL="debug"))
    tenant = make_tenant(platform)
    secret = tenant.key.rpartition("_")[2]
    assert send(platform.url, tenant.key) == 200
    # Where people put keys by mistake: paths, ids, bodies, wrong headers, cut or mistyped keys.
    assert send(platform.url, tenant.key, body=None, path=f"/v1/leaderboards/{tenant.key}/top") >= 400
    assert send(platform.url, tenant.key, body=None, path=f"/{tenant.key}") == 404
    assert send(platform.url, tenant.key, body={"leaderboard": "global", "user": tenant.key, "increment": "x"}) == 422
    assert send(platform.url, tenant.key[:-1]) == 401
    assert send(platform.url, tenant.key, headers={"Idempotency-Key": tenant.key}) in (200, 400)
    assert send(platform.url, tenant.key, body=None, path="/v1/leaderboards/global/top?after=" + tenant.key) >= 400
    platform.stop_api()
    platform.stop_worker()
    assert collector.spans()
    assert collector.logs()
    everything = collector.raw() + platform.log.read_text()
    assert secret not in everything
    assert secret[:20] not in everything
    assert platform.pepper not in everything


def test_a_log_line_arrives_with_the_trace_it_belongs_to(collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    telemetry = otel.set_up("leaderboard-test", instance="one", ratio=1.0)
    with telemetry.tracer.work("reconcile", {}) as span:
        logging.getLogger("leaderboard.test").error("it broke", extra={"board": "global", "tries": 3})
    telemetry.close()
    (record,) = [one for one in collector.logs() if one.body.string_value == "it broke"]
    assert (record.trace_id.hex(), record.span_id.hex()) == (span.trace_id, span.span_id)
    assert record.severity_text == "ERROR"
    assert attributes(record) | {"code.namespace": "leaderboard.test", "board": "global", "tries": 3} == attributes(
        record
    )
