"""The revocation stream: what API workers must forget, told to all of them at once.

Each worker tails the stream on a connection of its own with ``XREAD BLOCK 250``: every answer, also an empty one, is
a heartbeat. Silence over 750 ms means that a revocation may have been missed, and cached keys must be checked again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Literal, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from leaderboard.store.redis import keys
from leaderboard.store.redis.errors import RedisFailure, RedisUnavailable
from leaderboard.store.redis.multiplexer import Multiplexer

log = logging.getLogger(__name__)

HEARTBEAT_MS = 250
SILENCE_S = 0.75
MAX_LENGTH = 10_000
MAX_READ = 1_000
"""Entries one read takes. One that is full means a backlog of unknown length: everything is forgotten instead."""

_BEGINNING = b"0-0"


async def publish(redis: Redis, *, kind: Literal["key", "tenant"], id: str) -> None:
    """Tell every worker to forget one key, or all keys of a tenant. Raises RedisUnavailable when it was not taken."""
    try:
        await redis.xadd(keys.REVOCATIONS, {"kind": kind, "id": id}, maxlen=MAX_LENGTH, approximate=True)
    except RedisError as error:
        raise RedisUnavailable(f"the revocation was not taken: {error}") from error


class Subscriber(Protocol):
    """What is told of revocations."""

    def forget(self, revoked: AbstractSet[tuple[str, str]]) -> None:
        """Drop what is kept of each (kind, id): a key or a tenant."""

    def forget_all(self) -> None:
        """Drop everything: revocations may have been missed."""


class RevocationTail:
    """Follows the stream for one process. `redis` must be a connection of its own: it blocks. `clock` in seconds."""

    def __init__(self, redis: Multiplexer, *, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        self._subscribers: list[Subscriber] = []
        self._task: asyncio.Task[None] | None = None
        self.heard_at = float("-inf")
        """The clock's time up to which no revocation was missed."""

    @property
    def live(self) -> bool:
        """Whether the stream has been heard within the silence bound."""
        return self._clock() - self.heard_at <= SILENCE_S

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell `subscriber` of every revocation from now on."""
        self._subscribers.append(subscriber)

    async def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._follow(), name="revocation-tail")

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        cursor, connects = b"", -1
        while True:
            try:
                if not cursor or connects != self._redis.connects:
                    # A new connection may be to a server that lost, or never had, what we missed: start afresh.
                    newest = await self._redis.call("XREVRANGE", keys.REVOCATIONS, "+", "-", "COUNT", 1)
                    cursor, connects = (newest[0][0] if newest else _BEGINNING), self._redis.connects
                    for subscriber in self._subscribers:
                        subscriber.forget_all()
                sent_at = self._clock()
                # Nothing can be lost while XREAD waits; between two of them the stream may have been emptied
                # (FLUSHALL) with what we had not read, and then the entry we read last is gone as well.
                last, reply = await asyncio.gather(
                    self._redis.call("XRANGE", keys.REVOCATIONS, cursor, cursor),
                    self._redis.call(
                        "XREAD", "COUNT", MAX_READ, "BLOCK", HEARTBEAT_MS, "STREAMS", keys.REVOCATIONS, cursor
                    ),
                )
            except RedisFailure as error:
                if self.live:
                    log.warning("revocation tail interrupted: %s; cached keys are checked again", error)
                cursor = b""
                await asyncio.sleep(0.05)
                continue
            entries = reply[0][1] if reply else []
            if (not last and cursor != _BEGINNING) or len(entries) == MAX_READ:
                cursor = b""
                continue
            if entries:
                cursor = entries[-1][0]
                revoked = {_revoked(fields) for _, fields in entries}
                for subscriber in self._subscribers:
                    subscriber.forget(revoked)
            # What an answer vouches for is the moment Redis gave it: after the whole block when there was nothing.
            blocked = 0.0 if reply else HEARTBEAT_MS / 1000
            self.heard_at = min(self._clock(), sent_at + blocked)


def _revoked(fields: list[bytes]) -> tuple[str, str]:
    # An entry that is none of ours names nothing, and must not end the task.
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    return pairs.get(b"kind", b"").decode(errors="replace"), pairs.get(b"id", b"").decode(errors="replace")
