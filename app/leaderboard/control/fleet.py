"""Many boards and tenants at once: observed, decided and made with a few statements for all of them.

What is plain (new, or as it should be) is done here; the rest takes the path of one, a few at a time.
"""

import asyncio
from collections.abc import Sequence

import msgspec
import psycopg

from leaderboard.control import board, namespace, tenancy
from leaderboard.control.drift import LOST, wanted_state
from leaderboard.control.errors import ControlError, NotDrained, TenantNotFound
from leaderboard.control.outcome import BoardRequest, Outcome, TenantRequest
from leaderboard.control.plan import Step, Wanted, give_room, plan_board, plan_keys, plan_tenant, spec_hash, values_of
from leaderboard.control.tools import Tools
from leaderboard.domain.boards import Board
from leaderboard.domain.errors import DomainError, QuotaExceeded
from leaderboard.domain.names import LeaderboardId, ProjectId, TenantId
from leaderboard.domain.schedules import next_reset
from leaderboard.store.postgres import fleet, keys, ledger, tenants
from leaderboard.store.postgres.fleet import NewBoard, Place, Sight
from leaderboard.store.postgres.pool import (
    Busy,
    Connection,
    DatabaseUnavailable,
    Deposed,
    connection,
    lockable,
    transaction,
    try_lock,
)
from leaderboard.store.redis import keys as redis_keys
from leaderboard.store.redis.boards import BoardAdmin, Snapshot
from leaderboard.store.redis.errors import RedisFailure

ALONE_AT_ONCE = 4
"""How many take the path of one at a time. Each waits mostly for Postgres to commit; a pool has few connections."""
_ASKED_AT_ONCE = 16  # sinks asked at a time: a Secret is a request to the Kubernetes API

Answer = Outcome | Exception


class _Board(msgspec.Struct, kw_only=True):
    """One request on its way through the batch."""

    number: int
    request: BoardRequest
    wanted: Wanted
    sight: Sight = Sight()
    snapshot: Snapshot | None = None
    step: Step | None = None
    answer: Answer | None = None

    @property
    def place(self) -> Place:
        return Place(slug=self.wanted.slug, project=self.wanted.project, key=self.wanted.spec.key)

    @property
    def tenant_id(self) -> TenantId:
        assert self.sight.tenant_id is not None
        return self.sight.tenant_id

    @property
    def spot(self) -> tuple[ProjectId, str]:
        """Where its row is, or will be."""
        assert self.sight.project_id is not None
        return self.sight.project_id, self.wanted.spec.key

    @property
    def key(self) -> str:
        """The board's key in Redis."""
        return redis_keys.board(self.tenant_id, self.wanted.project, self.wanted.spec.key)

    @property
    def row(self) -> Board:
        assert self.sight.record is not None
        return self.sight.record.board

    def done(self, row: Board, *, created: bool = False, changes: tuple[str, ...] = (), entries: int = 0) -> None:
        self.answer = Outcome(
            tenant_id=self.tenant_id,
            created=created,
            changes=changes,
            board=row,
            namespace=self.key,
            entries=entries,
        )


async def reconcile(tools: Tools, requests: Sequence[BoardRequest], *, positions: bool) -> list[Answer]:
    """Bring all the boards to what is asked; see `Control.reconcile_boards`."""
    answers: list[Answer | None] = [None] * len(requests)
    batch: list[_Board] = []
    for number, request in enumerate(requests):
        try:
            batch.append(_Board(number=number, request=request, wanted=_wanted(request)))
        except DomainError as refusal:
            answers[number] = refusal
    first: dict[Place, _Board] = {}
    for each in batch:
        first.setdefault(each.place, each)
    plain = list(first.values())
    await _observe(tools, plain, positions=positions)
    await _settle_doubts(tools, [each for each in plain if each.step is Step.DOUBT])
    await _create(tools, [each for each in plain if each.step is Step.CREATE])
    await _reopen(tools, [each for each in plain if each.step is Step.REOPEN])
    await _alone(tools, [each for each in plain if each.answer is None], at_once=ALONE_AT_ONCE)
    # The same place again: in their order, after the first.
    await _alone(tools, [each for each in batch if each.answer is None], at_once=1)
    for each in batch:
        answers[each.number] = each.answer
    return [answer for answer in answers if answer is not None]


def _wanted(request: BoardRequest) -> Wanted:
    spec = request.document.spec.board()
    return Wanted(
        slug=request.tenant_slug,
        project=request.document.spec.project,
        spec=spec,
        spec_hash=spec_hash(spec),
        policy=request.document.spec.deletion_policy,
        owner=request.owner,
        tenant_owner=request.tenant_owner,
        adopt=request.adopt,
        known_id=request.known_id,
        may_create=request.may_create,
    )


