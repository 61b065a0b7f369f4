"""Tenants: made, kept as their documents ask, deleted, and handed from one owner to another."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from leaderboard.control import board
from leaderboard.control.errors import BoardsLeft, DeletionPrevented, TenantNotFound
from leaderboard.control.keys import KEY_ENTROPY_BYTES, Forget, IssuedKey, KeySink, announced, carry_out
from leaderboard.control.outcome import Outcome
from leaderboard.control.plan import (
    Adoption,
    KeyInForce,
    check_owner,
    in_force,
    plan_keys,
    plan_tenant,
    to_ask,
    values_of,
)
from leaderboard.control.tools import TENANT_LOCK, Tools
from leaderboard.domain.documents import DeletionPolicy, TenantSpec, seconds
from leaderboard.domain.names import TenantId
from leaderboard.store.postgres import boards, identity, keys, tenants
from leaderboard.store.postgres.boards import PlacedBoard
from leaderboard.store.postgres.keys import KeyRow
from leaderboard.store.postgres.pool import Connection, connection, locked, transaction
from leaderboard.store.postgres.tenants import ProjectRow
from leaderboard.store.redis import keys as redis_keys
from leaderboard.store.redis import revocations


class _Found(NamedTuple):
    """A tenant's row and how it came about."""

    id: TenantId
    created: bool = False
    changes: tuple[str, ...] = ()


async def reconcile(
    tools: Tools,
    spec: TenantSpec,
    *,
    owner: str | None,
    sink: KeySink | None,
    adopt: Adoption | None,
    known_id: TenantId | None,
) -> Outcome:
    """Make the tenant as `spec` asks; see `Control.reconcile`."""
    async with connection(tools.pool) as conn:
        found = await _row(tools, conn, spec, owner=owner, adopt=adopt, known_id=known_id)
    async with locked(tools.pool, kind=TENANT_LOCK, id=found.id) as conn:
        async with transaction(conn):
            row = await tenants.by_id(conn, found.id, lock=True)
            if row is None:
                raise TenantNotFound(f"tenant {spec.slug!r} was deleted meanwhile; apply it again")
            existing = {project.name: project.allowed_origins for project in await tenants.projects(conn, row.id)}
            plan = plan_tenant(
                row, projects=existing, spec=spec, owner=owner, adopt=adopt, plans=await tenants.plan_names(conn)
            )
            for name in plan.add_projects:
                await tenants.add_project(conn, row.id, name)
        if plan.adopt or plan.set_origins or values_of(row) != plan.values:
            forget: list[Forget] = [("tenant", str(row.id))] if plan.forget else []
            async with announced(conn, tools.redis, forget=forget):
                if plan.adopt:
                    assert owner is not None
                    await tenants.adopt(conn, row.id, owner=owner, now=tools.clock())
                    if sink is not None:
                        # The keys of before are in other hands; they end as in a rotation. In this very transaction:
                        # after a crash they would look like keys that the sink has lost.
                        await keys.expire_of_tenant(conn, row.id, at=tools.clock() + _grace(spec))
                for name, origins in plan.set_origins:
                    await tenants.set_origins(conn, row.id, name, origins)
                await tenants.update(conn, row.id, plan.values, now=tools.clock())
        elif not found.created:
            # A change whose second telling failed is finished by applying it again, though the row has it already.
            await revocations.publish(tools.redis, kind="tenant", id=str(row.id))
        issued, key_changes = await _bring_keys(tools, conn, spec, tenant_id=row.id, sink=sink)
        count = await boards.count_of_tenant(conn, row.id)
        held = await _in_force(tools, conn, row.id)
    return Outcome(
        tenant_id=row.id,
        created=found.created,
        changes=(
            *found.changes,
            *(("adopted: the keys it had end after gracePeriod",) if plan.adopt else ()),
            *plan.changes,
            *(f"project {name} added" for name in plan.add_projects),
            *(f"project {name} is open to {', '.join(origins) or 'no page'}" for name, origins in plan.set_origins),
            *key_changes,
        ),
        notes=notes(plan.unlisted),
        keys=issued,
        keys_in_force=held,
        boards=count,
    )


def notes(unlisted: Sequence[str]) -> tuple[str, ...]:
    """Return what to say of projects that a document does not name."""
    return tuple(f"project {name} is not in the document; it stays, with its boards and keys" for name in unlisted)


def _grace(spec: TenantSpec) -> timedelta:
    return timedelta(seconds=seconds(spec.api_key.grace_period, field="apiKey.gracePeriod"))


async def _row(
    tools: Tools,
    conn: Connection,
    spec: TenantSpec,
    *,
    owner: str | None,
    adopt: Adoption | None,
    known_id: TenantId | None,
) -> _Found:
    """Find the tenant's row, bring it back or make it; `conn` is in no transaction."""
    while True:
        row = await tenants.by_slug(conn, spec.slug)
        plan = plan_tenant(row, projects={}, spec=spec, owner=owner, adopt=adopt, plans=await tenants.plan_names(conn))
        if row is not None:
            return _Found(row.id)
        now = tools.clock()
        if adopt is not None and owner is not None:
            back = await tenants.adopt_retained(conn, spec.slug, namespace=adopt.namespace, owner=owner, now=now)
            if back is not None:
                return _Found(back, changes=("adopted: it had been deleted and retained; its keys are new",))
        if known_id is not None:
            async with transaction(conn):
                if await identity.claim(conn, "tenants", known_id):
                    again = await tenants.insert(
                        conn, spec.slug, plan.values, managed_by=owner, now=now, known_id=known_id
                    )
                    if again is not None:
                        return _Found(again, True, ("made again under the id it had: its row was gone",))
        made = await tenants.insert(conn, spec.slug, plan.values, managed_by=owner, now=now)
        if made is not None:
            return _Found(made, True)
        # another made it in between


