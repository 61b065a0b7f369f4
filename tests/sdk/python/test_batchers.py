"""The edges of both batchers, on the real server and on one that answers what the test says."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from leaderboard_sdk import AsyncClient, Client, InvalidRequest, NotFound, TransportError
from support.proxy import Proxy
from support.scripted import CUT, Asked, Reply, Scripted, problem, running, scripted
from support.tenants import make_tenant

LONG = 3600.0
"""A delay that only `close` or a full batch ends."""
UNSENDABLE = [
    {"user": "ann"},
    {"user": "ann", "increment": 1, "score": 1},
    {"user": "ann", "increment": float("nan")},
    {"user": "ann", "increment": float("inf")},
    {"user": "half of a pair \ud800", "increment": 1},
    {"user": b"bytes", "increment": 1},
]


def applied(asked):
    """What the API answers to a batch that it applied."""
    return [
        {
            "status": 200,
            "leaderboard": update["leaderboard"],
            "user": update["user"],
            "score": update["increment"],
            "rank": 1,
            "previous_score": None,
            "previous_rank": None,
            "replayed": False,
        }
        for update in asked.body["updates"]
    ]


class Holding(Scripted):
    """Applies every batch, the first one not before `let_go`. `answered` is how many it has."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.answered = 0

    def next_reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        if len(self.asked) == 1:
            self.let_go.wait(10)
        self.answered += 1
        return Reply(body={"results": applied(asked)})


def test_close_sends_what_waits(served):
    key = make_tenant(served).key
    with Client(served.url, key) as client:
        batcher = client.batcher(max_delay=LONG)
        futures = [batcher.submit("global", user, increment=1) for user in ("ann", "bob", "ann")]
        batcher.close()
        assert all(future.done() for future in futures)
        assert [future.result().score for future in futures] == [1, 1, 2]
        assert client.top("global").total == 2


async def test_close_sends_what_waits_async(served):
    key = make_tenant(served).key
    async with AsyncClient(served.url, key) as client:
        batcher = client.batcher(max_delay=LONG)
        futures = [await batcher.submit("global", user, increment=1) for user in ("ann", "bob", "ann")]
        await batcher.close()
        assert all(future.done() for future in futures)
        assert [future.result().score for future in futures] == [1, 1, 2]
        assert (await client.top("global")).total == 2


def test_a_closed_batcher_takes_nothing_and_closes_again():
    with scripted(problem(500, "never-asked")) as server, Client(server.url) as client:
        with client.batcher() as batcher:
            pass
        with pytest.raises(RuntimeError, match="the batcher is closed"):
            batcher.submit("global", "ann", increment=1)
        batcher.close()
        assert server.asked == []


async def test_a_closed_async_batcher_takes_nothing_and_closes_again():
    with scripted(problem(500, "never-asked")) as server:
        async with AsyncClient(server.url) as client:
            async with client.batcher() as batcher:
                pass
            with pytest.raises(RuntimeError, match="the batcher is closed"):
                await batcher.submit("global", "ann", increment=1)
            await batcher.close()
        assert server.asked == []


async def test_closing_that_is_given_up_loses_nothing():
    with running(Holding()) as server:
        async with AsyncClient(server.url) as client:
            batcher = client.batcher()
            future = await batcher.submit("global", "ann", increment=1)
            closing = asyncio.create_task(batcher.close())
            while not server.asked:
                await asyncio.sleep(0.001)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            server.let_go.set()
            await batcher.close()
            assert future.result().user == "ann"


def test_a_refused_update_fails_alone(served):
    key = make_tenant(served).key
    with Client(served.url, key) as client:
        with client.batcher(max_delay=LONG) as batcher:
            first = batcher.submit("global", "ann", increment=1)
            nameless = batcher.submit("global", "", increment=1)
            nowhere = batcher.submit("nowhere", "ann", increment=1)
            last = batcher.submit("global", "ann", increment=1)
        assert (first.result().score, last.result().score) == (1, 2)
        with pytest.raises(InvalidRequest, match="invalid-request"):
            nameless.result()
        with pytest.raises(NotFound, match="board-not-found"):
            nowhere.result()


async def test_a_refused_update_fails_alone_async(served):
    key = make_tenant(served).key
    async with AsyncClient(served.url, key) as client:
        async with client.batcher(max_delay=LONG) as batcher:
            first = await batcher.submit("global", "ann", increment=1)
            nameless = await batcher.submit("global", "", increment=1)
            nowhere = await batcher.submit("nowhere", "ann", increment=1)
            last = await batcher.submit("global", "ann", increment=1)
        assert ((await first).score, (await last).score) == (1, 2)
        with pytest.raises(InvalidRequest, match="invalid-request"):
            await nameless
        with pytest.raises(NotFound, match="board-not-found"):
            await nowhere


def test_what_cannot_be_sent_is_raised_to_who_hands_it_in_and_to_nobody_else(served):
    key = make_tenant(served).key
    with Client(served.url, key) as client, client.batcher(max_delay=LONG) as batcher:
        good = batcher.submit("global", "ann", increment=1)
        for wrong in UNSENDABLE:
            with pytest.raises((ValueError, TypeError)):
                batcher.submit("global", **wrong)
        batcher.close()
        assert good.result().score == 1


