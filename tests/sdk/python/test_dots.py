"""Users called `.` and `..`, which a URL takes for steps within its path: they are reached, and nothing else is hit."""

import asyncio

import httpx
import pytest

from leaderboard_sdk import AsyncClient, Client, NotFound
from support.tenants import make_tenant


@pytest.mark.parametrize("user", [".", "..", "...", "%2E", "%2E%2E"])
def test_a_user_of_dots_has_a_rank_and_a_window(served, user):
    key = make_tenant(served).key
    with Client(served.url, key) as client:
        client.update("global", "ann", increment=1)
        client.update("global", user, increment=3)
        rank, around = client.rank("global", user), client.around("global", user, limit=1)

    async def read():
        async with AsyncClient(served.url, key) as client:
            return await client.rank("global", user), await client.around("global", user, limit=1)

    assert asyncio.run(read()) == (rank, around)
    assert (rank.user, rank.score, rank.rank) == (user, 3, 1)
    assert around.entries[0].user == user


@pytest.mark.parametrize("user", [".", "...", "%2E", "%2E%2E"])
def test_a_user_of_dots_is_removed_alone(served, user):
    with Client(served.url, make_tenant(served).key) as client:
        for each in ("ann", user):
            client.update("global", each, increment=1)
        client.remove_member("global", user)
        with pytest.raises(NotFound, match="user-not-found"):
            client.rank("global", user)
        assert [entry.user for entry in client.iter_top("global")] == ["ann"]


async def test_the_user_of_two_dots_is_not_removed_and_neither_is_the_leaderboard(served):
    key = make_tenant(served).key
    # What takes the step makes of it the path of the leaderboard; httpx does, and so may a proxy on the way.
    board = f"{served.url}/v1/leaderboards/global"
    assert str(httpx.URL(f"{board}/members/..")) == board
    with Client(served.url, key) as client:
        client.update("global", "..", increment=1)
        with pytest.raises(ValueError, match="cannot be removed"):
            client.remove_member("global", "..")
        async with AsyncClient(served.url, key) as aio:
            with pytest.raises(ValueError, match="cannot be removed"):
                await aio.remove_member("global", "..")
        assert client.top("global").total == 1
