"""The spans and metrics that the architecture names, caused by real requests on real stores."""

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager

import falcon.testing
import pytest
import redis as redis_py
from redis.asyncio import Redis

from leaderboard.api.app import create_app, open_parts
from leaderboard.config import Config
from leaderboard.store.postgres.pool import open_pool
from leaderboard.store.redis import events, keys
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.worker.outbox import OutboxWorker
from leaderboard.worker.seen import Stores
from support.seen import Seen
from support.tenants import apply_tenant

UPDATE = {"leaderboard": "global", "user": "u1", "increment": 5}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"}
POST = "POST /v1/scores/update"


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
        app = create_app(config, parts)

        async def listed(scope, receive, send):
            scope["headers"] = [tuple(pair) for pair in scope.get("headers", ())]  # Falcon gives iterators
            await app(scope, receive, send)

        async with falcon.testing.ASGIConductor(listed) as conductor:
            yield conductor, {"Authorization": f"Bearer {tenant.key}"}, tenant, parts
    finally:
        await parts.close()


async def update(http, headers, **more):
    answer = await http.simulate_post("/v1/scores/update", json=UPDATE | more, headers=headers)
    assert answer.status_code == 200
    return answer


async def work(world, *, telemetry, until):
    """Let a worker run until it moved `until` entries."""
    stop, redis = asyncio.Event(), Redis.from_url(world.redis_url)
    pool = await open_pool(world.database, size=1, timeout=10)
    worker = OutboxWorker(pool, redis, batch=100, stop=stop, telemetry=telemetry)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(30):
        while worker.moved < until:
            await asyncio.sleep(0.01)
    stop.set()
    await running
    await redis.aclose()
    await pool.close()


async def test_a_write_is_a_server_span_with_its_redis_calls_below(world):
    seen = Seen()
    async with client(world, telemetry=seen.telemetry) as (http, headers, tenant, _):
        await update(http, headers | SAMPLED)
    (server,) = seen.spans(POST)
    (script,) = seen.spans("EVALSHA update")
    assert format(server.context.trace_id, "032x") == TRACE
    assert server.parent.span_id == 0x00F067AA0BA902B7
    assert (script.context.trace_id, script.parent.span_id) == (server.context.trace_id, server.context.span_id)
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/scores/update",
        "url.path": "/v1/scores/update",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "leaderboard.tenant": tenant.slug,
        "leaderboard.project": "default",
    }
    assert script.attributes == {
        "db.system.name": "redis",
        "db.operation.name": "EVALSHA",
        "db.stored_procedure.name": "update",
        "leaderboard.outbox.append": True,
    }
    # The limiter had no lease yet: its call is a child too.
    assert [span.parent.span_id for span in seen.spans("EVALSHA lease")] == [server.context.span_id]
    assert server.start_time <= script.start_time <= script.end_time <= server.end_time


async def test_what_the_caller_does_not_sample_has_no_span_but_counts(world):
    seen = Seen(ratio=1.0)
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, _):
        await update(http, headers | UNSAMPLED)
        (latency,) = seen.points("http.server.request.duration")
        with redis_py.Redis.from_url(world.redis_url) as redis:
            ((_, fields),) = redis.xrange(keys.OUTBOX)
    assert latency.count == 1
    assert latency.exemplars == []
    assert seen.spans() == []
    assert set(fields) == {events.FIELD}


async def test_a_share_of_the_traces_that_begin_here_is_sampled(world):
    seen = Seen(ratio=0.0)
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, _):
        await update(http, headers)
        await update(http, headers | SAMPLED)  # somebody else's decision
    assert [format(span.context.trace_id, "032x") for span in seen.spans(POST)] == [TRACE]


async def test_the_next_request_of_the_connection_is_not_in_the_trace_of_the_last(world):
    seen = Seen(ratio=0.0)
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, _):
        await update(http, headers | SAMPLED)
        await update(http, headers)
    assert len(seen.spans("EVALSHA update")) == 1


async def test_the_trace_state_of_the_caller_goes_on(world):
    seen = Seen()
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, _):
        await update(http, headers | SAMPLED | {"tracestate": "vendor=abc"})
    assert [dict(span.context.trace_state) for span in seen.spans("EVALSHA update")] == [{"vendor": "abc"}]


