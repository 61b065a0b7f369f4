"""``GET /v1/usage``: what the key's project used, by day, from the rollups in Postgres."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import caching, problems, queries
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.domain.keys import Scope
from leaderboard.store.postgres import usage
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.postgres.usage import UsageDay

DEFAULT_DAYS = 30
MAX_DAYS = 366

_encode = msgspec.json.Encoder().encode


class UsageBody(msgspec.Struct, rename={"from_": "from"}):
    """Usage of one project over whole UTC days, both ends included. Days without any are left out."""

    project: str
    from_: date
    to: date
    days: list[UsageDay]


class Usage:
    """Usage of the key's project."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}
    sessions: ClassVar[bool] = True

    def __init__(self, pool: Pool, *, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._now = now

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer the days from `from` to `to`, by default the last 30."""
        queries.known(req, "from", "to")
        context: KeyContext = req.context.key
        last = _day(req, "to") or self._now().date()
        first = _day(req, "from") or max(date.min + timedelta(DEFAULT_DAYS), last) - timedelta(DEFAULT_DAYS - 1)
        if not timedelta(0) <= last - first < timedelta(MAX_DAYS):
            raise Problem(
                problems.INVALID_PARAMETER,
                f"from must not be after to, and they may span {MAX_DAYS} days; got {first} to {last}",
            )
        days = await usage.read(self._pool, context.project_id, first_day=first, last_day=last)
        body = _encode(UsageBody(context.project, first, last, days))
        caching.answer(req, resp, body, caching.etag_of(body))


def _day(req: falcon.asgi.Request, name: str) -> date | None:
    text = queries.text_of(req, name)
    if text is None:
        return None
    try:
        if len(text) == 10 and text[4] == text[7] == "-":  # fromisoformat also takes 20260131 and 2026-W05-6
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Problem(problems.INVALID_PARAMETER, f"{name} must be a day like 2026-01-31, got {text[:40]!r}")
