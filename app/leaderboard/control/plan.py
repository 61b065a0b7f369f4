"""Decisions: from what is observed and what is wanted to what has to be done. Nothing here does I/O."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from leaderboard.control.drift import agrees, damage
from leaderboard.control.errors import BoardNotFound, ManagedElsewhere, ProjectNotFound, TenantNotFound
from leaderboard.domain.boards import BoardSpec, check_change, check_spec
from leaderboard.domain.documents import ApiKeySpec, DeletionPolicy, TenantSpec, seconds
from leaderboard.domain.errors import InvalidDocument
from leaderboard.domain.names import LeaderboardId, TenantId
from leaderboard.domain.plans import QuotaOverrides
from leaderboard.store.postgres.boards import BoardState
from leaderboard.store.postgres.fleet import Sight
from leaderboard.store.postgres.keys import KeyRow, KeyState
from leaderboard.store.postgres.ledger import Position
from leaderboard.store.postgres.tenants import TenantRow, TenantValues
from leaderboard.store.redis.boards import Snapshot


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


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """The wish of a resource in `namespace` to take over what nobody owns.

    `home`: a Leaderboard is in its Tenant's own namespace; always so for a Tenant.
    """

    namespace: str
    home: bool


_ANNOTATION = 'leaderboard.saas/adopt: "true"'


def takes_over_tenant(
    slug: str, *, managed_by: str | None, adoptable_from: str | None, owner: str | None, adopt: Adoption | None
) -> bool:
    """Whether `owner` has to take the tenant over first. Raises ManagedElsewhere where it neither owns it nor may."""
    if managed_by is not None or owner is None:
        check_owner(f"tenant {slug!r}", managed_by=managed_by, owner=owner)
        return False
    # Which namespace it is offered to is not said: that would tell one team about another.
    if adopt is None:
        raise ManagedElsewhere(
            f"tenant {slug!r} exists and belongs to no resource. To take it over, have it offered with "
            f"`leaderboard offer {slug} --namespace <this one>` (one that was retained here is offered already), then "
            f"set the annotation {_ANNOTATION}; or use another slug"
        )
    if adoptable_from != adopt.namespace:
        raise ManagedElsewhere(
            f"tenant {slug!r} is not offered to namespace {adopt.namespace!r}: whoever runs the platform can do that "
            f"with `leaderboard offer {slug} --namespace {adopt.namespace}`; or use another slug"
        )
    return True


def takes_over_board(
    key: str, *, managed_by: str | None, adoptable_from: str | None, owner: str | None, adopt: Adoption | None
) -> bool:
    """Whether `owner` has to take the board over first. Raises ManagedElsewhere where it neither owns it nor may."""
    if managed_by is not None or owner is None:
        check_owner(f"leaderboard {key!r}", managed_by=managed_by, owner=owner)
        return False
    if adopt is None:
        raise ManagedElsewhere(
            f"leaderboard {key!r} exists and belongs to no resource. To take it over, set the annotation "
            f"{_ANNOTATION}; or use another key"
        )
    if adoptable_from != adopt.namespace and (adoptable_from is not None or not adopt.home):
        raise ManagedElsewhere(
            f"leaderboard {key!r} may be taken over only from the namespace it was left in, or from its Tenant's own "
            "if no resource ever had it; use another key"
        )
    return True


def no_tenant(slug: str) -> TenantNotFound:
    """Return the refusal of a board whose tenant there is not."""
    return TenantNotFound(f"there is no tenant {slug!r}; apply the Tenant first")


def no_project(name: str) -> ProjectNotFound:
    """Return the refusal of a board whose project there is not."""
    return ProjectNotFound(f"the tenant has no project {name!r}; add it to the Tenant's projects")


class TenantPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with a tenant's row and projects. `changes` and `unlisted` are for people to read."""

    create: bool
    adopt: bool
    """Whether the owner has to take it over first."""
    values: TenantValues
    changes: tuple[str, ...]
    add_projects: tuple[str, ...]
    set_origins: tuple[tuple[str, tuple[str, ...]], ...]
    """Projects with the origins they are to have, where those are others than now."""
    unlisted: tuple[str, ...]
    """Projects that exist and are not in the document: they stay."""
    forget: bool
    """Whether the API workers' cached keys say something that holds no more."""


