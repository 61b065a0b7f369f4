"""``/healthz`` says that the process runs; ``/readyz`` says whether it should get traffic, and what is down."""

import asyncio

import falcon.asgi
import msgspec

from leaderboard.store.postgres.pool import DatabaseUnavailable, Pool, connection
from leaderboard.store.redis.errors import RedisFailure
from leaderboard.store.redis.multiplexer import Multiplexer
from leaderboard.store.redis.revocations import RevocationTail

_encode = msgspec.json.Encoder().encode
CHECK_SECONDS = 1.0


class Healthz:
    """Liveness: answers as long as the event loop turns; no dependency is asked."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:  # noqa: ARG002
        """Answer 200."""
        resp.data = b'{"status":"ok"}'
        resp.set_header("Cache-Control", "no-store")


class Readyz:
    """Readiness. Without Redis nothing can be served: 503. Without Postgres cached keys go on being served for ten
    minutes, so the process stays in rotation: 200 with status ``degraded``.
    """

    def __init__(self, redis: Multiplexer, tail: RevocationTail, pool: Pool) -> None:
        self._redis = redis
        self._tail = tail
        self._pool = pool

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:  # noqa: ARG002
        """Answer the state of each dependency."""
        redis, postgres = await asyncio.gather(self._ping_redis(), self._ping_postgres())
        checks = {"redis": redis, "revocations": "ok" if self._tail.live else "silent", "postgres": postgres}
        if redis != "ok":
            status = "unavailable"
        else:
            status = "ok" if all(check == "ok" for check in checks.values()) else "degraded"
        resp.status = 503 if status == "unavailable" else 200
        resp.data = _encode({"status": status, "checks": checks})
        resp.set_header("Cache-Control", "no-store")

    async def _ping_redis(self) -> str:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._redis.call("PING")
        except (RedisFailure, TimeoutError):
            return "down"
        return "ok"

    async def _ping_postgres(self) -> str:
        try:
            async with asyncio.timeout(CHECK_SECONDS), connection(self._pool) as conn:
                await conn.execute("SELECT 1")
        except (DatabaseUnavailable, TimeoutError):
            return "down"
        return "ok"
