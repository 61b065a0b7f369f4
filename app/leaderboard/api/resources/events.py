"""``GET /v1/leaderboards/{leaderboard}/events``: what happened on a board, from the ledger in Postgres."""

import base64
import binascii
import re
from datetime import datetime
from typing import ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import problems, queries
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.domain.keys import Scope
from leaderboard.domain.scores import plain
from leaderboard.store.postgres import boards, ledger
from leaderboard.store.postgres.ledger import LedgerEvent, Position
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.redis.events import EventKind

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

KINDS = {
    EventKind.UPDATE: "update",
    EventKind.REMOVE: "remove",
    EventKind.TRIM: "trim",
    EventKind.RESET: "reset",
    EventKind.DELETE: "delete",
    EventKind.IMPORT: "import",
}

_CURSOR = re.compile(r"([0-9]{1,9}) ([0-9]{1,18})").fullmatch
_encode = msgspec.json.Encoder().encode


class EventBody(msgspec.Struct):
    """One event. `submitted` is the increment or score that was sent, `score` the member's afterwards."""

    id: str
    time: datetime
    kind: str
    user: str | None
    submitted: int | float | None
    score: int | float | None


class EventsBody(msgspec.Struct):
    """One page of a board's history, newest first. `next_cursor` is null on the last."""

    leaderboard: str
    events: list[EventBody]
    next_cursor: str | None


class Events:
    """The history of one board."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}
    sessions: ClassVar[bool] = True

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Answer a page, of one member with ``user``."""
        context: KeyContext = req.context.key
        queries.known(req, "user", "limit", "cursor")
        key = queries.board(leaderboard)
        user = queries.user_of(req, "user")
        limit = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)
        cursor = queries.text_of(req, "cursor")
        before = None if cursor is None else _decode_cursor(cursor)
        board = await boards.get(self._pool, context.project_id, key)
        if board is None:
            raise Problem(problems.BOARD_NOT_FOUND, f"the project {context.project!r} has no leaderboard {key!r}")
        # One more than asked for tells whether there is a next page.
        found = await ledger.newest(self._pool, board.id, member=user, before=before, limit=limit + 1)
        more, found = len(found) > limit, found[:limit]
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(
            EventsBody(
                leaderboard=key,
                events=[_body(event) for event in found],
                next_cursor=_encode_cursor(found[-1].position) if more else None,
            )
        )


def _body(event: LedgerEvent) -> EventBody:
    return EventBody(
        id=event.id.hex,
        time=event.time,
        kind=KINDS[event.kind],
        user=event.member,
        submitted=None if event.submitted is None else plain(event.submitted),
        score=None if event.score is None else plain(event.score),
    )


def _encode_cursor(position: Position) -> str:
    text = f"{position.incarnation} {position.seq}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode_cursor(text: str) -> Position:
    try:
        match = _CURSOR(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    except (ValueError, binascii.Error):
        match = None
    if match is None:
        raise Problem(problems.INVALID_PARAMETER, "cursor is not one of ours: use next_cursor as it came")
    return Position(int(match[1]), int(match[2]))
