"""Live boards: the top of a board as server-sent events (WHATWG HTML, 9.2), whenever it changes.

An event is the whole top, not what changed of it: a client that missed some has lost nothing, one that is slow gets the
newest, and to resume takes no more than comparing one id. A board is read once per interval and process, whatever the
number of its streams; an event is made once for all streams of the same limit. Where the tops come from is a `Source`:
Redis for games, the worker's snapshots for the dashboard.

A stream is an open answer and a line in a dictionary: no task, no queue. What a client has not read stays at what the
connection's buffers hold, since it gets the next event only after it read the last.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from leaderboard.api import problems
from leaderboard.api.context import KeyContext
from leaderboard.api.exchange import Exchange
from leaderboard.api.problems import Problem
from leaderboard.api.refusals import Refusals
from leaderboard.domain.scores import plain
from leaderboard.domain.sessions import Session
from leaderboard.store.postgres.pool import DatabaseUnavailable
from leaderboard.store.postgres.standings import Entry
from leaderboard.store.redis.errors import RedisFailure
from leaderboard.store.redis.scores import Refusal, Scores

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
"""Changes within it leave as one event."""
HEARTBEAT_SECONDS = 15.0
"""A stream without an event gets a comment so often, or a turn later: proxies close what is silent for a minute."""
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


class Top(msgspec.Struct, frozen=True):
    """A board as it was read. Of a snapshot, also when it was taken, and its age in milliseconds when it was read."""

    total: int
    entries: Sequence[Entry]
    """Best first."""
    taken_at: datetime | None = None
    age_ms: int = 0


class Source(Protocol):
    """Where tops come from. `event` names its events, `interval` is in seconds between two readings."""

    event: bytes
    interval: float

    async def top(self, context: KeyContext, key: str, *, count: int, wait: bool) -> Top:
        """Return the `count` best of board `key`. With `wait`, give one that is not there yet some seconds to come.

        Raises Problem (503 where it may be better soon, all else ends the streams), RedisFailure, DatabaseUnavailable.
        """
        ...


class RedisSource:
    """The boards themselves. A refusal of Redis is explained by Postgres."""

    event = b"top"
    interval = INTERVAL_SECONDS

    def __init__(self, scores: Scores, refusals: Refusals) -> None:
        self._scores = scores
        self._refusals = refusals

    async def top(self, context: KeyContext, key: str, *, count: int, wait: bool) -> Top:  # noqa: ARG002
        """Read the board once. Raises as `Source` says."""
        page = await self._scores.best(context.namespace + key, count=count)
        if isinstance(page, Refusal):
            await self._refusals.refuse(page, context, key)
        return Top(page.total, [Entry(entry.rank, entry.user, plain(entry.score)) for entry in page.entries])


class _Whole(msgspec.Struct):
    leaderboard: str
    total: int
    entries: Sequence[Entry]


class _WholeSnapshot(_Whole):
    taken_at: datetime
    age_ms: int


class _Taken(msgspec.Struct):
    total: int
    taken_at: datetime
    age_ms: int


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asked for. `last_id` is the id of the event it had last, None at its first time."""

    context: KeyContext
    credential: str | Session
    """The API key, or the session of the dashboard."""
    key: str
    limit: int
    last_id: str | None
    trace_id: str


class Places:
    """How many streams are open, of all and of each tenant: one count for whatever opens streams in a process."""

    def __init__(self) -> None:
        self.taken = 0
        self._of_tenant: dict[int, int] = {}

    def take(self, tenant: int) -> None:
        """Take a place, or raise Problem where there is none left."""
        own = self._of_tenant.get(tenant, 0)
        if self.taken >= MAX_STREAMS or own >= MAX_STREAMS_OF_TENANT:
            raise Problem(problems.OVERLOADED, "too many streams are open", retry_after=5.0)
        self.taken += 1
        self._of_tenant[tenant] = own + 1

    def give_back(self, tenant: int) -> None:
        """Let somebody else have the place."""
        self.taken -= 1
        self._of_tenant[tenant] -= 1
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]


