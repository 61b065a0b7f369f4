"""What a call may raise::

LeaderboardError
+-- TransportError        no answer that could be read
+-- ApiError              the API (or a proxy before it) said no
    +-- InvalidRequest    400, 413, 415, 422
    +-- InvalidApiKey     401
    +-- InsufficientScope 403 insufficient-scope
    +-- NotFound          404
    +-- Conflict          409
    +-- RateLimited       429
    +-- InDoubt           503 in-doubt: the update may or may not have been done
    +-- Unavailable       502, 504 and every other 503
"""

import copy
from collections.abc import Mapping
from typing import Any, Self

PREFIX = "/problems/"


class LeaderboardError(Exception):
    """Base of all. `idempotency_key` is what the call was sent under, None where it was under none.

    Repeat the same update under this key and it counts once, whatever became of the first.
    """

    idempotency_key: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way makes a copy by calling the class with the message alone, which these do not take.
        return _made_again, (type(self), self.args, self.__dict__)

    def under(self, idempotency_key: str) -> Self:
        """Return a copy for one of several updates that failed together, with the key of that one."""
        own = copy.copy(self)
        own.idempotency_key = idempotency_key
        own.__cause__ = self
        return own


def _made_again(kind: type[LeaderboardError], args: tuple[Any, ...], state: Mapping[str, Any]) -> LeaderboardError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class TransportError(LeaderboardError):
    """No answer came, or none that could be read. `sent` says whether the request may have been done."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class ApiError(LeaderboardError):
    """A problem document (RFC 9457). Decide by `type` ("board-not-found"); it is "" where a proxy answered.

    `trace_id` finds the request in the platform's logs; `retry_after` is in seconds.
    """

    def __init__(
        self,
        *,
        status: int,
        type: str = "",
        title: str = "",
        detail: str = "",
        trace_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {type or 'no problem document'}: {detail or title}")
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail
        self.trace_id = trace_id
        self.retry_after = retry_after


class InvalidRequest(ApiError):
    """The request is wrong; `detail` says where."""


class InvalidApiKey(ApiError):
    """There is no key, or it opens nothing."""


class InsufficientScope(ApiError):
    """The key may not do this."""


class NotFound(ApiError):
    """There is no such leaderboard, or what is asked of it is not there: a user, a season, a held update."""


class Conflict(ApiError):
    """It is otherwise by now: there is a leaderboard of this key, another season, another decision about a held update.

    Or a custom resource owns the leaderboard.
    """


class RateLimited(ApiError):
    """The plan's tokens are used up. Nothing was done."""


class Unavailable(ApiError):
    """The platform cannot serve now."""


class InDoubt(ApiError):
    """It is not known whether the update was done: repeat it under `idempotency_key`."""


_BY_TYPE: Mapping[str, type[ApiError]] = {"in-doubt": InDoubt, "insufficient-scope": InsufficientScope}
_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: InvalidApiKey,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def of_problem(status: int, document: Mapping[str, Any], *, retry_after: float | None = None) -> ApiError:
    """Return the error that a problem document is. Fields it does not have, or has as something else, are empty."""

    def text(name: str) -> str:
        value = document.get(name)
        return value if isinstance(value, str) else ""

    kind = text("type").removeprefix(PREFIX)
    error = _BY_TYPE.get(kind) or _BY_STATUS.get(status, ApiError)
    return error(
        status=status,
        type=kind,
        title=text("title"),
        detail=text("detail"),
        trace_id=text("trace_id") or None,
        retry_after=retry_after,
    )
