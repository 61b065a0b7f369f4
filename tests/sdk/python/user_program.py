"""A program of a user's, for test_types.py: what type checkers must take, and on lines of their own what they must not.

It is checked and never run.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from datetime import UTC, date, datetime
from typing import assert_type

from leaderboard_sdk import (
    ApiError,
    AsyncBatcher,
    AsyncClient,
    Batcher,
    Bounds,
    Client,
    Entry,
    Held,
    HeldUpdate,
    HeldUpdates,
    HistoryRank,
    HistoryTop,
    InDoubt,
    LeaderboardError,
    LeaderboardPage,
    RateLimited,
    Tier,
    Top,
    TransportError,
    Update,
    UpdateResult,
    Usage,
)


def blocking(url: str) -> None:
    with Client(url, "key", timeout=2.5, max_attempts=3, max_wait=10) as client:
        assert_type(client, Client)
        result = client.update("board", "ann", increment=1)
        assert_type(result, UpdateResult)
        assert_type(result.score, float)
        assert_type(result.rank, int | None)
        assert_type(client.top("board", limit=10), Top)
        assert_type(client.iter_top("board"), Iterator[Entry])
        assert_type(client.watch_top("board"), Iterator[Top])
        assert_type(client.list_leaderboards(), LeaderboardPage)
        assert_type(client.usage(date(2030, 1, 1), "2030-01-31"), Usage)
        assert_type(client.update_many([Update(leaderboard="b", user="u", score=1)]), list[UpdateResult | ApiError])

        assert_type(client.history_top("board", at=datetime.now(UTC), limit=10), HistoryTop)
        assert_type(client.history_rank("board", "ann", at="2030-01-31T09:00:00Z"), HistoryRank)
        assert_type(client.rank("board", "ann").percentile, float)
        assert_type(client.rank("board", "ann").tier, str | None)
        board = client.create_leaderboard("board", tiers=[Tier(name="Gold", percent=10), Tier(name="Fifty", top=50)])
        assert_type(board.tiers, list[Tier])

        assert_type(client.create_leaderboard("board", bounds=Bounds(max_score=10)).bounds, Bounds | None)
        assert_type(result.held, Held | None)
        assert_type(client.held_updates("board", state="released", limit=10), HeldUpdates)
        assert_type(client.iter_held_updates("board", user="ann"), Iterator[HeldUpdate])
        assert_type(client.release("board", "id").rank, int | None)
        assert_type(client.reject("board", "id", note="too much").decided_at, datetime | None)

        client.history_top("board")  # type: ignore[call-arg]
        client.update("board", "ann", 1)  # type: ignore[call-arg]
        client.update("board", user=7, increment=1)  # type: ignore[arg-type]
        client.update("board", "ann", increment="1")  # type: ignore[arg-type]
        client.change_leaderboard("board", tiers=["Gold"])  # type: ignore[list-item]
        client.top("board", limit="10")  # type: ignore[arg-type]
        client.no_such_call()  # type: ignore[attr-defined]
        Update("board", "ann", 1)  # type: ignore[call-arg]
        client.change_leaderboard("board", bounds={"max_score": 10})  # type: ignore[arg-type]
        print(result.held.id)  # type: ignore[union-attr]
        result.score = 7  # type: ignore[misc]
        result.rank + 1  # type: ignore[operator]
        Client(url, max_waits=3)  # type: ignore[call-arg]
        Client(url, sleep=asyncio.sleep)  # type: ignore[arg-type]


def many(client: Client) -> int:
    refused = 0
    for item in client.update_many(Update(leaderboard="b", user=user, increment=1) for user in ("ann", "bob")):
        print(item.rank)  # type: ignore[union-attr]
        if isinstance(item, ApiError):
            assert_type(item, ApiError)
            refused += item.status >= 400
        else:
            assert_type(item, UpdateResult)
    with client.batcher(max_batch=100, max_delay=0.1, max_waiting=1_000) as batcher:
        assert_type(batcher, Batcher)
        future = batcher.submit("board", "ann", increment=1)
        assert_type(future, Future[UpdateResult])
        assert_type(future.result(), UpdateResult)
        batcher.submit("board", "ann", 1)  # type: ignore[call-arg]
    return refused


def errors(client: Client) -> float:
    try:
        client.update("board", "ann", increment=1)
    except RateLimited as error:
        assert_type(error.retry_after, float | None)
        return error.retry_after  # type: ignore[return-value]
    except InDoubt as error:
        assert_type(error.idempotency_key, str | None)
        assert_type(error.type, str)
    except TransportError as error:
        assert_type(error.sent, bool)
        print(error.status)  # type: ignore[attr-defined]
    except LeaderboardError as error:
        print(error.trace_id)  # type: ignore[attr-defined]
    return 0


async def asynchronous(url: str) -> None:
    async with AsyncClient(url, "key") as client:
        assert_type(client, AsyncClient)
        assert_type(await client.update("board", "ann", score=1.5), UpdateResult)
        assert_type(client.iter_top("board"), AsyncIterator[Entry])
        assert_type(client.watch_top("board"), AsyncIterator[Top])
        async for entry in client.iter_top("board", page_size=10):
            assert_type(entry, Entry)
        assert_type((await client.history_rank("board", "ann", at=datetime.now(UTC))).at, datetime)
        async with client.batcher(max_waiting=10) as batcher:
            assert_type(batcher, AsyncBatcher)
            future = await batcher.submit("board", "ann", increment=1)
            assert_type(future, asyncio.Future[UpdateResult])
            assert_type(await future, UpdateResult)

        client.update("board", "ann", increment=1)  # type: ignore[unused-coroutine]
        print(client.update("board", "ann", increment=1).score)  # type: ignore[attr-defined]
        for _ in client.iter_top("board"):  # type: ignore[attr-defined]
            pass
        with client:  # type: ignore[attr-defined]
            pass
