"""The API's own description: ``/openapi.json``, ``/docs`` and the page of each problem type.

``openapi.yaml`` beside the package is the source; a test compares it with the routes.
"""

from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import falcon.asgi
import msgspec
import yaml

from leaderboard.api import problems
from leaderboard.api.pages import page, reference
from leaderboard.api.problems import Problem

_CACHE_CONTROL = "public, max-age=300"


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document as committed."""
    text = (files("leaderboard.api") / "openapi.yaml").read_text()
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


class OpenApi:
    """The OpenAPI document as JSON."""

    def __init__(self) -> None:
        self._body = msgspec.json.encode(document())

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:  # noqa: ARG002
        """Answer the document."""
        resp.data = self._body
        resp.set_header("Cache-Control", _CACHE_CONTROL)


class Docs:
    """The reference as a page: one file, no script, nothing fetched from elsewhere."""

    def __init__(self) -> None:
        self._body = reference(document()).encode()

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:  # noqa: ARG002
        """Answer the page."""
        resp.content_type = falcon.MEDIA_HTML
        resp.data = self._body
        resp.set_header("Cache-Control", _CACHE_CONTROL)


class ProblemPage:
    """``/problems/{name}``: what a problem type means and what to do, where its `type` points."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:  # noqa: ARG002
        """Answer the page of one problem type, 404 for a name that is none."""
        kind = problems.TYPES.get(name)
        if kind is None:
            raise Problem(problems.ROUTE_NOT_FOUND)
        resp.content_type = falcon.MEDIA_HTML
        resp.data = page(
            kind.title,
            f"<h1>{escape(kind.title)}</h1><p><code>{kind.status}</code> <code>{problems.PREFIX}{kind.name}</code></p>"
            f"<p>{escape(kind.advice)}</p><p><a href='/docs'>All of the API</a></p>",
        ).encode()
        resp.set_header("Cache-Control", _CACHE_CONTROL)
