"""Tenant and Leaderboard documents: the same YAML for ``leaderboard apply`` and for the custom resources.

`parse` turns one decoded document (``leaderboard.saas/v1alpha1``) into a frozen value, or raises InvalidDocument with
the path of the offending field. Field names are the resource's camelCase; values are checked here once, so that what
follows may rely on them.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from leaderboard.domain import names, plans
from leaderboard.domain.boards import BoardSpec, ScoreUpdate, SortOrder, TiePolicy, check_spec
from leaderboard.domain.bounds import Bounds
from leaderboard.domain.errors import InvalidDocument, InvalidName
from leaderboard.domain.keys import Scope
from leaderboard.domain.schedules import ResetSpec
from leaderboard.domain.tiers import Tier

API_VERSION = "leaderboard.saas/v1alpha1"

MAX_PROJECTS = 100
"""Most projects that one Tenant may name."""
MAX_ORIGINS = 20
"""Most origins that one project may allow."""
DISPLAY_NAME_LENGTH = 128
ROTATION_TRIGGER_LENGTH = 256


class DeletionPolicy(StrEnum):
    """What deleting the resource does to the data."""

    RETAIN = "Retain"
    DELETE = "Delete"


class NamespacesFrom(StrEnum):
    """Which namespaces' Leaderboards may name a Tenant."""

    SAME = "Same"
    SELECTOR = "Selector"
    ALL = "All"


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of every part of a document: camelCase names, unknown fields refused."""


class ProjectSpec(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """One project of a tenant."""

    name: str
    allowed_origins: tuple[str, ...] = ()
    """Whose web pages may use the project's read keys, as browsers name them: ``https://game.example``."""


class ApiKeySpec(_Part, frozen=True, kw_only=True):
    """How a tenant's keys are made and rotated. Durations are like ``24h`` or ``1h30m``."""

    scope: Scope = Scope.ADMIN
    rotate_every: str | None = None
    grace_period: str = "24h"
    rotation_trigger: str | None = None
    """Any text of one line; changing it rotates the keys once."""


class AllowedNamespaces(_Part, frozen=True, kw_only=True):
    """Which namespaces may refer to the tenant; of use on Kubernetes only."""

    from_: NamespacesFrom = msgspec.field(default=NamespacesFrom.SAME, name="from")
    selector: dict[str, Any] | None = None


class TenantSpec(_Part, frozen=True, kw_only=True):
    """The `spec` of a Tenant."""

    slug: str
    display_name: str | None = None
    plan: str = "free"
    projects: tuple[ProjectSpec, ...] = (ProjectSpec(name="default"),)
    quotas: plans.QuotaOverrides | None = None
    suspend: bool = False
    prevent_deletion: bool = False
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    api_key: ApiKeySpec = ApiKeySpec()
    allowed_namespaces: AllowedNamespaces = AllowedNamespaces()
    home_region: str | None = None
    """The region whose API answers for the tenant; None lets every region."""


class TenantRef(_Part, frozen=True, kw_only=True):
    """Names the Tenant resource a Leaderboard belongs to."""

    name: str
    namespace: str | None = None


class SortOrderName(StrEnum):
    """`sortOrder` as the resource spells it."""

    Descending = "Descending"
    Ascending = "Ascending"


class ScoreUpdateName(StrEnum):
    """`scoreUpdate` as the resource spells it."""

    Sum = "Sum"
    Best = "Best"
    Latest = "Latest"


class TiePolicyName(StrEnum):
    """`tiePolicy` as the resource spells it."""

    FirstToReach = "FirstToReach"
    UserId = "UserId"
    Shared = "Shared"


_SORT_ORDER = {
    SortOrderName.Descending: SortOrder.DESCENDING,
    SortOrderName.Ascending: SortOrder.ASCENDING,
}
_SCORE_UPDATE = {
    ScoreUpdateName.Sum: ScoreUpdate.SUM,
    ScoreUpdateName.Best: ScoreUpdate.BEST,
    ScoreUpdateName.Latest: ScoreUpdate.LATEST,
}
_TIE_POLICY = {
    TiePolicyName.FirstToReach: TiePolicy.FIRST_TO_REACH,
    TiePolicyName.UserId: TiePolicy.USER_ID,
    TiePolicyName.Shared: TiePolicy.SHARED,
}


