"""The ONE way tenants, projects, keys and boards are made or changed.

Postgres first, then Redis; each step commits by itself and may be repeated, so that after a crash anywhere the same
call finishes the work. The REST API, ``leaderboard apply`` and the operator all come through `Control`. What it does
with one tenant is in `tenancy`, with one board in `board`, with many at once in `fleet`.
"""

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from redis.asyncio import Redis

from leaderboard.control import board, erasures, exports, fleet, namespace, own_keys, quarantine, seasons, tenancy
from leaderboard.control.erasures import Check, Receipt
from leaderboard.control.errors import AlreadyExists, KeyNotFound
from leaderboard.control.exports import Cursor, Record
from leaderboard.control.keys import KeySink, announced
from leaderboard.control.outcome import BoardRequest, Outcome, TenantRequest
from leaderboard.control.own_keys import NewKey
from leaderboard.control.plan import Adoption, KeyInForce
from leaderboard.control.quarantine import Seen
from leaderboard.control.tools import Tools
from leaderboard.domain.boards import Board, BoardSpec
from leaderboard.domain.documents import DeletionPolicy, LeaderboardDocument, TenantDocument
from leaderboard.domain.keys import Scope
from leaderboard.domain.names import LeaderboardId, ProjectId, TenantId
from leaderboard.store.postgres import boards, keys, tenants
from leaderboard.store.postgres.keys import ProjectKey
from leaderboard.store.postgres.pool import Pool, connection
from leaderboard.store.postgres.quarantine import Hold, HoldState
from leaderboard.store.redis import keys as redis_keys
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.scores import Refusal

__all__ = ["Adoption", "BoardRequest", "Control", "KeyInForce", "Outcome", "TenantRequest"]


def _now() -> datetime:
    return datetime.now(UTC)


