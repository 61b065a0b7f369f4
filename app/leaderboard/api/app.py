"""The application factory: everything is wired here, and collaborators come in as arguments."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from redis.asyncio import Redis

from leaderboard.api.bodies import Batch, BoardChange, BodyReader, NewBoard, Update
from leaderboard.api.context import key_lookup, project_lookup, session_lookup
from leaderboard.api.cors import Cors
from leaderboard.api.dispatch import App
from leaderboard.api.live import Live, Places, RedisSource
from leaderboard.api.middleware import ApiKey, RateLimit, TenantContext
from leaderboard.api.refusals import Refusals
from leaderboard.api.resources import (
    dashboard,
    docs,
    events,
    health,
    history,
    keys,
    leaderboards,
    plan,
    quarantine,
    reads,
    scores,
    seasons,
    standings,
    stream,
    usage,
    users,
)
from leaderboard.api.seen import keep_ranking, observe_limiter, observe_streams
from leaderboard.api.sessions import SessionLimiter
from leaderboard.api.tracing import SeenApp, Tracing
from leaderboard.api.usage import UsageMeter
from leaderboard.config import Config
from leaderboard.control.reconcile import Control
from leaderboard.domain.sessions import Sealer
from leaderboard.domain.signatures import Signer
from leaderboard.store.postgres.pool import Pool, open_pool
from leaderboard.store.postgres.seen import observe_pool
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.key_cache import KeyCache
from leaderboard.store.redis.limiter import Limiter
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.store.redis.revocations import RevocationTail
from leaderboard.store.redis.scores import Scores
from leaderboard.store.redis.traced import TracedMultiplexer
from leaderboard.telemetry import otel
from leaderboard.telemetry.otel import Telemetry

STARTUP_WAIT = 5.0
"""Seconds a starting process waits for its first Redis connection; after that it starts and says 503."""


class Clock(msgspec.Struct, frozen=True):
    """Time, to be injected: monotonic seconds, Unix seconds, aware UTC."""

    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time
    utc: Callable[[], datetime] = lambda: datetime.now(UTC)


class Parts:
    """What one process holds: two Redis connections (hot and tail), redis-py for control, and the Postgres pool."""

    def __init__(
        self,
        config: Config,
        pool: Pool,
        *,
        clock: Clock,
        entropy: Callable[[int], bytes],
        telemetry: Telemetry | None,
    ) -> None:
        self.pool = pool
        self.telemetry = telemetry
        self._ranking: asyncio.Task[None] | None = None
        self.redis = _hot_redis(config, telemetry)
        self._tail_redis = Multiplexer(config.redis_url, timeout=1.0, name="leaderboard-tail")
        self._admin_redis = Redis.from_url(config.redis_url, socket_timeout=config.redis_timeout)
        boot_nonce = entropy(8)
        pepper = config.pepper.encode()
        self.tail = RevocationTail(self._tail_redis, clock=clock.monotonic)
        self.keys = KeyCache(self.tail, lookup=key_lookup(pool, pepper=pepper), clock=clock.monotonic)
        self.projects = KeyCache(self.tail, lookup=project_lookup(pool), clock=clock.monotonic)
        self.sessions = KeyCache(self.tail, lookup=session_lookup(pool), clock=clock.monotonic)
        self.entropy = entropy
        self.limiter = Limiter(self.redis, clock=clock.monotonic)
        if telemetry is not None:
            observe_limiter(telemetry, self.limiter)
            observe_pool(telemetry, pool)
        self.meter = UsageMeter(pool, boot_nonce=boot_nonce.hex(), now=clock.utc)
        self.scores = Scores(
            self.redis,
            ids=EventIds(boot_nonce),
            outbox_max=config.outbox_max,
            idempotency_ttl=config.idempotency_ttl,
        )
        self.control = Control(
            pool,
            self._admin_redis,
            pepper=pepper,
            key_env=config.key_env,
            clock=clock.utc,
            entropy=entropy,
        )

    async def open(self) -> None:
        """Connect and start the background tasks. Returns also when a store is away: /readyz says so."""
        await self.redis.start(wait=STARTUP_WAIT)
        await self._tail_redis.start()
        await self.tail.start()
        await self.meter.start()
        if self.telemetry is not None:
            self._ranking = asyncio.create_task(keep_ranking(self.telemetry.tenants), name="tenant-ranks")

    async def close(self) -> None:
        """Flush usage, stop the background tasks, close the connections."""
        await self.meter.close()
        await self.tail.close()
        await self.limiter.close()
        await self._tail_redis.close()
        await self.redis.close()
        await self._admin_redis.aclose()
        await self.pool.close()
        if self._ranking is not None:
            self._ranking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ranking
        if self.telemetry is not None:
            await asyncio.to_thread(self.telemetry.close)


def _hot_redis(config: Config, telemetry: Telemetry | None) -> Multiplexer:
    bounds: Any = {"timeout": config.redis_timeout, "max_in_flight": config.redis_max_in_flight}
    if telemetry is None:
        return Multiplexer(config.redis_url, **bounds)
    return TracedMultiplexer(config.redis_url, telemetry=telemetry, **bounds)


async def open_parts(
    config: Config,
    *,
    clock: Clock | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
    telemetry: Telemetry | None = None,
) -> Parts:
    """Return the opened parts of one process. `telemetry` None (and the setting off) sees nothing and costs nothing."""
    if telemetry is None and config.telemetry:
        telemetry = otel.set_up("leaderboard-api", instance=otel.instance_id(), tenants=config.telemetry_tenants)
    pool = await open_pool(config.database_url, size=config.database_pool, timeout=config.database_timeout)
    parts = Parts(config, pool, clock=clock or Clock(), entropy=entropy, telemetry=telemetry)
    await parts.open()
    return parts


def create_app(config: Config, parts: Parts, *, clock: Clock | None = None) -> App:
    """Return the application over opened `parts`."""
    clock = clock or Clock()
    sealer = Sealer(config.pepper.encode())
    session_limiter = SessionLimiter(clock=clock.monotonic)
    rate_limit = RateLimit(parts.limiter, parts.meter, session_limiter)
    tenant_context = TenantContext(parts.keys, parts.sessions, region=config.region, now=clock.unix)
    app = (App if parts.telemetry is None else SeenApp)(
        middleware=[
            ApiKey(sealer, now=clock.unix),
            tenant_context,
            Cors(),
            *([Tracing(parts.telemetry)] if parts.telemetry is not None else []),
            rate_limit,
        ],
        answered=parts.meter.problem,
    )
    app.req_options.keep_blank_qs_values = True
    app.req_options.auto_parse_qs_csv = False
    app.req_options.strip_url_path_trailing_slash = False

    def body(kind: Any) -> BodyReader[Any]:
        return BodyReader(kind, limit=config.body_limit)

    refusals = Refusals(parts.pool, clock=clock.monotonic)
    store = parts.scores
    app.add_route("/v1/scores/update", scores.ScoreUpdates(store, refusals, body=body(Update)))
    app.add_route("/v1/scores/batch", scores.ScoreBatches(store, refusals, rate_limit=rate_limit, body=body(Batch)))
    app.add_route("/v1/leaderboards", leaderboards.Leaderboards(parts.pool, parts.control, body=body(NewBoard)))
    board = "/v1/leaderboards/{leaderboard}"
    app.add_route(board, leaderboards.Leaderboard(parts.pool, parts.control, body=body(BoardChange)))
    app.add_route(f"{board}/top", reads.Top(store, refusals))
    places = Places()
    if parts.telemetry is not None:
        observe_streams(parts.telemetry, places)
    live = partial(Live, allow=tenant_context.still_opened_by, clock=clock.monotonic, places=places)
    app.add_route(f"{board}/stream", stream.Stream(live(RedisSource(store, refusals))))
    snapshots = standings.Snapshots(parts.pool, clock=clock.monotonic)
    app.add_route(f"{board}/standings", standings.Standings(snapshots))
    app.add_route(f"{board}/standings/stream", stream.StandingsStream(live(snapshots)))
    app.add_route(f"{board}/events", events.Events(parts.pool))
    app.add_route(f"{board}/reset", seasons.Reset(parts.pool, parts.control, body=body(seasons.ResetRequest)))
    app.add_route(f"{board}/seasons", seasons.Seasons(parts.pool))
    app.add_route(f"{board}/held", quarantine.Held(parts.control))
    app.add_route(f"{board}/held/{{hold}}", quarantine.HeldUpdate(parts.control))
    decision = body(quarantine.Decision)
    app.add_route(f"{board}/held/{{hold}}/release", quarantine.Release(parts.control, refusals, body=decision))
    app.add_route(f"{board}/held/{{hold}}/reject", quarantine.Reject(parts.control, body=decision))
    signer = Signer(config.signing_key)
    app.add_route(f"{board}/seasons/{{season}}", seasons.SignedSeason(parts.pool, signer=signer))
    app.add_route(f"{board}/seasons/{{season}}/top", seasons.FinalTop(parts.pool))
    app.add_route(f"{board}/seasons/{{season}}/rank/{{user}}", seasons.FinalRank(parts.pool))
    past = history.Past(parts.pool, at_once=max(1, config.database_pool // 2), now=clock.utc)
    app.add_route(f"{board}/history/top", history.PastTop(past))
    app.add_route(f"{board}/history/rank/{{user}}", history.PastRank(past))
    app.add_route(f"{board}/rank/{{user}}", reads.Rank(store, refusals))
    app.add_route(f"{board}/around/{{user}}", reads.Around(store, refusals))
    app.add_route(f"{board}/members", reads.Members(store, refusals))
    app.add_route(f"{board}/members/{{user}}", reads.Member(store, refusals))
    app.add_route(
        "/v1/public/{tenant}/{project}/leaderboards/{leaderboard}/top",
        reads.PublicTop(store, refusals, projects=parts.projects, rate_limit=rate_limit, region=config.region),
    )
    app.add_route("/v1/keys", keys.Keys(parts.control, body=body(keys.NewKeyRequest)))
    app.add_route("/v1/keys/{key}", keys.Key(parts.control))
    app.add_route("/v1/keys/{key}/rotate", keys.KeyRotation(parts.control, body=body(keys.Rotation)))
    app.add_route("/v1/users/{user}/data", users.MemberData(parts.control))
    app.add_route("/v1/users/{user}/erasure", users.MemberErasure(parts.control))
    app.add_route("/v1/erasures/{erasure}", users.Erasure(parts.control))
    app.add_route("/v1/erasures/{erasure}/check", users.ErasureCheck(parts.control, body=body(users.Subject)))
    app.add_route("/v1/plan", plan.Plan(parts.pool, now=clock.utc))
    app.add_route("/v1/usage", usage.Usage(parts.pool, now=clock.utc))
    app.add_route("/v1/usage/series", usage.UsageSeries(parts.pool, now=clock.utc))
    page = dashboard.Dashboard()
    app.add_route("/dashboard", page)
    app.add_route("/dashboard/{path:path}", page)
    app.add_route(
        "/dashboard/session",
        dashboard.DashboardSession(
            tenant_context,
            sealer,
            session_limiter,
            body=body(dashboard.SignIn),
            now=clock.unix,
            entropy=parts.entropy,
        ),
    )
    app.add_route("/healthz", health.Healthz())
    app.add_route("/readyz", health.Readyz(parts.redis, parts.tail, parts.pool))
    app.add_route("/openapi.json", docs.OpenApi())
    app.add_route("/docs", docs.Docs())
    app.add_route("/problems/{name}", docs.ProblemPage())
    return app
