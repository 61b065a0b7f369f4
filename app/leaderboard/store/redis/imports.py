"""Imports as Redis sees them: chunks of members, each applied once, and how far an import is.

Not hot: redis-py. Every method raises RedisUnavailable when Redis fails.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from leaderboard.domain.boards import BoardSpec, SortOrder, TiePolicy
from leaderboard.domain.names import LeaderboardId
from leaderboard.store.redis import keys, scripts
from leaderboard.store.redis.boards import ORDER_CHARS
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.events import EventIds

CHUNK = 250
"""Members of one script call: about 2 ms of Redis's time. At most 255, which is what one trim can take back."""
_READ = 2_000


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
        try:
            raw: Any = await self._redis.hgetall(keys.importing(board_key))
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        if not raw:
            return None
        names = {field: value.decode() for field, value in raw.items()}
        return msgspec.convert({name.decode(): value for name, value in names.items()}, Progress, strict=False)

    async def forget(self, board_key: str) -> None:
        """Let the next import begin anew."""
        try:
            await self._redis.unlink(keys.importing(board_key))
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error

    async def apply(self, plan: Plan, *, at: int, users: Sequence[str], scores: Sequence[float]) -> Chunk | str:
        """Put up to CHUNK members on the board, those after the first `at`, with their events.

        May be called again after a failure: a chunk that was applied changes nothing more. Returns a word where
        nothing was done: 'outbox-full', 'board-unavailable', 'board-changed', 'another-import'.
        """
        names = [plan.board_key, keys.meta(plan.board_key), keys.order(plan.board_key), keys.OUTBOX]
        names.append(keys.importing(plan.board_key))
        args: list[Any] = [self._outbox_max, self._ids.nonce, self._ids.take(len(users)), plan.board_id, plan.season]
        args += [plan.id, at, plan.total, "o" if plan.overwrite else "", plan.source, *users, *map(repr, scores)]
        script = scripts.IMPORT
        try:
            try:
                reply: Any = await self._redis.evalsha(script.sha, len(names), *names, *args)
            except NoScriptError:
                reply = await self._redis.eval(script.text, len(names), *names, *args)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        return reply.decode() if isinstance(reply, bytes) else Chunk(*reply)

    async def waits(self, entry: bytes) -> bool:
        """Whether the entry is in the outbox: not in the ledger yet."""
        try:
            return bool(await self._redis.xrange(keys.OUTBOX, entry, entry))
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error


async def best_first(redis: Redis, board_key: str, spec: BoardSpec) -> AsyncIterator[tuple[str, float]]:
    """Yield (user, score) of a board, best first, in chunks. Under writes it is not one moment's."""
    start, cut = 0, ORDER_CHARS if spec.tie_policy is TiePolicy.FIRST_TO_REACH else 0
    descending = spec.sort_order is SortOrder.DESCENDING
    while True:
        try:
            chunk: Any = await redis.zrange(board_key, start, start + _READ - 1, desc=descending, withscores=True)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        for member, score in chunk:
            yield member.decode()[cut:], score
        if len(chunk) < _READ:
            return
        start += _READ


def _unavailable(error: Exception) -> RedisUnavailable:
    return RedisUnavailable(f"Redis did not do it: {error}")