class _Stream:
    __slots__ = ("exchange", "opening", "sent", "taken_at")

    def __init__(self, exchange: Exchange, opening: Opening) -> None:
        self.exchange = exchange
        self.opening = opening
        self.sent = opening.last_id
        self.taken_at: datetime | None = None
        """Of the snapshot it heard of last."""


class _Board:
    """The streams of one board."""

    def __init__(self, key: str, event: bytes, *, now: float) -> None:
        self.key = key
        self.streams: set[_Stream] = set()
        self.top: Top | None = None
        """As it was last read; None while it cannot be."""
        self.count = 0
        self.beat_at = now
        self.task: asyncio.Task[None] | None = None
        self._event = event
        self._events: dict[int, tuple[str, bytes]] = {}

    def take(self, top: Top | None, *, count: int) -> None:
        """Keep what was read."""
        self.top, self.count = top, count
        self._events.clear()

    def event(self, limit: int) -> tuple[str, bytes]:
        """Return the id of the top `limit` and the event that says it."""
        known = self._events.get(limit)
        if known is None:
            assert self.top is not None
            entries = self.top.entries[:limit]
            # Of the entries alone: `total` changes with members that nobody sees here.
            name = hashlib.blake2b(_encode(entries), digest_size=12).hexdigest()
            whole = _Whole(self.key, self.top.total, entries)
            if self.top.taken_at is not None:
                whole = _WholeSnapshot(self.key, self.top.total, entries, self.top.taken_at, self.top.age_ms)
            known = self._events[limit] = (
                name,
                b"id: %b\nevent: %b\ndata: %b\n\n" % (name.encode(), self._event, _encode(whole)),
            )
        return known

    def taken(self) -> bytes:
        """Return the event for who has these entries: that they are still so."""
        assert self.top is not None
        assert self.top.taken_at is not None
        body = _encode(_Taken(self.top.total, self.top.taken_at, self.top.age_ms))
        return b"event: taken\ndata: %b\n\n" % body


