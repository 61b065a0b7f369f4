"""Dashboard sessions on the wire: the cookie, the token against forged requests, and their limiter.

A session may use the resources that say ``sessions = True``, all of which read Postgres alone. It is limited in this
very process, so that looking at the dashboard costs Redis nothing and uses up nothing of the tenant's plan.
"""

import hmac
import re
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

import falcon.asgi

from leaderboard.api import headers, problems
from leaderboard.api.problems import Problem
from leaderboard.domain.sessions import LIFETIME_SECONDS, Sealer, Session

Request = falcon.asgi.Request

REQUESTS_PER_SECOND = 20.0
"""What one session's key may ask for in the long run, in each process."""
BURST = 60.0
"""A view asks for a handful of things at once."""
SIGN_INS = "sign-in"
"""The name that all sign-ins of a process with a whole key share a limit under; it cannot be a key's id."""
MAX_BUCKETS = 10_000

_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?").fullmatch
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SessionLimiter:
    """A token bucket per session's key, in memory. `clock` gives monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> None:
        """Take one token of `name`, or raise Problem 429."""
        now = self._clock()
        tokens, at = self._buckets.pop(name, (BURST, now))
        tokens = min(BURST, tokens + (now - at) * REQUESTS_PER_SECOND)
        if len(self._buckets) >= MAX_BUCKETS:
            self._buckets.pop(next(iter(self._buckets)))  # the one that asked longest ago: it is full again, as a rule
        self._buckets[name] = (tokens - 1 if tokens >= 1 else tokens, now)
        if tokens < 1:
            raise Problem(
                problems.RATE_LIMITED,
                f"the dashboard allows {REQUESTS_PER_SECOND:g} requests per second",
                retry_after=(1 - tokens) / REQUESTS_PER_SECOND,
            )


def cookie_name(req: Request) -> str:
    """Return the cookie's name: with the prefix that makes browsers insist on Secure and on this very host.

    Over plain HTTP a browser takes that from nobody, and only the own machine may do without.
    """
    return "leaderboard-session" if _LOOPBACK(req.get_header("Host") or "") else "__Host-leaderboard-session"


def set_cookie(req: Request, resp: falcon.asgi.Response, value: str, *, max_age: int = LIFETIME_SECONDS) -> None:
    """Give the session to the browser; no script reads it and no other site's request carries it."""
    name = cookie_name(req)
    secure = "; Secure" if name.startswith("__Host-") else ""
    resp.append_header("Set-Cookie", f"{name}={value}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Strict{secure}")


def presented(req: Request, sealer: Sealer, *, now: float) -> Session | None:
    """Return the session of the request's cookie, None where it has none that is good.

    Raises Problem 403 for a request that another site made, or that would change something without the session's token.
    """
    cookie = headers.optional(req, b"cookie")
    if cookie is None:
        return None
    try:
        morsel = SimpleCookie(cookie).get(cookie_name(req))
    except CookieError:
        return None
    session = None if morsel is None else sealer.open(morsel.value, now=now)
    if session is None:
        return None
    check_own_site(req)
    if req.method not in _SAFE:
        token = req.get_header("X-CSRF-Token") or ""
        if not hmac.compare_digest(token.encode(), session.csrf_token.encode()):
            raise Problem(problems.FORGED_REQUEST, "X-CSRF-Token is not this session's")
    return session


def check_own_site(req: Request) -> None:
    """Raise Problem 403 where the browser says that another site made the request (Fetch Metadata, W3C)."""
    site = headers.optional(req, b"sec-fetch-site")
    if site not in (None, "same-origin", "none"):
        raise Problem(problems.FORGED_REQUEST, "another site sent this request")
