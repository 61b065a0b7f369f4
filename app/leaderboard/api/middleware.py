"""The steps in front of every handler, in the order of the architecture: API key, tenant context, OTEL, rate limiter.

The JSON body (step 5) is read by the handler that wants one (`bodies.py`), after one token was taken. Resources say
what they need: ``scopes`` maps methods to the least scope; a resource without it is open and passes all steps but
telemetry. The public route is open to everybody, but has a tenant whose limit counts: it fills in the context itself.
A resource that also says ``sessions = True`` may be used with a session of the dashboard instead of a key.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import falcon.asgi

from leaderboard.api import problems, sessions
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.api.sessions import SessionLimiter
from leaderboard.api.usage import UsageMeter
from leaderboard.domain.errors import InvalidApiKey
from leaderboard.domain.keys import Scope, parse_key
from leaderboard.domain.sessions import Sealer, Session
from leaderboard.store.redis.errors import InDoubt, RedisUnavailable
from leaderboard.store.redis.key_cache import KeyCache
from leaderboard.store.redis.limiter import Decision, Limiter

Request = falcon.asgi.Request
Response = falcon.asgi.Response


class ApiKey:
    """Step 1: take the key out of the headers, or the session out of its cookie. `now` gives the Unix time."""

    def __init__(self, sealer: Sealer, *, now: Callable[[], float]) -> None:
        self._sealer = sealer
        self._now = now

    async def process_resource(self, req: Request, resp: Response, resource: Any, params: dict[str, str]) -> None:  # noqa: ARG002
        """Put the key's text into ``req.context.api_key``, '' with ``req.context.session`` for a session.

        Raises Problem 401 where there is neither.
        """
        if getattr(resource, "scopes", None) is None:
            return
        header = req.get_header("Authorization")
        if header is not None:
            scheme, _, text = header.partition(" ")
            if scheme.lower() != "bearer":
                raise Problem(problems.INVALID_API_KEY, "Authorization must be 'Bearer <key>'")
            req.context.api_key = text.strip()
            return
        key = req.get_header("X-API-Key")
        if key is None:
            key, req.context.session = "", self._session(req, resource)
        req.context.api_key = key

    def _session(self, req: Request, resource: Any) -> Session:
        if getattr(resource, "sessions", False):
            session = sessions.presented(req, self._sealer, now=self._now())
            if session is not None:
                return session
        raise Problem(problems.MISSING_API_KEY)


class TenantContext:
    """Step 2: what the key opens. `region` is this region's name, '' to serve every tenant; `now` the Unix time.

    `cache` knows keys by their text, `sessions` by their id.
    """

    def __init__(
        self,
        cache: KeyCache[KeyContext],
        sessions: KeyCache[KeyContext],
        *,
        region: str,
        now: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._sessions = sessions
        self._region = region
        self._now = now

    async def process_resource(self, req: Request, resp: Response, resource: Any, params: dict[str, str]) -> None:  # noqa: ARG002
        """Put the KeyContext into ``req.context.key``; raise Problem 401, 403 or 421 where it does not open this."""
        if getattr(resource, "scopes", None) is None:
            return
        text = req.context.api_key
        known, context = self._cache.get(text)
        if not known and text:
            context = await self._fetch(text)
        context = self._opens(context) if text else await self._opened_in_step(req)
        req.context.key = context  # before the scope is looked at: that refusal is the project's too
        needed: Scope | None = resource.scopes.get(req.method)
        if needed is not None and needed not in context.allowed:
            raise Problem(
                problems.INSUFFICIENT_SCOPE, f"this takes scope {needed.value}, the key has {context.scope.value}"
            )

    async def _opened_in_step(self, req: Request) -> KeyContext:
        session = getattr(req.context, "session", None)
        if session is None:  # an empty key was given
            raise Problem(problems.INVALID_API_KEY)
        return await self.opened_by_session(session)

    async def opened_by(self, api_key: str) -> KeyContext:
        """Return what a key opens, or raise Problem where it opens nothing (any more), as for a request."""
        known, context = self._cache.get(api_key)
        return self._opens(context if known else await self._fetch(api_key))

    async def opened_by_session(self, session: Session) -> KeyContext:
        """Return what the session's key opens, or raise Problem where it opens nothing any more."""
        known, context = self._sessions.get(session.key_id)
        return self._opens(context if known else await self._sessions.fetch(session.key_id))

    async def still_opened_by(self, credential: str | Session) -> KeyContext:
        """Return what a key or session opens that opened something before, or raise Problem where it does no more."""
        if isinstance(credential, str):
            return await self.opened_by(credential)
        if self._now() >= credential.expires_at:
            raise Problem(problems.NO_SESSION)
        return await self.opened_by_session(credential)

    async def _fetch(self, text: str) -> KeyContext | None:
        try:
            parse_key(text)  # a wrong checksum asks nobody
        except InvalidApiKey as error:
            raise Problem(problems.INVALID_API_KEY, str(error)) from error
        return await self._cache.fetch(text)

    def _opens(self, context: KeyContext | None) -> KeyContext:
        if context is None:
            raise Problem(problems.INVALID_API_KEY)
        if context.expires_at is not None and self._now() >= context.expires_at:
            raise Problem(problems.INVALID_API_KEY, "the key has expired")
        check_open(context, region=self._region)
        return context


