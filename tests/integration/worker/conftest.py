import pytest

from support.world import open_world


@pytest.fixture
async def world(database, redis_url):
    async with open_world(database, redis_url) as world:
        yield world
