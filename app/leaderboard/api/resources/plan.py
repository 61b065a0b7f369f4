"""``GET /v1/plan``: the tenant's plan, what is used of it, and what the month costs so far."""

import calendar
from collections.abc import Callable
from datetime import date, datetime
from typing import ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import caching, problems, queries
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.domain.bills import Bill, bill
from leaderboard.domain.keys import Scope
from leaderboard.domain.plans import Quotas
from leaderboard.store.postgres import boards, tenants, usage
from leaderboard.store.postgres.pool import Pool, connection

_encode = msgspec.json.Encoder(decimal_format="string").encode


class MonthBody(msgspec.Struct, rename={"from_": "from"}):
    """What all projects of the tenant used in the month, up to now."""

    from_: date
    to: date
    requests: int
    score_updates: int
    rate_limited: int


class PlanBody(msgspec.Struct):
    """The plan. `bill` is null for a key without scope `admin`; it is a preview until the month is over."""

    tenant: str
    display_name: str | None
    plan: str
    limits: Quotas
    leaderboards: int
    month: MonthBody
    bill: Bill | None


class Plan:
    """The plan of the key's tenant."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}
    sessions: ClassVar[bool] = True

    def __init__(self, pool: Pool, *, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._now = now

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer the plan as it is, and the month as far as it is counted."""
        queries.known(req)
        context: KeyContext = req.context.key
        today = self._now().date()
        first = today.replace(day=1)
        last = today.replace(day=calendar.monthrange(today.year, today.month)[1])
        async with connection(self._pool) as conn:
            row = await tenants.by_id(conn, context.tenant_id)
            if row is None:
                raise Problem(problems.INVALID_API_KEY, "the tenant was deleted")
            used = await usage.of_tenant(conn, context.tenant_id, first_day=first, last_day=last)
            count = await boards.count_of_tenant(conn, context.tenant_id)
            prices = await tenants.prices(conn, row.plan)
        body = PlanBody(
            tenant=row.slug,
            display_name=row.display_name,
            plan=row.plan,
            limits=row.quotas,
            leaderboards=count,
            month=MonthBody(first, last, used.requests, used.score_updates, used.rate_limited),
            bill=bill(prices, score_updates=used.score_updates) if Scope.ADMIN in context.allowed else None,
        )
        data = _encode(body)
        caching.answer(req, resp, data, caching.etag_of(data))