class Live:
    """The streams of this process that have their tops from `source`.

    `allow` raises Problem where an API key or a session opens its project no more, DatabaseUnavailable or
    RedisUnavailable where that cannot be told. `clock` gives monotonic seconds. `places` is shared by all that opens
    streams in the process.
    """

    def __init__(
        self,
        source: Source,
        *,
        allow: Callable[[str | Session], Awaitable[object]],
        clock: Callable[[], float],
        places: Places | None = None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._allow = allow
        self._places = places or Places()
        self._boards: dict[str, _Board] = {}

    @property
    def streams(self) -> int:
        """How many streams of this source are open."""
        return sum(len(board.streams) for board in self._boards.values())

    async def open(self, exchange: Exchange, opening: Opening, *, headers: Mapping[str, str]) -> None:
        """Begin a stream with the top as it is, unless the client has it already.

        Raises Problem (no such board; too many streams), RedisUnavailable, DatabaseUnavailable.
        """
        tenant = opening.context.tenant_id
        self._places.take(tenant)
        try:
            name, board = await self._board(opening)
        except BaseException:
            self._places.give_back(tenant)
            raise
        if exchange.disconnected:
            self._places.give_back(tenant)
            self._stop_if_empty(name, board)
            return
        stream = _Stream(exchange, opening)
        stream.sent, event = board.event(opening.limit)
        if board.top is not None and stream.sent != opening.last_id:
            stream.taken_at = board.top.taken_at
        first = b"retry: %d\n\n%b" % (RETRY_MS, b"" if stream.sent == opening.last_id else event)
        board.streams.add(stream)
        exchange.open_stream({**headers, **HEADERS}, first, on_gone=lambda: self._leave(name, board, stream))

    async def _board(self, opening: Opening) -> tuple[str, _Board]:
        """Return the board that is asked for, read for this opening where it has to be."""
        name = opening.context.namespace + opening.key
        board = self._boards.get(name)
        if board is None or board.top is None or board.count < opening.limit:
            top = await self._source.top(opening.context, opening.key, count=opening.limit, wait=True)
            board = self._boards.get(name)  # somebody else's may have come meanwhile
            if board is None:
                board = self._boards[name] = _Board(opening.key, self._source.event, now=self._clock())
                board.task = asyncio.create_task(self._serve(board), name="live-board")
            if board.top is None or board.count <= opening.limit:
                board.take(top, count=opening.limit)
        return name, board

    def _leave(self, name: str, board: _Board, stream: _Stream) -> None:
        board.streams.discard(stream)
        self._places.give_back(stream.opening.context.tenant_id)
        self._stop_if_empty(name, board)

    def _stop_if_empty(self, name: str, board: _Board) -> None:
        if not board.streams and self._boards.get(name) is board:
            del self._boards[name]
            if board.task is not None:
                board.task.cancel()

    async def _serve(self, board: _Board) -> None:
        while True:
            await asyncio.sleep(self._source.interval)
            try:
                await self._end_refused(board)
                await self._read(board)
                await self._tell(board)
            except Exception:
                # Whatever it was, the next turn may do better, and the streams are still there.
                log.exception("a turn of the streams of %s failed", board.key)

    async def _end_refused(self, board: _Board) -> None:
        """End the streams whose key or session was revoked, has expired or lost its tenant: a look into memory each."""
        for credential in {stream.opening.credential for stream in board.streams}:
            try:
                await self._allow(credential)
            except Problem as problem:
                self._end(board, problem, credential=credential)
            except (DatabaseUnavailable, RedisFailure):
                self._end(board, Problem(problems.STORE_UNAVAILABLE), credential=credential)

    async def _read(self, board: _Board) -> None:
        if not board.streams:
            return
        count = max(stream.opening.limit for stream in board.streams)
        context = next(iter(board.streams)).opening.context
        try:
            # Not waiting: a revoked key, and who is owed a sign of life, has its turn every `interval`.
            board.take(await self._source.top(context, board.key, count=count, wait=False), count=count)
        except (RedisFailure, DatabaseUnavailable) as error:
            self._wait(board, str(error))
        except Problem as problem:
            if problem.kind.status == 503:  # an outage, or the board is being restored
                self._wait(board, problem.detail or problem.kind.title)
            else:
                self._end(board, problem)

    def _wait(self, board: _Board, why: str) -> None:
        if board.top is not None:
            log.warning("the streams of %s wait: %s", board.key, why)
        board.take(None, count=0)

    async def _tell(self, board: _Board) -> None:
        now = self._clock()
        beat = now - board.beat_at >= HEARTBEAT_SECONDS
        if beat:
            board.beat_at = now
        for number, stream in enumerate(list(board.streams)):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if board.top is None:
                if beat:
                    stream.exchange.push(_HEARTBEAT)
                continue
            if stream.opening.limit > board.count:
                continue  # it came after the board was read
            name, event = board.event(stream.opening.limit)
            if name != stream.sent:
                if stream.exchange.push(event):
                    stream.sent, stream.taken_at = name, board.top.taken_at
            elif stream.taken_at != board.top.taken_at:
                if stream.exchange.push(board.taken()):
                    stream.taken_at = board.top.taken_at
            elif beat:
                stream.exchange.push(_HEARTBEAT)

    def _end(self, board: _Board, problem: Problem, *, credential: str | Session | None = None) -> None:
        """End the streams of `board`, or those of one credential, and say why in a last event."""
        for stream in list(board.streams):
            opening = stream.opening
            if credential is None or opening.credential == credential:
                body = problems.render(problem.kind, problem.detail, trace_id=opening.trace_id)
                stream.exchange.end_stream(b"event: problem\ndata: %b\n\n" % body)
