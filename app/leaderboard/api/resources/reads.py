"""Reads of one board: top, rank, around and members, and the public top. Each is one Redis round trip."""

from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import falcon.asgi
import msgspec

from leaderboard.api import caching, problems, queries
from leaderboard.api.context import KeyContext
from leaderboard.api.middleware import RateLimit, check_open
from leaderboard.api.problems import Problem
from leaderboard.api.refusals import Refusals
from leaderboard.domain import names
from leaderboard.domain.errors import InvalidName
from leaderboard.domain.keys import Scope
from leaderboard.domain.scores import plain
from leaderboard.domain.tiers import tier_of
from leaderboard.store.redis.key_cache import KeyCache
from leaderboard.store.redis.scores import Line, Page, Refusal, Scores

DEFAULT_LIMIT = 10
DEFAULT_AROUND = 11
MAX_AROUND = 201
MAX_MEMBERS = 100

_encode = msgspec.json.Encoder().encode


class EntryBody(msgspec.Struct):
    """One line of a board."""

    rank: int
    user: str
    score: int | float


class TopBody(msgspec.Struct):
    """A page of a board; `next_cursor` is null on the last one."""

    leaderboard: str
    total: int
    entries: list[EntryBody]
    next_cursor: str | None


class AroundBody(msgspec.Struct):
    """A window of a board."""

    leaderboard: str
    total: int
    entries: list[EntryBody]


class RankBody(msgspec.Struct):
    """One user's line among `total`; `tier` is null where no tier of the board holds it."""

    leaderboard: str
    rank: int
    user: str
    score: int | float
    total: int
    percentile: float
    tier: str | None


class MembersBody(msgspec.Struct):
    """The lines of the users asked for, in their order, and who of them is not on the board."""

    leaderboard: str
    total: int
    entries: list[EntryBody]
    missing: list[str]


def percentile(rank: int, total: int) -> float:
    """Return what share of a board's `total` entries is not better than the one of `rank`, itself included, in percent.

    Rounded down to four digits after the point, so that only rank 1 has 100.
    """
    return (total - rank + 1) * 1_000_000 // total / 10_000


def user_in_path(req: falcon.asgi.Request, user: str) -> str:
    """Return the user id of the path, or raise Problem 400."""
    # The server decodes the path leniently: U+FFFD stands for bytes that were not UTF-8, or for itself.
    if "\ufffd" in user:
        try:
            unquote_to_bytes(req.scope.get("raw_path", b"")).decode()
        except UnicodeDecodeError as error:
            raise Problem(problems.INVALID_PARAMETER, "the user in the path must be UTF-8") from error
    try:
        return names.user_id(user)
    except InvalidName as error:
        raise Problem(problems.INVALID_PARAMETER, str(error)) from error


def _entries(page: Page) -> list[EntryBody]:
    return [EntryBody(entry.rank, entry.user, plain(entry.score)) for entry in page.entries]


def _render_top(key: str, count: int, page: Page) -> tuple[bytes, str]:
    more = len(page.entries) == count and page.start + count < page.total
    cursor = queries.encode_cursor(page.entries[-1].score, page.last_member) if more else None
    body = _encode(TopBody(key, page.total, _entries(page), cursor))
    return body, caching.etag_of(body)


def _render_around(key: str, page: Page) -> tuple[bytes, str]:
    body = _encode(AroundBody(key, page.total, _entries(page)))
    return body, caching.etag_of(body)


class _TopQuery(msgspec.Struct, frozen=True):
    count: int
    start: int
    after: tuple[float, str] | None


def _top_query(req: falcon.asgi.Request) -> _TopQuery:
    if not req.query_string:
        return _TopQuery(DEFAULT_LIMIT, 0, None)
    queries.known(req, "limit", "offset", "cursor")
    count = queries.integer(req, "limit", default=DEFAULT_LIMIT, minimum=1, maximum=queries.MAX_LIMIT)
    start = queries.integer(req, "offset", default=0, minimum=0, maximum=queries.MAX_OFFSET)
    cursor = queries.text_of(req, "cursor")
    if cursor is not None and "offset" in req.params:
        raise Problem(problems.INVALID_PARAMETER, "send offset or cursor, not both")
    return _TopQuery(count, start, None if cursor is None else queries.decode_cursor(cursor))


class _BoardRead:
    def __init__(self, store: Scores, refusals: Refusals) -> None:
        self._store = store
        self._refusals = refusals

    async def _found(self, result: Any, context: KeyContext, key: str) -> Any:
        if isinstance(result, Refusal):
            await self._refusals.refuse(result, context, key)
        if result is None:
            raise Problem(problems.USER_NOT_FOUND)
        return result

    async def _top(self, context: KeyContext, key: str, query: _TopQuery, *, public: bool) -> tuple[bytes, str]:
        result = await self._store.top(
            context.namespace + key,
            start=query.start,
            count=query.count,
            after=query.after,
            public=public,
            render=lambda page: _render_top(key, query.count, page),
        )
        found: tuple[bytes, str] = await self._found(result, context, key)
        return found


