"""Boards as control, the worker and the command line see them: their meta, and whole boards moved in and out.

Not hot: redis-py. What one request does to one board is in `scores.py`.
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import chain, islice
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from leaderboard.domain.boards import Board, BoardSpec, ScoreUpdate, SortOrder, TiePolicy
from leaderboard.domain.bounds import Bounds
from leaderboard.domain.tiers import Tier
from leaderboard.store.redis import keys, scripts
from leaderboard.store.redis.errors import BoardUnavailable, RedisUnavailable, UnexpectedReply, redis_failures
from leaderboard.store.redis.events import update_id
from leaderboard.store.redis.scripts import Script

ORDER_CHARS = 12
"""Width of the order prefix: 48 bits of the board's sequence in hexadecimal."""

_RESTORER = "restorer"  # the field of the meta with the token of who restores the board
_CHUNK = 500  # entries a command: half a millisecond, which is how long everybody else waits


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
    season: int
    bounds: str
    """Packed for update.lua, '' for none."""
    tiers: str
    """As JSON, '' for none: `tiers_text`."""
    seq: int


def tiers_text(tiers: Sequence[Tier]) -> str:
    """Return the tiers as the meta holds them; `tiers_of` reads them."""
    return msgspec.json.encode(tiers).decode() if tiers else ""


def tiers_of(text: bytes) -> tuple[Tier, ...]:
    """Return the tiers in a meta. Raises UnexpectedReply where the text is not as we write it."""
    if not text:
        return ()
    try:
        return _decode_tiers(text)
    except msgspec.DecodeError as error:
        raise UnexpectedReply(f"a board's meta has tiers that cannot be read: {text[:80]!r}") from error


_decode_tiers = msgspec.json.Decoder(tuple[Tier, ...]).decode


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
        season=board.season,
        bounds=_packed(board.spec.bounds),
        tiers=tiers_text(board.spec.tiers),
        seq=seq,
    )


