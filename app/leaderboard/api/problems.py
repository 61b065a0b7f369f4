"""Errors as RFC 9457 problem details: one table of types, one exception, one way to write them.

``type`` is a path of this very API (``/problems/board-not-found``): stable, and a page that says what to do. A client
decides by ``type``, never by the text of ``detail``.
"""

from typing import Any

import falcon
import falcon.asgi
import msgspec

MEDIA_TYPE = "application/problem+json"
PREFIX = "/problems/"


class ProblemType(msgspec.Struct, frozen=True):
    """One kind of error: its name in the URL, HTTP status, title, and what the reader can do about it."""

    name: str
    status: int
    title: str
    advice: str


def _type(name: str, status: int, title: str, advice: str) -> ProblemType:
    kind = ProblemType(name, status, title, advice)
    TYPES[name] = kind
    return kind


TYPES: dict[str, ProblemType] = {}
"""Every problem type by name."""

MALFORMED_JSON = _type(
    "malformed-json", 400, "The body is not JSON", "Send one JSON object in UTF-8; NaN and Infinity are not JSON."
)
MALFORMED_REQUEST = _type(
    "malformed-request", 400, "The request is not HTTP", "Use an HTTP/1.1 client; the connection was closed."
)
INVALID_PARAMETER = _type(
    "invalid-parameter", 400, "A query or path parameter is wrong", "Read detail; it names the parameter."
)
MISSING_API_KEY = _type(
    "missing-api-key", 401, "No API key", "Send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'."
)
INVALID_API_KEY = _type(
    "invalid-api-key",
    401,
    "The API key is not valid",
    "Check that the key is copied whole, and that it was not revoked, rotated or expired.",
)
NO_SESSION = _type(
    "no-session",
    401,
    "Nobody is signed in",
    "Sign in to the dashboard; a session ends after 12 hours, or with its key.",
)
FORGED_REQUEST = _type(
    "forged-request", 403, "The request was not made by the dashboard", "Reload the dashboard and try again."
)
INSUFFICIENT_SCOPE = _type(
    "insufficient-scope", 403, "The API key may not do this", "Use a key with the scope that detail names."
)
TENANT_SUSPENDED = _type("tenant-suspended", 403, "The tenant is suspended", "Ask the platform team; the data is kept.")
BOARD_SUSPENDED = _type(
    "board-suspended", 403, "The leaderboard is suspended", "Ask the platform team; the data is kept."
)
ROUTE_NOT_FOUND = _type("route-not-found", 404, "There is no such path", "See /docs for the paths there are.")
BOARD_NOT_FOUND = _type(
    "board-not-found", 404, "There is no such leaderboard", "Make it with POST /v1/leaderboards, or check the name."
)
USER_NOT_FOUND = _type(
    "user-not-found", 404, "The user is not on this leaderboard", "The user never scored, was removed, or fell out."
)
SEASON_NOT_FOUND = _type(
    "season-not-found", 404, "There is no such season", "See GET /v1/leaderboards/{leaderboard}/seasons."
)
KEY_NOT_FOUND = _type(
    "key-not-found",
    404,
    "There is no such API key",
    "See GET /v1/keys; one that was revoked or has expired is not there.",
)
ERASURE_NOT_FOUND = _type(
    "erasure-not-found", 404, "There is no such erasure", "Use the id that POST /v1/users/{user}/erasure answered."
)
HOLD_NOT_FOUND = _type(
    "hold-not-found",
    404,
    "The leaderboard has no such held update",
    "Use the id that the update was answered with, or that GET /v1/leaderboards/{leaderboard}/held lists.",
)
METHOD_NOT_ALLOWED = _type("method-not-allowed", 405, "The path does not take this method", "See the Allow header.")
REQUEST_TIMEOUT = _type("request-timeout", 408, "The body did not arrive in time", "Send the body at once.")
BOARD_EXISTS = _type("board-exists", 409, "There is a leaderboard of this key", "Use it, or choose another key.")
SEASON_OVER = _type(
    "season-over",
    409,
    "The leaderboard is in another season",
    "Read the leaderboard: its season may have been ended already, by this very request if it was sent before.",
)
HOLD_DECIDED = _type(
    "hold-decided", 409, "The held update was decided otherwise", "Read it; a decision stands once it is made."
)
MANAGED_ELSEWHERE = _type(
    "managed-elsewhere",
    409,
    "A custom resource owns this leaderboard",
    "Change the Leaderboard resource instead; the operator would undo a change made here.",
)
KEY_MANAGED = _type(
    "key-managed",
    409,
    "A custom resource owns this API key",
    "Change apiKey.rotationTrigger of the Tenant resource, or make a key of your own with POST /v1/keys.",
)
HISTORY_GONE = _type(
    "history-gone",
    410,
    "The ledger does not go back so far",
    "Ask for the time that detail names, or a later one. The standings of seasons that are over are kept.",
)
BODY_TOO_LARGE = _type("body-too-large", 413, "The body is too large", "Split the request; detail gives the limit.")
UNSUPPORTED_MEDIA_TYPE = _type(
    "unsupported-media-type", 415, "The body is not declared as JSON", "Send 'Content-Type: application/json'."
)
WRONG_REGION = _type(
    "wrong-region", 421, "The tenant is at home in another region", "Send the request to the region in detail."
)
INVALID_REQUEST = _type("invalid-request", 422, "The body does not fit its schema", "Read detail; it names the field.")
WRONG_SCORE_FIELD = _type(
    "wrong-score-field",
    422,
    "The leaderboard's rule takes the other field",
    "Send increment to a sum leaderboard, score to a best or latest one.",
)
SCORE_OUT_OF_RANGE = _type(
    "score-out-of-range", 422, "The sum would leave +-2^53", "Past it, an increment of 1 would be lost: rescale."
)
IDEMPOTENCY_MISMATCH = _type(
    "idempotency-mismatch",
    422,
    "The Idempotency-Key was used for another update",
    "Use a new key for a new update, and the same body for a retry.",
)
HISTORY_TOO_LONG = _type(
    "history-too-long",
    422,
    "The leaderboard has too much history to read in one request",
    "Ask for a time nearer to the beginning of its season. The standings of seasons that are over are kept.",
)
IMMUTABLE_FIELD = _type(
    "immutable-field", 422, "The field cannot change", "Delete the leaderboard and make it again, or use a new key."
)
QUOTA_EXCEEDED = _type("quota-exceeded", 403, "The plan is used up", "Delete something or move to a larger plan.")
BATCH_EXCEEDS_RATE = _type(
    "batch-exceeds-rate",
    422,
    "The batch has more updates than the plan allows in a second",
    "Split the batch; each update takes one token.",
)
RATE_LIMITED = _type("rate-limited", 429, "Too many requests", "Wait for Retry-After seconds, then go on.")
HEADERS_TOO_LARGE = _type("headers-too-large", 431, "The headers are too large", "Send fewer or shorter headers.")
INTERNAL_ERROR = _type(
    "internal-error", 500, "The platform failed", "Report the trace_id; the request may or may not have been done."
)
BOARD_UNAVAILABLE = _type(
    "board-unavailable",
    503,
    "The leaderboard's entries are being restored",
    "Try again later. The operator of the platform: see `leaderboard rebuild`.",
)
SEASON_NOT_ARCHIVED = _type(
    "season-not-archived", 503, "The season's standings are on their way to the archive", "Try again after Retry-After."
)
HOLD_NOT_READY = _type(
    "hold-not-ready",
    503,
    "The held update may be on its way to the quarantine",
    "Nothing was decided; try again after Retry-After. Of an id that is none the answer is hold-not-found then.",
)
HISTORY_NOT_READY = _type(
    "history-not-ready",
    503,
    "Events up to that time may be on their way to the ledger",
    "Try again after Retry-After, or ask for the time that detail names.",
)
OUTBOX_FULL = _type(
    "outbox-full",
    503,
    "The ledger is behind",
    "Nothing was written; try again after Retry-After. The operator of the platform: see the worker and Postgres.",
)
IN_DOUBT = _type(
    "in-doubt",
    503,
    "It is not known whether the update was done",
    "Send it again with the same Idempotency-Key; without one, read the rank before you retry.",
)
STORE_UNAVAILABLE = _type(
    "store-unavailable", 503, "A store cannot be reached", "Nothing was done; try again after Retry-After."
)
OVERLOADED = _type("overloaded", 503, "The process is full", "Nothing was done; try again after Retry-After.")