class Top(_BoardRead):
    """``GET /v1/leaderboards/{leaderboard}/top``: the best, by limit and offset or cursor."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Answer one page."""
        key = queries.board(leaderboard)
        body, etag = await self._top(req.context.key, key, _top_query(req), public=False)
        caching.answer(req, resp, body, etag)


class Rank(_BoardRead):
    """``GET /v1/leaderboards/{leaderboard}/rank/{user}``: one user's line."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, user: str) -> None:
        """Answer the user's score and rank, 404 where the user is not on the board."""
        queries.known(req)
        key, name, context = queries.board(leaderboard), user_in_path(req, user), req.context.key
        line: Line = await self._found(await self._store.rank(context.namespace + key, user=name), context, key)
        rank, total = line.rank, line.total
        tier = tier_of(line.tiers, rank=rank, total=total)
        body = _encode(RankBody(key, rank, name, plain(line.score), total, percentile(rank, total), tier))
        caching.answer(req, resp, body, caching.etag_of(body))


class Around(_BoardRead):
    """``GET /v1/leaderboards/{leaderboard}/around/{user}``: a window with the user in the middle."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, user: str) -> None:
        """Answer `limit` entries, moved inwards at either end of the board."""
        queries.known(req, "limit")
        count = queries.integer(req, "limit", default=DEFAULT_AROUND, minimum=1, maximum=MAX_AROUND)
        key, name, context = queries.board(leaderboard), user_in_path(req, user), req.context.key
        result = await self._store.around(
            context.namespace + key, user=name, count=count, render=lambda page: _render_around(key, page)
        )
        body, etag = await self._found(result, context, key)
        caching.answer(req, resp, body, etag)


class Members(_BoardRead):
    """``GET /v1/leaderboards/{leaderboard}/members?ids=a,b``: several users' lines."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:
        """Answer the lines in the order asked, and who is missing."""
        queries.known(req, "ids")
        key, context = queries.board(leaderboard), req.context.key
        try:
            users: list[str] = [names.user_id(user) for user in queries.listed(req, "ids")]
        except InvalidName as error:
            raise Problem(problems.INVALID_PARAMETER, f"ids: {error}") from error
        if not 1 <= len(users) <= MAX_MEMBERS:
            raise Problem(
                problems.INVALID_PARAMETER, f"ids must name 1 to {MAX_MEMBERS} users, as ids=a,b; got {len(users)}"
            )
        result = await self._store.members(context.namespace + key, users=users)
        total, standings = await self._found(result, context, key)
        found = [
            EntryBody(standing.rank, user, plain(standing.score))
            for user, standing in zip(users, standings, strict=True)
            if standing is not None
        ]
        missing = [user for user, standing in zip(users, standings, strict=True) if standing is None]
        body = _encode(MembersBody(key, total, found, missing))
        caching.answer(req, resp, body, caching.etag_of(body))


class Member(_BoardRead):
    """``DELETE /v1/leaderboards/{leaderboard}/members/{user}``: take a user off the board."""

    scopes: ClassVar[dict[str, Scope]] = {"DELETE": Scope.WRITE}

    async def on_delete(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str, user: str
    ) -> None:
        """Answer 204, or 404 where the user is not on the board."""
        key, name, context = queries.board(leaderboard), user_in_path(req, user), req.context.key
        await self._found(await self._store.remove(context.namespace + key, user=name), context, key)
        resp.status = 204


class PublicTop(_BoardRead):
    """``GET /v1/public/{tenant}/{project}/leaderboards/{leaderboard}/top``: for everybody, where the board allows it.

    The one answer a shared cache may keep. It has no key, so its tenant comes from the path.
    """

    def __init__(
        self,
        store: Scores,
        refusals: Refusals,
        *,
        projects: KeyCache[KeyContext],
        rate_limit: RateLimit,
        region: str,
    ) -> None:
        super().__init__(store, refusals)
        self._projects = projects
        self._rate_limit = rate_limit
        self._region = region

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, tenant: str, project: str, leaderboard: str
    ) -> None:
        """Answer one page; 404 says as little as it can of boards that are not public."""
        resp.set_header("Access-Control-Allow-Origin", "*")
        try:
            name = f"{names.tenant_slug(tenant)}/{names.project_name(project)}"
        except InvalidName as error:
            raise Problem(problems.BOARD_NOT_FOUND, str(error)) from error
        key = queries.board(leaderboard)
        known, context = self._projects.get(name)
        if not known:
            context = await self._projects.fetch(name)
        if context is None:
            raise Problem(problems.BOARD_NOT_FOUND)
        check_open(context, region=self._region)
        await self._rate_limit.admit(context, resp)
        body, etag = await self._top(context, key, _top_query(req), public=True)
        caching.answer(req, resp, body, etag, public=True)
