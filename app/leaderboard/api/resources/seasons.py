"""Seasons of a board: ended by ``POST .../reset``, and read from Postgres afterwards."""

from datetime import datetime
from typing import ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import caching, problems, queries
from leaderboard.api.bodies import BodyReader
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.api.resources.leaderboards import board_of, body_of, row_of
from leaderboard.api.resources.reads import EntryBody, percentile, user_in_path
from leaderboard.control.reconcile import Control
from leaderboard.domain.boards import MAX_SEASON, Board
from leaderboard.domain.keys import Scope
from leaderboard.domain.scores import plain
from leaderboard.domain.signatures import Signer, Statement, moment
from leaderboard.store.postgres import seasons
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.postgres.seasons import Season

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

_encode = msgspec.json.Encoder().encode


class ResetRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The season that is to end: the one that the caller believes runs."""

    season: int | float


class SeasonBody(msgspec.Struct):
    """A season that is over. Until it is `archived` its standings cannot be read, and `entries` is null.

    It is not before `late_until`, where it takes late updates.
    """

    season: int
    ended_at: datetime
    archived: bool
    entries: int | None
    checksum: str | None
    late_until: datetime | None


class SeasonsBody(msgspec.Struct):
    """One page of a board's seasons, newest first, and the one that runs."""

    leaderboard: str
    season: int
    seasons: list[SeasonBody]
    next_cursor: str | None


class FinalTopBody(msgspec.Struct):
    """One page of final standings; `next_cursor` is null on the last."""

    leaderboard: str
    season: int
    total: int
    entries: list[EntryBody]
    next_cursor: str | None


class FinalRankBody(msgspec.Struct):
    """One user's line of final standings among `total`."""

    leaderboard: str
    season: int
    rank: int
    user: str
    score: int | float
    total: int
    percentile: float


class Reset:
    """``POST /v1/leaderboards/{leaderboard}/reset``."""

    scopes: ClassVar[dict[str, Scope]] = {"POST": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, pool: Pool, control: Control, *, body: BodyReader[ResetRequest]) -> None:
        self._pool = pool
        self._control = control
        self._body = body

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """End the season and answer the board, which is in the next one; 409 where another season runs."""
        context: KeyContext = req.context.key
        key = queries.board(leaderboard)
        season = queries.whole((await self._body.read(req)).season, field="season")
        await self._control.reset_board(
            tenant_id=context.tenant_id,
            project_id=context.project_id,
            project=context.project,
            key=key,
            season=season,
        )
        resp.data = _encode(body_of(await row_of(self._pool, context, key)))


class _Archive:
    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}
    sessions: ClassVar[bool] = True

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def _season(self, context: KeyContext, leaderboard: str, season: str) -> tuple[Board, Season]:
        """Return the board and a season of it whose standings can be read, or raise Problem 403, 404 or 503."""
        board = await board_of(self._pool, context, queries.board(leaderboard))
        if board.spec.suspended:
            raise Problem(problems.BOARD_SUSPENDED)
        number = int(season) if season.isascii() and season.isdigit() and len(season) <= 10 else 0
        found = await seasons.get(self._pool, board.id, number) if 1 <= number <= MAX_SEASON else None
        if found is None:
            raise Problem(
                problems.SEASON_NOT_FOUND,
                f"season {season[:40]!r} of {board.spec.key!r} is not over, or there was none; {board.season} runs",
            )
        if not found.readable:
            late = found.late_until
            detail = None if late is None else f"it takes late updates until {moment(late)}, and is archived after that"
            raise Problem(problems.SEASON_NOT_ARCHIVED, detail, retry_after=1.0)
        return board, found


class Seasons(_Archive):
    """``GET /v1/leaderboards/{leaderboard}/seasons``."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Answer a page, newest first; the cursor is the last season of the page before."""
        queries.known(req, "limit", "cursor")
        limit = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)
        before = queries.integer(req, "cursor", default=MAX_SEASON, minimum=1, maximum=MAX_SEASON)
        board = await board_of(self._pool, req.context.key, queries.board(leaderboard))
        # One more than asked for tells whether there is a next page.
        found = await seasons.page(self._pool, board.id, before=before, limit=limit + 1)
        more, found = len(found) > limit, found[:limit]
        body = _encode(
            SeasonsBody(
                board.spec.key,
                board.season,
                [_season(each) for each in found],
                str(found[-1].number) if more else None,
            )
        )
        caching.answer(req, resp, body, caching.etag_of(body))


class SignedSeason(_Archive):
    """``GET /v1/leaderboards/{leaderboard}/seasons/{season}``."""

    def __init__(self, pool: Pool, *, signer: Signer) -> None:
        super().__init__(pool)
        self._signer = signer

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, season: str) -> None:
        """Answer what the season ended with, signed as it is now."""
        queries.known(req)
        context: KeyContext = req.context.key
        board, over = await self._season(context, leaderboard, season)
        assert over.checksum is not None, "a season that can be read has one"
        statement = Statement(
            tenant=context.tenant,
            project=context.project,
            leaderboard=board.spec.key,
            season=over.number,
            ended_at=moment(over.ended_at),
            entries=over.entries or 0,
            checksum=over.checksum.hex(),
        )
        body = _encode(self._signer.signed(statement))
        caching.answer(req, resp, body, caching.etag_of(body))


class FinalTop(_Archive):
    """``GET /v1/leaderboards/{leaderboard}/seasons/{season}/top``."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, season: str) -> None:
        """Answer a page; the cursor is the place of the last line of the page before."""
        queries.known(req, "limit", "cursor")
        limit = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=queries.MAX_LIMIT)
        after = queries.integer(req, "cursor", default=0, minimum=1, maximum=queries.MAX_OFFSET)
        board, over = await self._season(req.context.key, leaderboard, season)
        lines = await seasons.top(self._pool, board.id, over.number, after=after, limit=limit)
        total = over.entries or 0
        more = bool(lines) and lines[-1].place < total
        body = _encode(
            FinalTopBody(
                board.spec.key,
                over.number,
                total,
                [EntryBody(line.rank, line.member, plain(line.score)) for line in lines],
                str(lines[-1].place) if more else None,
            )
        )
        caching.answer(req, resp, body, caching.etag_of(body))


class FinalRank(_Archive):
    """``GET /v1/leaderboards/{leaderboard}/seasons/{season}/rank/{user}``."""

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, season: str, user: str
    ) -> None:
        """Answer the user's line, 404 where it has none."""
        queries.known(req)
        name = user_in_path(req, user)
        board, over = await self._season(req.context.key, leaderboard, season)
        line = await seasons.of_member(self._pool, board.id, over.number, name)
        if line is None:
            raise Problem(problems.USER_NOT_FOUND)
        total = over.entries or 0
        body = _encode(
            FinalRankBody(
                board.spec.key, over.number, line.rank, name, plain(line.score), total, percentile(line.rank, total)
            )
        )
        caching.answer(req, resp, body, caching.etag_of(body))


def _season(over: Season) -> SeasonBody:
    return SeasonBody(
        over.number,
        over.ended_at,
        over.readable,
        over.entries,
        None if over.checksum is None else over.checksum.hex(),
        over.late_until,
    )
