"""API keys of the key's project: ``/v1/keys``. All changes go through control."""

from datetime import datetime, timedelta
from typing import ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import problems, queries
from leaderboard.api.bodies import BodyReader
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.control.own_keys import MAX_GRACE, NewKey
from leaderboard.control.reconcile import Control
from leaderboard.domain.keys import Scope

DEFAULT_GRACE_SECONDS = 86_400
MAX_GRACE_SECONDS = int(MAX_GRACE.total_seconds())

_encode = msgspec.json.Encoder().encode


class NewKeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made. `name` is for people: who has it."""

    scope: Scope
    name: str | None = None


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a key is rotated. The old one works for `grace_seconds` more; 0 ends it at once."""

    grace_seconds: int = DEFAULT_GRACE_SECONDS


class KeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the API shows it. `managed` says that a custom resource rotates it; `current` that it is the asker's."""

    id: str
    name: str | None
    scope: Scope
    managed: bool
    current: bool
    created_at: datetime
    expires_at: datetime | None


class NewKeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new key with its secret, which is shown this once. `previous_*` are null where it replaces none."""

    id: str
    name: str | None
    scope: Scope
    secret: str
    created_at: datetime
    expires_at: datetime | None
    previous_id: str | None
    previous_expires_at: datetime | None


def _answer(resp: falcon.asgi.Response, new: NewKey, *, previous_id: str | None = None) -> None:
    resp.status = 201
    resp.set_header("Cache-Control", "no-store")
    resp.data = _encode(
        NewKeyBody(
            id=new.key.id,
            name=new.name,
            scope=new.scope,
            secret=new.key.text,
            created_at=new.created_at,
            expires_at=None,
            previous_id=previous_id,
            previous_expires_at=new.previous_expires_at,
        )
    )


class Keys:
    """The keys in force, and a new one."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.ADMIN, "POST": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, control: Control, *, body: BodyReader[NewKeyRequest]) -> None:
        self._control = control
        self._body = body

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer the project's keys, oldest first."""
        queries.known(req)
        context: KeyContext = req.context.key
        found = await self._control.keys_of(context.project_id)
        resp.set_header("Cache-Control", "no-store")
        resp.data = _encode(
            {
                "keys": [
                    KeyBody(
                        id=key.id,
                        name=key.name,
                        scope=key.scope,
                        managed=key.managed,
                        current=key.id == context.key_id,
                        created_at=key.created_at,
                        expires_at=key.expires_at,
                    )
                    for key in found
                ]
            }
        )

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Make a key."""
        context: KeyContext = req.context.key
        asked = await self._body.read(req)
        new = await self._control.make_key(
            tenant_id=context.tenant_id, project_id=context.project_id, scope=asked.scope, name=asked.name
        )
        _answer(resp, new)


class Key:
    """One key: revoke it."""

    scopes: ClassVar[dict[str, Scope]] = {"DELETE": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, control: Control) -> None:
        self._control = control

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, key: str) -> None:
        """Revoke the key: it is refused everywhere within a second."""
        context: KeyContext = req.context.key
        await self._control.revoke_key(tenant_id=context.tenant_id, project_id=context.project_id, key_id=key)
        resp.status = 204


class KeyRotation:
    """``/v1/keys/{key}/rotate``."""

    scopes: ClassVar[dict[str, Scope]] = {"POST": Scope.ADMIN}
    sessions: ClassVar[bool] = True

    def __init__(self, control: Control, *, body: BodyReader[Rotation]) -> None:
        self._control = control
        self._body = body

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, key: str) -> None:
        """Make a key of the same scope and name; the old one ends after the grace."""
        context: KeyContext = req.context.key
        asked = await self._body.read(req)
        if not 0 <= asked.grace_seconds <= MAX_GRACE_SECONDS:
            raise Problem(
                problems.INVALID_REQUEST, f"grace_seconds must be 0 to {MAX_GRACE_SECONDS}, got {asked.grace_seconds}"
            )
        new = await self._control.rotate_key(
            tenant_id=context.tenant_id,
            project_id=context.project_id,
            key_id=key,
            grace=timedelta(seconds=asked.grace_seconds),
        )
        _answer(resp, new, previous_id=key)
