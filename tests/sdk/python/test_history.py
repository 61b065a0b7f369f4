"""A board as it was, read with both clients; what is not in the ledger yet is waited for."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from leaderboard_sdk import AsyncClient, Client, Entry, NotFound
from support.platform import Platform
from support.tenants import make_tenant


def test_a_board_is_read_as_it_was(served: Platform) -> None:
    key = make_tenant(served).key
    with Client(served.url, key, max_attempts=30) as client:
        for user in ("ann", "bob", "cid"):
            client.update("global", user, increment=5)
        time.sleep(0.002)  # events have a millisecond
        at = datetime.now(UTC)
        time.sleep(0.002)
        client.remove_member("global", "ann")
        first = client.history_top("global", at=at, limit=2)
        assert (first.at, first.total) == (at, 3)
        assert first.entries == [Entry(rank=1, user="ann", score=5), Entry(rank=2, user="bob", score=5)]
        rest = client.history_top("global", at=at.isoformat(), limit=2, cursor=first.next_cursor)
        assert (rest.entries, rest.next_cursor) == ([Entry(rank=3, user="cid", score=5)], None)
        entry = client.history_rank("global", "cid", at=at)
        assert (entry.at, entry.rank, entry.total, entry.percentile) == (at, 3, 3, 33.3333)
        with pytest.raises(NotFound):
            client.history_rank("global", "dot", at=at)

    async def run() -> None:
        async with AsyncClient(served.url, key) as client:
            assert await client.history_top("global", at=at, limit=2) == first
            assert await client.history_rank("global", "cid", at=at) == entry

    asyncio.run(run())


def test_a_moment_without_a_zone_is_refused_before_it_is_sent() -> None:
    with Client("http://127.0.0.1:1", "key") as client, pytest.raises(ValueError, match="no time zone"):
        client.history_top("global", at=datetime.now(UTC).replace(tzinfo=None))
