"""Decisions: from what is observed and what is wanted to what has to be done. Nothing here does I/O."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import msgspec

from leaderboard.control.errors import ManagedElsewhere
from leaderboard.domain.boards import BoardSpec, check_change
from leaderboard.domain.documents import ApiKeySpec, TenantSpec, seconds
from leaderboard.domain.errors import InvalidDocument
from leaderboard.domain.plans import QuotaOverrides
from leaderboard.store.postgres.keys import KeyRow, KeyState
from leaderboard.store.postgres.tenants import TenantRow, TenantValues


def spec_hash(spec: msgspec.Struct) -> str:
    """Return 32 hexadecimal digits that change whenever the spec does."""
    return hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()[:32]


def check_owner(what: str, *, managed_by: str | None, owner: str | None) -> None:
    """Raise ManagedElsewhere unless `owner` is who the thing belongs to. None is the REST API and the command line."""
    if managed_by == owner:
        return
    if managed_by is None:
        raise ManagedElsewhere(f"{what} was not made by this resource; delete it there first, or use another name")
    raise ManagedElsewhere(f"{what} is managed by the custom resource with UID {managed_by}; change it there")


class TenantPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with a tenant's row and projects. `changes` and `unlisted` are for people to read."""

    create: bool
    values: TenantValues
    changes: tuple[str, ...]
    add_projects: tuple[str, ...]
    unlisted: tuple[str, ...]
    """Projects that exist and are not in the document: they stay."""
    forget: bool
    """Whether the API workers' cached keys say something that holds no more."""


_WORKERS_KNOW = ("plan", "max_leaderboards", "requests_per_second", "suspended", "home_region")


def plan_tenant(
    observed: TenantRow | None,
    *,
    projects: Sequence[str],
    spec: TenantSpec,
    owner: str | None,
    plans: Collection[str],
) -> TenantPlan:
    """Return what makes the tenant as `spec` asks. `projects` are those it has, `plans` the names there are.

    Raises ManagedElsewhere, and InvalidDocument for a plan that does not exist.
    """
    if spec.plan not in plans:
        raise InvalidDocument(f"plan must be one of {', '.join(sorted(plans))}; got {spec.plan!r}")
    overrides = spec.quotas or QuotaOverrides()
    values = TenantValues(
        display_name=spec.display_name,
        plan=spec.plan,
        max_leaderboards=overrides.max_leaderboards,
        requests_per_second=overrides.requests_per_second,
        suspended=spec.suspend,
        prevent_deletion=spec.prevent_deletion,
        deletion_policy=spec.deletion_policy,
        home_region=spec.home_region,
        spec_hash=spec_hash(spec),
    )
    changed: dict[str, tuple[object, object]] = {}
    if observed is not None:
        check_owner(f"tenant {spec.slug!r}", managed_by=observed.managed_by, owner=owner)
        current = values_of(observed)
        changed = {
            field: (getattr(current, field), getattr(values, field))
            for field in TenantValues.__struct_fields__
            if getattr(current, field) != getattr(values, field)
        }
    wanted = [project.name for project in spec.projects]
    return TenantPlan(
        create=observed is None,
        values=values,
        changes=tuple(
            f"{field}: {before} -> {after}" for field, (before, after) in changed.items() if field != "spec_hash"
        ),
        add_projects=tuple(name for name in wanted if name not in projects),
        unlisted=tuple(name for name in projects if name not in wanted),
        forget=any(field in changed for field in _WORKERS_KNOW),
    )


def values_of(row: TenantRow) -> TenantValues:
    """Return what a document could have decided of a tenant's row."""
    return TenantValues(
        display_name=row.display_name,
        plan=row.plan,
        max_leaderboards=row.overrides.max_leaderboards,
        requests_per_second=row.overrides.requests_per_second,
        suspended=row.suspended,
        prevent_deletion=row.prevent_deletion,
        deletion_policy=row.deletion_policy,
        home_region=row.home_region,
        spec_hash=row.spec_hash,
    )


class KeyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with one project's keys, in this order."""

    drop: tuple[str, ...] = ()
    """Pending keys that nobody holds."""
    rescope: tuple[str, ...] = ()
    """Keys whose scope is not the document's any more."""
    activate: str | None = None
    """The pending key that was delivered before a crash."""
    issue: str | None = None
    """Why a new key is needed, None where none is."""
    retire: tuple[str, ...] = ()
    """Active keys that end when the activated or issued one takes over."""
    grace: timedelta = timedelta(0)
    """How long the retired ones go on."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.drop or self.rescope or self.activate or self.issue)


def plan_keys(keys: Sequence[KeyRow], *, held: Collection[str], spec: ApiKeySpec, now: datetime) -> KeyPlan:
    """Return what brings one project's `keys` (oldest first, none revoked) to `spec`.

    `held` are the pending ones that reached whoever asked for them. A key that already has an end is on its way out
    and counts for nothing.
    """
    pending = [key for key in keys if key.state is KeyState.PENDING]
    delivered = [key.id for key in pending if key.id in held][-1:]
    active = [key for key in keys if key.state is KeyState.ACTIVE and key.expires_at is None]
    issue = None if delivered else _why_issue(active, spec=spec, now=now)
    return KeyPlan(
        drop=tuple(key.id for key in pending if key.id not in delivered),
        rescope=tuple(
            key.id
            for key in [*active, *pending]
            if key.scope is not spec.scope and (key in active or key.id in delivered)
        ),
        activate=delivered[0] if delivered else None,
        issue=issue,
        retire=tuple(key.id for key in active) if delivered or issue else (),
        grace=timedelta(seconds=seconds(spec.grace_period, field="apiKey.gracePeriod")),
    )


def _why_issue(active: Sequence[KeyRow], *, spec: ApiKeySpec, now: datetime) -> str | None:
    if not active:
        return "the project has no key"
    current = active[-1]
    if spec.rotation_trigger is not None and spec.rotation_trigger != current.rotation_trigger:
        return f"rotationTrigger is now {spec.rotation_trigger!r}"
    if spec.rotate_every is not None:
        born = current.activated_at or current.created_at
        if now - born >= timedelta(seconds=seconds(spec.rotate_every, field="apiKey.rotateEvery")):
            return f"the key is older than rotateEvery ({spec.rotate_every})"
    return None


def board_changes(current: BoardSpec, wanted: BoardSpec) -> tuple[str, ...]:
    """Return what differs, for people to read. Raises ImmutableField and InvalidDocument."""
    check_change(current, wanted)
    return tuple(
        f"{field}: {getattr(current, field)} -> {getattr(wanted, field)}"
        for field in ("max_entries", "public_read", "suspended")
        if getattr(current, field) != getattr(wanted, field)
    )
