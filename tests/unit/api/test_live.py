"""The bounds of live streams, their heartbeat, and whose board each of them shows; on connections in memory."""

import asyncio

import pytest
from wire_rig import Rig, request, settle

from leaderboard.api import live, problems
from leaderboard.api.context import KeyContext
from leaderboard.api.exchange import KEY
from leaderboard.api.live import Live, Opening, Top
from leaderboard.api.problems import Problem
from leaderboard.domain.keys import Scope
from leaderboard.store.redis.errors import RedisUnavailable

TICK = 1 / 1024
"""Seconds between two readings; exact, however often it is added up."""
HEARTBEAT = b":\n\n"


class Boards:
    """A source whose boards say `says`, or what they are called where that is None."""

    event = b"top"
    interval = TICK

    def __init__(self):
        self.says = None
        self.away = False
        self.readings = 0
        self.asked = set()
        self.at_reading = lambda: None
        self.held = asyncio.Event()
        self.held.set()

    async def top(self, context, key, *, count, wait):
        self.readings += 1
        self.asked.add(key)
        self.at_reading()
        await self.held.wait()
        if self.away:
            raise RedisUnavailable("away")
        entries = [context.namespace + key] if self.says is None else self.says
        return Top(len(entries), entries[:count])

    async def begun(self, number):
        """Return when that reading has begun: what came of those before it is said by then."""
        async with asyncio.timeout(60):
            while self.readings < number:
                await asyncio.sleep(0)


def context(tenant, project="p"):
    return KeyContext(
        key_id=f"key{tenant}", tenant_id=tenant, tenant=f"t{tenant}", project_id=tenant, project=project,
        scope=Scope.READ, allowed=(Scope.READ,), rate=1, suspended=False, home_region=None, expires_at=None,
        namespace=f"l:{tenant}:{project}:", bucket="rl", policy="",
    )  # fmt: skip


class Follower:
    """A connection that asks for a stream."""

    def __init__(self, live, *, tenant=1, project="p", board="global"):
        self.problem = None
        self._live = live
        self._opening = Opening(
            context=context(tenant, project), credential=f"key{tenant}", key=board, limit=3, last_id=None, trace_id="0"
        )
        self.rig = Rig(self._serve)

    async def _serve(self, scope, receive, send):
        try:
            await self._live.open(scope[KEY], self._opening, headers={})
        except Problem as problem:
            self.problem = problem
            scope[KEY].answer_problem(problem.kind, problem.detail)

    @property
    def got(self):
        return self.rig.transport.written

    async def ask(self):
        await self.rig.feed(request(b"", method=b"GET"))
        return self

    def assert_follows(self):
        assert self.problem is None
        assert self.got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"event: top\n" in self.got

    def assert_refused(self):
        assert self.problem is not None
        assert self.problem.kind is problems.OVERLOADED
        assert self.problem.kind.status == 503
        assert self.problem.retry_after
        assert self.got.startswith(b"HTTP/1.1 503 ")


@pytest.fixture
async def boards():
    return Boards()


@pytest.fixture
async def streams(boards):
    async def allow(credential):
        return credential

    # A reading takes a tick of this clock.
    return Live(boards, allow=allow, clock=lambda: boards.readings * TICK)


@pytest.fixture
async def follow(streams):
    """(**who) -> a follower that has asked."""
    followers = []

    async def ask(**who):
        followers.append(Follower(streams, **who))
        return await followers[-1].ask()

    yield ask
    for follower in followers:
        await follower.rig.lose()


async def test_a_process_has_so_many_streams_and_no_more(monkeypatch, streams, boards, follow):
    monkeypatch.setattr(live, "MAX_STREAMS", 3)
    first, *others = [await follow(tenant=tenant) for tenant in (1, 2, 3)]
    (await follow(tenant=4, board="not-read")).assert_refused()
    assert "not-read" not in boards.asked
    for follower in (first, *others):
        follower.assert_follows()
    assert streams.streams == 3
    await first.rig.lose()
    (await follow(tenant=4)).assert_follows()
    (await follow(tenant=5)).assert_refused()


async def test_who_comes_while_a_board_is_read_for_others_is_counted_at_once(monkeypatch, boards, streams):
    monkeypatch.setattr(live, "MAX_STREAMS", 2)
    boards.held.clear()
    followers = [await Follower(streams, tenant=tenant).ask() for tenant in range(8)]
    boards.held.set()
    await settle()
    assert streams.streams == 2
    assert sum(follower.problem is not None for follower in followers) == 6
    for follower in followers:
        await follower.rig.lose()
    assert streams.streams == 0