async def _observe(tools: Tools, batch: Sequence[_Board], *, positions: bool) -> None:
    """See what there is of all of them, and decide."""
    if not batch:
        return
    at: dict[LeaderboardId, ledger.Position] = {}
    async with connection(tools.pool) as conn:
        for each, sight in zip(batch, await fleet.observe(conn, [each.place for each in batch]), strict=True):
            each.sight = sight
        there = [each for each in batch if each.sight.record is not None]
        if positions and there:
            # The ledger before Redis, as in `namespace.ensure`.
            at = await ledger.max_positions(conn, [each.row.id for each in there])
    if there:
        snapshots = await BoardAdmin(tools.redis).snapshots([each.key for each in there])
        for each, snapshot in zip(there, snapshots, strict=True):
            each.snapshot = snapshot
    for each in batch:
        position = None if each.sight.record is None else at.get(each.row.id)
        try:
            each.step = plan_board(each.wanted, each.sight, snapshot=each.snapshot, position=position)
        except (ControlError, DomainError) as refusal:
            each.answer = refusal
        if each.step is Step.KEEP:
            assert each.snapshot is not None
            each.done(each.row, entries=each.snapshot.entries)


async def _settle_doubts(tools: Tools, batch: Sequence[_Board]) -> None:
    """Leave without an answer those that are empty in Redis only."""
    if not batch:
        return
    async with connection(tools.pool) as conn:
        inhabited = await ledger.inhabited(conn, [each.row.id for each in batch])
    for each in batch:
        if each.row.id not in inhabited:
            each.done(each.row)


async def _create(tools: Tools, batch: Sequence[_Board]) -> None:
    """Make the boards that there are not; leave without an answer those that somebody else is making."""
    if not batch:
        return
    async with lockable(tools.pool) as conn:
        try:
            async with transaction(conn):
                made = await _insert(tools, conn, batch)
                # Nobody knows these ids before the commit, so nobody can be in the way.
                await try_lock(conn, kind=namespace.BOARD_LOCK, ids=[row.id for _, row in made])
        except (psycopg.Error, Busy):
            return  # what Postgres does not take, or a tenant somebody holds, must not keep the others out
        await _open(tools, made, changes=())


async def _insert(tools: Tools, conn: Connection, batch: Sequence[_Board]) -> list[tuple[_Board, Board]]:
    owners = {row.id: row for row in await tenants.lock(conn, {each.tenant_id for each in batch})}
    counts = await fleet.counts(conn, owners.keys())
    # Looked at again, now that nobody else makes any: one that came meanwhile must not use up room a second time.
    taken = await fleet.taken(conn, [each.spot for each in batch])
    asked = []
    for each in batch:
        if each.tenant_id not in owners:
            each.answer = TenantNotFound("the tenant does not exist any more")
        elif each.spot not in taken:
            asked.append(each)
    room = {row.id: row.quotas.max_leaderboards - counts[row.id] for row in owners.values()}
    wanted = []
    for each, fits in zip(asked, give_room([each.tenant_id for each in asked], room=room), strict=True):
        if fits:
            wanted.append(each)
        else:
            each.answer = QuotaExceeded("maxLeaderboards", limit=owners[each.tenant_id].quotas.max_leaderboards)
    now = tools.clock()
    ids = await fleet.insert(conn, [_new(each) for each in wanted], now=now)
    return [
        (
            each,
            Board(
                id=ids[each.spot],
                spec=each.wanted.spec,
                next_reset=next_reset(each.wanted.spec.reset, now),
                managed_by=each.wanted.owner,
            ),
        )
        for each in wanted
        if each.spot in ids
    ]


def _new(each: _Board) -> NewBoard:
    return NewBoard(
        project_id=each.spot[0],
        spec=each.wanted.spec,
        managed_by=each.wanted.owner,
        deletion_policy=each.wanted.policy,
        spec_hash=each.wanted.spec_hash,
    )


async def _reopen(tools: Tools, batch: Sequence[_Board]) -> None:
    """Open again in Redis those that never had an event; leave the others without an answer.

    After a crash between a batch's commit and its boards in Redis these are hundreds, and after Redis was emptied all
    that nobody used. Waiting for the outbox once is what it takes to know.
    """
    if not batch:
        return
    async with lockable(tools.pool) as conn:
        free = await try_lock(conn, kind=namespace.BOARD_LOCK, ids=[each.row.id for each in batch])
        mine = [each for each in batch if each.row.id in free]
        if not mine:
            return
        try:
            await namespace.drained(tools.redis, seconds=tools.drain_seconds)
        except NotDrained as error:
            for each in mine:
                each.answer = error
            return
        ids = [each.row.id for each in mine]
        rows = await fleet.by_ids(conn, ids)
        positions = await ledger.max_positions(conn, ids)
        blank = [
            (each, each.row)
            for each in mine
            if positions[each.row.id].seq == 0 and rows.get(each.row.id) == each.sight.record
        ]
        await _open(tools, blank, changes=(f"restored 0 entries from the ledger: {LOST}",))