async def test_requests_and_refusals_are_counted_per_tenant_with_latency_and_redis_round_trips(world):
    seen = Seen(ratio=0.0)
    async with client(world, telemetry=seen.telemetry, quotas={"requestsPerSecond": 2}) as (http, headers, tenant, _):
        path = "/v1/leaderboards/global/top"
        codes = [(await http.simulate_get(path, headers=headers)).status_code for _ in range(4)]
        unknown = await http.simulate_get("/v1/leaderboards/global/top")
        requests = seen.points("leaderboard.tenant.requests")
        per_tenant = seen.points("leaderboard.tenant.request.duration")
        latency = seen.points("http.server.request.duration")
        operations = seen.points("db.client.operation.duration")
        decisions = seen.points("leaderboard.limiter.decisions")
    assert codes.count(429) >= 1
    assert unknown.status_code == 401
    counted = {(p.attributes["leaderboard.tenant"], p.attributes["outcome"]): p.value for p in requests if p.value}
    assert counted == {(tenant.slug, "ok"): codes.count(200), (tenant.slug, "limited"): codes.count(429)}
    assert {p.attributes["leaderboard.tenant"]: p.count for p in per_tenant if p.count} == {tenant.slug: 4}
    by_status = {point.attributes["http.response.status_code"]: point.count for point in latency}
    assert by_status == {200: codes.count(200), 429: codes.count(429), 401: 1}
    assert {point.attributes["http.route"] for point in latency} == {"/v1/leaderboards/{leaderboard}/top"}
    by_script = {point.attributes.get("db.stored_procedure.name"): point.count for point in operations}
    assert by_script["top"] == codes.count(200)
    assert by_script["lease"] >= 3
    assert {p.attributes["decision"]: p.value for p in decisions}["refused"] == codes.count(429)


async def test_a_sampled_request_is_the_exemplar_of_its_bucket(world):
    seen = Seen(ratio=0.0)
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, _):
        await update(http, headers)
        await update(http, headers | SAMPLED)
        (latency,) = seen.points("http.server.request.duration")
        (again,) = seen.points("http.server.request.duration")
    (server,) = seen.spans(POST)
    (exemplar,) = latency.exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (server.context.trace_id, server.context.span_id)
    assert again.exemplars == []
    assert again.count == 2


async def test_a_failure_is_an_error_span_with_the_stack_of_its_exception(world, make_redis):
    server, seen = make_redis(), Seen()
    world.redis_url = server.url
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, parts):
        await update(http, headers)
        await asyncio.to_thread(server.kill)
        async with asyncio.timeout(10):
            while parts.redis.connected:
                await asyncio.sleep(0.01)
        assert (await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers)).status_code == 503
        durations = seen.points("http.server.request.duration")
    (failed,) = [span for span in seen.spans(POST) if span.attributes["http.response.status_code"] == 503]
    (exception,) = failed.events
    assert exception.name == "exception"
    assert exception.attributes["exception.type"] == "leaderboard.store.redis.errors.RedisUnavailable"
    assert "Traceback (most recent call last)" in exception.attributes["exception.stacktrace"]
    assert not failed.status.is_ok
    assert [p.attributes["error.type"] for p in durations if p.attributes["http.response.status_code"] == 503] == [
        "503"
    ]


async def test_a_problem_names_the_trace_of_its_span_and_so_does_its_log_line(world, caplog):
    seen = Seen()
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, parts):
        answer = await http.simulate_get("/v1/leaderboards/nowhere/top", headers=headers)

        async def broken(*_, **__):
            logging.getLogger("leaderboard.test").warning("inside")
            raise ValueError("broken")

        parts.scores.update = broken
        failed = await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers)
    (span,) = [span for span in seen.spans() if span.name.startswith("GET ")]
    assert answer.json["trace_id"] == format(span.context.trace_id, "032x")
    (span,) = seen.spans(POST)
    assert failed.json["trace_id"] == format(span.context.trace_id, "032x")
    inside, error = [record for record in seen.logs() if record.body == "inside" or "failed" in record.body]
    for record in (inside, error):
        assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
    assert "ValueError: broken" in error.attributes["exception.stacktrace"]


async def test_an_error_of_a_request_that_is_not_sampled_has_a_log_line_with_its_trace_id(world):
    seen = Seen(ratio=0.0)
    async with client(world, telemetry=seen.telemetry) as (http, headers, tenant, _parts):
        with redis_py.Redis.from_url(world.redis_url) as redis:
            redis.delete(keys.meta(keys.board(tenant.id, "default", "global")))
        answer = await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers | UNSAMPLED)
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/board-unavailable")
    (record,) = [record for record in seen.logs() if record.attributes.get("problem") == "board-unavailable"]
    assert format(record.trace_id, "032x") == TRACE == answer.json["trace_id"]
    assert seen.spans() == []


@pytest.mark.parametrize("idempotent", [False, True])
async def test_the_ledgers_batch_links_to_the_sampled_writes_in_it(world, idempotent):
    api, ledger = Seen(), Seen(ratio=0.0)
    async with client(world, telemetry=api.telemetry) as (http, headers, _, _):
        for number, trace in enumerate((SAMPLED, UNSAMPLED)):
            more = {"Idempotency-Key": f"k{number}"} if idempotent else {}
            await update(http, headers | trace | more)
    await work(world, telemetry=ledger.telemetry, until=2)
    await asyncio.to_thread(ledger.telemetry.close)
    (write,) = api.spans("EVALSHA update")
    (batch,) = ledger.spans("process outbox")
    (insert,) = ledger.spans("INSERT score_events")
    assert [(link.context.trace_id, link.context.span_id) for link in batch.links] == [
        (write.context.trace_id, write.context.span_id)
    ]
    assert batch.attributes["messaging.batch.message_count"] == 2
    assert insert.parent.span_id == batch.context.span_id
    assert insert.attributes["db.system.name"] == "postgresql"
    assert sum(point.value for point in ledger.points("leaderboard.ledger.events")) == 2
    assert sum(point.value for point in ledger.points("leaderboard.ledger.batches")) == 1


