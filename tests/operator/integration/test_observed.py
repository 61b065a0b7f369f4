"""The platform under load, seen through the real collector, Prometheus, Loki and Tempo: every query of every dashboard
and every alert is asked, and a slow request leads from its exemplar to its trace, the ledger and its log lines.
"""

import html
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis as redis_py
import yaml

from leaderboard.local.observe import FILES, Observability
from leaderboard.local.process import Log, wait_until
from leaderboard.local.toolchain import METRICS_ONLY, OBSERVABILITY
from leaderboard.store.redis import keys
from support.chromium import find_chromium, photograph
from support.observed import Answers, attributes
from support.operator import leaderboard, tenant
from support.programs import programs_of, say_to
from support.team import Rest, Team

sys.path.insert(0, str(FILES))  # grafana/ is no package of the distribution
from leaderboard_dashboards.preview import Source, draw
from leaderboard_dashboards.queries import ALL, Language, Query, Shape, fill

SECONDS = 60.0
"""Until an answer has to be there: exports, the collector's decision, and rates over two samples."""
RATE = "5m"
"""Longer than the test takes, so that what was driven at its beginning still counts at its end."""
PICTURE_SECONDS = 120.0
NOT_HERE = {"leaderboard_telemetry_dropped_total"}
"""Counters that begin with what they count, and that does not happen to a stack that is well."""
RULES = [
    rule
    for path in sorted((FILES / "rules").glob("*.yaml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]


class Seen(NamedTuple):
    """What was driven, and where to ask about it."""

    answers: Answers
    slug: str
    slow_trace: str
    """The id of a trace whose write took long."""
    stack: Observability
    busy: Rest
    """The API with a key, to go on driving."""


def _drive(world: Any, redis: Any, name: str) -> tuple[str, Rest]:
    """Let everything happen that a dashboard has a panel for; return the id of a slow write's trace, and the API."""
    team = Team(world.kube, world.platform.url)
    busy = tenant(name, quotas={"requestsPerSecond": 10_000})
    small = tenant(f"{name}-small", quotas={"requestsPerSecond": 2})
    boards = (
        leaderboard(each["metadata"]["name"], of=each["metadata"]["name"], key="global") for each in (busy, small)
    )
    team.apply(busy, small, *boards)
    rest, limited = (Rest(team.url, team.secret(each)["api-key"]) for each in (busy, small))
    for number in range(40):
        assert rest.add("global", f"u{number}", 5).status == 200
        assert rest("GET", "/v1/leaderboards/global/top").status == 200
    assert rest("GET", "/v1/leaderboards/nowhere/top").status == 404
    assert 429 in {limited.add("global", "u1", 1).status for _ in range(20)}
    with redis_py.Redis.from_url(redis.url) as client:
        client.xadd(keys.OUTBOX, {"what": "nobody wrote this"})  # the ledger cannot store it
    redis.kill()
    assert rest.add("global", "u1", 1).status == 503
    redis.start()
    assert wait_until(lambda: rest.add("global", "u1", 1).status == 200, seconds=90, pause=0.2)
    trace_id = f"{time.time_ns():032x}"
    with redis_py.Redis.from_url(redis.url) as client:
        client.client_pause(1500)  # milliseconds, for everybody; slow requests have a log line a second
    body = {"leaderboard": "global", "user": "slow", "increment": 1}
    assert rest("POST", "/v1/scores/update", body, traceparent=f"00-{trace_id}-00f067aa0ba902b7-01").status == 200
    return trace_id, rest


def _observed(request: pytest.FixtureRequest, tools: Any) -> Iterator[Seen]:
    folder = request.getfixturevalue("tmp_path")
    name = request.getfixturevalue("name")
    log = Log(folder / "observability.log")
    stack = Observability(folder / "observability", programs=programs_of(request.config, tools), log=log)
    stack.start()
    try:
        env = {
            "LEADERBOARD_TELEMETRY": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_url,
            "OTEL_TRACES_SAMPLER_ARG": "1",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
        }
        redis = request.getfixturevalue("make_redis")(appendfsync="everysec", maxmemory="512mb")
        platform = request.getfixturevalue("make_platform")(redis_url=redis.url, env=env)
        world = request.getfixturevalue("make_world")(platform=platform)
        pod = world.pod(env=env | {"LEADERBOARD_OPERATOR_SWEEP_SECONDS": "1"})
        pod.start()
        pod.wait_ready()
        slow, busy = _drive(world, redis, name)
        yield Seen(Answers(stack), name, slow, stack, busy)
        pod.stop()
    finally:
        stack.stop()
        log.close()


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    yield from _observed(request, METRICS_ONLY)


@pytest.fixture
def seen_whole(request: pytest.FixtureRequest) -> Iterator[Seen]:
    yield from _observed(request, OBSERVABILITY)


def _wait(what: str, problem: Callable[[], str]) -> str:
    """Return '' once `problem` does, else what it said last."""
    last = [""]

    def none() -> bool:
        last[0] = problem()
        return not last[0]

    return "" if wait_until(none, seconds=SECONDS, pause=0.5) else f"{what}: {last[0]}"


def _vector_problem(query: Query, found: list[dict[str, Any]], *, value: Callable[[dict[str, Any]], float]) -> str:
    if not found:
        return "no data"
    for series in found:
        labels = set(series["metric"])
        if not set(query.labels) <= labels <= {*query.labels, *query.optional}:
            return f"labels {sorted(labels)}, wanted {sorted(query.labels)}"
    return "only NaN" if all(value(series) != value(series) for series in found) else ""


def _metric_problem(seen: Seen, query: Query, text: str) -> str:
    if query.language is Language.LOGQL:
        return _vector_problem(query, seen.answers.loki(text), value=lambda series: float(series["values"][-1][1]))
    return _vector_problem(query, seen.answers.vector(text), value=lambda series: float(series["value"][1]))


def _problem(seen: Seen, query: Query) -> str:
    values = {"$__rate_interval": RATE, "$__interval": RATE, "$__range": "1h", "$tenant": seen.slug}
    text = fill(query.text, values | {"$trace_id": seen.slow_trace})
    match query.shape:
        case Shape.VECTOR:
            return _metric_problem(seen, query, text)
        case Shape.LINES:
            return "" if seen.answers.loki(text) else "no lines"
        case Shape.TRACES:
            return "" if seen.answers.traces(text) else "no traces"
        case Shape.TRACE:
            return "" if seen.answers.trace(text) else "no trace"


def _problems(seen: Seen, queries: list[Query]) -> list[str]:
    return [
        said
        for query in queries
        if (said := _wait(query.name, lambda query=query: _problem(seen, query)))  # type: ignore[misc]
    ]


def _metrics(expression: str) -> set[str]:
    """The metrics in a PromQL expression that the platform exports."""
    prefixes = "controller_runtime|db_client|http_server|leaderboard|redis|workqueue"
    return set(re.findall(rf"(?<![\w:])(?:{prefixes})_\w+", expression))


def _rule_problems(seen: Seen) -> list[str]:
    """Rules that are not loaded or do not evaluate, and metrics they ask for that are not there."""
    names = {rule.get("alert") or rule["record"] for rule in RULES}

    def unwell() -> str:
        rules = seen.answers.rules()
        health = {rule["name"]: f"{rule['health']} {rule.get('lastError', '')}".strip() for rule in rules}
        told = [f"{name}: {health.get(name, 'not loaded')}" for name in sorted(names | set(health))]
        return ", ".join(each for each in told if not each.endswith(": ok"))

    said = [_wait("rules", unwell)]
    for metric in sorted({name for rule in RULES for name in _metrics(rule["expr"])} - NOT_HERE):
        asked = f"last_over_time({metric}[10m])"
        said.append(_wait(metric, lambda asked=asked: "" if seen.answers.vector(asked) else "no such series"))  # type: ignore[misc]
    return [each for each in said if each]


@pytest.mark.timeout(600)
def test_every_query_for_prometheus_has_data_of_its_shape_and_every_rule_works(seen):
    queries = [query for query in ALL if query.language is Language.PROMQL]
    assert queries
    problems = _problems(seen, queries) + _rule_problems(seen)
    assert not problems, "\n".join(problems)


@pytest.mark.observability
@pytest.mark.timeout(600)
def test_every_query_has_data_and_a_slow_write_leads_to_its_trace_its_batch_and_its_lines(seen_whole):
    seen = seen_whole
    problems = _problems(seen, list(ALL))
    assert not problems, "\n".join(problems)
    latency = "http_server_request_duration_seconds_bucket"
    assert _wait("exemplar", lambda: "" if seen.slow_trace in seen.answers.exemplars(latency) else "none") == ""
    # HTTP -> Redis, in one trace.
    by_name = {span["name"]: span for span in seen.answers.trace(seen.slow_trace)}
    write, script = by_name["POST /v1/scores/update"], by_name["EVALSHA update"]
    assert script["parentSpanId"] == write["spanId"]
    assert attributes(write)["leaderboard.tenant"] == seen.slug
    # -> (link) ledger -> Postgres.
    batches = []

    def linked() -> str:
        for found in seen.answers.traces('{ resource.service.name = "leaderboard-worker" }'):
            spans = seen.answers.trace(found["traceID"])
            if any(link["spanId"] == script["spanId"] for span in spans for link in span.get("links", [])):
                batches.append(spans)
                return ""
        return "no batch with a link to the write"

    assert _wait("ledger", linked) == ""
    (insert,) = [span for span in batches[0] if span["name"] == "INSERT score_events"]
    assert insert["parentSpanId"] in {span["spanId"] for span in batches[0]}
    assert attributes(insert)["db.system.name"] == "postgresql"


@pytest.mark.observability
@pytest.mark.timeout(600)
def test_a_preview_of_every_dashboard_shows_what_is_there(seen_whole, tmp_path, pytestconfig):
    """DASHBOARD_PICTURES names a folder for pictures of two minutes of work (`make dashboard-pictures`)."""
    seen, pictures = seen_whole, os.environ.get("DASHBOARD_PICTURES")
    problems = _problems(seen, list(ALL))
    assert not problems, "\n".join(problems)
    end = time.monotonic() + (PICTURE_SECONDS if pictures else 0)
    while time.monotonic() < end:
        for _ in range(random.randrange(1, 20)):
            seen.busy.add("global", f"u{random.randrange(1000)}", random.randrange(1, 10))
            seen.busy("GET", "/v1/leaderboards/global/top")
    now = time.time()
    source = Source(
        urls={"prometheus": seen.stack.prometheus_url, "loki": seen.stack.loki_url, "tempo": seen.stack.tempo_url},
        start=now - PICTURE_SECONDS,
        end=now,
        variables={"tenant": seen.slug, "trace_id": seen.slow_trace},
    )
    chromium = find_chromium(say=say_to(pytestconfig)) if pictures else ""
    for path in sorted((FILES / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        page = draw(dashboard, source)
        titles = [panel["title"] for panel in dashboard["panels"]]
        assert [title for title in titles if html.escape(title) not in page] == []
        if pictures:
            drawn = tmp_path / f"{path.stem}.html"
            drawn.write_text(page)
            photograph(drawn, Path(pictures) / f"{path.stem}.png", chromium=chromium)
