"""One board: made, changed, deleted. Many at once are in `fleet`."""

import contextlib

from leaderboard.control import namespace
from leaderboard.control.errors import BoardNotFound, ManagedElsewhere, ProjectNotFound, TenantNotFound
from leaderboard.control.outcome import Outcome
from leaderboard.control.plan import (
    Adoption,
    board_changes,
    check_owner,
    no_project,
    no_tenant,
    spec_hash,
    takes_over_board,
)
from leaderboard.control.tools import Tools
from leaderboard.domain.boards import Board, BoardSpec, check_spec
from leaderboard.domain.documents import DeletionPolicy, LeaderboardDocument
from leaderboard.domain.names import LeaderboardId, ProjectId, TenantId
from leaderboard.domain.plans import check_room_for_board
from leaderboard.store.postgres import boards, identity, seasons, tenants
from leaderboard.store.postgres.boards import BoardState
from leaderboard.store.postgres.pool import Connection, Database, connection, transaction
from leaderboard.store.redis import keys as redis_keys
from leaderboard.store.redis.boards import BoardAdmin


async def reconcile(
    tools: Tools,
    document: LeaderboardDocument,
    *,
    owner: str | None,
    slug: str,
    tenant_owner: str | None,
    adopt: Adoption | None,
    known_id: LeaderboardId | None,
    may_create: bool = True,
) -> Outcome:
    """Make the board as the document asks; see `Control.reconcile`."""
    async with connection(tools.pool) as conn:
        tenant = await tenants.by_slug(conn, slug)
        if tenant is None or (tenant_owner is not None and tenant.managed_by != tenant_owner):
            raise no_tenant(slug)
        project_id = await _project(conn, tenant.id, document.spec.project)
    return await put(
        tools,
        tenant_id=tenant.id,
        project_id=project_id,
        project=document.spec.project,
        spec=document.spec.board(),
        policy=document.spec.deletion_policy,
        owner=owner,
        may_create=may_create,
        may_change=True,
        adopt=adopt,
        known_id=known_id,
    )


async def _project(conn: Connection, tenant_id: TenantId, name: str) -> ProjectId:
    for project in await tenants.projects(conn, tenant_id):
        if project.name == name:
            return project.id
    raise no_project(name)


async def put(
    tools: Tools,
    *,
    tenant_id: TenantId,
    project_id: ProjectId,
    project: str,
    spec: BoardSpec,
    policy: DeletionPolicy | None,
    owner: str | None,
    may_create: bool,
    may_change: bool,
    adopt: Adoption | None = None,
    known_id: LeaderboardId | None = None,
) -> Outcome:
    """Make or change a board; see `Control.put_board`. `policy` None keeps the one it has."""
    check_spec(spec)
    board_key = redis_keys.board(tenant_id, project, spec.key)
    # What Redis has decides whether a lost row may have its former id; asked before the tenant's row is held.
    there = None if known_id is None else await BoardAdmin(tools.redis).read_meta(board_key)
    changes: tuple[str, ...] = ()
    async with transaction(tools.pool) as conn:
        tenant = await tenants.by_id(conn, tenant_id, lock=True)
        if tenant is None:
            raise TenantNotFound("the tenant does not exist any more")
        if all(found.id != project_id or found.name != project for found in await tenants.projects(conn, tenant_id)):
            raise ProjectNotFound(f"the tenant has no project {project!r}")
        found = await boards.find(conn, project_id, spec.key)
        leaving = None if found is None or found.state is BoardState.ACTIVE else found.board
        created = found is None and may_create
        again = False
        if found is None and not may_create:
            raise BoardNotFound(f"there is no leaderboard {spec.key!r}")
        if created:
            check_room_for_board(tenant.quotas, boards=await boards.count_of_tenant(conn, tenant_id))
            again = (
                known_id is not None
                and (there is None or there.id == known_id)
                and await identity.claim(conn, "leaderboards", known_id)
            )
            board_id = await boards.insert(
                conn,
                project_id,
                spec,
                managed_by=owner,
                deletion_policy=policy or DeletionPolicy.DELETE,
                spec_hash=spec_hash(spec),
                now=tools.clock(),
                known_id=known_id if again else None,
                incarnation=there.incarnation if again and there is not None else 1,
                season=there.season if again and there is not None else 1,
            )
            changes = ("made again under the id it had: its row was gone",) if again else ()
        elif found is not None and leaving is None:
            board_id = found.board.id
            takes_over = takes_over_board(
                spec.key,
                managed_by=found.board.managed_by,
                adoptable_from=found.adoptable_from,
                owner=owner,
                adopt=adopt,
            )
            if may_change:
                changes = board_changes(found.board.spec, spec, same_document=found.spec_hash == spec_hash(spec))
                if policy not in (None, found.deletion_policy):
                    changes = (*changes, f"deletion_policy: {found.deletion_policy} -> {policy}")
                if changes or found.spec_hash != spec_hash(spec):
                    await boards.update(
                        conn, board_id, spec, deletion_policy=policy, spec_hash=spec_hash(spec), now=tools.clock()
                    )
            if takes_over:
                assert owner is not None
                await boards.adopt(conn, board_id, owner=owner, now=tools.clock())
                changes = ("adopted", *changes)
    if leaving is not None:
        if not may_create:
            raise BoardNotFound(f"there is no leaderboard {spec.key!r}")
        # A deletion that was cut short: finish it, and the key is free.
        await finish_deletion(tools, tools.pool, leaving, board_key=board_key)
        return await put(
            tools,
            tenant_id=tenant_id,
            project_id=project_id,
            project=project,
            spec=spec,
            policy=policy,
            owner=owner,
            may_create=may_create,
            may_change=may_change,
            adopt=adopt,
        )
    async with namespace.lock(tools.pool, board_id) as conn:
        board = await namespace.as_it_stands(conn, board_id, spec.key)
        done = await namespace.ensure(
            conn,
            tools.redis,
            board,
            board_key=board_key,
            new=created and not again,
            ids=tools.ids,
            now=tools.clock(),
            drain_seconds=tools.drain_seconds,
        )
        after = await boards.by_id(conn, board_id)
        entries = (await BoardAdmin(tools.redis).snapshot(board_key)).entries
    assert after is not None
    return Outcome(
        tenant_id=tenant_id,
        created=created,
        changes=(*changes, *done),
        board=after.board,
        namespace=board_key,
        entries=entries,
    )


