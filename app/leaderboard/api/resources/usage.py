"""``GET /v1/usage`` and ``/v1/usage/series``: what the key's project used, from the rollups in Postgres."""

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
from leaderboard.store.postgres.usage import Point, Step, UsageDay

DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_DAYS_OF_HOURS = 31

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
        first, last = _span(req, today=self._now().date(), default=DEFAULT_DAYS, most=MAX_DAYS)
        days = await usage.read(self._pool, context.project_id, first_day=first, last_day=last)
        body = _encode(UsageBody(context.project, first, last, days))
        caching.answer(req, resp, body, caching.etag_of(body))


class SeriesBody(msgspec.Struct, rename={"from_": "from"}):
    """Usage of one project over time: a point for every hour or day of whole UTC days, up to now, oldest first."""

    project: str
    step: Step
    from_: date
    to: date
    points: list[Point]


class UsageSeries:
    """Usage of the key's project over time."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}
    sessions: ClassVar[bool] = True

    def __init__(self, pool: Pool, *, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._now = now

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer the days from `from` to `to`, by default the last 30, or the last two by hours."""
        queries.known(req, "from", "to", "step")
        context: KeyContext = req.context.key
        step, now = _step(req), self._now()
        if step is Step.HOUR:
            first, last = _span(req, today=now.date(), default=2, most=MAX_DAYS_OF_HOURS)
            if (now.date() - first).days > MAX_DAYS_OF_HOURS:
                raise Problem(
                    problems.INVALID_PARAMETER, f"hours are kept for {MAX_DAYS_OF_HOURS} days: ask for step=day"
                )
        else:
            first, last = _span(req, today=now.date(), default=DEFAULT_DAYS, most=MAX_DAYS)
        points = await usage.series(self._pool, context.project_id, step=step, first_day=first, last_day=last, now=now)
        body = _encode(SeriesBody(context.project, step, first, last, points))
        caching.answer(req, resp, body, caching.etag_of(body))


def _step(req: falcon.asgi.Request) -> Step:
    text = queries.text_of(req, "step")
    if text is None:
        return Step.DAY
    try:
        return Step(text)
    except ValueError:
        raise Problem(problems.INVALID_PARAMETER, f"step must be hour or day, got {text[:40]!r}") from None


def _span(req: falcon.asgi.Request, *, today: date, default: int, most: int) -> tuple[date, date]:
    last = _day(req, "to") or today
    first = _day(req, "from") or max(date.min + timedelta(default), last) - timedelta(default - 1)
    if not timedelta(0) <= last - first < timedelta(most):
        raise Problem(
            problems.INVALID_PARAMETER,
            f"from must not be after to, and they may span {most} days; got {first} to {last}",
        )
    return first, last


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
