"""The dashboard: its page and assets, where they were built, and signing in and out."""

import gzip
import mimetypes
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import falcon.asgi
import msgspec

from leaderboard.api import problems, sessions
from leaderboard.api.bodies import BodyReader
from leaderboard.api.caching import etag_of
from leaderboard.api.context import KeyContext
from leaderboard.api.middleware import TenantContext
from leaderboard.api.problems import Problem
from leaderboard.api.sessions import SessionLimiter
from leaderboard.domain.errors import InvalidApiKey
from leaderboard.domain.keys import Scope, parse_key
from leaderboard.domain.sessions import NONCE_BYTES, Sealer, Session

Request = falcon.asgi.Request
Response = falcon.asgi.Response

BUILT = Path(str(files("leaderboard.api"))) / "dashboard"
"""Where the built page lies."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""What a page needs beside the `X-Content-Type-Options` of every answer (server.py)."""
_HASHED = "assets/"
"""Files under it have a hash of their content in their name: a browser may keep them for ever."""

_encode = msgspec.json.Encoder().encode


class _File(msgspec.Struct, frozen=True):
    media_type: str
    body: bytes
    packed: bytes
    etag: str


class Dashboard:
    """``/dashboard`` and below: a file where there is one, else the page, whose script knows its own views."""

    def __init__(self, folder: Path = BUILT) -> None:
        # Read once: a few files of 100 kB in all, and no path of a request ever reaches the file system.
        self._files = {path.relative_to(folder).as_posix(): _read(path) for path in folder.rglob("*") if path.is_file()}

    async def on_get(self, req: Request, resp: Response, path: str = "") -> None:
        """Answer the file `path`, or the page."""
        found = self._files.get(path)
        if found is None and not path.startswith(_HASHED):
            path, found = "index.html", self._files.get("index.html")
        if found is None:
            missing = "this installation has no dashboard: `make web` builds it"
            detail = "there is no such file" if self._files else missing
            raise Problem(problems.ROUTE_NOT_FOUND, detail)
        for name, value in _HEADERS.items():
            resp.set_header(name, value)
        kept = "public, max-age=31536000, immutable" if path.startswith(_HASHED) else "no-cache"
        resp.set_header("Cache-Control", kept)
        resp.set_header("Vary", "Accept-Encoding")
        resp.set_header("ETag", found.etag)
        resp.content_type = found.media_type
        if req.get_header("If-None-Match") == found.etag:
            resp.status = 304
            return
        packed = "gzip" in (req.get_header("Accept-Encoding") or "") and len(found.packed) < len(found.body)
        if packed:
            resp.set_header("Content-Encoding", "gzip")
        resp.data = found.packed if packed else found.body


def _read(path: Path) -> _File:
    body = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    return _File(media_type, body, gzip.compress(body, mtime=0), etag_of(body))


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What opens a session."""

    api_key: str

    def __repr__(self) -> str:
        return "SignIn(api_key='***')"


class SessionBody(msgspec.Struct, frozen=True, kw_only=True):
    """Whose session it is. `csrf_token` goes into ``X-CSRF-Token`` of every request that changes something."""

    tenant: str
    project: str
    scope: Scope
    key_id: str
    csrf_token: str
    expires_at: datetime


class DashboardSession:
    """``/dashboard/session``: sign in with an API key, see whose session it is, sign out."""

    sets_cookies = True

    def __init__(
        self,
        tenant_context: TenantContext,
        sealer: Sealer,
        limiter: SessionLimiter,
        *,
        body: BodyReader[SignIn],
        now: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._tenant_context = tenant_context
        self._sealer = sealer
        self._limiter = limiter
        self._body = body
        self._now = now
        self._entropy = entropy

    async def on_post(self, req: Request, resp: Response) -> None:
        """Open a session of the API key in the body."""
        sessions.check_own_site(req)
        given = await self._body.read(req)
        _check_whole(given.api_key)
        self._limiter.take(sessions.SIGN_INS)
        context = await self._tenant_context.opened_by(given.api_key)
        now = self._now()
        sealed = self._sealer.seal(context.key_id, nonce=self._entropy(NONCE_BYTES), now=now)
        session = self._sealer.open(sealed, now=now)
        assert session is not None
        sessions.set_cookie(req, resp, sealed)
        _answer(resp, context, session)

    async def on_get(self, req: Request, resp: Response) -> None:
        """Say whose session it is."""
        session = self._presented(req)
        self._limiter.take(session.key_id)
        _answer(resp, await self._tenant_context.opened_by_session(session), session)

    async def on_delete(self, req: Request, resp: Response) -> None:
        """Sign out: the browser forgets the session."""
        self._presented(req)
        sessions.set_cookie(req, resp, "", max_age=0)
        resp.set_header("Clear-Site-Data", '"cache"')
        resp.status = 204

    def _presented(self, req: Request) -> Session:
        session = sessions.presented(req, self._sealer, now=self._now())
        if session is None:
            raise Problem(problems.NO_SESSION)
        return session


def _check_whole(api_key: str) -> None:
    # In memory, and before the limit that all share: whoever sends what is no key keeps nobody from signing in.
    try:
        parse_key(api_key)
    except InvalidApiKey as error:
        raise Problem(problems.INVALID_API_KEY, str(error)) from error


def _answer(resp: Response, context: KeyContext, session: Session) -> None:
    body: Any = SessionBody(
        tenant=context.tenant,
        project=context.project,
        scope=context.scope,
        key_id=context.key_id,
        csrf_token=session.csrf_token,
        expires_at=datetime.fromtimestamp(session.expires_at, UTC),
    )
    resp.set_header("Cache-Control", "no-store")
    resp.data = _encode(body)
