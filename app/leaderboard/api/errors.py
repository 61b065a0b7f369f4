"""Step 7: every exception becomes a problem, and those that are ours to fix are logged with the trace id."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import falcon
import falcon.asgi

from leaderboard.api import problems
from leaderboard.api.problems import Problem, ProblemType
from leaderboard.api.trace import trace_id
from leaderboard.control import errors as control
from leaderboard.domain import errors as domain
from leaderboard.store.postgres.pool import DatabaseUnavailable
from leaderboard.store.redis.errors import InDoubt, RedisOverloaded, RedisUnavailable

log = logging.getLogger(__name__)

# What the layers below raise, most specific first; the detail is their own message, which is written for the sender.
_REFUSALS: tuple[tuple[type[Exception], ProblemType], ...] = (
    (domain.QuotaExceeded, problems.QUOTA_EXCEEDED),
    (domain.ImmutableField, problems.IMMUTABLE_FIELD),
    (domain.DomainError, problems.INVALID_REQUEST),
    (control.KeyManaged, problems.KEY_MANAGED),
    (control.KeyNotFound, problems.KEY_NOT_FOUND),
    (control.ErasureNotFound, problems.ERASURE_NOT_FOUND),
    (control.HoldNotFound, problems.HOLD_NOT_FOUND),
    (control.AlreadyDecided, problems.HOLD_DECIDED),
    (control.AlreadyExists, problems.BOARD_EXISTS),
    (control.SeasonOver, problems.SEASON_OVER),
    (control.ManagedElsewhere, problems.MANAGED_ELSEWHERE),
    (control.NotFound, problems.BOARD_NOT_FOUND),
)
# What a dependency's failure means, most specific first. The cause is logged, not told: it may name hosts.
_FAILURES: tuple[tuple[type[Exception], ProblemType, float], ...] = (
    (RedisOverloaded, problems.OVERLOADED, 1.0),
    (RedisUnavailable, problems.STORE_UNAVAILABLE, 1.0),
    (InDoubt, problems.IN_DOUBT, 1.0),
    (DatabaseUnavailable, problems.STORE_UNAVAILABLE, 2.0),
    (control.HoldNotReady, problems.HOLD_NOT_READY, 2.0),
    (control.NotDrained, problems.BOARD_UNAVAILABLE, 5.0),
)
_FALCON = {
    404: problems.ROUTE_NOT_FOUND,
    405: problems.METHOD_NOT_ALLOWED,
    413: problems.BODY_TOO_LARGE,
    415: problems.UNSUPPORTED_MEDIA_TYPE,
    431: problems.HEADERS_TOO_LARGE,
}


_Handler = Callable[[Any, Any, Any, Any], Awaitable[None]]
Answered = Callable[[Any, Any], None]
"""Is told the request and the problem it was answered with."""


def install(app: "falcon.asgi.App[Any, Any]", answered: Answered) -> None:
    """Answer every exception of `app` with a problem, and tell `answered`."""

    def telling(handler: _Handler) -> _Handler:
        async def handle(req: Any, resp: Any, error: Any, params: Any) -> None:
            await handler(req, resp, error, params)
            answered(req, resp)

        return handle

    for kind, handler in _HANDLERS.items():
        app.add_error_handler(kind, telling(handler))


async def answer(req: Any, resp: Any, error: Exception, params: Any) -> None:
    """Make `resp` the problem that `error` is, by the handler of its nearest class, as Falcon chooses too."""
    handler = next(_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)
    await handler(req, resp, error, params)


async def _problem(req: Any, resp: Any, error: Problem, params: Any) -> None:  # noqa: ARG001
    if error.kind.status >= 500:
        _log_failure(req, error, error.kind)
    problems.write(resp, error, trace_id=trace_id(req))


async def _refusal(req: Any, resp: Any, error: Exception, params: Any) -> None:  # noqa: ARG001
    kind = next(kind for raised, kind in _REFUSALS if isinstance(error, raised))
    problems.write(resp, Problem(kind, str(error)), trace_id=trace_id(req))


async def _failure(req: Any, resp: Any, error: Exception, params: Any) -> None:  # noqa: ARG001
    kind, retry_after = next((kind, after) for raised, kind, after in _FAILURES if isinstance(error, raised))
    if kind is problems.IN_DOUBT and req.method == "GET":
        kind = problems.STORE_UNAVAILABLE  # a read whose answer was lost leaves nothing in doubt
    req.context.error = error  # for the span
    _log_failure(req, error, kind)
    problems.write(resp, Problem(kind, retry_after=retry_after), trace_id=trace_id(req))


_last_logged: dict[str, float] = {}


def _log_failure(req: Any, error: Exception, kind: ProblemType) -> None:
    # An outage fails thousands of requests a second for one reason: one line a second a kind says as much.
    now = time.monotonic()
    if now - _last_logged.get(kind.name, float("-inf")) >= 1.0:
        _last_logged[kind.name] = now
        extra = {"trace_id": trace_id(req), "problem": kind.name}
        log.warning("%s %s: %s", req.method, req.path, error, extra=extra)


async def _falcon(req: Any, resp: Any, error: falcon.HTTPError, params: Any) -> None:  # noqa: ARG001
    status = error.status_code
    kind = _FALCON.get(status, problems.INVALID_PARAMETER)
    problem = Problem(kind, error.description)
    for name, value in dict(error.headers or {}).items():
        problem.headers[name] = value
    problems.write(resp, problem, trace_id=trace_id(req))


async def _internal(req: Any, resp: Any, error: Exception, params: Any) -> None:  # noqa: ARG001
    req.context.error = error
    log.error("%s %s failed", req.method, req.path, exc_info=error, extra={"trace_id": trace_id(req)})
    problems.write(resp, Problem(problems.INTERNAL_ERROR), trace_id=trace_id(req))


_HANDLERS: dict[type[Exception], _Handler] = {
    Exception: _internal,
    falcon.HTTPError: _falcon,
    Problem: _problem,
    **{kind: _refusal for kind, _ in _REFUSALS},
    **{kind: _failure for kind, _, _ in _FAILURES},
}
