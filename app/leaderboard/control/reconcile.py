"""The ONE way tenants, projects, keys and boards are made or changed.

Postgres first, then Redis; each step commits by itself and may be repeated, so that after a crash anywhere the same
call finishes the work. The REST API, ``leaderboard apply`` and the operator all come through `Control`.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from redis.asyncio import Redis

from leaderboard.control import namespace
from leaderboard.control.errors import (
    AlreadyExists,
    BoardNotFound,
    DeletionPrevented,
    KeyNotFound,
    ProjectNotFound,
    TenantNotFound,
)
from leaderboard.control.keys import KEY_ENTROPY_BYTES, Forget, IssuedKey, KeySink, announced, carry_out
from leaderboard.control.plan import board_changes, check_owner, plan_keys, plan_tenant, spec_hash, values_of
from leaderboard.domain.boards import Board, BoardSpec, check_spec
from leaderboard.domain.documents import DeletionPolicy, LeaderboardDocument, TenantDocument, TenantSpec
from leaderboard.domain.names import ProjectId, TenantId
from leaderboard.domain.plans import check_room_for_board
from leaderboard.store.postgres import boards, keys, tenants
from leaderboard.store.postgres.boards import BoardState
from leaderboard.store.postgres.pool import Connection, Database, Pool, connection, locked, transaction
from leaderboard.store.redis import keys as redis_keys
from leaderboard.store.redis import revocations
from leaderboard.store.redis.boards import BoardAdmin
from leaderboard.store.redis.events import EventIds

_TENANT_LOCK = 1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What reconciling one document did. `changes` and `notes` are for people to read; no changes: all was right."""

    tenant_id: TenantId
    created: bool = False
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    keys: tuple[IssuedKey, ...] = ()
    """The keys that took over in this call, by project."""
    board: Board | None = None
    namespace: str | None = None
    """The board's key in Redis."""


def _now() -> datetime:
    return datetime.now(UTC)


