"""``GET /v1/leaderboards/{leaderboard}/history/...``: a board as it was at a moment, from the ledger in Postgres.

A moment is read in as many steps as the board had events, so these requests take turns: in each process a few at once,
and one of a tenant's. The others of the pool's connections are for the API's other work.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import caching, problems, queries
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.api.resources.leaderboards import board_of
from leaderboard.api.resources.reads import DEFAULT_LIMIT, EntryBody, percentile, user_in_path
from leaderboard.domain.boards import Board
from leaderboard.domain.keys import Scope
from leaderboard.domain.names import TenantId
from leaderboard.domain.scores import plain
from leaderboard.store.postgres import history
from leaderboard.store.postgres.pool import Pool

PATIENCE = 2.0
"""Seconds a request waits for its turn."""
MAX_OF_TENANT = 8
"""Requests of one tenant in one process, the one that has its turn and those that wait."""

_encode = msgspec.json.Encoder().encode


class PastTopBody(msgspec.Struct):
    """One page of a board as of `at`; `next_cursor` is null on the last."""

    leaderboard: str
    at: datetime
    total: int
    entries: list[EntryBody]
    next_cursor: str | None


class PastRankBody(msgspec.Struct):
    """One user's line as of `at` among `total`."""

    leaderboard: str
    at: datetime
    rank: int
    user: str
    score: int | float
    total: int
    percentile: float


class _Queue:
    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.length = 0


class Past:
    """What the history routes share: the pool, and whose turn it is. `at_once` requests have theirs at a time."""

    def __init__(self, pool: Pool, *, at_once: int, now: Callable[[], datetime]) -> None:
        self.pool = pool
        self.now = now
        self._places = asyncio.Semaphore(at_once)
        self._tenants: dict[TenantId, _Queue] = {}

    @asynccontextmanager
    async def turn(self, tenant: TenantId) -> AsyncIterator[None]:
        """Wait for the tenant's turn, and have it inside the block. Raises Problem 503 where it does not come."""
        mine = self._tenants.setdefault(tenant, _Queue())
        if mine.length >= MAX_OF_TENANT:
            raise Problem(problems.OVERLOADED, "too many requests of the tenant read the past", retry_after=1.0)
        mine.length += 1
        try:
            async with AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await held.enter_async_context(mine.turn)
                        await held.enter_async_context(self._places)
                except TimeoutError:
                    raise Problem(problems.OVERLOADED, "others read the past", retry_after=PATIENCE) from None
                yield
        finally:
            mine.length -= 1
            if not mine.length:
                del self._tenants[tenant]


class _History:
    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}
    sessions: ClassVar[bool] = True

    def __init__(self, past: Past) -> None:
        self._past = past

    async def _board(self, context: KeyContext, leaderboard: str) -> Board:
        board = await board_of(self._past.pool, context, queries.board(leaderboard))
        if board.spec.suspended:
            raise Problem(problems.BOARD_SUSPENDED)
        return board

    @asynccontextmanager
    async def _reading(self, context: KeyContext, at: datetime) -> AsyncIterator[None]:
        """Have the tenant's turn inside the block, and say as a Problem why `at` cannot be told of."""
        try:
            async with self._past.turn(context.tenant_id):
                yield
        except history.NotYet as error:
            if at > self._past.now():
                raise Problem(problems.INVALID_PARAMETER, f"at is in the future: {_text(at)}") from error
            until = "not known" if error.complete_until is None else _text(error.complete_until)
            detail = f"the time up to which the ledger is complete is {until}"
            raise Problem(problems.HISTORY_NOT_READY, detail, retry_after=1.0) from error
        except history.Gone as error:
            detail = f"the earliest time of this leaderboard that can be read is {_text(error.earliest)}"
            raise Problem(problems.HISTORY_GONE, detail) from error
        except history.TooCostly as error:
            raise Problem(problems.HISTORY_TOO_LONG, str(error)) from error


class PastTop(_History):
    """``GET /v1/leaderboards/{leaderboard}/history/top``."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Answer a page; the cursor is the place of the last line of the page before."""
        queries.known(req, "at", "limit", "cursor")
        at = _at(req)
        limit = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=queries.MAX_LIMIT)
        after = queries.integer(req, "cursor", default=0, minimum=1, maximum=queries.MAX_OFFSET)
        context: KeyContext = req.context.key
        board = await self._board(context, leaderboard)
        async with self._reading(context, at):
            total, lines = await history.top(self._past.pool, board.id, board.spec, at=at, after=after, limit=limit)
        more = bool(lines) and lines[-1].place < total
        body = _encode(
            PastTopBody(
                board.spec.key,
                at,
                total,
                [EntryBody(line.rank, line.member, plain(line.score)) for line in lines],
                str(lines[-1].place) if more else None,
            )
        )
        caching.answer(req, resp, body, caching.etag_of(body))


class PastRank(_History):
    """``GET /v1/leaderboards/{leaderboard}/history/rank/{user}``."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, user: str) -> None:
        """Answer the user's line, 404 where it had none."""
        queries.known(req, "at")
        at, name = _at(req), user_in_path(req, user)
        context: KeyContext = req.context.key
        board = await self._board(context, leaderboard)
        async with self._reading(context, at):
            found = await history.rank(self._past.pool, board.id, board.spec, at=at, member=name)
        if found is None:
            raise Problem(problems.USER_NOT_FOUND, f"the user was not on this leaderboard at {_text(at)}")
        body = _encode(
            PastRankBody(
                board.spec.key,
                at,
                found.rank,
                name,
                plain(found.score),
                found.total,
                percentile(found.rank, found.total),
            )
        )
        caching.answer(req, resp, body, caching.etag_of(body))


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


def _at(req: falcon.asgi.Request) -> datetime:
    """Return the moment that ``at`` is, in UTC, or raise Problem 400."""
    text = queries.text_of(req, "at")
    if text is None:
        raise Problem(problems.INVALID_PARAMETER, "at is missing: the moment to read, like 2026-01-31T09:00:00Z")
    try:
        return msgspec.convert(text, _Moment).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        raise Problem(
            problems.INVALID_PARAMETER,
            "at must be an RFC 3339 time with its offset, like 2026-01-31T09:00:00Z (a + is written %2B),"
            f" got {text[:40]!r}",
        ) from error


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
