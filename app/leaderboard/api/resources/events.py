"""``GET /v1/leaderboards/{leaderboard}/events``: what happened on a board, from the ledger in Postgres."""

import re
from datetime import datetime
from typing import ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import queries
from leaderboard.api.context import KeyContext
from leaderboard.api.resources.leaderboards import board_of
from leaderboard.domain.keys import Scope
from leaderboard.domain.scores import plain
from leaderboard.store.postgres import ledger
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

_CURSOR = re.compile(r"([0-9]{1,9}) ([0-9]{1,18})")
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
        before = None if cursor is None else Position(*queries.unpack_cursor(cursor, _CURSOR, bits=63))
        board = await board_of(self._pool, context, key)
        # One more than asked for tells whether there is a next page.
        found = await ledger.newest(self._pool, board.id, member=user, before=before, limit=limit + 1)
        more, found = len(found) > limit, found[:limit]
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(
            EventsBody(
                leaderboard=key,
                events=[_body(event) for event in found],
                next_cursor=queries.pack_cursor(*found[-1].position) if more else None,
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
