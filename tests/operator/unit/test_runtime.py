"""One leader at work: watch, queues, workers and sweep, on an API in memory and a recorded control. Time is virtual."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from leaderboard.domain.errors import QuotaExceeded
from leaderboard.store.postgres.pool import DatabaseUnavailable, Deposed
from leaderboard_operator.client import ApiUnavailable, path_of
from leaderboard_operator.config import OperatorConfig
from leaderboard_operator.metrics import ORPHANS
from leaderboard_operator.resources import Kind
from leaderboard_operator.runtime import Leading
from support.desk import PEPPER
from support.memory_api import MemoryApi
from support.recorded_control import RecordedControl
from support.resources import raw_board, raw_tenant
from support.virtual_time import run

OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
SWEEP_SECONDS = 60.0
READY = ("True", "Available")


class Redis:
    """Only says who it is."""

    run_id = "one"

    async def info(self, section):
        return {"run_id": self.run_id}


class Leader:
    """`leading`, and what somebody with kubectl does."""

    def __init__(self):
        self.api, self.control, self.redis = MemoryApi(), RecordedControl(), Redis()
        self.leading = Leading(
            api=self.api,
            control=self.control,
            redis=self.redis,
            base=SimpleNamespace(pepper=PEPPER.decode()),
            config=OperatorConfig(namespace="ops", identity="one", sweep_seconds=SWEEP_SECONDS),
        )

    def apply(self, kind, raw, *, watched=True):
        """Apply an object; `watched`: the watch tells of it."""
        item = self.api.add(kind, raw)
        if watched:
            self.tell(item)
        return item

    def tenant(self, name="acme", *, watched=True, **said):
        return self.apply(Kind.TENANT, raw_tenant(name, **{"held": False, **said}), watched=watched)

    def board(self, name="global", *, watched=True, **said):
        return self.apply(Kind.LEADERBOARD, raw_board(name, **{"held": False, **said}), watched=watched)

    def tell(self, item):
        self.leading.changed(item.key.kind, self.api.objects[path_of(item.key)])

    def delete(self, item, *, watched=True):
        raw = self.api.objects.pop(path_of(item.key))
        if watched:
            self.leading.deleted(item.key.kind, raw)

    def there(self, item):
        return path_of(item.key) in self.api.objects

    @asynccontextmanager
    async def working(self, seconds=0.0):
        """All workers run inside the block, after they had so much time."""
        tasks = [asyncio.create_task(work) for work in self.leading.workers()]
        try:
            await asyncio.sleep(seconds)
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self.leading.close()
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


def scenario(check):
    """Run the coroutine function `check` with a new leader, in virtual time."""

    def test():
        async def begin():
            await check(Leader())

        run(begin)

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test


@scenario
async def test_nothing_is_decided_before_everything_was_seen(leader):
    def away(method, path):
        if path.endswith("/leaderboards"):
            raise ApiUnavailable("away")

    leader.api.before = away
    board = leader.board()
    leader.tenant(watched=False)
    async with leader.working(30):
        assert leader.api.asked == []
        assert leader.control.requests == []
        leader.api.before = lambda method, path: None
        await asyncio.sleep(10)
        assert leader.api.said(board)["Ready"] == READY
    assert {kind for kind, _ in leader.api.events()} == {"Normal"}


@scenario
async def test_the_oldest_has_the_place_though_the_watch_tells_of_the_youngest_first(leader):
    leader.tenant()
    young = leader.board("young", key="k", created=NEW)
    old = leader.board("old", key="k", created=OLD, watched=False)
    async with leader.working(10):
        assert leader.api.said(old)["Ready"] == READY
        assert leader.api.said(young)["Ready"] == ("False", "KeyConflict")
        leader.delete(old)
        leader.control.boards.clear()
        await asyncio.sleep(1)
        assert leader.api.said(young)["Ready"] == READY


@scenario
async def test_a_new_leader_deletes_boards_before_their_tenant(leader):
    tenant = leader.tenant(held=True, deleting=True)
    board = leader.board(held=True, deleting=True, watched=False)
    # The watch tells nothing of the board: it was gone when the watch began.
    async with leader.working(5):
        assert not leader.there(board)
        assert not leader.there(tenant)
    assert [("slug" in asked, asked["owner"]) for asked in leader.control.deletions] == [
        (False, board.uid),
        (True, tenant.uid),
    ]


@scenario
async def test_who_waits_for_a_slug_gets_it_without_the_watch(leader):
    going = leader.tenant(held=True, deleting=True, created=OLD, watched=False)
    rival = leader.tenant("rival", slug="acme", created=NEW, watched=False)
    async with leader.working(5):
        assert not leader.there(going)
        assert leader.api.said(rival)["Ready"] == READY


@scenario
async def test_what_goes_while_the_pages_are_read_is_not_made_again(leader):
    leader.tenant()
    board = leader.board()
    async with leader.working(5):
        leader.control.requests.clear()
        leader.control.boards.clear()
        told = []

        def goes(method, path):
            """The page is of the moment before."""
            if path.endswith("/leaderboards") and not told:
                told.append(path)
                leader.leading.deleted(board.key.kind, leader.api.objects[path_of(board.key)])

        leader.api.before = goes
        await asyncio.sleep(SWEEP_SECONDS)
        assert told
    assert leader.control.requests == []
    assert leader.control.boards == {}


@scenario
async def test_what_the_watch_missed_the_sweep_finds(leader):
    leader.tenant()
    async with leader.working(5):
        board = leader.board(watched=False)
        await asyncio.sleep(SWEEP_SECONDS)
        assert leader.api.said(board)["Ready"] == READY
        leader.delete(board, watched=False)
        leader.control.requests.clear()
        await asyncio.sleep(2 * SWEEP_SECONDS)
        assert leader.control.requests == []
        assert ORPHANS.labels(kind=Kind.LEADERBOARD)._value.get() == 1


@scenario
async def test_a_board_and_its_tenant_applied_at_once_are_ready_without_a_warning(leader):
    async with leader.working(5):
        boards = [leader.board(f"b{number}") for number in range(5)]
        await asyncio.sleep(1)
        leader.tenant()
        await asyncio.sleep(2)
        assert [leader.api.said(board)["Ready"] for board in boards] == [READY] * 5
    assert {kind for kind, _ in leader.api.events()} == {"Normal"}


@scenario
async def test_a_board_without_a_tenant_says_so_after_a_moment(leader):
    async with leader.working(5):
        board = leader.board()
        await asyncio.sleep(1)
        assert leader.api.said(board) == {}
        await asyncio.sleep(2)
        assert leader.api.said(board)["Ready"] == ("False", "TenantNotFound")


@scenario
async def test_an_outage_is_told_by_those_that_wait_and_ends_by_itself(leader):
    leader.tenant()
    before = leader.board("before")
    async with leader.working(5):
        reconcile_boards = leader.control.reconcile_boards

        async def away(requests, *, positions):
            raise DatabaseUnavailable("10.1.2.3")

        leader.control.reconcile_boards = away
        during = leader.board("during")
        await asyncio.sleep(SWEEP_SECONDS + 10)
        assert leader.api.said(during)["Ready"] == ("False", "DatabaseUnavailable")
        assert leader.api.said(before)["Synced"] == ("True", "ReconcileSuccess")
        leader.control.reconcile_boards = reconcile_boards
        await asyncio.sleep(10)
        assert leader.api.said(during)["Ready"] == READY


@scenario
async def test_one_that_is_to_blame_does_not_keep_its_batch_waiting(leader):
    leader.tenant()
    async with leader.working(5):
        reconcile_boards = leader.control.reconcile_boards

        async def stumble(requests, *, positions):
            if any(request.document.name == "odd" for request in requests):
                raise RuntimeError("ours")
            return await reconcile_boards(requests, positions=positions)

        leader.control.reconcile_boards = stumble
        odd, *good = [leader.board(name) for name in ("odd", "one", "two")]
        await asyncio.sleep(5)
        assert [leader.api.said(board).get("Ready") for board in good] == [READY] * 2
        assert leader.api.said(odd) == {}


@scenario
async def test_room_that_became_free_is_given_to_who_waits_for_it(leader):
    leader.tenant()
    full = QuotaExceeded("maxLeaderboards", limit=1)
    async with leader.working(5):
        first = leader.board("first")
        await asyncio.sleep(1)
        leader.control.fault = lambda owner: None if owner == first.uid else full
        second = leader.board("second")
        await asyncio.sleep(1)
        assert leader.api.said(second)["Ready"] == ("False", "QuotaExceeded")
        leader.control.fault = lambda owner: None
        leader.delete(first)
        await asyncio.sleep(1)
        assert leader.api.said(second)["Ready"] == READY


@scenario
async def test_the_end_of_the_one_before_does_not_touch_its_successor(leader):
    leader.tenant()
    async with leader.working(5):
        first = leader.board(uid="first")
        await asyncio.sleep(1)
        leader.control.boards.clear()
        second = leader.board(uid="second")
        leader.leading.deleted(first.key.kind, raw_board(uid="first"))
        await asyncio.sleep(1)
        assert leader.api.said(second)["Ready"] == READY
        assert leader.control.requests[-1].owner == "second"


@scenario
async def test_after_another_redis_each_board_is_compared_with_the_ledger_once(leader):
    leader.tenant()
    async with leader.working(5):
        leader.board()
        await asyncio.sleep(2 * SWEEP_SECONDS)
        leader.control.positions.clear()
        leader.redis.run_id = "two"
        await asyncio.sleep(3 * SWEEP_SECONDS)
        assert leader.control.positions == [True, False, False]


@scenario
async def test_the_sweep_outlives_what_goes_wrong_and_gets_on(leader):
    errors = iter([RuntimeError("ours"), DatabaseUnavailable("away"), KeyError("ours")])

    async def owners():
        for error in errors:
            raise error
        return set(), set()

    leader.control.owners = owners
    async with leader.working(20):
        assert next(errors, None) is None


@pytest.mark.parametrize("where", ["owners", "reconcile_boards"])
def test_a_leader_that_was_deposed_ends(where):
    async def check():
        leader = Leader()

        async def refuse(*_, **__):
            raise Deposed("another leads")

        setattr(leader.control, where, refuse)
        tenant = leader.tenant(watched=False, held=True)
        leader.board(watched=False, held=True)
        tasks = [asyncio.create_task(work) for work in leader.leading.workers()]
        await leader.leading.sweep.listed.wait()
        leader.tell(tenant)
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION, timeout=30)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        leader.leading.close()
        assert [type(task.exception()) for task in done] == [Deposed]

    run(check)


@scenario
async def test_a_watch_that_tells_nothing_is_noticed_and_one_that_does_again_too(leader):
    leader.tenant()
    async with leader.working(5):
        board = leader.board(watched=False)
        await asyncio.sleep(SWEEP_SECONDS)
        assert not leader.leading.sweep.watch_silent
        await asyncio.sleep(SWEEP_SECONDS)
        assert leader.leading.sweep.watch_silent
        for item in (board, leader.tenant(watched=False)):
            leader.tell(item)
        await asyncio.sleep(SWEEP_SECONDS)
        assert not leader.leading.sweep.watch_silent