class ResetPart(_Part, frozen=True, kw_only=True):
    """`reset` as the resource spells it; `ResetSpec` says what the fields are."""

    schedule: str | None = None
    time_zone: str = "UTC"
    keep_seasons: int = 0
    grace_seconds: int = 0

    def asked(self) -> ResetSpec:
        """Return what this asks for."""
        return ResetSpec(
            schedule=self.schedule,
            time_zone=self.time_zone,
            keep_seasons=self.keep_seasons,
            grace_seconds=self.grace_seconds,
        )


class BoundsPart(_Part, frozen=True, kw_only=True):
    """`bounds` as the resource spells them; `Bounds` says what the fields are."""

    min_score: float | None = None
    max_score: float | None = None
    max_gain: float | None = None
    per_seconds: int | None = None

    def asked(self) -> Bounds:
        """Return what this asks for."""
        return Bounds(
            min_score=self.min_score, max_score=self.max_score, max_gain=self.max_gain, per_seconds=self.per_seconds
        )


class LeaderboardSpec(_Part, frozen=True, kw_only=True):
    """The `spec` of a Leaderboard."""

    tenant_ref: TenantRef
    key: str
    project: str = "default"
    sort_order: SortOrderName = SortOrderName.Descending
    score_update: ScoreUpdateName = ScoreUpdateName.Sum
    tie_policy: TiePolicyName = TiePolicyName.FirstToReach
    max_entries: int = 0
    public_read: bool = False
    reset: ResetPart | None = None
    bounds: BoundsPart | None = None
    tiers: tuple[Tier, ...] = ()
    suspend: bool = False
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN

    def board(self) -> BoardSpec:
        """Return the board this asks for, in the platform's own terms."""
        return BoardSpec(
            key=names.board_key(self.key),
            sort_order=_SORT_ORDER[self.sort_order],
            score_update=_SCORE_UPDATE[self.score_update],
            tie_policy=_TIE_POLICY[self.tie_policy],
            max_entries=self.max_entries,
            public_read=self.public_read,
            suspended=self.suspend,
            reset=None if self.reset is None else self.reset.asked(),
            bounds=None if self.bounds is None else self.bounds.asked(),
            tiers=self.tiers,
        )


class TenantDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One Tenant: its resource name and what it asks for."""

    name: str
    namespace: str | None
    spec: TenantSpec


class LeaderboardDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One Leaderboard: its resource name and what it asks for."""

    name: str
    namespace: str | None
    spec: LeaderboardSpec


Document = TenantDocument | LeaderboardDocument
_Spec = TypeVar("_Spec", TenantSpec, LeaderboardSpec)

# Six digits a part: no sum of them leaves what a datetime can hold, and [0-9], since \d takes other scripts' digits.
_DURATION = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?").fullmatch


def seconds(duration: str, *, field: str) -> int:
    """Return a duration such as ``30s``, ``1h30m`` or ``7d`` in whole seconds, or raise InvalidDocument."""
    match = _DURATION(duration)
    if not duration or match is None:
        raise InvalidDocument(f"{field}: {duration[:40]!r} is not a duration; write it like 30s, 15m, 24h or 7d")
    days, hours, minutes, secs = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + secs


