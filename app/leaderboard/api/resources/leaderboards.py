"""Boards: ``/v1/leaderboards`` and ``/v1/leaderboards/{leaderboard}``. All changes go through control."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, TypeVar

import falcon.asgi
import msgspec

from leaderboard.api import caching, problems, queries
from leaderboard.api.bodies import BoardChange, BodyReader, BoundsBody, NewBoard, ResetBody
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.control.reconcile import Control
from leaderboard.domain import names
from leaderboard.domain.boards import Board, BoardSpec, ScoreUpdate, SortOrder, TiePolicy, check_change, check_spec
from leaderboard.domain.bounds import Bounds
from leaderboard.domain.errors import InvalidName
from leaderboard.domain.keys import Scope
from leaderboard.domain.schedules import ResetSpec
from leaderboard.domain.scores import plain
from leaderboard.domain.tiers import Tier
from leaderboard.store.postgres import boards
from leaderboard.store.postgres.boards import BoardRow
from leaderboard.store.postgres.pool import Pool

DEFAULT_LIMIT = 100

_encode = msgspec.json.Encoder().encode
_Enum = TypeVar("_Enum", bound=StrEnum)


class BoardBody(msgspec.Struct):
    """A board as the API shows it. `managed` says that a custom resource owns it. Times are UTC (RFC 3339)."""

    key: str
    score_update: str
    sort_order: str
    tie_policy: str
    max_entries: int
    public_read: bool
    suspended: bool
    managed: bool
    reset: ResetSpec | None
    bounds: Bounds | None
    tiers: tuple[Tier, ...]
    season: int
    next_reset: datetime | None
    created_at: datetime
    updated_at: datetime


def body_of(row: BoardRow) -> BoardBody:
    """Return the board as the API shows it."""
    spec = row.spec
    return BoardBody(
        spec.key,
        spec.score_update,
        spec.sort_order,
        spec.tie_policy,
        spec.max_entries,
        spec.public_read,
        spec.suspended,
        row.managed_by is not None,
        spec.reset,
        None if spec.bounds is None else _shown(spec.bounds),
        spec.tiers,
        row.season,
        row.next_reset,
        row.created_at,
        row.updated_at,
    )


def _shown(bounds: Bounds) -> Bounds:
    low, high, gain = (
        None if value is None else plain(value) for value in (bounds.min_score, bounds.max_score, bounds.max_gain)
    )
    return msgspec.structs.replace(bounds, min_score=low, max_score=high, max_gain=gain)


def _enum(kind: type[_Enum], text: str, *, field: str) -> _Enum:
    try:
        return kind(text)
    except ValueError:
        takes = ", ".join(member.value for member in kind)
        raise Problem(problems.INVALID_REQUEST, f"{field} must be one of {takes}, got {text[:40]!r}") from None


async def board_of(pool: Pool, context: KeyContext, key: str) -> Board:
    """Return the board, or raise Problem 404."""
    board = await boards.get(pool, context.project_id, key)
    if board is None:
        raise no_board(context, key)
    return board


def no_board(context: KeyContext, key: str) -> Problem:
    """Return the problem that the project has no such board."""
    return Problem(problems.BOARD_NOT_FOUND, f"the project {context.project!r} has no leaderboard {key!r}")


async def row_of(pool: Pool, context: KeyContext, key: str) -> BoardRow:
    """As `board_of`, with the dates."""
    row = await boards.get_row(pool, context.project_id, key)
    if row is None:
        raise no_board(context, key)
    return row


class Leaderboards:
    """The boards of the key's project: list and make."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ, "POST": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, pool: Pool, control: Control, *, body: BodyReader[NewBoard]) -> None:
        self._pool = pool
        self._control = control
        self._body = body

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer the boards by key, a page at a time; `next_cursor` is the last key of a full page."""
        queries.known(req, "limit", "cursor")
        limit = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=queries.MAX_LIMIT)
        after = queries.text_of(req, "cursor")
        if after is not None:
            try:
                names.board_key(after)
            except InvalidName as error:
                raise Problem(problems.INVALID_PARAMETER, f"cursor: {error}") from error
        # One more than asked for tells whether there is a next page.
        rows = await boards.list_page(self._pool, req.context.key.project_id, after=after, limit=limit + 1)
        more, rows = len(rows) > limit, rows[:limit]
        body = _encode(
            {
                "leaderboards": [body_of(row) for row in rows],
                "next_cursor": rows[-1].spec.key if more else None,
            }
        )
        caching.answer(req, resp, body, caching.etag_of(body))

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Make a board: 201, or 409 where there is one of that key."""
        context: KeyContext = req.context.key
        asked = await self._body.read(req)
        spec = check_spec(
            BoardSpec(
                key=names.board_key(asked.key),
                score_update=_enum(ScoreUpdate, asked.score_update, field="score_update"),
                sort_order=_enum(SortOrder, asked.sort_order, field="sort_order"),
                tie_policy=_enum(TiePolicy, asked.tie_policy, field="tie_policy"),
                max_entries=queries.whole(asked.max_entries, field="max_entries"),
                public_read=asked.public_read,
                reset=None if asked.reset is None else asked.reset.asked(),
                bounds=None if asked.bounds is None else asked.bounds.asked(),
                tiers=tuple(tier.asked() for tier in asked.tiers or ()),
            )
        )
        await self._control.put_board(
            tenant_id=context.tenant_id,
            project_id=context.project_id,
            project=context.project,
            spec=spec,
            create=True,
        )
        resp.status = 201
        resp.set_header("Location", f"/v1/leaderboards/{spec.key}")
        resp.data = _encode(body_of(await row_of(self._pool, context, spec.key)))


class Leaderboard:
    """One board of the key's project: its rules, not its entries."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ, "PATCH": Scope.ADMIN, "DELETE": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, pool: Pool, control: Control, *, body: BodyReader[BoardChange]) -> None:
        self._pool = pool
        self._control = control
        self._body = body

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Answer the board's rules."""
        body = _encode(body_of(await row_of(self._pool, req.context.key, queries.board(leaderboard))))
        caching.answer(req, resp, body, caching.etag_of(body))

    async def on_patch(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Change max_entries, public_read, reset, bounds or tiers; what is fixed at creation may only be repeated."""
        context: KeyContext = req.context.key
        change = await self._body.read(req)
        current = (await row_of(self._pool, context, queries.board(leaderboard))).spec
        given = {
            name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not msgspec.UNSET
        }
        for name, kind in (("score_update", ScoreUpdate), ("sort_order", SortOrder), ("tie_policy", TiePolicy)):
            if name in given:
                given[name] = _enum(kind, given[name], field=name)
        if "max_entries" in given:
            given["max_entries"] = queries.whole(given["max_entries"], field="max_entries")
        for name in ("reset", "bounds"):
            if isinstance(asked := given.get(name), ResetBody | BoundsBody):
                given[name] = asked.asked()
        if "tiers" in given:
            given["tiers"] = tuple(tier.asked() for tier in given["tiers"] or ())
        spec = check_change(current, msgspec.structs.replace(current, **given))
        await self._control.put_board(
            tenant_id=context.tenant_id,
            project_id=context.project_id,
            project=context.project,
            spec=spec,
            create=False,
        )
        resp.data = _encode(body_of(await row_of(self._pool, context, spec.key)))

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Delete the board with its entries; its events stay in the ledger."""
        context: KeyContext = req.context.key
        await self._control.delete_board(
            tenant_id=context.tenant_id,
            project_id=context.project_id,
            project=context.project,
            key=queries.board(leaderboard),
        )
        resp.status = 204