def check_open(context: KeyContext, *, region: str) -> None:
    """Raise Problem where the tenant is suspended (403) or at home elsewhere (421)."""
    if context.suspended:
        raise Problem(problems.TENANT_SUSPENDED)
    if context.home_region and region and context.home_region != region:
        raise Problem(problems.WRONG_REGION, f"the tenant's region is {context.home_region}")


@contextmanager
def _undone() -> Iterator[None]:
    """Turn doubt about tokens into RedisUnavailable: at most a token is lost, and the request itself was not begun."""
    try:
        yield
    except InDoubt as error:
        raise RedisUnavailable("the rate limiter got no answer") from error


class RateLimit:
    """Step 4: one token per request, before its body is read. Sessions have a limiter of their own, in memory."""

    def __init__(self, limiter: Limiter, meter: UsageMeter, sessions: SessionLimiter) -> None:
        self._limiter = limiter
        self._meter = meter
        self._sessions = sessions

    async def process_resource(self, req: Request, resp: Response, resource: Any, params: dict[str, str]) -> None:  # noqa: ARG002
        """Take a token of the request's tenant; raise Problem 429 where there is none."""
        context = getattr(req.context, "key", None)
        if context is not None and not self._admit_held(context, resp):
            await self._admit(context, resp)

    async def admit(self, context: KeyContext, resp: Response) -> None:
        """Take one token and say so in the headers, or raise Problem 429."""
        if not self._admit_held(context, resp):
            await self._admit(context, resp)

    def _admit_held(self, context: KeyContext, resp: Response) -> bool:
        # The steady state, without a coroutine and a Decision (0.3 us).
        remaining = self._limiter.take_held(context.bucket, rate=context.rate)
        if remaining is None:
            return False
        _tell(context, resp, remaining)
        self._meter.request(context.project_id)
        return True

    async def _admit(self, context: KeyContext, resp: Response) -> None:
        if not context.bucket:  # a session's
            self._sessions.take(context.key_id)
            return
        with _undone():
            decision = await self._limiter.take(context.bucket, rate=context.rate)
        self._answer(context, resp, decision)
        self._meter.request(context.project_id)

    async def admit_more(self, context: KeyContext, resp: Response, *, count: int) -> None:
        """Take `count` further tokens, all or none, for the other updates of a batch."""
        if count + 1 > context.rate:
            raise Problem(
                problems.BATCH_EXCEEDS_RATE,
                f"{count + 1} updates, but the plan allows {context.rate} a second: split the batch",
            )
        with _undone():
            decision = await self._limiter.take_many(context.bucket, count, rate=context.rate)
        self._answer(context, resp, decision)

    def _answer(self, context: KeyContext, resp: Response, decision: Decision) -> None:
        _tell(context, resp, decision.remaining)
        if not decision.allowed:
            self._meter.limited(context.project_id)
            raise Problem(
                problems.RATE_LIMITED,
                f"the tenant's plan allows {decision.limit} requests per second",
                retry_after=decision.retry_after,
            )


def _tell(context: KeyContext, resp: Response, remaining: int) -> None:
    if context.key_id:  # a shared cache would keep the public route's numbers, and they are nobody's business
        resp.set_header("RateLimit-Policy", context.policy)
        resp.set_header("RateLimit", f'"plan";r={remaining};t=1')
