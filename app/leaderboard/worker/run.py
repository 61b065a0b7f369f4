"""One worker process: the outbox, the snapshots and the housekeeping, on connections of its own."""

import asyncio
import logging
import os
from datetime import UTC, datetime

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from leaderboard.config import Config
from leaderboard.control.tools import Tools
from leaderboard.store.postgres.pool import Pool, open_pool
from leaderboard.store.postgres.seen import observe_pool
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.store.redis.scores import Scores
from leaderboard.telemetry import otel
from leaderboard.worker import erasures, maintenance, progress, seasons, snapshots
from leaderboard.worker.outbox import BLOCK_MS, OutboxWorker
from leaderboard.worker.seen import ErasuresSeen, SeasonsSeen, Stores

log = logging.getLogger(__name__)

POOL_SIZE = 10
"""Connections to Postgres: one for each task, and three more for those that hold one while they use another."""
ERASURE_DRAIN_SECONDS = 5.0
"""How long an erasure waits for the outbox before the others have their turn."""


async def run(config: Config, stop: asyncio.Event) -> None:
    """Move events to the ledger until `stop` is set; then finish the batch in hand and return.

    Starts also while Postgres or Redis is away, and goes on when they are back.
    """
    pool = await open_pool(config.database_url, size=POOL_SIZE, timeout=config.database_timeout)
    # A command that redis-py repeated by itself could read a batch whose first answer was lost; the outages are ours.
    redis = Redis.from_url(
        config.redis_url,
        socket_timeout=BLOCK_MS / 1000 + config.redis_timeout,
        socket_connect_timeout=config.redis_timeout,
        retry=Retry(NoBackoff(), 0),
    )
    telemetry = otel.set_up("leaderboard-worker", instance=otel.instance_id()) if config.telemetry else None
    outbox = OutboxWorker(pool, redis, batch=config.ledger_batch, stop=stop, telemetry=telemetry)
    hot = Multiplexer(config.redis_url, timeout=config.redis_timeout, name="leaderboard-snapshots")
    await hot.start()
    # It only reads: no event ever gets one of these ids.
    scores = Scores(hot, ids=EventIds(bytes(8)), outbox_max=0, idempotency_ttl=0)
    log.info("worker started, %d events a batch", config.ledger_batch)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(outbox.run())
            tasks.create_task(
                maintenance.run(
                    pool, retention_days=config.ledger_retention_days, stop=stop, clock=lambda: datetime.now(UTC)
                )
            )
            tasks.create_task(progress.run(pool, redis, stop=stop))
            tasks.create_task(snapshots.run(pool, scores, stop=stop))
            tasks.create_task(
                seasons.run(
                    pool,
                    redis,
                    stop=stop,
                    clock=lambda: datetime.now(UTC),
                    seen=None if telemetry is None else SeasonsSeen(telemetry),
                )
            )
            tools = _tools(config, pool, redis)
            erasures_seen = None if telemetry is None else ErasuresSeen(telemetry, clock=tools.clock)
            tasks.create_task(erasures.run(tools, stop=stop, seen=erasures_seen))
            if telemetry is not None:
                observe_pool(telemetry, pool)
                tasks.create_task(Stores(telemetry, redis, outbox_max=config.outbox_max).watch(stop))
    finally:
        await hot.close()
        await redis.aclose()
        await pool.close()
        if telemetry is not None:
            await asyncio.to_thread(telemetry.close)
    log.info("worker stopped after moving %d events", outbox.moved)


def _tools(config: Config, pool: Pool, redis: Redis) -> Tools:
    return Tools(
        pool=pool,
        redis=redis,
        pepper=config.pepper.encode(),
        key_env=config.key_env,
        clock=lambda: datetime.now(UTC),
        entropy=os.urandom,
        drain_seconds=ERASURE_DRAIN_SECONDS,
        ids=EventIds(os.urandom(8)),
    )