async def test_what_cannot_be_sent_is_raised_to_who_hands_it_in_and_to_nobody_else_async(served):
    key = make_tenant(served).key
    async with AsyncClient(served.url, key) as client, client.batcher(max_delay=LONG) as batcher:
        good = await batcher.submit("global", "ann", increment=1)
        for wrong in UNSENDABLE:
            with pytest.raises((ValueError, TypeError)):
                await batcher.submit("global", **wrong)
        await batcher.close()
        assert good.result().score == 1


def test_an_update_too_long_for_a_request_fails_alone(served):
    key = make_tenant(served).key
    with Client(served.url, key) as client, client.batcher(max_delay=LONG) as batcher:
        futures = [batcher.submit("global", user, increment=1) for user in ("ann", "u" * 300_000, "bob")]
        batcher.close()
        assert [futures[0].result().user, futures[2].result().user] == ["ann", "bob"]
        with pytest.raises(InvalidRequest):
            futures[1].result()


def _through_batcher(url, key, updates, **how):
    """What came of the updates in one batch: their results or errors."""
    with Client(url, key, **how) as client, client.batcher(max_batch=len(updates), max_delay=LONG) as batcher:
        futures = [batcher.submit("global", user, increment=increment) for user, increment in updates]
        return [future.exception() or future.result() for future in futures]


async def _blocking(url, key, updates, **how):
    return await asyncio.to_thread(_through_batcher, url, key, updates, **how)


async def _async(url, key, updates, **how):
    batch = {"max_batch": len(updates), "max_delay": LONG}
    async with AsyncClient(url, key, **how) as client, client.batcher(**batch) as batcher:
        futures = [await batcher.submit("global", user, increment=increment) for user, increment in updates]
        return await asyncio.gather(*futures, return_exceptions=True)


@pytest.mark.parametrize("send", [_blocking, _async], ids=["Batcher", "AsyncBatcher"])
async def test_a_batch_whose_answer_was_lost_counts_once(served, send):
    key = make_tenant(served).key
    async with Proxy.to(served.url) as proxy:
        sending = asyncio.create_task(send(proxy.url, key, [("ann", 1), ("bob", 1), ("ann", 1)]))
        await proxy.cut_after_request()
        results = await sending
    assert [(result.score, result.replayed) for result in results] == [(1, True), (1, True), (2, True)]
    async with AsyncClient(served.url, key) as client:
        assert {entry.user: entry.score for entry in (await client.top("global")).entries} == {"ann": 2, "bob": 1}


@pytest.mark.parametrize("send", [_blocking, _async], ids=["Batcher", "AsyncBatcher"])
async def test_updates_that_failed_in_doubt_are_repeated_one_by_one_and_count_once(served, send):
    key = make_tenant(served).key
    async with Proxy.to(served.url) as proxy:
        sending = asyncio.create_task(send(proxy.url, key, [("ann", 1), ("ann", 2), ("ann", 3)], max_attempts=1))
        await proxy.cut_after_request()
        errors = await sending
    assert all(isinstance(error, TransportError) and error.sent for error in errors)
    async with AsyncClient(served.url, key) as client:
        again = [
            await client.update("global", "ann", increment=increment, idempotency_key=error.idempotency_key)
            for increment, error in enumerate(errors, 1)
        ]
        assert [(result.score, result.replayed) for result in again] == [(1, True), (3, True), (6, True)]
        assert (await client.rank("global", "ann")).score == 6


def test_updates_that_failed_together_have_each_an_error_of_their_own():
    with scripted(CUT) as server, Client(server.url, max_attempts=1) as client:
        with client.batcher(max_batch=2, max_delay=LONG) as batcher:
            futures = [batcher.submit("global", user, increment=1) for user in ("ann", "bob")]
            errors = [future.exception() for future in futures]
        (sent,) = server.asked
        key = sent.headers["idempotency-key"]
        assert [error.idempotency_key for error in errors] == [f"{key}:0", f"{key}:1"]


def test_submit_blocks_while_as_many_wait_as_may():
    with running(Holding()) as server, Client(server.url) as client:
        answered = []
        with client.batcher(max_batch=1, max_waiting=2) as batcher, ThreadPoolExecutor(1) as feeder:

            def feed():
                for number in range(20):
                    batcher.submit("global", "ann", increment=number)
                    answered.append(server.answered)

            fed = feeder.submit(feed)
            # Without a bound the feeder is through before anything is answered.
            with pytest.raises(TimeoutError):
                fed.result(0.5)
            server.let_go.set()
            fed.result(30)
        # Two wait and one is under way: the rest of what was handed in is answered.
        assert all(done >= number - 3 for number, done in enumerate(answered, 1))
        assert [asked.body["updates"][0]["increment"] for asked in server.asked] == list(range(20))


async def test_submit_waits_while_as_many_wait_as_may():
    with running(Holding()) as server:
        async with AsyncClient(server.url) as client, client.batcher(max_batch=1, max_waiting=2) as batcher:
            answered = []

            async def feed():
                for number in range(20):
                    await batcher.submit("global", "ann", increment=number)
                    answered.append(server.answered)

            fed = asyncio.create_task(feed())
            while not server.asked:
                await asyncio.sleep(0.001)
            assert not fed.done()
            assert len(answered) <= 3
            server.let_go.set()
            await fed
        assert all(done >= number - 3 for number, done in enumerate(answered, 1))
        assert [asked.body["updates"][0]["increment"] for asked in server.asked] == list(range(20))


def test_a_queue_without_a_bound_is_none():
    with Client("http://127.0.0.1") as client, pytest.raises(ValueError, match="max_waiting"):
        client.batcher(max_waiting=0)
