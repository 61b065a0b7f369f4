"""Boards as control, the worker and the command line see them: their meta, and whole boards moved in and out.

Not hot: redis-py. What one request does to one board is in `scores.py`.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from leaderboard.domain.boards import Board, ScoreUpdate, SortOrder, TiePolicy
from leaderboard.store.redis import keys, scripts
from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.scripts import Script

ORDER_CHARS = 12
"""Width of the order prefix: 48 bits of the board's sequence in hexadecimal."""

_CHUNK = 2_000  # entries a command: about 100 kB on the wire, a few milliseconds of Redis's time


class BoardState(StrEnum):
    """What the scripts may do with a board, as the letter in its meta."""

    ACTIVE = "a"
    SUSPENDED = "s"
    REBUILDING = "r"


_RULE = {ScoreUpdate.SUM: "s", ScoreUpdate.BEST: "b", ScoreUpdate.LATEST: "l"}
_ORDER = {SortOrder.DESCENDING: "d", SortOrder.ASCENDING: "a"}
_TIE = {TiePolicy.FIRST_TO_REACH: "f", TiePolicy.USER_ID: "u", TiePolicy.SHARED: "s"}


class BoardMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The meta hash of a board as Redis holds it: codes, not names. `seq` is the number of its last event."""

    id: int
    incarnation: int
    rule: str
    order: str
    tie: str
    max_entries: int
    public: bool
    state: BoardState
    seq: int


def meta_of(board: Board, *, state: BoardState, seq: int) -> BoardMeta:
    """Return the meta that `board` should have in Redis; compare it with `BoardAdmin.read_meta` to find drift."""
    return BoardMeta(
        id=board.id,
        incarnation=board.incarnation,
        rule=_RULE[board.spec.score_update],
        order=_ORDER[board.spec.sort_order],
        tie=_TIE[board.spec.tie_policy],
        max_entries=board.spec.max_entries,
        public=board.spec.public_read,
        state=state,
        seq=seq,
    )


_Item = TypeVar("_Item")


def _chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


@asynccontextmanager
async def _redis_failures() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise RedisUnavailable(f"Redis did not do it: {error}") from error


class BoardAdmin:
    """What is done to boards outside the hot path. Every method raises RedisUnavailable when Redis fails.

    `redis` must not decode responses.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def write_meta(self, board_key: str, board: Board, *, state: BoardState, seq: int | None) -> None:
        """Write the board's rules. `seq` None keeps the sequence that is there, 0 for a new board."""
        meta = meta_of(board, state=state, seq=seq or 0)
        fields: dict[Any, Any] = {
            "id": meta.id,
            "inc": meta.incarnation,
            "rule": meta.rule,
            "ord": meta.order,
            "tie": meta.tie,
            "max": meta.max_entries,
            "pub": int(meta.public),
            "state": str(state),
        }
        if seq is not None:
            fields["seq"] = seq
        async with _redis_failures():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(keys.meta(board_key), mapping=fields)
            pipe.hsetnx(keys.meta(board_key), "seq", 0)
            await pipe.execute()

    async def read_meta(self, board_key: str) -> BoardMeta | None:
        """Return the board's meta, or None when Redis has none (never made, deleted, or lost)."""
        return (await self.read_metas([board_key]))[0]

    async def read_metas(self, board_keys: Sequence[str]) -> list[BoardMeta | None]:
        """Return the meta of each board in one round trip."""
        async with _redis_failures():
            pipe = self._redis.pipeline(transaction=False)
            for board_key in board_keys:
                pipe.hgetall(keys.meta(board_key))
            return [_meta(raw) for raw in await pipe.execute()]

    async def set_state(self, board_key: str, state: BoardState) -> None:
        """Change what the scripts may do with the board."""
        async with _redis_failures():
            await self._redis.hset(keys.meta(board_key), "state", str(state))

    async def delete(self, board_key: str, *, event_id_nonce: str, event_counter: int) -> bool:
        """Delete the board with its event in one step; False when there was none. Repeatable."""
        event_id = f"{event_id_nonce}{event_counter:014x}00"
        return bool(await self._run(scripts.DELETE, board_key, [event_id]))

    async def trim(self, board_key: str, *, nonce: str, counter: int) -> int:
        """Drop up to 255 members past max_entries, each with its event; return how many. 0 means the board fits."""
        dropped = await self._run(scripts.TRIM, board_key, [nonce, counter])
        if isinstance(dropped, bytes):  # 'board-unavailable'
            raise RedisUnavailable(f"{board_key} cannot be trimmed: {dropped.decode()}")
        return int(dropped)

    async def entries(self, board_key: str, tie: TiePolicy) -> dict[str, tuple[float, str]]:
        """Return every member with its score and order prefix ('' where the policy keeps none).

        Reads in chunks: under writes the answer is not one moment's. Compare `read_meta().seq` before and after.
        """
        found: dict[str, tuple[float, str]] = {}
        start = 0
        async with _redis_failures():
            while True:
                chunk: Any = await self._redis.zrange(board_key, start, start + _CHUNK - 1, withscores=True)
                if not chunk:
                    break
                start += len(chunk)
                for member, score in chunk:
                    text = member.decode()
                    if tie is TiePolicy.FIRST_TO_REACH:
                        found[text[ORDER_CHARS:]] = (score, text[:ORDER_CHARS])
                    else:
                        found[text] = (score, "")
        return found

    async def orders(self, board_key: str) -> dict[str, str]:
        """Return the order hash of a first_to_reach board, user -> prefix; it must agree with `entries`."""
        async with _redis_failures():
            return {
                user.decode(): order.decode()
                async for user, order in self._redis.hscan_iter(keys.order(board_key), count=_CHUNK)
            }

    async def restore(self, board_key: str, entries: Iterable[tuple[str, float, str]], tie: TiePolicy) -> None:
        """Write the board anew from (user, score, order prefix), in chunks.

        The meta must be absent or say rebuilding, so that nobody reads or writes a half restored board.
        """
        meta = await self.read_meta(board_key)
        if meta is not None and meta.state is not BoardState.REBUILDING:
            raise ValueError(f"{board_key} is live: set its state to rebuilding first")
        ordered = tie is TiePolicy.FIRST_TO_REACH
        async with _redis_failures():
            await self._redis.unlink(board_key, keys.order(board_key))
            for chunk in _chunks(entries, _CHUNK):
                pipe = self._redis.pipeline(transaction=False)
                # repr gives the shortest text of the same double; redis-py would send it so as well.
                pipe.zadd(board_key, {(order + user if ordered else user): score for user, score, order in chunk})
                if ordered:
                    pipe.hset(keys.order(board_key), mapping={user: order for user, _, order in chunk})
                await pipe.execute()

    async def _run(self, script: Script, board_key: str, args: Sequence[str | int]) -> Any:
        names = [board_key, keys.meta(board_key), keys.order(board_key), keys.OUTBOX]
        async with _redis_failures():
            try:
                return await self._redis.evalsha(script.sha, len(names), *names, *args)
            except NoScriptError:
                return await self._redis.eval(script.text, len(names), *names, *args)


def _meta(raw: Mapping[bytes, bytes]) -> BoardMeta | None:
    if b"id" not in raw:
        return None
    return BoardMeta(
        id=int(raw[b"id"]),
        incarnation=int(raw[b"inc"]),
        rule=raw[b"rule"].decode(),
        order=raw[b"ord"].decode(),
        tie=raw[b"tie"].decode(),
        max_entries=int(raw[b"max"]),
        public=raw[b"pub"] == b"1",
        state=BoardState(raw[b"state"].decode()),
        seq=int(raw.get(b"seq", 0)),
    )
