"""Live boards: the top of a board as server-sent events (WHATWG HTML, 9.2), whenever it changes.

An event is the whole top, not what changed of it: a client that missed some has lost nothing, one that is slow gets the
newest, and to resume takes no more than comparing one id. A board is read once per interval and process, whatever the
number of its streams; an event is made once for all streams of the same limit.

A stream is an open answer and a line in a dictionary: no task, no queue. What a client has not read stays at what the
connection's buffers hold, since it gets the next event only after it read the last.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from leaderboard.api import problems
from leaderboard.api.context import KeyContext
from leaderboard.api.exchange import Exchange
from leaderboard.api.problems import Problem
from leaderboard.domain.scores import plain
from leaderboard.store.postgres.pool import DatabaseUnavailable
from leaderboard.store.redis.errors import RedisFailure
from leaderboard.store.redis.scores import Page, Refusal, Scores

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
"""Changes within it leave as one event."""
HEARTBEAT_TURNS = 15
"""Turns without an event after which a comment is sent: proxies close what is silent for a minute."""
RETRY_MS = 2_000
"""How long a client is told to wait before it connects again."""
MAX_STREAMS = 5_000
"""Streams of one process."""
MAX_STREAMS_OF_TENANT = 2_500
"""So that one tenant cannot use up what is there for all."""
SLICE = 100
"""Streams written to before other requests have their turn."""

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}

_HEARTBEAT = b":\n\n"
_encode = msgspec.json.Encoder().encode


class _Entry(msgspec.Struct):
    rank: int
    user: str
    score: int | float


class _Top(msgspec.Struct):
    leaderboard: str
    total: int
    entries: list[_Entry]


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asked for. `last_id` is the id of the event it had last, None at its first time."""

    context: KeyContext
    api_key: str
    key: str
    limit: int
    last_id: str | None
    trace_id: str


class _Stream:
    __slots__ = ("exchange", "opening", "sent")

    def __init__(self, exchange: Exchange, opening: Opening) -> None:
        self.exchange = exchange
        self.opening = opening
        self.sent = opening.last_id