class Control:
    """Carries out what tenants and boards should be, on one Postgres and one Redis (which must not decode answers).

    `pepper` is the secret under which keys are hashed, `key_env` the ``<env>`` part of new ones. `clock` gives aware
    times and `entropy` that many random bytes. Objects are independent of each other and may be used concurrently.
    On a fenced pool (see `leadership`) every method raises Deposed once another leader took over.
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
        self._tools = Tools(
            pool=pool,
            redis=redis,
            pepper=pepper,
            key_env=key_env,
            clock=clock,
            entropy=entropy,
            drain_seconds=drain_seconds,
            ids=EventIds(entropy(8)),
        )

    # -- documents

    async def reconcile(
        self,
        document: TenantDocument | LeaderboardDocument,
        *,
        owner: str | None = None,
        sink: KeySink | None = None,
        tenant_slug: str | None = None,
        tenant_owner: str | None = None,
        adopt: Adoption | None = None,
        known_id: int | None = None,
    ) -> Outcome:
        """Make what `document` describes so, and return what that took.

        `owner` is the UID of the custom resource, None for the command line. `sink` receives new keys; without one none
        are issued or rotated. A Leaderboard's tenant is `tenant_slug`, or what its tenantRef names; with `tenant_owner`
        it has to be that resource's.

        `adopt` takes over what nobody owns, where that is allowed: a tenant that was offered to the namespace, or was
        deleted with Retain in it; a board that was given up in it, or that no resource ever had. `known_id` is the id
        the caller remembers: where the row is gone (deleted by hand, a restored database) it is made again under it,
        so that what Redis and the ledger have stays its own.

        Raises the kinds of ControlError, the domain's refusals, DatabaseUnavailable, RedisUnavailable.
        """
        if isinstance(document, TenantDocument):
            return await tenancy.reconcile(
                self._tools,
                document.spec,
                owner=owner,
                sink=sink,
                adopt=adopt,
                known_id=None if known_id is None else TenantId(known_id),
            )
        return await board.reconcile(
            self._tools,
            document,
            owner=owner,
            slug=tenant_slug or document.spec.tenant_ref.name,
            tenant_owner=tenant_owner,
            adopt=adopt,
            known_id=None if known_id is None else LeaderboardId(known_id),
        )

    async def reconcile_boards(self, requests: Sequence[BoardRequest], *, positions: bool) -> list[Outcome | Exception]:
        """Do for many boards what `reconcile` does for each, and return the outcomes in the order of the requests.

        New boards and boards that are as they should be cost a few statements in all; the others go through the path of
        one board. `positions` also compares the boards with the ledger's positions where nothing else is wrong, which
        finds a Redis that went back in time. Quotas are given out in the order of the requests, and of two for one
        place the first has it.

        An exception in the answer is its request's only. Raises DatabaseUnavailable and RedisUnavailable where that
        concerns all of them; those that were made by then are found the next time.
        """
        return await fleet.reconcile(self._tools, requests, positions=positions)

    async def survey_tenants(self, requests: Sequence[TenantRequest]) -> list[Outcome | None]:
        """Return for each tenant that is as its document asks what `reconcile` would, without changing or telling
        anything; None for one that is not, or could not be compared: call `reconcile`.

        Raises DatabaseUnavailable.
        """
        return await fleet.survey(self._tools, requests)

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
        outcome = await board.put(
            self._tools,
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

    async def reset_board(
        self, *, tenant_id: TenantId, project_id: ProjectId, project: str, key: str, season: int
    ) -> Board:
        """End season `season` of a board: its entries go to the archive, it goes on empty. Returns the board.

        Also of a board that a resource owns: its rules stay as they are. A reset that was cut short is finished, by the
        next call or by the worker. Raises BoardNotFound, SeasonOver; DatabaseUnavailable, RedisUnavailable.
        """
        return await seasons.reset(
            self._tools,
            project_id=project_id,
            key=key,
            board_key=redis_keys.board(tenant_id, project, key),
            season=season,
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
        namespace: str | None = None,
    ) -> None:
        """Delete a board with its entries; its events stay in the ledger. A deletion cut short is finished.

        `retain` keeps the board and only gives up its ownership: a resource of `namespace` may take it over, or, with
        None, one of its Tenant's own. Raises BoardNotFound, ManagedElsewhere, DatabaseUnavailable, RedisUnavailable.
        """
        await board.delete(
            self._tools,
            tenant_id=tenant_id,
            project_id=project_id,
            project=project,
            key=key,
            owner=owner,
            retain=retain,
            adoptable_from=namespace,
        )

    async def delete_boards_of(self, owner: str, *, retain: bool, namespace: str | None) -> None:
        """Do what `delete_board` does to every board (there is one) that the custom resource `owner` has, if any.

        Also where the tenant is gone. Raises DatabaseUnavailable, RedisUnavailable.
        """
        await board.delete_owned(self._tools, owner, retain=retain, adoptable_from=namespace)

    # -- quarantine

    async def held_updates(
        self,
        *,
        project_id: ProjectId,
        key: str,
        board_key: str,
        state: HoldState | None,
        member: str | None,
        before: tuple[datetime, UUID] | None,
        limit: int,
        outlook: bool = True,
    ) -> list[Seen]:
        """Return up to `limit` held updates of a board (of `member` only, where given) before a place, newest first.

        `state` None is what waits for a decision. Those come with what they would come to; without `outlook` Redis is
        not asked for that. What is in the outbox still is not there. Raises BoardNotFound, DatabaseUnavailable,
        RedisUnavailable.
        """
        return await quarantine.page(
            self._tools,
            project_id=project_id,
            key=key,
            board_key=board_key,
            state=state,
            member=member,
            before=before,
            limit=limit,
            outlook=outlook,
        )

    async def held_update(self, *, project_id: ProjectId, key: str, board_key: str, id: UUID) -> Seen:
        """Return one held update. Raises as `held_updates`; HoldNotFound, HoldNotReady where it may be on its way."""
        return await quarantine.one(self._tools, project_id=project_id, key=key, board_key=board_key, id=id)

    async def release(
        self, *, project_id: ProjectId, key: str, board_key: str, id: UUID, by: str, note: str | None
    ) -> Hold | Refusal:
        """Apply a held update as if it came now, its board's bounds aside; once, however often this is called.

        `by` is the id of the API key that decides. Returns the Refusal where the board does not take it: then it is
        held as before. Raises as `held_update` and AlreadyDecided; after DatabaseUnavailable or RedisUnavailable do it
        again.
        """
        return await quarantine.release(
            self._tools, project_id=project_id, key=key, board_key=board_key, id=id, by=by, note=note
        )

    async def reject(self, *, project_id: ProjectId, key: str, id: UUID, by: str, note: str | None) -> Hold:
        """Let a held update never count. Raises as `release`."""
        return await quarantine.reject(self._tools, project_id=project_id, key=key, id=id, by=by, note=note)

    # -- members

    async def data_of_member(
        self, *, project_id: ProjectId, member: str, cursor: Cursor, limit: int
    ) -> tuple[list[Record], Cursor | None]:
        """Return up to `limit` records of what there is of a member, and where the next page goes on (None: nowhere).

        A page may have fewer, or none, and go on. What is in the outbox still is not there. Raises DatabaseUnavailable;
        RedisUnavailable, also where a board is being restored.
        """
        return await exports.page(self._tools, project_id=project_id, member=member, cursor=cursor, limit=limit)

    async def request_erasure(self, *, project_id: ProjectId, member: str, requested_by: str) -> Receipt:
        """Write down that a member is to be erased from the project, for the worker, and return how far that is.

        The one that is pending, where one is; else a new one, also where there is nothing of the member. `requested_by`
        is the id of the API key. Raises DatabaseUnavailable.
        """
        return await erasures.request(self._tools, project_id=project_id, member=member, requested_by=requested_by)

    async def erasure(self, id: UUID, *, project_id: ProjectId | None) -> Receipt:
        """Return an erasure of the project, of any with None. Raises ErasureNotFound, DatabaseUnavailable."""
        return await erasures.read(self._tools, id, project_id=project_id)

    async def check_erasure(self, id: UUID, *, project_id: ProjectId | None, member: str) -> Check:
        """Look whether a receipt is as it was written, is this member's, and whether there is nothing of it now.

        Raises ErasureNotFound; NotDrained where the ledger is behind; DatabaseUnavailable, RedisUnavailable.
        """
        return await erasures.check(self._tools, id, project_id=project_id, member=member)

    async def erasures_since(self, moment: datetime) -> list[tuple[str, Receipt, bool]]:
        """Return (tenant/project, erasure, whether its receipt is intact) of all done since `moment`, or pending.

        Oldest first. Raises DatabaseUnavailable.
        """
        return await erasures.since(self._tools, moment)

    async def carry_out_erasures(self, *, limit: int) -> int:
        """Go on with at most `limit` erasures that are pending, and return how many got done.

        Several processes may do it at once. Raises DatabaseUnavailable, RedisUnavailable.
        """
        return await erasures.carry_out(self._tools, limit=limit)

    # -- tenants and keys, offered and ended

    async def offer(self, slug: str, *, namespace: str) -> None:
        """Let a Tenant resource of `namespace` take over a tenant that no resource owns.

        Where there is none, the newest that was deleted and retained. A later offer replaces an earlier one. Raises
        TenantNotFound, ManagedElsewhere, DatabaseUnavailable.
        """
        await tenancy.offer(self._tools, slug, namespace=namespace)

    async def delete_tenant(
        self,
        slug: str,
        *,
        owner: str | None = None,
        policy: DeletionPolicy | None = None,
        namespace: str | None = None,
        protected: bool = True,
    ) -> None:
        """Delete a tenant by its deletion policy, or by `policy`. May be repeated after a crash.

        Retain keeps every row and board and revokes the keys, and a resource of `namespace` may have the tenant back;
        Delete deletes the boards as well. Either way the slug is free afterwards. With `protected` a tenant whose row
        says preventDeletion stays; an owner who has looked into its own document may say False.

        Raises TenantNotFound, ManagedElsewhere, DeletionPrevented, DatabaseUnavailable, RedisUnavailable.
        """
        await tenancy.delete(self._tools, slug, owner=owner, policy=policy, namespace=namespace, protected=protected)

    async def owners(self) -> tuple[set[str], set[str]]:
        """Return the UIDs of the custom resources that own tenants, and of those that own boards.

        Raises DatabaseUnavailable.
        """
        async with connection(self._tools.pool) as conn:
            return await tenants.owners(conn), await boards.owners(conn)

    # -- a project's own keys

    async def keys_of(self, project_id: ProjectId) -> list[ProjectKey]:
        """Return the project's keys in force, oldest first. Raises DatabaseUnavailable."""
        return await own_keys.of_project(self._tools, project_id)

    async def make_key(self, *, tenant_id: TenantId, project_id: ProjectId, scope: Scope, name: str | None) -> NewKey:
        """Make a key that no document knows, and return it: its text is nowhere else.

        Raises QuotaExceeded (`own_keys.MAX_KEYS`), InvalidName, TenantNotFound, DatabaseUnavailable.
        """
        return await own_keys.make(self._tools, tenant_id=tenant_id, project_id=project_id, scope=scope, name=name)

    async def rotate_key(self, *, tenant_id: TenantId, project_id: ProjectId, key_id: str, grace: timedelta) -> NewKey:
        """Make a key of the same scope and name and end the old one after `grace`, at once where that is nothing.

        Succeeds only when Postgres and Redis both took it. Where the answer is lost, the key it had is nobody's: rotate
        again. Raises KeyNotFound, KeyManaged, TenantNotFound, DatabaseUnavailable, RedisUnavailable.
        """
        return await own_keys.rotate(
            self._tools, tenant_id=tenant_id, project_id=project_id, key_id=key_id, grace=grace
        )

    async def revoke_key(self, *, tenant_id: TenantId, project_id: ProjectId, key_id: str) -> None:
        """End one key of the project at once. Succeeds only when Postgres and Redis both took it.

        Raises KeyNotFound, KeyManaged, TenantNotFound, DatabaseUnavailable, RedisUnavailable.
        """
        await own_keys.revoke(self._tools, tenant_id=tenant_id, project_id=project_id, key_id=key_id)

    async def revoke(self, key_id: str) -> None:
        """Revoke one key. Succeeds only when Postgres and Redis both took it; may be repeated.

        Raises KeyNotFound, RedisUnavailable, DatabaseUnavailable.
        """
        tools = self._tools
        async with connection(tools.pool) as conn, announced(conn, tools.redis, forget=[("key", key_id)]):
            if not await keys.revoke(conn, key_id, now=tools.clock()):
                raise KeyNotFound(f"there is no API key with the id {key_id!r}")
