"""One platform for a module of the SDK's tests."""

from collections.abc import Iterator

import pytest
import redis as redis_py

from support.platform import Platform
from support.servers import PostgresServer, RedisServer


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    _template: str,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """API and worker on stores of the module's own."""
    name = "sdk_" + request.module.__name__.rpartition(".")[2]
    with redis_py.Redis.from_url(redis_server.url) as client:
        client.flushall()
    database = postgres.create_database(name, template=_template)
    platform = Platform(tmp_path_factory.mktemp(name), redis_url=redis_server.url, database=database)
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()
        postgres.drop_database(name)
