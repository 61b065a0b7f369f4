"""What every part of control works with."""

from collections.abc import Callable
from datetime import datetime

import msgspec
from redis.asyncio import Redis

from leaderboard.store.postgres.pool import Pool
from leaderboard.store.redis.events import EventIds

TENANT_LOCK = 1
"""The kind of the lock under which one process at a time works on a tenant."""


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """One Postgres, one Redis (which must not decode answers), and what makes time, chance and names.

    `clock` gives aware times and `entropy` that many random bytes; `drain_seconds` is how long to wait for the worker.
    """

    pool: Pool
    redis: Redis
    pepper: bytes
    key_env: str
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    drain_seconds: float
    ids: EventIds

    def __repr__(self) -> str:
        return "Tools(...)"  # the pepper is a secret
