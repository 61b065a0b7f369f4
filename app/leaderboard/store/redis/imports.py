"""Imports as Redis sees them: chunks of members, each applied once, and how far an import is.

Not hot: redis-py. Every method raises RedisUnavailable when Redis fails.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from leaderboard.domain.names import LeaderboardId
from leaderboard.store.redis import keys, scripts
from leaderboard.store.redis.errors import redis_failures
from leaderboard.store.redis.events import EventIds

CHUNK = 250
"""Members of one script call: about 2 ms of Redis's time. At most 255, which is what one trim can take back."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far an import is, and what came of its members so far. `began` is in seconds since 1970, `board` is
    ``<board id>/<season>``.

    `same` were on the board with this score, `kept` with another, which stayed.
    """

    id: str
    source: str
    board: str
    began: int
    at: int
    total: int
    added: int = 0
    replaced: int = 0
    same: int = 0
    kept: int = 0
    trimmed: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.at >= self.total


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One import: of what into which board."""

    id: str
    source: str
    total: int
    board_key: str
    board_id: LeaderboardId
    season: int
    overwrite: bool

    @property
    def board(self) -> str:
        """As `Progress` has it."""
        return f"{self.board_id}/{self.season}"


class Chunk(msgspec.Struct, frozen=True):
    """What one call did: `at` members are done now. `entry` is the id of its events in the outbox, if it has any."""

    at: int
    entry: bytes = b""


class Imports:
    """Applies chunks. `redis` must not decode responses; `outbox_max` is in entries of the stream."""

    def __init__(self, redis: Redis, *, ids: EventIds, outbox_max: int) -> None:
        self._redis = redis
        self._ids = ids
        self._outbox_max = outbox_max

    async def progress(self, board_key: str) -> Progress | None:
        """Return how far the last import into the board is; None where none is known."""
        async with redis_failures():
            raw: Any = await self._redis.hgetall(keys.importing(board_key))
        if not raw:
            return None
        names = {field: value.decode() for field, value in raw.items()}
        return msgspec.convert({name.decode(): value for name, value in names.items()}, Progress, strict=False)

    async def forget(self, board_key: str) -> None:
        """Let the next import begin anew."""
        async with redis_failures():
            await self._redis.unlink(keys.importing(board_key))

    async def apply(self, plan: Plan, *, at: int, users: Sequence[str], scores: Sequence[float]) -> Chunk | str:
        """Put up to CHUNK members on the board, those after the first `at`, with their events.

        May be called again after a failure: a chunk that was applied changes nothing more. Returns a word where
        nothing was done: 'outbox-full', 'board-unavailable', 'board-changed', 'another-import'.
        """
        names = [plan.board_key, keys.meta(plan.board_key), keys.order(plan.board_key), keys.OUTBOX]
        names.append(keys.importing(plan.board_key))
        args: list[Any] = [self._outbox_max, self._ids.nonce, self._ids.take(len(users)), plan.board_id, plan.season]
        args += [plan.id, at, plan.total, "o" if plan.overwrite else "", plan.source, *users, *map(repr, scores)]
        reply: Any = await scripts.run(self._redis, scripts.IMPORT, names, args)
        return reply.decode() if isinstance(reply, bytes) else Chunk(*reply)

    async def waits(self, entry: bytes) -> bool:
        """Whether the entry is in the outbox: not in the ledger yet."""
        async with redis_failures():
            return bool(await self._redis.xrange(keys.OUTBOX, entry, entry))