async def test_what_two_sources_open_counts_together(monkeypatch, boards, streams):
    monkeypatch.setattr(live, "MAX_STREAMS", 1)
    places = live.Places()
    first, second = (Live(boards, allow=streams._allow, clock=lambda: 0.0, places=places) for _ in range(2))
    follower = await Follower(first).ask()
    follower.assert_follows()
    (await Follower(second).ask()).assert_refused()
    await follower.rig.lose()
    other = await Follower(second).ask()
    other.assert_follows()
    await other.rig.lose()


async def test_one_tenant_cannot_use_up_a_process(monkeypatch, follow):
    monkeypatch.setattr(live, "MAX_STREAMS", 5)
    monkeypatch.setattr(live, "MAX_STREAMS_OF_TENANT", 2)
    first, second = await follow(tenant=1), await follow(tenant=1, project="q", board="other")
    for board in ("global", "other", "third"):
        (await follow(tenant=1, board=board)).assert_refused()
    for tenant in (2, 2, 3):
        (await follow(tenant=tenant)).assert_follows()
    second.assert_follows()
    await first.rig.lose()
    (await follow(tenant=2)).assert_refused()
    (await follow(tenant=1)).assert_follows()
    (await follow(tenant=1)).assert_refused()


async def test_who_leaves_is_counted_no_more_and_a_board_without_streams_is_not_read(streams, boards, follow):
    followers = [await follow(tenant=tenant) for tenant in (1, 1, 2)]
    assert streams.streams == 3
    for follower in followers:
        await follower.rig.lose()
    assert streams.streams == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "live-board"]


async def test_who_leaves_while_the_board_is_read_is_not_counted(monkeypatch, streams, boards, follow):
    monkeypatch.setattr(live, "MAX_STREAMS_OF_TENANT", 1)
    boards.held.clear()
    gone = await follow()
    await gone.rig.lose()
    boards.held.set()
    await settle()
    assert streams.streams == 0
    (await follow()).assert_follows()


async def test_boards_of_one_name_share_no_reading_where_tenant_or_project_differ(boards, follow):
    places = [(1, "p"), (1, "q"), (2, "p")]
    followers = [await follow(tenant=tenant, project=project) for tenant, project in places]
    await boards.begun(boards.readings + 6)
    for (tenant, project), follower in zip(places, followers, strict=True):
        assert follower.got.count(b"event: top\n") == 1
        assert b'"entries":["l:%d:%b:global"]' % (tenant, project.encode()) in follower.got


async def test_a_stream_without_an_event_gets_a_comment_every_so_often(monkeypatch, streams, boards):
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 4 * TICK)
    follower, beats = Follower(streams), []
    boards.at_reading = lambda: beats.append(follower.got.count(HEARTBEAT))
    await follower.ask()
    await boards.begun(10)
    # Of the opening, and of the turns: the fourth and the eighth of them end with a heartbeat.
    assert beats[:10] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert follower.got.count(b"event: ") == 1
    await follower.rig.lose()


async def test_a_stream_that_had_an_event_gets_no_comment_beside_it(monkeypatch, streams, boards):
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", TICK)
    follower = Follower(streams)

    def another():
        boards.says = [str(boards.readings)]

    boards.at_reading = another
    await follower.ask()
    await boards.begun(8)
    assert follower.got.count(b"event: top\n") >= 7
    assert HEARTBEAT not in follower.got
    await follower.rig.lose()


async def test_while_the_store_is_away_the_heartbeat_goes_on(monkeypatch, boards, follow):
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 4 * TICK)
    follower = await follow()
    boards.away = True
    before, from_now = follower.got.count(HEARTBEAT), boards.readings
    await boards.begun(from_now + 14)
    assert follower.got.count(HEARTBEAT) - before >= 3
    assert not follower.rig.transport.closed
    boards.away, boards.says = False, ["back"]
    await boards.begun(boards.readings + 3)
    assert b'"entries":["back"]' in follower.got


async def test_who_does_not_read_is_sent_nothing_and_then_the_newest(monkeypatch, boards, follow):
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", TICK)
    follower = await follow()
    follower.rig.connection.pause_writing()
    had = len(follower.got)
    for news in ("one", "two", "three"):
        boards.says = [news]
        await boards.begun(boards.readings + 3)
    assert len(follower.got) == had
    follower.rig.connection.resume_writing()
    await boards.begun(boards.readings + 3)
    more = follower.got[had:]
    assert b'"entries":["three"]' in more
    assert more.count(b"event: ") == 1
