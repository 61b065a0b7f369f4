"""Real servers for the tests: the embedded ones, or containers where a Docker engine answers.

============== ======== ===============================================================================
fixture        scope    what it gives
============== ======== ===============================================================================
postgres       session  a server: .url, .url_of(db), .create_database(name), .drop_database(name)
redis_server   session  a server: .url
database       function the URL of a new database with all migrations applied
redis_url      function the URL of the session's Redis, emptied
make_postgres  function () -> a server of the test's own, which it may .stop(), .kill() and .start() again
make_redis     function (appendfsync=None, **settings) -> likewise
platform       function API and worker as processes on `database` and `redis_url` (see support/platform.py)
make_platform  function (workers=1, redis_url=None, database=None, env=None) -> likewise
tenant         function (platform, **wanted) -> a new tenant with .key, made by control (see support/tenants.py)
============== ======== ===============================================================================

The servers of the session belong to everybody: a test that stops or kills one makes its own.
"""

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import redis as redis_py

sys.path.insert(0, str(Path(__file__).parent))  # for `support`; importlib mode leaves sys.path alone

from support import servers
from support.platform import MakePlatform, Platform
from support.servers import PostgresServer, RedisServer
from support.tenants import Tenant, make_tenant

_numbers = itertools.count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long (`soak`) or more programs (`observability`, `pulumi_up`), unless a -m speaks of it."""
    unasked = [marker for marker in ("soak", "observability", "pulumi_up") if marker not in config.option.markexpr]
    left_out = [item for item in items if any(map(item.get_closest_marker, unasked))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with servers.redis(tmp_path_factory.mktemp("redis"), appendfsync=None) as server:
        yield server


@pytest.fixture(scope="session")
def _template(postgres: PostgresServer) -> str:
    """A database with all migrations applied, to be copied: a copy takes 30 ms, the migrations ten times that."""
    from leaderboard.store.postgres import migrate

    migrate.apply(postgres.create_database("template_leaderboard"))
    return "template_leaderboard"


@pytest.fixture
def database(postgres: PostgresServer, _template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, template=_template)
    postgres.drop_database(name)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    with redis_py.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def make_postgres(tmp_path: Path) -> Iterator[Callable[[], PostgresServer]]:
    with servers.postgres_factory(tmp_path) as make:
        yield make


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[servers.MakeRedis]:
    with servers.redis_factory(tmp_path) as make:
        yield make


@pytest.fixture
def make_platform(database: str, redis_url: str, tmp_path: Path) -> Iterator[MakePlatform]:
    # Both databases are asked for here and not when needed, so that they go after the processes that use them.
    own_database, own_redis_url = database, redis_url
    with contextlib.ExitStack() as stack:

        def make(
            *,
            workers: int = 1,
            redis_url: str | None = None,
            database: str | None = None,
            env: Mapping[str, str] | None = None,
        ) -> Platform:
            platform = Platform(
                tmp_path / f"platform-{next(_numbers)}",
                redis_url=redis_url or own_redis_url,
                database=database or own_database,
                workers=workers,
                env=env,
            )
            stack.callback(platform.stop)
            platform.start()
            return platform

        yield make


@pytest.fixture
def platform(make_platform: MakePlatform) -> Platform:
    return make_platform()


@pytest.fixture
def tenant() -> Callable[..., Tenant]:
    return make_tenant
