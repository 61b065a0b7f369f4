"""What schemathesis has to know beyond the document; loaded by the run in test_schemathesis.py.

No check is off. `filter_failure` lets one kind of finding pass: a valid request that is refused by a rule which no
schema can express, because it is about two fields together, or about the leaderboard as it is. Each is named here with
the operation and the very problem, so that any other refusal still counts.
"""

import base64
import json
import re
from datetime import date, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import Failure, ServerError
from schemathesis.openapi.checks import RejectedPositiveData

_IDS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/"), min_size=1, max_size=32
)
# The document's maxLength counts characters, the API bytes: 32 characters are 128 bytes at most.
schemathesis.openapi.format("user-id", _IDS)
schemathesis.openapi.format(
    "cursor",
    st.builds(
        lambda score, user: base64.urlsafe_b64encode(f"{score!r} {user}".encode()).decode().rstrip("="),
        st.floats(allow_nan=False, allow_infinity=False),
        _IDS,
    ),
)
# The ledger is not complete up to now, which is a 503; what is a second ago is for test_history.py.
schemathesis.openapi.format(
    "date-time",
    st.datetimes(datetime(2000, 1, 1), datetime(2020, 1, 1)).map(lambda moment: f"{moment.isoformat()}Z"),  # noqa: DTZ001
)


@schemathesis.hook
def map_query(context: schemathesis.HookContext, query: dict[str, Any]) -> dict[str, Any]:
    """Make what is valid by itself valid together, so that more than refusals is tested. Invalid values stay."""
    query = dict(query or {})
    if _valid_offset(query.get("offset")) and re.fullmatch("[A-Za-z0-9_-]+", str(query.get("cursor", "\n"))):
        del query["offset"]
    first, last = _day(query.get("from")), _day(query.get("to"))
    if first is not None and last is not None and not 0 <= (last - first).days < 366:
        query["to"] = query["from"]
    return query


def _valid_offset(offset: Any) -> bool:
    return isinstance(offset, int) and not isinstance(offset, bool) and 0 <= offset <= 2**53


def _day(text: Any) -> date | None:
    try:
        return date.fromisoformat(text) if isinstance(text, str) and len(text) == 10 else None
    except ValueError:
        return None


_TOP = {
    ("invalid-parameter", "send offset or cursor, not both"),  # two parameters together
    ("invalid-parameter", "cursor is not one of ours"),  # what a cursor holds is nobody's business
}
_RESET = ("invalid-request", "reset: ")  # what cron can read, and which time zones there are
_TIERS = ("invalid-request", "tiers: ")  # one bound after another, and each name once; the digits of a share
_BOUNDS = ("invalid-request", "bounds: ")  # two of them together, one at least
_BEYOND_THE_SCHEMA = {
    "GET /v1/leaderboards/{leaderboard}/top": _TOP,
    "GET /v1/public/{tenant}/{project}/leaderboards/{leaderboard}/top": _TOP,
    "GET /v1/users/{user}/data": {("invalid-parameter", "cursor is not one of ours")},
    "GET /v1/usage": {("invalid-parameter", "from must not be after to")},  # two parameters together
    "GET /v1/usage/series": {
        ("invalid-parameter", "from must not be after to"),
        ("invalid-parameter", "hours are kept for"),
    },
    "POST /v1/leaderboards": {_RESET, _BOUNDS, _TIERS},
    # The first depends on the board as it is.
    "PATCH /v1/leaderboards/{leaderboard}": {("immutable-field", ""), _RESET, _BOUNDS, _TIERS},
    "POST /v1/scores/update": {
        ("wrong-score-field", ""),  # depends on the board's rule
        ("score-out-of-range", ""),  # depends on the score as it is
        ("idempotency-mismatch", ""),  # depends on what came before
    },
}
# A season that this run ended a moment ago takes the worker a second or two.
_ON_THE_WAY = {
    f"GET /v1/leaderboards/{{leaderboard}}/seasons/{{season}}{what}": {("season-not-archived", "")}
    for what in ("", "/top", "/rank/{user}")
}


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case, response: schemathesis.Response
) -> bool:
    """Keep every finding but the refusals named above."""
    if not isinstance(failure, RejectedPositiveData | ServerError):
        return True
    problem = json.loads(response.content)
    kind, detail = problem["type"].removeprefix("/problems/"), problem.get("detail", "")
    allowed = (_ON_THE_WAY if isinstance(failure, ServerError) else _BEYOND_THE_SCHEMA).get(case.operation.label, set())
    return not any(kind == name and detail.startswith(text) for name, text in allowed)
