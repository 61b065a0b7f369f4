"""What control is asked for many at once, and what it answers."""

import msgspec

from leaderboard.control.keys import IssuedKey, KeySink
from leaderboard.control.plan import Adoption, KeyInForce
from leaderboard.domain.boards import Board
from leaderboard.domain.documents import LeaderboardDocument, TenantDocument
from leaderboard.domain.names import LeaderboardId, TenantId


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What reconciling one document did. `changes` and `notes` are for people to read; no changes: all was right."""

    tenant_id: TenantId
    created: bool = False
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    keys: tuple[IssuedKey, ...] = ()
    """The keys that took over in this call, by project."""
    keys_in_force: tuple[KeyInForce, ...] = ()
    """Of a tenant: the key of each project that has one, by project."""
    boards: int | None = None
    """Of a tenant: how many boards it has, those being deleted included."""
    board: Board | None = None
    namespace: str | None = None
    """The board's key in Redis."""
    entries: int | None = None
    """Of a board: how many entries it has."""


class BoardRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One board of a batch. The fields are the arguments of `Control.reconcile`."""

    document: LeaderboardDocument
    tenant_slug: str
    owner: str
    tenant_owner: str | None = None
    adopt: Adoption | None = None
    known_id: LeaderboardId | None = None
    may_create: bool = True
    """False: change what is there; BoardNotFound where there is nothing."""


class TenantRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant of a survey."""

    document: TenantDocument
    owner: str
    sink: KeySink