def _packed(bounds: Bounds | None) -> str:
    if bounds is None:
        return ""
    # repr gives the shortest text of the same double.
    return " ".join("-" if value is None else repr(value) for value in msgspec.structs.astuple(bounds))


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis has of a board: its meta, how many entries, and how many users its order hash names.

    `broken`: something under the board's names is not what we write there, so nothing of it can be told.
    """

    meta: BoardMeta | None = None
    entries: int = 0
    orders: int = 0
    broken: bool = False


_Item = TypeVar("_Item")


def _chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


async def best_first(redis: Redis, name: str, spec: BoardSpec) -> AsyncIterator[tuple[str, float]]:
    """Yield (user, score) of what is under `name`, a board or a season of it, best first, in chunks.

    Under writes it is not one moment's. Raises RedisUnavailable.
    """
    start, cut = 0, ORDER_CHARS if spec.tie_policy is TiePolicy.FIRST_TO_REACH else 0
    descending = spec.sort_order is SortOrder.DESCENDING
    while True:
        async with redis_failures():
            chunk: Any = await redis.zrange(name, start, start + _CHUNK - 1, desc=descending, withscores=True)
        for member, score in chunk:
            yield member.decode()[cut:], score
        if len(chunk) < _CHUNK:
            return
        start += _CHUNK


class BoardAdmin:
    """What is done to boards outside the hot path. Every method raises RedisUnavailable when Redis fails.

    `redis` must not decode responses.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def write_meta(self, board_key: str, board: Board, *, state: BoardState) -> None:
        """Write the board's rules; the sequence that is there stays."""
        async with redis_failures():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(keys.meta(board_key), mapping=_fields(board, state=state))
            pipe.hsetnx(keys.meta(board_key), "seq", 0)
            pipe.hdel(keys.meta(board_key), _RESTORER)
            await pipe.execute()

    async def read_meta(self, board_key: str) -> BoardMeta | None:
        """Return the board's meta, or None when Redis has none (never made, deleted, or lost)."""
        return (await self.read_metas([board_key]))[0]

    async def read_metas(self, board_keys: Sequence[str]) -> list[BoardMeta | None]:
        """Return the meta of each board in one round trip. One that is not as we write it counts as none."""
        async with redis_failures():
            pipe = self._redis.pipeline(transaction=False)
            for board_key in board_keys:
                pipe.hgetall(keys.meta(board_key))
            return [meta_in(raw) for raw in await pipe.execute(raise_on_error=False)]

    async def snapshots(self, board_keys: Sequence[str]) -> list[Snapshot]:
        """Return what there is of each board in one round trip. What is of one board may be of different moments."""
        async with redis_failures():
            pipe = self._redis.pipeline(transaction=False)
            for board_key in board_keys:
                _ask_snapshot(pipe, board_key)
            answers = await pipe.execute(raise_on_error=False)
            return [_snapshot(answers[at : at + 3]) for at in range(0, len(answers), 3)]

    async def snapshot(self, board_key: str) -> Snapshot:
        """Return what there is of the board, all of one moment."""
        async with redis_failures():
            pipe = self._redis.pipeline(transaction=True)
            _ask_snapshot(pipe, board_key)
            return _snapshot(await pipe.execute(raise_on_error=False))

    async def discard(self, board_key: str) -> None:
        """Remove whatever is under the board's names, without an event. Nobody can use the board then."""
        async with redis_failures():
            await self._redis.unlink(keys.meta(board_key), board_key, keys.order(board_key))

    async def open(self, boards: Sequence[tuple[str, Board, BoardState]]) -> list[bool]:
        """Open boards (key, board, state) that have no entries, in one round trip.

        False for one that has a meta, its own or another's: nothing was changed then. Each is one step, so that it is
        safe against whoever does the same.
        """
        async with redis_failures():
            try:
                return await self._open(boards)
            except NoScriptError:
                await self._redis.script_load(scripts.OPEN.text)
                return await self._open(boards)  # those that were opened meanwhile answer that they have a meta

    async def _open(self, boards: Sequence[tuple[str, Board, BoardState]]) -> list[bool]:
        pipe = self._redis.pipeline(transaction=False)
        for board_key, board, state in boards:
            names = (board_key, keys.meta(board_key), keys.order(board_key))
            pipe.evalsha(scripts.OPEN.sha, len(names), *names, *_fields(board, state=state).values(), 0, "")
        return [bool(done) for done in await pipe.execute()]

    async def delete(self, board_key: str, *, event_id_nonce: str, event_counter: int) -> bool:
        """Delete the board with its event in one step; False when there was none. Repeatable."""
        event_id = update_id(event_id_nonce, event_counter)
        return bool(await self._run(scripts.DELETE, board_key, [event_id], also=keys.gains(board_key)))

    async def reset(
        self, board_key: str, *, season: int, incarnation: int, event_id: str, grace_seconds: int = 0
    ) -> bool:
        """End `season` and start the next in `incarnation`, with its event, in one step.

        For `grace_seconds` it takes late updates that name it; an earlier season takes none any more. Returns False
        where it was over already. Raises BoardUnavailable where there is no board, it is being restored, or it is in an
        earlier season.
        """
        aside = (keys.season(board_key, season), keys.season_order(board_key, season))
        done = await self._run(scripts.RESET, board_key, [event_id, season, incarnation, grace_seconds], also=aside)
        if done == b"board-unavailable":
            raise BoardUnavailable(
                f"{board_key} cannot be reset: it is not there, is being restored, or is not in season {season} yet"
            )
        return bool(done != b"season-over")

    async def close_season(self, board_key: str, season: int) -> bool:
        """Let a season that is over take no more late updates; False while its grace is not over, by Redis's clock."""
        return bool(await scripts.run(self._redis, scripts.CLOSE, [keys.meta(board_key)], [season]))

    async def late_number(self, board_key: str, season: int) -> int | None:
        """Return the number of the last event of a season that took late updates, None where Redis does not know."""
        async with redis_failures():
            number: Any = await self._redis.hget(keys.meta(board_key), f"late:{season}")
        return None if number is None else int(number)

    def season_entries(self, board_key: str, season: int, spec: BoardSpec) -> AsyncIterator[tuple[str, float]]:
        """Yield (user, score) of a season that is over, best first."""
        return best_first(self._redis, keys.season(board_key, season), spec)

    async def has_season(self, board_key: str, season: int) -> bool:
        """Whether Redis has entries of a season that is over."""
        async with redis_failures():
            return bool(await self._redis.exists(keys.season(board_key, season)))

    async def knows_season(self, board_key: str, season: int) -> bool:
        """Whether Redis can tell who is in a season that is over: its entries are there, or nobody came and it waits
        for late updates."""
        return await self.has_season(board_key, season) or await self.late_number(board_key, season) is not None

    async def drop_season(self, board_key: str, season: int) -> None:
        """Remove the entries of a season that is over."""
        async with redis_failures():
            pipe = self._redis.pipeline(transaction=True)
            pipe.unlink(keys.season(board_key, season), keys.season_order(board_key, season))
            pipe.hdel(keys.meta(board_key), f"late:{season}")
            await pipe.execute()

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
        async with redis_failures():
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
        async with redis_failures():
            return {
                user.decode(): order.decode()
                async for user, order in self._redis.hscan_iter(keys.order(board_key), count=_CHUNK)
            }

    # A board is restored in three steps: close it, put its entries in, open it again. Who closes it last is the one
    # whose steps count: a process that was stopped in the middle, or cut off from Postgres and so from its lock, finds
    # that it does not any more.

    async def close(self, board_key: str) -> str:
        """Keep everybody from the board, there or not, and return the token for restoring it.

        An import begins anew afterwards: how far it was says nothing of what the ledger has.
        """
        token = secrets.token_hex(8)
        async with redis_failures():
            fields: dict[Any, Any] = {"state": str(BoardState.REBUILDING), _RESTORER: token}
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(keys.meta(board_key), mapping=fields)
            pipe.unlink(keys.importing(board_key))
            await pipe.execute()
        return token

    async def restore(
        self, board_key: str, entries: Iterable[tuple[str, float, str]], tie: TiePolicy, *, token: str
    ) -> None:
        """Write a closed board anew from (user, score, order prefix), in chunks.

        Raises RedisUnavailable also where another has closed or opened it since.
        """
        ordered = tie is TiePolicy.FIRST_TO_REACH
        for chunk in chain([()], _chunks(entries, _CHUNK)):
            # repr gives the shortest text of the same double; redis-py would send it so as well.
            flat = chain.from_iterable((repr(score), user, order if ordered else "") for user, score, order in chunk)
            self._check_turn(board_key, await self._run(scripts.RESTORE, board_key, [token, *flat]))

    async def reopen(self, board_key: str, board: Board, *, state: BoardState, seq: int, token: str) -> None:
        """Write the meta of a restored board. Raises RedisUnavailable also where another has closed or opened it."""
        args = [*_fields(board, state=state).values(), seq, token]
        self._check_turn(board_key, await self._run(scripts.OPEN, board_key, args))

    @staticmethod
    def _check_turn(board_key: str, done: Any) -> None:
        if not done:
            raise RedisUnavailable(f"{board_key} is being restored by another process")

    async def _run(
        self, script: Script, board_key: str, args: Sequence[str | int], *, also: tuple[str, ...] = ()
    ) -> Any:
        names = [board_key, keys.meta(board_key), keys.order(board_key), keys.OUTBOX, *also]
        return await scripts.run(self._redis, script, names, args)