_WORKERS_KNOW = ("plan", "max_leaderboards", "requests_per_second", "suspended", "home_region")


def plan_tenant(
    observed: TenantRow | None,
    *,
    projects: Mapping[str, tuple[str, ...]],
    spec: TenantSpec,
    owner: str | None,
    plans: Collection[str],
    adopt: Adoption | None = None,
) -> TenantPlan:
    """Return what makes the tenant as `spec` asks. `projects` are those it has, with the origins
    they allow; `plans` the names there are.

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
    adopts = False
    if observed is not None:
        adopts = takes_over_tenant(
            spec.slug,
            managed_by=observed.managed_by,
            adoptable_from=observed.adoptable_from,
            owner=owner,
            adopt=adopt,
        )
        current = values_of(observed)
        changed = {
            field: (getattr(current, field), getattr(values, field))
            for field in TenantValues.__struct_fields__
            if getattr(current, field) != getattr(values, field)
        }
    wanted = [project.name for project in spec.projects]
    origins = tuple(
        (project.name, project.allowed_origins)
        for project in spec.projects
        if project.allowed_origins != projects.get(project.name, ())
    )
    return TenantPlan(
        create=observed is None,
        adopt=adopts,
        values=values,
        changes=tuple(
            f"{field}: {before} -> {after}" for field, (before, after) in changed.items() if field != "spec_hash"
        ),
        add_projects=tuple(name for name in wanted if name not in projects),
        set_origins=origins,
        unlisted=tuple(name for name in projects if name not in wanted),
        forget=adopts or bool(origins) or any(field in changed for field in _WORKERS_KNOW),
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
    at_once: bool = False
    """Whether the new one replaces a lost one, which then ends without grace."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.drop or self.rescope or self.activate or self.issue)


_LOST = "its Secret was deleted or edited"


def to_ask(keys: Sequence[KeyRow], *, keeps: bool) -> list[KeyRow]:
    """Return which of one project's `keys` the sink is asked for: those on their way to it, and the one in force
    where the sink keeps what it was given.
    """
    pending = [key for key in keys if key.state is KeyState.PENDING]
    return [*pending, *_active(keys)[-1:]] if keeps else pending


def plan_keys(
    keys: Sequence[KeyRow], *, held: Collection[str], spec: ApiKeySpec, now: datetime, keeps: bool = False
) -> KeyPlan:
    """Return what brings one project's `keys` (oldest first, none revoked) to `spec`.

    `held` are those of `to_ask` that the sink has. A key that already has an end is on its way out and counts for
    nothing.
    """
    pending = [key for key in keys if key.state is KeyState.PENDING]
    delivered = [key for key in pending if key.id in held][-1:]
    active = _active(keys)
    lost = keeps and not delivered and bool(active) and active[-1].id not in held
    issue = None if delivered else _LOST if lost else _why_issue(active, spec=spec, now=now)
    grace = timedelta(seconds=seconds(spec.grace_period, field="apiKey.gracePeriod"))
    return KeyPlan(
        drop=tuple(key.id for key in pending if key not in delivered),
        rescope=tuple(key.id for key in [*active, *delivered] if key.scope is not spec.scope),
        activate=delivered[0].id if delivered else None,
        issue=issue,
        retire=tuple(key.id for key in active) if delivered or issue else (),
        grace=timedelta(0) if lost or any(key.at_once for key in delivered) else grace,
        at_once=lost or any(key.at_once for key in delivered),
    )


def _active(keys: Sequence[KeyRow]) -> list[KeyRow]:
    return [key for key in keys if key.state is KeyState.ACTIVE and key.expires_at is None]


class KeyInForce(msgspec.Struct, frozen=True, kw_only=True):
    """The key that opens a project now, and the one before while it still does."""

    project: str
    id: str
    previous_id: str | None = None
    previous_expires_at: datetime | None = None