async def _open(tools: Tools, made: Sequence[tuple[_Board, Board]], *, changes: tuple[str, ...]) -> None:
    if not made:
        return
    opened = await BoardAdmin(tools.redis).open([(each.key, row, wanted_state(row)) for each, row in made])
    for (each, row), done in zip(made, opened, strict=True):
        if done:  # else something is under its name: `namespace.ensure` knows what to do
            each.done(row, created=each.step is Step.CREATE, changes=changes)


async def _alone(tools: Tools, batch: Sequence[_Board], *, at_once: int) -> None:
    """Take each through the path of one board. Raises Deposed, and what says that a store is away.

    Neither that nor a tenant that is held by somebody is waited for once a board: the first to find out tells.
    """
    turns = iter(batch)
    away: list[Exception] = []
    busy: dict[str, Busy] = {}

    async def take_turns() -> None:
        for each in turns:
            if away:
                return
            slug = each.wanted.slug
            each.answer = busy[slug] if slug in busy else await _one(tools, each)
            match each.answer:
                case Busy():
                    busy[slug] = each.answer
                case Deposed() | DatabaseUnavailable() | RedisFailure():
                    away.append(each.answer)

    await asyncio.gather(*(take_turns() for _ in range(min(at_once, len(batch)))))
    if away:
        raise away[0]


async def _one(tools: Tools, each: _Board) -> Answer:
    try:
        return await board.reconcile(
            tools,
            each.request.document,
            owner=each.wanted.owner,
            slug=each.wanted.slug,
            tenant_owner=each.wanted.tenant_owner,
            adopt=each.wanted.adopt,
            known_id=each.wanted.known_id,
            may_create=each.wanted.may_create,
        )
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one board must not keep the others waiting
        return error


# -- tenants


async def survey(tools: Tools, requests: Sequence[TenantRequest]) -> list[Outcome | None]:
    """Compare all the tenants with what is asked; see `Control.survey_tenants`."""
    async with connection(tools.pool) as conn:
        rows = {row.slug: row for row in await tenants.by_slugs(conn, [r.document.spec.slug for r in requests])}
        ids = [row.id for row in rows.values()]
        projects = await tenants.projects_of(conn, ids)
        own: dict[TenantId, list[keys.KeyRow]] = {tenant_id: [] for tenant_id in ids}
        tenant_of = {project.id: tenant_id for tenant_id, found in projects.items() for project in found}
        for key in await keys.of_tenants(conn, ids):
            if key.project_id in tenant_of:
                own[tenant_of[key.project_id]].append(key)
        counts = await fleet.counts(conn, ids)
    turn = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def compare(request: TenantRequest) -> Outcome | None:
        row = rows.get(request.document.spec.slug)
        if row is None:
            return None
        async with turn:
            return await _as_asked(
                tools, request, row=row, projects=projects[row.id], rows=own[row.id], boards=counts[row.id]
            )

    return list(await asyncio.gather(*(compare(request) for request in requests)))


async def _as_asked(
    tools: Tools,
    request: TenantRequest,
    *,
    row: tenants.TenantRow,
    projects: Sequence[tenants.ProjectRow],
    rows: Sequence[keys.KeyRow],
    boards: int,
) -> Outcome | None:
    spec, sink = request.document.spec, request.sink
    try:
        plan = plan_tenant(
            row,
            projects={project.name: project.allowed_origins for project in projects},
            spec=spec,
            owner=request.owner,
            plans=(row.plan,),
        )
        if values_of(row) != plan.values or plan.add_projects or plan.set_origins:
            return None
        for project in projects:
            own = tenancy.of_project(rows, project)
            held = await tenancy.held_of(sink, own, project=project.name)
            if not plan_keys(own, held=held, spec=spec.api_key, now=tools.clock(), keeps=sink.keeps).empty:
                return None
    except Exception:  # noqa: BLE001 - `reconcile` meets the same, and says what it is
        return None
    return Outcome(
        tenant_id=row.id,
        notes=tenancy.notes(plan.unlisted),
        keys_in_force=tenancy.summary(projects, rows, tools=tools),
        boards=boards,
    )
