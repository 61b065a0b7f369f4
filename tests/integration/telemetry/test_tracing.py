"""The spans and metrics that the architecture names, caused by real requests on real stores."""

import asyncio
import secrets
from contextlib import asynccontextmanager

import falcon.testing
import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis

from leaderboard.api.app import create_app, open_parts
from leaderboard.config import Config
from leaderboard.store.postgres.pool import open_pool
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.telemetry.otel import Telemetry
from leaderboard.worker.outbox import OutboxWorker
from support.tenants import apply_tenant

UPDATE = {"leaderboard": "global", "user": "u1", "increment": 5}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Seen:
    """Telemetry that keeps what it is given."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.telemetry = Telemetry(
            "test", processors=[SimpleSpanProcessor(self._exporter)], readers=[self._reader], instance="test"
        )

    def spans(self):
        return self._exporter.get_finished_spans()

    def points(self, name):
        data = self._reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


class World:
    def __init__(self, redis_url, database):
        self.redis_url, self.database, self.pepper = redis_url, database, secrets.token_hex(32)


@pytest.fixture
def world(redis_url, database):
    return World(redis_url, database)


@asynccontextmanager
async def client(world, *, telemetry, quotas=None):
    """A client of the application in this process, with the headers of a new tenant's key."""
    tenant = await apply_tenant(world, quotas=quotas)
    config = Config(redis_url=world.redis_url, database_url=world.database, pepper=world.pepper)
    parts = await open_parts(config, telemetry=telemetry)
    try:
        async with falcon.testing.ASGIConductor(create_app(config, parts)) as conductor:
            yield conductor, {"Authorization": f"Bearer {tenant.key}"}, tenant, parts
    finally:
        await parts.close()


async def test_a_write_is_a_server_span_with_its_redis_calls_below(world):
    seen = Seen()
    async with client(world, telemetry=seen.telemetry) as (http, headers, tenant, _):
        answer = await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers | {"traceparent": SENT})
        assert answer.status_code == 200
    spans = {span.name: span for span in seen.spans()}
    server, update = spans["POST /v1/scores/update"], spans["redis update"]
    assert format(server.context.trace_id, "032x") == TRACE
    assert server.parent.span_id == 0x00F067AA0BA902B7
    assert (update.context.trace_id, update.parent.span_id) == (server.context.trace_id, server.context.span_id)
    assert server.attributes["leaderboard.tenant"] == tenant.id
    assert server.attributes["http.response.status_code"] == 200


async def test_requests_and_refusals_are_counted_per_tenant_with_latency_and_redis_round_trips(world):
    seen = Seen()
    async with client(world, telemetry=seen.telemetry, quotas={"requestsPerSecond": 2}) as (http, headers, tenant, _):
        path = "/v1/leaderboards/global/top"
        codes = [(await http.simulate_get(path, headers=headers)).status_code for _ in range(4)]
        requests = seen.points("leaderboard.tenant.requests")
        refused = seen.points("leaderboard.tenant.rate_limited")
        latency = seen.points("http.server.request.duration")
        round_trips = seen.points("leaderboard.redis.round_trip")
    assert codes.count(429) >= 1
    assert [(p.attributes["leaderboard.tenant"], p.value) for p in requests] == [(tenant.id, codes.count(200))]
    assert [(p.attributes["leaderboard.tenant"], p.value) for p in refused] == [(tenant.id, codes.count(429))]
    by_status = {point.attributes["http.response.status_code"]: point.count for point in latency}
    assert by_status == {200: codes.count(200), 429: codes.count(429)}
    scripts = {point.attributes["db.stored_procedure.name"] for point in round_trips}
    assert scripts == {"top", "lease"}


async def test_a_failure_is_an_error_span_with_its_exception(world, make_redis):
    server, seen = make_redis(), Seen()
    world.redis_url = server.url
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, parts):
        assert (await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers)).status_code == 200
        await asyncio.to_thread(server.kill)
        async with asyncio.timeout(10):
            while parts.redis.connected:
                await asyncio.sleep(0.01)
        assert (await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers)).status_code == 503
    failed = [span for span in seen.spans() if span.attributes.get("http.response.status_code") == 503]
    assert [event.name for event in failed[0].events] == ["exception"]
    assert "RedisUnavailable" in failed[0].events[0].attributes["exception.type"]
    assert not failed[0].status.is_ok


async def test_a_problem_names_the_trace_of_its_span(world):
    seen = Seen()
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, _):
        answer = await http.simulate_get("/v1/leaderboards/nowhere/top", headers=headers)
    (span,) = [span for span in seen.spans() if span.name.startswith("GET ")]
    assert answer.json["trace_id"] == format(span.context.trace_id, "032x")


async def test_the_worker_shows_its_inserts(world):
    seen = Seen()
    async with client(world, telemetry=None) as (http, headers, _, _):
        for _ in range(3):
            assert (await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers)).status_code == 200
    stop, pool, redis = (
        asyncio.Event(),
        await open_pool(world.database, size=1, timeout=10),
        Redis.from_url(world.redis_url),
    )
    worker = OutboxWorker(pool, redis, batch=100, stop=stop, telemetry=seen.telemetry)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(30):
        while worker.moved < 3:
            await asyncio.sleep(0.01)
    stop.set()
    await running
    await redis.aclose()
    await pool.close()
    inserts = [span for span in seen.spans() if span.name == "INSERT score_events"]
    assert sum(span.attributes["db.operation.batch.size"] for span in inserts) == 3
    assert sum(point.value for point in seen.points("leaderboard.ledger.events")) == 3


async def test_off_means_that_nothing_is_installed(world):
    async with client(world, telemetry=None) as (http, headers, _, parts):
        assert type(parts.redis) is Multiplexer
        answer = await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers | {"traceparent": SENT})
        assert answer.status_code == 200
        missing = await http.simulate_get("/v1/leaderboards/nowhere/top", headers=headers | {"traceparent": SENT})
    assert missing.json["trace_id"] == TRACE  # the trace id needs no telemetry
