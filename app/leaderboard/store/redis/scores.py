"""Scores: what one request does to one board, each in one round trip on the multiplexed connection.

A write is one EVALSHA; several updates of one board go in one script call, in chunks small enough (64 updates, about
1 ms of Redis's time) that other requests are not held up. A read is one EVALSHA as well, shared with identical reads
that have not left yet.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import msgspec

from leaderboard.domain.scores import MAX_EXACT, plain
from leaderboard.domain.tiers import Tier
from leaderboard.store.redis import keys, scripts
from leaderboard.store.redis.boards import ORDER_CHARS, tiers_of
from leaderboard.store.redis.errors import RedisFailure, UnexpectedReply
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.multiplexer import Multiplexer, NoScript, Prepared
from leaderboard.store.redis.scripts import Script

CHUNK = 64
"""Updates a script call: longer chunks would keep Redis from everybody else for more than about a millisecond."""

MAX_PREPARED = 10_000
"""Boards whose packed command a process keeps, about 1.2 kB each."""


class Refusal(Enum):
    """Why a script did nothing; the values are the words it answers."""

    BOARD_UNAVAILABLE = "board-unavailable"
    """No meta (never made, deleted, or lost with Redis's memory) or being rebuilt: ask Postgres which."""
    BOARD_SUSPENDED = "board-suspended"
    BOARD_NOT_PUBLIC = "board-not-public"
    OUTBOX_FULL = "outbox-full"
    SCORE_OUT_OF_RANGE = "score-out-of-range"
    WRONG_FIELD_SUM = "wrong-field s"
    WRONG_FIELD_BEST = "wrong-field b"
    WRONG_FIELD_LATEST = "wrong-field l"
    IDEMPOTENCY_MISMATCH = "idempotency-mismatch"
    SEASON_OVER = "season-over"


_REFUSALS = {refusal.value.encode(): refusal for refusal in Refusal}


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Which bound an update broke, and the id under which it waits."""

    bound: str
    id: str


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one update. Whole scores are ints (`domain.scores.plain`); ranks start at 1, and are None where the
    member had or has none."""

    score: int | float
    rank: int | None
    previous_score: int | float | None
    previous_rank: int | None
    replayed: bool = False
    """Whether this is the first answer to the same Idempotency-Key, given again."""
    held: Held | None = None
    """Where the update breaks the board's bounds: then nothing changed, `score` is what it would have been, and `rank`
    is None."""


_decode = msgspec.json.Decoder(Applied).decode


class Entry(msgspec.Struct, frozen=True):
    """One line of a board."""

    rank: int
    user: str
    score: float


class Page(msgspec.Struct, frozen=True):
    """A stretch of a board, best first. `start` counts from 0; a cursor goes on from the raw `last_member`."""

    total: int
    start: int
    entries: list[Entry]
    last_member: str


class Standing(msgspec.Struct, frozen=True):
    """Score and rank of one user among `total`."""

    score: float
    rank: int


class Line(msgspec.Struct, frozen=True):
    """One user's standing among `total`, with the board's tiers of that moment."""

    total: int
    score: float
    rank: int
    tiers: tuple[Tier, ...]


class Scores:
    """The hot path's store. `outbox_max` in events, `idempotency_ttl` in seconds.

    Every method raises RedisUnavailable (nothing done), InDoubt (not known) or UnexpectedReply.
    """

    def __init__(self, redis: Multiplexer, *, ids: EventIds, outbox_max: int, idempotency_ttl: int) -> None:
        self._redis = redis
        self._ids = ids
        self._outbox_max = str(outbox_max)
        self._ttl = str(idempotency_ttl)
        self._plain: dict[str, Prepared] = {}
        self._idempotent: dict[str, Prepared] = {}

    async def update(
        self, board: str, *, user: str, value: str, idempotency: tuple[str, str] | None = None
    ) -> Applied | Refusal:
        """Apply one update. `value` is ``i<increment>`` or ``s<score>``, behind ``<season>:`` where it is for that one
        only; `idempotency` the key and the body's fingerprint (no spaces in either)."""
        counter = str(self._ids.take())
        rest: tuple[str, ...]
        if idempotency is None:
            head = self._plain.get(board) or self._prepare(board)
            rest = (counter, user, value)
        else:
            head = self._idempotent.get(board) or self._prepare_idempotent(board)
            record = keys.idempotency(board, idempotency[0])
            rest = (record, self._outbox_max, self._ttl, self._ids.nonce, counter, user, value, idempotency[1])
        try:
            reply = await self._redis.call_prepared(head, *rest)
        except NoScript:
            await self._redis.call("SCRIPT", "LOAD", scripts.UPDATE.text)
            reply = await self._redis.call_prepared(head, *rest)
        if isinstance(reply, bytes):
            return refusal(reply)
        return outcome(reply[0])

    def _prepare(self, board: str) -> Prepared:
        head = Prepared.of(
            *_command(scripts.UPDATE, board, keys_count=4), self._outbox_max, self._ttl, self._ids.nonce, more=3
        )
        return _keep(self._plain, board, head)

    def _prepare_idempotent(self, board: str) -> Prepared:
        # The record's key comes before what follows the keys, so less is the same for every call.
        return _keep(self._idempotent, board, Prepared.of(*_command(scripts.UPDATE, board, keys_count=5), more=8))

    async def update_many(
        self, board: str, updates: Sequence[tuple[str, str, tuple[str, str] | None]]
    ) -> "list[Applied | Refusal | RedisFailure]":
        """Apply (user, value, idempotency) in order; either all carry idempotency or none. One outcome per update.

        A chunk that failed gives its failure for each of its updates; other chunks may have been applied.
        """
        results: list[Applied | Refusal | RedisFailure] = []
        chunks = [updates[at : at + CHUNK] for at in range(0, len(updates), CHUNK)]
        # All chunks leave in one write, and Redis runs them in this order.
        replies = await asyncio.gather(*(self._chunk(board, chunk) for chunk in chunks), return_exceptions=True)
        for chunk, reply in zip(chunks, replies, strict=True):
            if isinstance(reply, RedisFailure):
                results.extend([reply] * len(chunk))
            elif isinstance(reply, BaseException):
                raise reply
            elif isinstance(reply, bytes):
                results.extend([refusal(reply)] * len(chunk))
            else:
                results.extend([outcome(item) for item in reply])
        return results

    async def _chunk(self, board: str, chunk: Sequence[tuple[str, str, tuple[str, str] | None]]) -> Any:
        names = [board, keys.meta(board), keys.order(board), keys.OUTBOX]
        args: list[str | int] = [self._outbox_max, self._ttl, self._ids.nonce, str(self._ids.take(len(chunk)))]
        for user, value, idempotency in chunk:
            if idempotency is None:
                args += (user, value)
            else:
                names.append(keys.idempotency(board, idempotency[0]))
                args += (user, value, idempotency[1])
        return await self._redis.run(scripts.UPDATE, names, args)

    async def remove(self, board: str, *, user: str) -> float | Refusal | None:
        """Remove one member and return its last score, or None when it is not on the board."""
        reply = await self._redis.run(
            scripts.REMOVE,
            [board, keys.meta(board), keys.order(board), keys.OUTBOX],
            [self._outbox_max, self._ids.nonce, self._ids.take(), user],
        )
        if isinstance(reply, bytes):
            return refusal(reply)
        return None if reply is None else float(reply[0])

    async def top(
        self,
        board: str,
        *,
        start: int,
        count: int,
        after: tuple[float, str] | None,
        public: bool,
        render: Callable[[Page], Any],
    ) -> Any:
        """Return `render(page)` of the page from `start` (0 is the best), or from just past `after` (score, raw
        member), or a Refusal. Identical reads waiting to be sent share one call and one rendering."""
        score, member = (repr(after[0]), after[1]) if after else ("", "")
        args = ["1" if public else "0", str(start), str(count), score, member]
        # `render` belongs to the route, so two routes do not share a rendering; the board names tenant and project.
        key = (board, public, start, count, after)
        return await self._read(scripts.TOP, board, args, key=key, decode=lambda reply: _page(reply, render))

    async def best(self, board: str, *, count: int) -> Page | Refusal:
        """Return the page of the `count` best, or a Refusal."""
        result: Page | Refusal = await self._read(
            scripts.TOP,
            board,
            ["0", "0", str(count), "", ""],
            key=(board, "best", count),
            decode=lambda reply: _page(reply, lambda page: page),
        )
        return result

    async def around(self, board: str, *, user: str, count: int, render: Callable[[Page], Any]) -> Any:
        """Return `render(page)` of `count` entries with `user` in the middle, None when it is not there, or a
        Refusal."""
        key = (board, "around", user, count)
        return await self._read(
            scripts.AROUND,
            board,
            [user, str(count)],
            key=key,
            decode=lambda reply: None if reply is None else _page(reply, render),
        )

    async def rank(self, board: str, *, user: str) -> Line | Refusal | None:
        """Return the user's line, None where it is not on the board, or a Refusal."""
        result: Line | Refusal | None = await self._read(
            scripts.RANK, board, [user], key=(board, "rank", user), decode=_line
        )
        return result

    async def members(self, board: str, *, users: Sequence[str]) -> tuple[int, list[Standing | None]] | Refusal:
        """Return the board's total and each user's standing, None for who is not on the board."""
        result: tuple[int, list[Standing | None]] | Refusal = await self._read(
            scripts.MEMBERS, board, list(users), key=(board, "members", *users), decode=_standings
        )
        return result

    async def _read(
        self, script: Script, board: str, args: list[str], *, key: object, decode: Callable[[Any], Any]
    ) -> Any:
        command = ("EVALSHA", script.sha, "3", board, keys.meta(board), keys.order(board), *args)

        def answer(reply: Any) -> Any:
            return refusal(reply) if isinstance(reply, bytes) else decode(reply)

        try:
            return await self._redis.shared(key, command, answer)
        except NoScript:
            await self._redis.call("SCRIPT", "LOAD", script.text)
            return await self._redis.shared(key, command, answer)


def _command(script: Script, board: str, *, keys_count: int) -> tuple[str, ...]:
    return ("EVALSHA", script.sha, str(keys_count), board, keys.meta(board), keys.order(board), keys.OUTBOX)


def _keep(kept: dict[str, Prepared], board: str, head: Prepared) -> Prepared:
    if len(kept) >= MAX_PREPARED:
        kept.clear()
    kept[board] = head
    return head


def refusal(word: bytes) -> Refusal:
    """Return what a word of a script means. Raises UnexpectedReply."""
    try:
        return _REFUSALS[word]
    except KeyError:
        raise UnexpectedReply(f"a script answered {word[:80]!r}") from None


_A, _E, _MINUS = b"AE-"  # numbers: looking for one of them in bytes takes a tenth of the time
_EXACT = int(MAX_EXACT)


def outcome(item: bytes) -> Applied | Refusal:
    """Return what update.lua answers about one update. Raises UnexpectedReply."""
    if item[0] == _E:
        return refusal(item[2:])
    if item[0] == _A and _MINUS not in item:
        # Nothing absent or negative, as a rule: then it is JSON but for the commas, read in 0.4 us instead of 0.8.
        applied = _decode(b"[%b]" % item[2:].replace(b" ", b","))
        assert applied.previous_score is not None
        if applied.score <= _EXACT and applied.previous_score <= _EXACT:  # past that `plain` wants no ints
            return applied
    kind, score, rank, previous_score, previous_rank, *held = item.split(b" ")
    return Applied(
        plain(float(score)),
        None if rank == b"-" else int(rank),
        None if previous_score == b"-" else plain(float(previous_score)),
        None if previous_rank == b"-" else int(previous_rank),
        kind == b"R",
        Held(held[0].decode(), held[1].decode()) if held else None,
    )


def _page(reply: list[Any], render: Callable[[Page], Any]) -> Any:
    tie, total, start, first, flat = reply
    skip = ORDER_CHARS if tie == b"f" else 0
    entries: list[Entry] = []
    if tie == b"s":
        rank, last = first, None
        for index in range(0, len(flat), 2):
            score = float(flat[index + 1])
            # Equal scores share the rank; the next one skips as many as shared it.
            if last is not None and score != last:
                rank = start + index // 2 + 1
            entries.append(Entry(rank, flat[index].decode(), score))
            last = score
    else:
        rank = first
        for index in range(0, len(flat), 2):
            entries.append(Entry(rank, flat[index][skip:].decode(), float(flat[index + 1])))
            rank += 1
    return render(Page(total, start, entries, flat[-2].decode() if flat else ""))


def _line(reply: list[Any] | None) -> Line | None:
    if reply is None:
        return None
    total, score, rank, tiers = reply
    return Line(total, float(score), rank, tiers_of(tiers))


def _standings(reply: list[Any]) -> tuple[int, list[Standing | None]]:
    pairs = zip(reply[1::2], reply[2::2], strict=True)
    return reply[0], [None if score is None else Standing(float(score), rank) for score, rank in pairs]
