"""Imports as Redis sees them: chunks of members, each applied once, and how far an import is.

A chunk goes on the board in one of two ways, which do the same. `import.lua` looks up who is there, and decides. Where
nobody else wrote to a board that was empty there is nothing to decide, and plain commands in a transaction take half to
two thirds of the script's time: Lua makes a string of every argument, and Redis one of every string of Lua's.

Not hot: redis-py. Every method raises RedisUnavailable when Redis fails.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import WatchError

from leaderboard.domain.names import LeaderboardId
from leaderboard.store.redis import keys, scripts
from leaderboard.store.redis.boards import BoardMeta, BoardState, meta_in
from leaderboard.store.redis.errors import redis_failures
from leaderboard.store.redis.events import FIELD, EventIds, import_entry, order_prefix

CHUNK = 500
"""The most members of one call: 2 to 3 ms of Redis's time in a transaction, which live writes wait. Half as many cost
Redis 7% more each: a transaction wakes it five times."""
SCRIPTED = 250
"""Of them the script takes these, in about 2 ms. At most 255, which is what one trim can take back."""
_KEPT_SECONDS = 2_592_000  # 30 days


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far an import is, and what came of its members so far. `began` is in seconds since 1970, `board` is
    ``<board id>/<season>``.

    `same` were on the board with this score, `kept` with another, which stayed. `alone` is where the last chunk left
    the board's incarnation and sequence if nobody else wrote to it since it was empty, else empty.
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
    alone: str = ""

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
    """What one call did: `at` members are done now. `entry` is the id of its events in the outbox, if it has any.

    `alone`: nobody else wrote to the board since it was empty.
    """

    at: int
    entry: bytes
    alone: bool


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
        return _progress_in(raw)

    async def forget(self, board_key: str) -> None:
        """Let the next import begin anew."""
        async with redis_failures():
            await self._redis.unlink(keys.importing(board_key))

    async def apply(
        self, plan: Plan, *, at: int, users: Sequence[str], scores: Sequence[float], alone: bool
    ) -> Chunk | str:
        """Put up to CHUNK members on the board, those after the first `at`, with their events.

        `alone` as the last chunk said, False before the first: a guess, which costs time where it is wrong. May be
        called again after a failure: a chunk that was applied changes nothing more. Returns a word where nothing was
        done: 'outbox-full', 'board-unavailable', 'board-changed', 'another-import'.
        """
        first = self._ids.take(len(users))  # too many if the script takes them: nobody misses a number
        if alone and (done := await self._add(plan, at=at, first=first, users=users, scores=scores)) is not None:
            return done
        users, scores = users[:SCRIPTED], scores[:SCRIPTED]
        names = [plan.board_key, keys.meta(plan.board_key), keys.order(plan.board_key), keys.OUTBOX]
        names.append(keys.importing(plan.board_key))
        args: list[Any] = [self._outbox_max, self._ids.nonce, first, plan.board_id, plan.season]
        args += [plan.id, at, plan.total, "o" if plan.overwrite else "", plan.source, _KEPT_SECONDS]
        args += [*users, *map(repr, scores)]
        reply: Any = await scripts.run(self._redis, scripts.IMPORT, names, args)
        if isinstance(reply, bytes):
            return reply.decode()
        at, entry, still = reply
        return Chunk(at, entry, bool(still))

    async def waits(self, entry: bytes) -> bool:
        """Whether the entry is in the outbox: not in the ledger yet."""
        async with redis_failures():
            return bool(await self._redis.xrange(keys.OUTBOX, entry, entry))

    async def _add(
        self, plan: Plan, *, at: int, first: int, users: Sequence[str], scores: Sequence[float]
    ) -> Chunk | None:
        """Put the chunk on the board if none of its members can be there; None where nothing was done, or in doubt.

        Optimistic locking (https://redis.io/docs/latest/develop/using-commands/transactions/): every write to the board
        moves the sequence in its meta, and a transaction is not executed once what it watches was touched. The outbox
        is not watched, since everybody writes to it: it may come to one entry more than its bound.
        """
        meta_key, progress_key = keys.meta(plan.board_key), keys.importing(plan.board_key)
        pipe: Any  # what its commands answer depends on whether it watches
        async with redis_failures(), self._redis.pipeline(transaction=True) as pipe:
            try:
                await pipe.watch(meta_key, progress_key)
                meta = meta_in(await pipe.hgetall(meta_key))
                progress = _progress_in(await pipe.hgetall(progress_key))
                full = await pipe.xlen(keys.OUTBOX) >= self._outbox_max
                if full or meta is None or progress is None:
                    return None
                if not _is_alone(plan, meta, progress, at=at, count=len(users)):
                    return None
                pipe.multi()
                self._queue(pipe, plan, meta, first=first, users=users, scores=scores)
                left = _place(meta.incarnation, meta.seq + len(users))
                added = progress.added + len(users)
                pipe.hset(progress_key, mapping={"alone": left, "at": at + len(users), "added": added})
                pipe.expire(progress_key, _KEPT_SECONDS)
                entry, *_ = await pipe.execute()
            except WatchError:
                return None  # somebody wrote, or the connection was lost: the script finds out what was done
        return Chunk(at + len(users), entry, alone=True)

    def _queue(
        self,
        pipe: Any,
        plan: Plan,
        meta: BoardMeta,
        *,
        first: int,
        users: Sequence[str],
        scores: Sequence[float],
    ) -> None:
        """Queue what puts new members on the board; the first command answers the id of their entry in the outbox."""
        numbers = range(meta.seq + 1, meta.seq + 1 + len(users))
        orders = [order_prefix(meta.order, seq) for seq in numbers] if meta.tie == "f" else []
        members = list(map(str.__add__, orders, users)) if orders else users
        entry = import_entry(
            first_id=self._ids.text(first),
            board_id=plan.board_id,
            incarnation=meta.incarnation,
            first_seq=numbers[0],
            order=meta.order if orders else "",
            members=zip(users, scores, strict=True),
        )
        pipe.xadd(keys.OUTBOX, {FIELD: entry})
        pipe.hset(keys.meta(plan.board_key), "seq", numbers[-1])
        pipe.zadd(plan.board_key, dict(zip(members, scores, strict=True)))
        if orders:
            pipe.hset(keys.order(plan.board_key), mapping=dict(zip(users, orders, strict=True)))


def _is_alone(plan: Plan, meta: BoardMeta, progress: Progress, *, at: int, count: int) -> bool:
    """Whether all that is on the board are the first `at` members of this import, and `count` more are not too many."""
    return (
        (meta.id, meta.season) == (plan.board_id, plan.season)
        and meta.state is not BoardState.REBUILDING
        and (progress.id, progress.board, progress.at) == (plan.id, plan.board, at)
        and progress.alone == _place(meta.incarnation, meta.seq)
        and (not meta.max_entries or at + count <= meta.max_entries)
    )


def _place(incarnation: int, seq: int) -> str:
    return f"{incarnation}/{seq}"


def _progress_in(raw: Mapping[bytes, bytes]) -> Progress | None:
    if not raw:
        return None
    return msgspec.convert({name.decode(): value.decode() for name, value in raw.items()}, Progress, strict=False)