class Problem(Exception):
    """Ends the request with a problem. `detail` is for the sender: say what was wrong with this very request."""

    def __init__(
        self, kind: ProblemType, detail: str | None = None, *, retry_after: float | None = None, **headers: str
    ) -> None:
        super().__init__(detail or kind.title)
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        self.headers = headers


class _Body(msgspec.Struct, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str | None = None
    advice: str | None = None
    trace_id: str | None = None


_encode = msgspec.json.Encoder().encode


def render(kind: ProblemType, detail: str | None, *, trace_id: str | None) -> bytes:
    """Return the problem document as JSON."""
    return _encode(_Body(PREFIX + kind.name, kind.title, kind.status, detail, kind.advice, trace_id))


def brief(kind: ProblemType, detail: str | None) -> dict[str, Any]:
    """Return the problem as one item of a batch carries it: no trace id, that is the whole answer's."""
    return {"status": kind.status, "type": PREFIX + kind.name, "title": kind.title, "detail": detail or kind.advice}


def write(resp: falcon.asgi.Response, problem: Problem, *, trace_id: str) -> None:
    """Make `resp` the answer that `problem` is. It is never cached."""
    kind = problem.kind
    resp.status = kind.status
    resp.content_type = MEDIA_TYPE
    resp.data = render(kind, problem.detail, trace_id=trace_id)
    resp.text = None
    resp.set_header("Cache-Control", "no-store")
    if problem.retry_after is not None:
        # Whole seconds, rounded up: a client that waits so long is not refused for a rounding.
        resp.set_header("Retry-After", str(max(1, int(-(-problem.retry_after // 1)))))
    if kind.status == 401:
        resp.set_header("WWW-Authenticate", "Bearer")
    for name, value in problem.headers.items():
        resp.set_header(name.replace("_", "-"), value)