async def test_held_updates_are_counted_by_the_bound_they_broke(world):
    bounds = {"min_score": -10, "max_score": 100, "max_gain": 50, "per_seconds": 604_800}
    async with client(world, telemetry=None) as (http, headers, _, _):
        answer = await http.simulate_post("/v1/leaderboards", json={"key": "b", "bounds": bounds}, headers=headers)
        assert answer.status_code == 201
        for user, increment in (("u1", -11), ("u2", 101), ("u3", 102), ("u4", 60), ("u5", 50)):
            await update(http, headers, leaderboard="b", user=user, increment=increment)
    seen = Seen(ratio=0.0)
    await work(world, telemetry=seen.telemetry, until=5)
    held = {point.attributes["bound"]: point.value for point in seen.points("leaderboard.quarantine.held")}
    assert held == {"min_score": 1, "max_score": 2, "max_gain": 1}
    assert sum(point.value for point in seen.points("leaderboard.ledger.events")) == 1
    await asyncio.to_thread(seen.telemetry.close)


async def test_a_worker_that_has_seen_no_held_update_tells_a_zero_for_each_bound(world):
    seen = Seen(ratio=0.0)
    await work(world, telemetry=seen.telemetry, until=0)
    held = {point.attributes["bound"]: point.value for point in seen.points("leaderboard.quarantine.held")}
    assert held == {"min_score": 0, "max_score": 0, "max_gain": 0}
    await asyncio.to_thread(seen.telemetry.close)


async def test_batches_removals_and_what_they_trim_carry_the_trace_too(world):
    seen = Seen()
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, _):
        body = {"updates": [UPDATE | {"user": f"u{number}"} for number in range(70)]}  # two calls
        answer = await http.simulate_post("/v1/scores/batch", json=body, headers=headers | SAMPLED)
        assert {item["status"] for item in answer.json["results"]} == {200}
        answer = await http.simulate_delete("/v1/leaderboards/global/members/u3", headers=headers | SAMPLED)
        assert answer.status_code == 204
        with redis_py.Redis.from_url(world.redis_url) as redis:
            entries = [fields for _, fields in redis.xrange(keys.OUTBOX)]
    spans = {format(s.context.span_id, "016x") for s in seen.spans() if s.name in ("EVALSHA update", "EVALSHA remove")}
    sent = {fields[events.TRACE_FIELD].decode() for fields in entries}
    assert len(entries) == 71
    assert sent == {f"00-{TRACE}-{span}-01" for span in spans}
    assert len(sent) == 3


async def test_a_batch_without_sampled_writes_has_no_span_and_one_that_fails_shows_the_statement(world):
    async with client(world, telemetry=None) as (http, headers, _, _):
        await update(http, headers)
    ledger = Seen(ratio=0.0)
    await work(world, telemetry=ledger.telemetry, until=1)
    await asyncio.to_thread(ledger.telemetry.close)
    assert ledger.spans() == []


async def test_the_worker_tells_of_the_outbox_and_of_redis(world):
    seen = Seen()
    async with client(world, telemetry=None) as (http, headers, _, _):
        for _ in range(3):
            await update(http, headers)
    redis = Redis.from_url(world.redis_url)
    await Stores(seen.telemetry, redis, outbox_max=1000).look()
    await redis.aclose()

    def value(name):
        (point,) = seen.points(name)
        return point.value

    assert value("leaderboard.outbox.length") == 3
    assert value("leaderboard.outbox.limit") == 1000
    assert 0 <= value("leaderboard.outbox.lag") < 60
    assert value("redis.memory.used") > 100_000
    assert value("redis.memory.limit") >= 0
    await asyncio.to_thread(seen.telemetry.close)


async def test_calls_that_a_broken_connection_swallowed_are_counted(world, make_redis):
    server, seen = make_redis(), Seen(ratio=0.0)
    world.redis_url = server.url
    async with client(world, telemetry=seen.telemetry) as (http, headers, _, parts):
        await update(http, headers)
        waiter = parts.redis.call("BLPOP", "nothing", "0")
        await asyncio.sleep(0)  # it is written at the end of this turn
        await asyncio.to_thread(server.kill)
        with pytest.raises(Exception, match="lost before the answer"):
            await waiter
        (lost,) = seen.points("leaderboard.redis.lost_calls")
    assert lost.value == 1


async def test_off_means_that_nothing_is_installed(world):
    async with client(world, telemetry=None) as (http, headers, _, parts):
        assert type(parts.redis) is Multiplexer
        answer = await http.simulate_post("/v1/scores/update", json=UPDATE, headers=headers | SAMPLED)
        assert answer.status_code == 200
        missing = await http.simulate_get("/v1/leaderboards/nowhere/top", headers=headers | SAMPLED)
        with redis_py.Redis.from_url(world.redis_url) as redis:
            ((_, fields),) = redis.xrange(keys.OUTBOX)
    assert missing.json["trace_id"] == TRACE  # the trace id needs no telemetry
    assert set(fields) == {events.FIELD}