class _Board:
    """The streams of one board."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.streams: set[_Stream] = set()
        self.page: Page | None = None
        """As it was last read; None while it cannot be."""
        self.count = 0
        self.silent_turns = 0
        self.task: asyncio.Task[None] | None = None
        self._events: dict[int, tuple[str, bytes]] = {}

    def take(self, page: Page | None, *, count: int) -> None:
        """Keep what was read."""
        self.page, self.count = page, count
        self._events.clear()

    def event(self, limit: int) -> tuple[str, bytes]:
        """Return the id of the top `limit` and the event that says it."""
        known = self._events.get(limit)
        if known is None:
            assert self.page is not None
            entries = [_Entry(entry.rank, entry.user, plain(entry.score)) for entry in self.page.entries[:limit]]
            # Of the entries alone: `total` changes with members that nobody sees here.
            name = hashlib.blake2b(_encode(entries), digest_size=12).hexdigest()
            body = _encode(_Top(self.key, self.page.total, entries))
            known = self._events[limit] = (name, b"id: %b\nevent: top\ndata: %b\n\n" % (name.encode(), body))
        return known


class Live:
    """The streams of this process.

    `allow` raises Problem where an API key opens its project no more, DatabaseUnavailable or RedisUnavailable where
    that cannot be told; `explain` makes a problem of a board's refusal.
    """

    def __init__(
        self,
        scores: Scores,
        *,
        allow: Callable[[str], Awaitable[object]],
        explain: Callable[[Refusal, KeyContext, str], Awaitable[Problem]],
    ) -> None:
        self._scores = scores
        self._allow = allow
        self._explain = explain
        self._boards: dict[str, _Board] = {}
        self._tenants: dict[int, int] = {}
        self.streams = 0
        """Open streams."""

    async def open(self, exchange: Exchange, opening: Opening, *, headers: Mapping[str, str]) -> None:
        """Begin a stream with the top as it is, unless the client has it already.

        Raises Problem (no such board; too many streams), RedisUnavailable, DatabaseUnavailable.
        """
        tenant = opening.context.tenant_id
        if self.streams >= MAX_STREAMS or self._tenants.get(tenant, 0) >= MAX_STREAMS_OF_TENANT:
            raise Problem(problems.OVERLOADED, "too many streams are open", retry_after=5.0)
        name = opening.context.namespace + opening.key
        board = self._boards.get(name)
        if board is None or board.page is None or board.count < opening.limit:
            page = await self._scores.best(name, count=opening.limit)
            if isinstance(page, Refusal):
                raise await self._explain(page, opening.context, opening.key)
            board = self._boards.get(name)  # somebody else's may have come meanwhile
            if board is None:
                board = self._boards[name] = _Board(opening.key)
                board.task = asyncio.create_task(self._serve(name, board), name="live-board")
            if board.page is None or board.count <= opening.limit:
                board.take(page, count=opening.limit)
        if exchange.disconnected:
            self._stop_if_empty(name, board)
            return
        stream = _Stream(exchange, opening)
        stream.sent, event = board.event(opening.limit)
        first = b"retry: %d\n\n%b" % (RETRY_MS, b"" if stream.sent == opening.last_id else event)
        board.streams.add(stream)
        self.streams += 1
        self._tenants[tenant] = self._tenants.get(tenant, 0) + 1
        exchange.open_stream({**headers, **HEADERS}, first, on_gone=lambda: self._leave(name, board, stream))

    def _leave(self, name: str, board: _Board, stream: _Stream) -> None:
        board.streams.discard(stream)
        self.streams -= 1
        tenant = stream.opening.context.tenant_id
        self._tenants[tenant] -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]
        self._stop_if_empty(name, board)

    def _stop_if_empty(self, name: str, board: _Board) -> None:
        if not board.streams and self._boards.get(name) is board:
            del self._boards[name]
            if board.task is not None:
                board.task.cancel()

    async def _serve(self, name: str, board: _Board) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            try:
                await self._end_refused(board)
                await self._read(name, board)
                await self._tell(board)
            except Exception:
                # Whatever it was, the next turn may do better, and the streams are still there.
                log.exception("a turn of the streams of %s failed", board.key)

    async def _end_refused(self, board: _Board) -> None:
        """End the streams whose key was revoked, has expired or lost its tenant. A look into memory for each key."""
        for api_key in {stream.opening.api_key for stream in board.streams}:
            try:
                await self._allow(api_key)
            except Problem as problem:
                self._end(board, problem, api_key=api_key)
            except (DatabaseUnavailable, RedisFailure):
                self._end(board, Problem(problems.STORE_UNAVAILABLE), api_key=api_key)

    async def _read(self, name: str, board: _Board) -> None:
        if not board.streams:
            return
        count = max(stream.opening.limit for stream in board.streams)
        try:
            page = await self._scores.best(name, count=count)
        except RedisFailure as error:
            if board.page is not None:
                log.warning("the streams of %s wait for Redis: %s", board.key, error)
            board.take(None, count=0)
            return
        if not isinstance(page, Refusal):
            board.take(page, count=count)
            return
        try:
            problem = await self._explain(page, next(iter(board.streams)).opening.context, board.key)
        except DatabaseUnavailable:
            problem = Problem(problems.STORE_UNAVAILABLE)
        self._end(board, problem)

    async def _tell(self, board: _Board) -> None:
        board.silent_turns += 1
        beat = board.silent_turns >= HEARTBEAT_TURNS
        if beat:
            board.silent_turns = 0
        for number, stream in enumerate(list(board.streams)):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if board.page is None:
                if beat:
                    stream.exchange.push(_HEARTBEAT)
                continue
            if stream.opening.limit > board.count:
                continue  # it came after the board was read
            name, event = board.event(stream.opening.limit)
            if name != stream.sent and stream.exchange.push(event):
                stream.sent = name
            elif beat:
                stream.exchange.push(_HEARTBEAT)

    def _end(self, board: _Board, problem: Problem, *, api_key: str | None = None) -> None:
        """End the streams of `board`, or those of one key, and say why in a last event."""
        for stream in list(board.streams):
            opening = stream.opening
            if api_key is None or opening.api_key == api_key:
                body = problems.render(problem.kind, problem.detail, trace_id=opening.trace_id)
                stream.exchange.end_stream(b"event: problem\ndata: %b\n\n" % body)
