"""``GET /v1/leaderboards/{leaderboard}/stream`` and ``.../standings/stream``: the top of a board, live."""

from typing import ClassVar

import falcon.asgi

from leaderboard.api import headers, queries
from leaderboard.api.exchange import KEY
from leaderboard.api.live import Live, Opening
from leaderboard.api.trace import trace_id
from leaderboard.domain.keys import Scope

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
"""An event of 100 entries has about 5 kB, and goes to every stream."""


class Stream:
    """Server-sent events of one board."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}

    def __init__(self, live: Live) -> None:
        self._live = live

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Open a stream of the top `limit`. It is the exchange's from then on: Falcon's answer comes to nothing."""
        queries.known(req, "limit")
        opening = Opening(
            context=req.context.key,
            credential=req.context.api_key or req.context.session,
            key=queries.board(leaderboard),
            limit=queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT),
            last_id=headers.optional(req, b"last-event-id"),
            trace_id=trace_id(req),
        )
        await self._live.open(req.scope[KEY], opening, headers=resp.headers)


class StandingsStream(Stream):
    """The same of the worker's snapshots, for the dashboard."""

    sessions: ClassVar[bool] = True