async def _bring_keys(
    tools: Tools, conn: Connection, spec: TenantSpec, *, tenant_id: TenantId, sink: KeySink | None
) -> tuple[tuple[IssuedKey, ...], tuple[str, ...]]:
    """Bring every project's keys to `spec`; return those that took over, and what was done."""
    if sink is None:
        return (), ()
    rows = await keys.of_tenant(conn, tenant_id)
    issued, changes = [], []
    for project in await tenants.projects(conn, tenant_id):
        own = of_project(rows, project)
        now = tools.clock()
        plan = plan_keys(
            own, held=await held_of(sink, own, project=project.name), spec=spec.api_key, now=now, keeps=sink.keeps
        )
        if plan.empty:
            continue
        key = await carry_out(
            plan,
            conn=conn,
            redis=tools.redis,
            tenant=spec.slug,
            tenant_id=tenant_id,
            project=project.name,
            project_id=project.id,
            spec=spec.api_key,
            sink=sink,
            entropy=tools.entropy(KEY_ENTROPY_BYTES),
            env=tools.key_env,
            pepper=tools.pepper,
            now=now,
        )
        changes += [f"key {id} now has scope {spec.api_key.scope}" for id in plan.rescope]
        if key is not None:
            issued.append(key)
            changes.append(f"key {key.id} of project {project.name} issued: {plan.issue or 'finished delivering it'}")
    return tuple(issued), tuple(changes)


def of_project(rows: Sequence[KeyRow], project: ProjectRow) -> list[KeyRow]:
    """Return the keys of one project, in their order."""
    return [key for key in rows if key.project_id == project.id]


async def held_of(sink: KeySink, own: Sequence[KeyRow], *, project: str) -> set[str]:
    """Return which of one project's keys the sink has, of those it is asked for."""
    return {key.id for key in to_ask(own, keeps=sink.keeps) if await sink.holds(project, key.id, key.hmac)}


async def _in_force(tools: Tools, conn: Connection, tenant_id: TenantId) -> tuple[KeyInForce, ...]:
    rows = await keys.of_tenant(conn, tenant_id)
    return summary(await tenants.projects(conn, tenant_id), rows, tools=tools)


def summary(projects: Sequence[ProjectRow], rows: Sequence[KeyRow], *, tools: Tools) -> tuple[KeyInForce, ...]:
    """Return the keys in force of the projects, in their order."""
    now = tools.clock()
    found = (in_force(of_project(rows, project), project=project.name, now=now) for project in projects)
    return tuple(key for key in found if key is not None)


async def offer(tools: Tools, slug: str, *, namespace: str) -> None:
    """Let a resource of `namespace` take the tenant over; see `Control.offer`."""
    async with transaction(tools.pool) as conn:
        row = await tenants.by_slug(conn, slug, lock=True)
        if row is None:
            if not await tenants.offer_retained(conn, slug, namespace=namespace):
                raise TenantNotFound(f"there is no tenant {slug!r}, nor one that was deleted and retained")
            return
        check_owner(f"tenant {slug!r}", managed_by=row.managed_by, owner=None)
        await tenants.offer(conn, row.id, namespace=namespace, now=tools.clock())


async def delete(
    tools: Tools,
    slug: str,
    *,
    owner: str | None,
    policy: DeletionPolicy | None,
    namespace: str | None,
    protected: bool,
) -> None:
    """Delete a tenant; see `Control.delete_tenant`."""
    row = await tenants.by_slug(tools.pool, slug)
    if row is None:
        raise TenantNotFound(f"there is no tenant {slug!r}")
    check_owner(f"tenant {slug!r}", managed_by=row.managed_by, owner=owner)
    if protected and row.prevent_deletion:
        raise DeletionPrevented(f"tenant {slug!r} says preventDeletion; set it to false first")
    delete_boards = (policy or row.deletion_policy) is DeletionPolicy.DELETE
    async with locked(tools.pool, kind=TENANT_LOCK, id=row.id) as conn:
        if delete_boards:
            _check_left(await boards.placed(conn, tenant_id=row.id))
        async with announced(conn, tools.redis, forget=[("tenant", str(row.id))]):
            await tenants.suspend(conn, row.id, now=tools.clock())
            await keys.revoke_of_tenant(conn, row.id, now=tools.clock())
        while True:
            left = []
            async with transaction(conn):
                await tenants.by_id(conn, row.id, lock=True)
                if delete_boards:
                    left = await boards.placed(conn, tenant_id=row.id)
                    _check_left(left)
                    for place in left:
                        await boards.mark(conn, place.board.id, boards.BoardState.DELETING, now=tools.clock())
                if not left:
                    await tenants.mark_deleted(
                        conn, row.id, adoptable_from=None if delete_boards else namespace, now=tools.clock()
                    )
                    return
            for place in left:
                board_key = redis_keys.board(row.id, place.project, place.board.spec.key)
                await board.finish_deletion(tools, conn, place.board, board_key=board_key)


def _check_left(left: Sequence[PlacedBoard]) -> None:
    owned = [place for place in left if place.board.managed_by is not None]
    if owned:
        raise BoardsLeft(f"leaderboards of it belong to custom resources ({len(owned)}); delete those first")