async def delete(
    tools: Tools,
    *,
    tenant_id: TenantId,
    project_id: ProjectId,
    project: str,
    key: str,
    owner: str | None,
    retain: bool,
    adoptable_from: str | None,
) -> None:
    """Delete a board, or give it up; see `Control.delete_board`."""
    async with transaction(tools.pool) as conn:
        await tenants.by_id(conn, tenant_id, lock=True)
        found = await boards.find(conn, project_id, key)
        if found is None:
            raise BoardNotFound(f"there is no leaderboard {key!r}")
        check_owner(f"leaderboard {key!r}", managed_by=found.board.managed_by, owner=owner)
        # One that is half deleted cannot be retained any more.
        if retain and found.state is BoardState.ACTIVE:
            await boards.release(conn, found.board.id, adoptable_from=adoptable_from, now=tools.clock())
            return
        await boards.mark(conn, found.board.id, BoardState.DELETING, now=tools.clock())
    await finish_deletion(tools, tools.pool, found.board, board_key=redis_keys.board(tenant_id, project, key))


async def delete_owned(tools: Tools, owner: str, *, retain: bool, adoptable_from: str | None) -> None:
    """Delete, or give up, what a custom resource owns; see `Control.delete_boards_of`."""
    for place in await boards.owned(tools.pool, owner):
        with contextlib.suppress(BoardNotFound, ManagedElsewhere):  # another was faster
            await delete(
                tools,
                tenant_id=place.tenant_id,
                project_id=place.project_id,
                project=place.project,
                key=place.board.spec.key,
                owner=owner,
                retain=retain,
                adoptable_from=adoptable_from,
            )


async def finish_deletion(tools: Tools, database: Database, board: Board, *, board_key: str) -> None:
    """Delete what Redis has of a board whose row says that it is being deleted, and then say so in the row."""
    async with namespace.lock(database, board.id) as conn:
        row = await boards.by_id(conn, board.id)
        if row is None or row.state is not BoardState.DELETING:
            return  # another was faster; the key may be a new board's by now
        admin = BoardAdmin(tools.redis)
        seen = await admin.snapshot(board_key)
        if seen.broken:
            await admin.discard(board_key)
        elif seen.meta is None or seen.meta.id == board.id:
            await admin.delete(board_key, event_id_nonce=tools.ids.nonce, event_counter=tools.ids.take())
        for season in await seasons.unfinished(conn, board.id):
            await admin.drop_season(board_key, season)
        await seasons.forget(conn, board.id)
        await boards.mark(conn, board.id, BoardState.DELETED, now=tools.clock())
