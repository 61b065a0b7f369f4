"""``GET /v1/leaderboards/{leaderboard}/standings``: a snapshot of a board, from Postgres.

A request says that the snapshot is wanted, and the worker writes one every second as long as somebody says so.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import problems, queries
from leaderboard.api.context import KeyContext
from leaderboard.api.live import Top
from leaderboard.api.problems import Problem
from leaderboard.api.resources.leaderboards import board_of
from leaderboard.domain.keys import Scope
from leaderboard.domain.names import LeaderboardId, TenantId
from leaderboard.store.postgres import standings
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.postgres.standings import ENTRIES, WANTED_SECONDS, Entry, Snapshot

DEFAULT_LIMIT = 10
MAX_AGE = 2.0
"""Seconds; an older snapshot is not shown."""
PATIENCE = 3.0
"""Seconds a request waits for the first snapshot."""
LOOK_SECONDS = 0.1
MAX_WISHES = 10_000
MAX_WAITING = 20
"""Requests of one tenant that wait at once, in one process: each asks Postgres ten times a second."""

_encode = msgspec.json.Encoder().encode


class StandingsBody(msgspec.Struct):
    """A board as it was `age_ms` milliseconds ago."""

    leaderboard: str
    total: int
    entries: list[Entry]
    taken_at: datetime
    age_ms: int


class Snapshots:
    """The snapshots of boards, and the wishes for them; a `live.Source`. `clock` gives monotonic seconds."""

    event = b"standings"
    interval = 0.5
    """Seconds. With the worker's second between two snapshots, what a page shows is two seconds old at most."""

    def __init__(self, pool: Pool, *, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._wished: dict[LeaderboardId, float] = {}
        self._waiting: dict[TenantId, int] = {}

    async def fresh(self, context: KeyContext, key: str, *, member: str = "", wait: bool = True) -> Snapshot:
        """Return the snapshot of the top of board `key`, or around a member; with `wait`, wait for the first.

        Raises Problem: no such board, suspended, no worker takes snapshots, or too many wait.
        """
        board = await board_of(self._pool, context, key)
        if board.spec.suspended:
            raise Problem(problems.BOARD_SUSPENDED)
        if not member:
            await self._keep_wishing(board.id)
        found = await standings.read(self._pool, board.id, member=member, max_age=MAX_AGE)
        if found is None and wait:
            if member:  # one wish is one snapshot
                await standings.wish(self._pool, board.id, member=member, seconds=PATIENCE)
            found = await self._first(context.tenant_id, board.id, member)
        if found is None:
            raise Problem(problems.STORE_UNAVAILABLE, "no worker has taken a snapshot", retry_after=2.0)
        return found

    async def top(self, context: KeyContext, key: str, *, count: int, wait: bool) -> Top:
        """Return the snapshot of the `count` best. Raises as `fresh`."""
        found = await self.fresh(context, key, wait=wait)
        return Top(found.total, (found.entries or [])[:count], found.taken_at, round(found.age * 1000))

    async def _first(self, tenant: TenantId, board: LeaderboardId, member: str) -> Snapshot | None:
        waiting = self._waiting.get(tenant, 0)
        if waiting >= MAX_WAITING:
            raise Problem(problems.OVERLOADED, "too many requests wait for a first snapshot", retry_after=1.0)
        self._waiting[tenant] = waiting + 1
        try:
            patience = self._clock() + PATIENCE
            while self._clock() < patience:
                await asyncio.sleep(LOOK_SECONDS)
                found = await standings.read(self._pool, board, member=member, max_age=MAX_AGE)
                if found is not None:
                    return found
            return None
        finally:
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant]

    async def _keep_wishing(self, board: LeaderboardId) -> None:
        now = self._clock()
        if self._wished.get(board, 0.0) > now:
            return
        if len(self._wished) >= MAX_WISHES:
            self._wished.clear()
        await standings.wish(self._pool, board, member="", seconds=WANTED_SECONDS)
        self._wished[board] = now + WANTED_SECONDS / 2


class Standings:
    """Snapshots of one board."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}
    sessions: ClassVar[bool] = True

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Answer the top, or the entries around a user."""
        queries.known(req, "limit", "around")
        key = queries.board(leaderboard)
        limit = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=ENTRIES)
        around = queries.user_of(req, "around")
        snapshot = await self._snapshots.fresh(req.context.key, key, member=around or "")
        if snapshot.entries is None:
            raise Problem(problems.USER_NOT_FOUND)
        entries = snapshot.entries[:limit] if around is None else middle(snapshot.entries, around, limit)
        body = StandingsBody(key, snapshot.total, entries, snapshot.taken_at, round(snapshot.age * 1000))
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(body)


def middle(entries: list[Entry], user: str, limit: int) -> list[Entry]:
    """Return `limit` of `entries` with `user` in the middle, moved inwards at either end."""
    at = next(index for index, entry in enumerate(entries) if entry.user == user)
    start = max(0, min(at - limit // 2, len(entries) - limit))
    return entries[start : start + limit]