def parse(document: Mapping[str, Any]) -> Document:
    """Return the Tenant or Leaderboard that a decoded YAML or JSON `document` is.

    Raises InvalidDocument (or InvalidName, its sibling) with the path of the field and what it should be.
    """
    version, kind = document.get("apiVersion"), document.get("kind")
    if version != API_VERSION:
        raise InvalidDocument(f"apiVersion must be {API_VERSION!r}, got {version!r}")
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise InvalidDocument(f"{kind}: metadata.name must be a string")
    name, namespace = metadata["name"], metadata.get("namespace")
    where = f"{kind}/{name}"
    if namespace is not None and not isinstance(namespace, str):
        raise InvalidDocument(f"{where}: metadata.namespace must be a string")
    if kind == "Tenant":
        spec = _decode(TenantSpec, document, where=where)
        _check_tenant(spec, where=where)
        return TenantDocument(name=name, namespace=namespace, spec=spec)
    if kind == "Leaderboard":
        board = _decode(LeaderboardSpec, document, where=where)
        _check_leaderboard(board, where=where)
        return LeaderboardDocument(name=name, namespace=namespace, spec=board)
    raise InvalidDocument(f"kind must be Tenant or Leaderboard, got {kind!r}")


def _decode(kind: type[_Spec], document: Mapping[str, Any], *, where: str) -> _Spec:
    try:
        return msgspec.convert(document.get("spec"), kind)
    except msgspec.ValidationError as error:
        # msgspec says no path where the fault is at the root.
        message = str(error) if "`$" in str(error) else f"{error} - at `$`"
        raise InvalidDocument(f"{where}: {message.replace('`$', '`spec')}") from error


def _check_tenant(spec: TenantSpec, *, where: str) -> None:
    try:
        names.tenant_slug(spec.slug)
        for project in spec.projects:
            names.project_name(project.name)
            for origin in project.allowed_origins:
                names.origin(origin)
        if spec.display_name is not None:
            names.line(spec.display_name, field="displayName", longest=DISPLAY_NAME_LENGTH)
        if spec.api_key.rotation_trigger is not None:
            names.line(spec.api_key.rotation_trigger, field="apiKey.rotationTrigger", longest=ROTATION_TRIGGER_LENGTH)
        if spec.home_region is not None:
            names.region(spec.home_region)
        if spec.quotas is not None:
            plans.check_overrides(spec.quotas)
    except (InvalidName, InvalidDocument) as error:
        raise InvalidDocument(f"{where}: {error}") from error
    listed = [project.name for project in spec.projects]
    if not listed:
        raise InvalidDocument(f"{where}: projects must name at least one project")
    if len(listed) > MAX_PROJECTS:
        raise InvalidDocument(f"{where}: projects must name at most {MAX_PROJECTS} projects, got {len(listed)}")
    if len(set(listed)) != len(listed):
        raise InvalidDocument(f"{where}: projects must not name one twice: {', '.join(sorted(listed))}")
    for project in spec.projects:
        if len(project.allowed_origins) > MAX_ORIGINS:
            raise InvalidDocument(
                f"{where}: project {project.name} may allow at most {MAX_ORIGINS} origins,"
                f" got {len(project.allowed_origins)}"
            )
        if len(set(project.allowed_origins)) != len(project.allowed_origins):
            raise InvalidDocument(f"{where}: project {project.name} must not allow one origin twice")
    allowed = spec.allowed_namespaces
    if (allowed.from_ is NamespacesFrom.SELECTOR) != bool(allowed.selector):
        raise InvalidDocument(f"{where}: allowedNamespaces takes a selector with from: Selector, and only then")
    grace = seconds(spec.api_key.grace_period, field=f"{where}: apiKey.gracePeriod")
    if spec.api_key.rotate_every is not None:
        period = seconds(spec.api_key.rotate_every, field=f"{where}: apiKey.rotateEvery")
        if period <= grace:
            raise InvalidDocument(
                f"{where}: apiKey.rotateEvery ({spec.api_key.rotate_every}) must be longer than "
                f"apiKey.gracePeriod ({spec.api_key.grace_period})"
            )


def _check_leaderboard(spec: LeaderboardSpec, *, where: str) -> None:
    try:
        names.project_name(spec.project)
        check_spec(spec.board())
    except (InvalidName, InvalidDocument) as error:
        raise InvalidDocument(f"{where}: {error}") from error