class Control:
    """Carries out what tenants and boards should be, on one Postgres and one Redis (which must not decode answers).

    `pepper` is the secret under which keys are hashed, `key_env` the ``<env>`` part of new ones. `clock` gives aware
    times and `entropy` that many random bytes. Objects are independent of each other and may be used concurrently.
    """

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        *,
        pepper: bytes,
        key_env: str = "live",
        clock: Callable[[], datetime] = _now,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        drain_seconds: float = namespace.DRAIN_SECONDS,
    ) -> None:
        self._pool = pool
        self._redis = redis
        self._pepper = pepper
        self._key_env = key_env
        self._clock = clock
        self._entropy = entropy
        self._drain_seconds = drain_seconds
        self._ids = EventIds(entropy(8))

    # -- documents

    async def reconcile(
        self,
        document: TenantDocument | LeaderboardDocument,
        *,
        owner: str | None = None,
        sink: KeySink | None = None,
        tenant_slug: str | None = None,
    ) -> Outcome:
        """Make what `document` describes so, and return what that took.

        `owner` is the UID of the custom resource, None for the command line. `sink` receives new keys; without one none
        are issued or rotated. A Leaderboard's tenant is `tenant_slug`, or what its tenantRef names. Raises the kinds of
        ControlError, the domain's refusals, DatabaseUnavailable, RedisUnavailable.
        """
        if isinstance(document, TenantDocument):
            return await self._tenant(document.spec, owner=owner, sink=sink)
        return await self._leaderboard(document, owner=owner, slug=tenant_slug or document.spec.tenant_ref.name)

    async def _tenant(self, spec: TenantSpec, *, owner: str | None, sink: KeySink | None) -> Outcome:
        async with connection(self._pool) as conn:
            tenant_id, created = await self._tenant_row(conn, spec, owner=owner)
        async with locked(self._pool, kind=_TENANT_LOCK, id=tenant_id) as conn:
            async with transaction(conn):
                row = await tenants.by_id(conn, tenant_id, lock=True)
                if row is None:
                    raise TenantNotFound(f"tenant {spec.slug!r} was deleted meanwhile; apply it again")
                existing = [project.name for project in await tenants.projects(conn, tenant_id)]
                plan = plan_tenant(row, projects=existing, spec=spec, owner=owner, plans=await tenants.plan_names(conn))
                for name in plan.add_projects:
                    await tenants.add_project(conn, tenant_id, name)
            if values_of(row) != plan.values:
                forget: list[Forget] = [("tenant", str(tenant_id))] if plan.forget else []
                async with announced(conn, self._redis, forget=forget):
                    await tenants.update(conn, tenant_id, plan.values, now=self._clock())
            elif not created:
                # A change whose second telling failed is finished by applying it again, though the row has it already.
                await revocations.publish(self._redis, kind="tenant", id=str(tenant_id))
            issued, key_notes = await self._keys(conn, spec, tenant_id=tenant_id, sink=sink)
        added = tuple(f"project {name} added" for name in plan.add_projects)
        return Outcome(
            tenant_id=tenant_id,
            created=created,
            changes=(*plan.changes, *added, *key_notes),
            notes=tuple(
                f"project {name} is not in the document; it stays, with its boards and keys" for name in plan.unlisted
            ),
            keys=issued,
        )

    async def _tenant_row(self, conn: Connection, spec: TenantSpec, *, owner: str | None) -> tuple[TenantId, bool]:
        """Return the tenant's id and whether its row was made now."""
        row = await tenants.by_slug(conn, spec.slug)
        plan = plan_tenant(row, projects=(), spec=spec, owner=owner, plans=await tenants.plan_names(conn))
        if row is not None:
            return row.id, False
        made = await tenants.insert(conn, spec.slug, plan.values, managed_by=owner, now=self._clock())
        if made is not None:
            return made, True
        return await self._tenant_row(conn, spec, owner=owner)  # another made it in between

    async def _keys(
        self, conn: Connection, spec: TenantSpec, *, tenant_id: TenantId, sink: KeySink | None
    ) -> tuple[tuple[IssuedKey, ...], tuple[str, ...]]:
        if sink is None:
            return (), ()
        rows = await keys.of_tenant(conn, tenant_id)
        issued, changes = [], []
        for project in await tenants.projects(conn, tenant_id):
            own = [key for key in rows if key.project_id == project.id]
            held = {
                key.id
                for key in own
                if key.state is keys.KeyState.PENDING and await sink.holds(project.name, key.id, key.hmac)
            }
            now = self._clock()
            plan = plan_keys(own, held=held, spec=spec.api_key, now=now)
            if plan.empty:
                continue
            key = await carry_out(
                plan,
                conn=conn,
                redis=self._redis,
                tenant=spec.slug,
                tenant_id=tenant_id,
                project=project.name,
                project_id=project.id,
                spec=spec.api_key,
                sink=sink,
                entropy=self._entropy(KEY_ENTROPY_BYTES),
                env=self._key_env,
                pepper=self._pepper,
                now=now,
            )
            changes += [f"key {id} now has scope {spec.api_key.scope}" for id in plan.rescope]
            if key is not None:
                issued.append(key)
                changes.append(
                    f"key {key.id} of project {project.name} issued: {plan.issue or 'finished delivering it'}"
                )
        return tuple(issued), tuple(changes)

    async def _leaderboard(self, document: LeaderboardDocument, *, owner: str | None, slug: str) -> Outcome:
        async with connection(self._pool) as conn:
            tenant = await tenants.by_slug(conn, slug)
            if tenant is None:
                raise TenantNotFound(f"there is no tenant {slug!r}; apply the Tenant first")
            project_id = await self._project(conn, tenant.id, document.spec.project)
        return await self._put(
            tenant_id=tenant.id,
            project_id=project_id,
            project=document.spec.project,
            spec=document.spec.board(),
            policy=document.spec.deletion_policy,
            owner=owner,
            may_create=True,
            may_change=True,
        )

    async def _project(self, conn: Connection, tenant_id: TenantId, name: str) -> ProjectId:
        for project in await tenants.projects(conn, tenant_id):
            if project.name == name:
                return project.id
        raise ProjectNotFound(f"the tenant has no project {name!r}; add it to the Tenant's projects")

    # -- boards

    async def put_board(
        self,
        *,
        tenant_id: TenantId,
        project_id: ProjectId,
        project: str,
        spec: BoardSpec,
        create: bool,
        owner: str | None = None,
    ) -> Board:
        """Make (`create`) or change a board and return it as it is then.

        Quotas are read under the tenant's row lock: what a caller has cached would not do. Raises AlreadyExists (with
        `create`; a half made board is finished first), BoardNotFound (without), TenantNotFound, ProjectNotFound,
        ManagedElsewhere; the domain's ImmutableField, InvalidDocument, QuotaExceeded; NotDrained; DatabaseUnavailable,
        RedisUnavailable.
        """
        outcome = await self._put(
            tenant_id=tenant_id,
            project_id=project_id,
            project=project,
            spec=spec,
            policy=None,
            owner=owner,
            may_create=create,
            may_change=not create,
        )
        if create and not outcome.created:
            raise AlreadyExists(
                f"there is a leaderboard {spec.key!r} already; change it with PATCH, or use another key"
            )
        assert outcome.board is not None
        return outcome.board

    async def _put(
        self,
        *,
        tenant_id: TenantId,
        project_id: ProjectId,
        project: str,
        spec: BoardSpec,
        policy: DeletionPolicy | None,
        owner: str | None,
        may_create: bool,
        may_change: bool,
    ) -> Outcome:
        check_spec(spec)
        board_key = redis_keys.board(tenant_id, project, spec.key)
        changes: tuple[str, ...] = ()
        async with transaction(self._pool) as conn:
            tenant = await tenants.by_id(conn, tenant_id, lock=True)
            if tenant is None:
                raise TenantNotFound("the tenant does not exist any more")
            if all(
                found.id != project_id or found.name != project for found in await tenants.projects(conn, tenant_id)
            ):
                raise ProjectNotFound(f"the tenant has no project {project!r}")
            found = await boards.find(conn, project_id, spec.key)
            leaving = None if found is None or found[1] is BoardState.ACTIVE else found[0]
            created = found is None and may_create
            if found is None and not may_create:
                raise BoardNotFound(f"there is no leaderboard {spec.key!r}")
            if created:
                check_room_for_board(tenant.quotas, boards=await boards.count_of_tenant(conn, tenant_id))
                board_id = await boards.insert(
                    conn,
                    project_id,
                    spec,
                    managed_by=owner,
                    deletion_policy=policy or DeletionPolicy.DELETE,
                    spec_hash=spec_hash(spec),
                    now=self._clock(),
                )
            elif found is not None and leaving is None:
                board, board_id = found[0], found[0].id
                check_owner(f"leaderboard {spec.key!r}", managed_by=board.managed_by, owner=owner)
                if may_change:
                    changes = board_changes(board.spec, spec)
                    if changes or policy is not None:
                        await boards.update(
                            conn, board_id, spec, deletion_policy=policy, spec_hash=spec_hash(spec), now=self._clock()
                        )
        if leaving is not None:
            if not may_create:
                raise BoardNotFound(f"there is no leaderboard {spec.key!r}")
            # A deletion that was cut short: finish it, and the key is free.
            await self._finish_deletion(self._pool, leaving, board_key=board_key)
            return await self._put(
                tenant_id=tenant_id,
                project_id=project_id,
                project=project,
                spec=spec,
                policy=policy,
                owner=owner,
                may_create=may_create,
                may_change=may_change,
            )
        async with namespace.lock(self._pool, board_id) as conn:
            row = await boards.by_id(conn, board_id)
            if row is None or row[1] is not BoardState.ACTIVE:
                raise BoardNotFound(f"leaderboard {spec.key!r} was deleted meanwhile")
            done = await namespace.ensure(
                conn,
                self._redis,
                row[0],
                board_key=board_key,
                new=created,
                ids=self._ids,
                now=self._clock(),
                drain_seconds=self._drain_seconds,
            )
            after = await boards.by_id(conn, board_id)
        assert after is not None
        return Outcome(
            tenant_id=tenant_id, created=created, changes=(*changes, *done), board=after[0], namespace=board_key
        )

    async def delete_board(
        self,
        *,
        tenant_id: TenantId,
        project_id: ProjectId,
        project: str,
        key: str,
        owner: str | None = None,
        retain: bool = False,
    ) -> None:
        """Delete a board with its entries; its events stay in the ledger. A deletion cut short is finished.

        `retain` keeps the board and only gives up its ownership. Raises BoardNotFound, ManagedElsewhere,
        DatabaseUnavailable, RedisUnavailable.
        """
        async with transaction(self._pool) as conn:
            await tenants.by_id(conn, tenant_id, lock=True)
            found = await boards.find(conn, project_id, key)
            if found is None:
                raise BoardNotFound(f"there is no leaderboard {key!r}")
            board, _ = found
            check_owner(f"leaderboard {key!r}", managed_by=board.managed_by, owner=owner)
            if retain:
                await boards.release(conn, board.id, now=self._clock())
                return
            await boards.mark(conn, board.id, BoardState.DELETING, now=self._clock())
        await self._finish_deletion(self._pool, board, board_key=redis_keys.board(tenant_id, project, key))

    async def _finish_deletion(self, database: Database, board: Board, *, board_key: str) -> None:
        async with namespace.lock(database, board.id) as conn:
            row = await boards.by_id(conn, board.id)
            if row is None or row[1] is not BoardState.DELETING:
                return  # another was faster; the key may be a new board's by now
            admin = BoardAdmin(self._redis)
            meta = await admin.read_meta(board_key)
            if meta is None or meta.id == board.id:
                await admin.delete(board_key, event_id_nonce=self._ids.nonce, event_counter=self._ids.take())
            await boards.mark(conn, board.id, BoardState.DELETED, now=self._clock())

    # -- tenants and keys, ended

    async def delete_tenant(self, slug: str, *, owner: str | None = None, policy: DeletionPolicy | None = None) -> None:
        """Delete a tenant by its deletion policy, or by `policy`. May be repeated after a crash.

        Retain keeps every row and board and revokes the keys; Delete deletes the boards as well. Either way the slug is
        free afterwards. Raises TenantNotFound, ManagedElsewhere, DeletionPrevented, DatabaseUnavailable,
        RedisUnavailable.
        """
        row = await tenants.by_slug(self._pool, slug)
        if row is None:
            raise TenantNotFound(f"there is no tenant {slug!r}")
        check_owner(f"tenant {slug!r}", managed_by=row.managed_by, owner=owner)
        if row.prevent_deletion:
            raise DeletionPrevented(f"tenant {slug!r} says preventDeletion; set it to false first")
        delete_boards = (policy or row.deletion_policy) is DeletionPolicy.DELETE
        async with locked(self._pool, kind=_TENANT_LOCK, id=row.id) as conn:
            if delete_boards:
                for place in await boards.placed(conn, tenant_id=row.id):
                    check_owner(f"leaderboard {place.path}", managed_by=place.board.managed_by, owner=None)
            async with announced(conn, self._redis, forget=[("tenant", str(row.id))]):
                await tenants.suspend(conn, row.id, now=self._clock())
                await keys.revoke_of_tenant(conn, row.id, now=self._clock())
            while True:
                left = []
                async with transaction(conn):
                    await tenants.by_id(conn, row.id, lock=True)
                    if delete_boards:
                        left = await boards.placed(conn, tenant_id=row.id)
                        for place in left:
                            check_owner(f"leaderboard {place.path}", managed_by=place.board.managed_by, owner=None)
                            await boards.mark(conn, place.board.id, BoardState.DELETING, now=self._clock())
                    if not left:
                        await tenants.mark_deleted(conn, row.id, now=self._clock())
                        return
                for place in left:
                    board_key = redis_keys.board(row.id, place.project, place.board.spec.key)
                    await self._finish_deletion(conn, place.board, board_key=board_key)

    async def revoke(self, key_id: str) -> None:
        """Revoke one key. Succeeds only when Postgres and Redis both took it; may be repeated.

        Raises KeyNotFound, RedisUnavailable, DatabaseUnavailable.
        """
        async with connection(self._pool) as conn, announced(conn, self._redis, forget=[("key", key_id)]):
            if not await keys.revoke(conn, key_id, now=self._clock()):
                raise KeyNotFound(f"there is no API key with the id {key_id!r}")