def _fields(board: Board, *, state: BoardState) -> dict[Any, Any]:
    """Return the fields of the board's meta, but for its sequence, in the order that open.lua takes."""
    meta = meta_of(board, state=state, seq=0)
    return {
        "id": meta.id,
        "inc": meta.incarnation,
        "rule": meta.rule,
        "ord": meta.order,
        "tie": meta.tie,
        "max": meta.max_entries,
        "pub": int(meta.public),
        "state": str(state),
        "season": meta.season,
        "bounds": meta.bounds,
        "tiers": meta.tiers,
    }


def _ask_snapshot(pipe: Any, board_key: str) -> None:
    pipe.hgetall(keys.meta(board_key))
    pipe.zcard(board_key)
    pipe.hlen(keys.order(board_key))


def _snapshot(answers: Sequence[Any]) -> Snapshot:
    for answer in answers:
        if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
            return Snapshot(broken=True)
        if isinstance(answer, Exception):
            raise answer
    raw, entries, orders = answers
    try:
        return Snapshot(meta=_meta(raw), entries=entries, orders=orders)
    except (KeyError, ValueError):
        return Snapshot(broken=True)


def meta_in(raw: Mapping[bytes, bytes]) -> BoardMeta | None:
    """Return the meta in what HGETALL answers. One that is not as we write it counts as none."""
    return _snapshot((raw, 0, 0)).meta


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
        season=int(raw.get(b"season", 1)),  # a board from before there were seasons has none written
        bounds=raw.get(b"bounds", b"").decode(),
        tiers=raw.get(b"tiers", b"").decode(),  # the same
        seq=int(raw.get(b"seq", 0)),
    )