def in_force(keys: Sequence[KeyRow], *, project: str, now: datetime) -> KeyInForce | None:
    """Return what one project's `keys` come to, None where none is in force."""
    active = _active(keys)
    if not active:
        return None
    ending = [(key.expires_at, key.id) for key in keys if key.state is KeyState.ACTIVE and key.expires_at is not None]
    ends, previous = max(ending, default=(now, ""))
    if ends <= now:
        return KeyInForce(project=project, id=active[-1].id)
    return KeyInForce(project=project, id=active[-1].id, previous_id=previous, previous_expires_at=ends)


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


_FIELDS = tuple(field for field in BoardSpec.__struct_fields__ if field != "key")


def board_changes(current: BoardSpec, wanted: BoardSpec, *, same_document: bool = False) -> tuple[str, ...]:
    """Return what differs, for people to read. Raises ImmutableField and InvalidDocument.

    `same_document`: the row was last written for what is wanted now. Then whatever differs was edited by hand since,
    and is put right, also what no document could change.
    """
    if not same_document:
        check_change(current, wanted)
    return tuple(
        f"{field}: {getattr(current, field)} -> {getattr(wanted, field)}"
        for field in _FIELDS
        if getattr(current, field) != getattr(wanted, field)
    )


class Step(StrEnum):
    """What a batch does about one board."""

    KEEP = "keep"
    """Nothing: it is as it should be."""
    DOUBT = "doubt"
    """Nothing, unless the ledger has entries of it: Redis has none, though it had events."""
    CREATE = "create"
    """Make it, with all the others."""
    REOPEN = "reopen"
    """Its row is right and Redis has nothing of it: open it again, unless the ledger has events of it."""
    ALONE = "alone"
    """Take the path of one board: it has to be changed, adopted, finished or restored."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A board that a batch is asked for, in the terms of its row."""

    slug: str
    project: str
    spec: BoardSpec
    spec_hash: str
    policy: DeletionPolicy
    owner: str
    tenant_owner: str | None
    adopt: Adoption | None
    known_id: LeaderboardId | None
    may_create: bool = True


def plan_board(wanted: Wanted, sight: Sight, *, snapshot: Snapshot | None, position: Position | None) -> Step:
    """Return what to do about one board of a batch. `position` is the ledger's, None where it was not asked.

    Raises TenantNotFound, ProjectNotFound, BoardNotFound, ManagedElsewhere; ImmutableField and InvalidDocument.
    """
    if sight.tenant_id is None or (wanted.tenant_owner is not None and sight.managed_by != wanted.tenant_owner):
        raise no_tenant(wanted.slug)
    if sight.project_id is None:
        raise no_project(wanted.project)
    if sight.record is None:
        if not wanted.may_create:
            raise BoardNotFound(f"there is no leaderboard {wanted.spec.key!r}")
        check_spec(wanted.spec)
        return Step.CREATE if wanted.known_id is None else Step.ALONE
    board, state, policy, hash_, adoptable_from = sight.record
    if state is not BoardState.ACTIVE:
        return Step.ALONE
    takes_over = takes_over_board(
        wanted.spec.key,
        managed_by=board.managed_by,
        adoptable_from=adoptable_from,
        owner=wanted.owner,
        adopt=wanted.adopt,
    )
    changes = board_changes(board.spec, wanted.spec, same_document=hash_ == wanted.spec_hash)
    if takes_over or changes or (policy, hash_) != (wanted.policy, wanted.spec_hash):
        return Step.ALONE
    if snapshot is None or snapshot.broken:
        return Step.ALONE
    if snapshot.meta is None:
        return Step.REOPEN
    if damage(board, snapshot, position=position) is not None or not agrees(board, snapshot):
        return Step.ALONE
    if 0 < board.spec.max_entries < snapshot.entries:
        return Step.ALONE
    return Step.DOUBT if snapshot.entries == 0 and snapshot.meta.seq > 0 else Step.KEEP


def give_room(tenant_ids: Sequence[TenantId], *, room: Mapping[TenantId, int]) -> list[bool]:
    """Return which of the wished-for boards, each told by its tenant, find room; the first come first.

    `room` is how many more each tenant may have.
    """
    left = dict(room)
    given = []
    for tenant_id in tenant_ids:
        given.append(left.get(tenant_id, 0) > 0)
        left[tenant_id] = left.get(tenant_id, 0) - 1
    return given
