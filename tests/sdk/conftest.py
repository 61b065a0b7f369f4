"""One platform for a module of the SDK's tests."""

from collections.abc import Iterator

import psycopg
import pytest

from leaderboard.local.process import wait_until
from support.platform import Platform, served_platform
from support.servers import PostgresServer


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    _template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """API and worker on stores of the module's own, once the worker has said how far the ledger is."""
    name = "sdk_" + request.module.__name__.rpartition(".")[2]
    with served_platform(tmp_path_factory.mktemp(name), postgres, template=_template) as platform:
        with psycopg.connect(platform.database, autocommit=True) as conn:
            asked = "SELECT EXISTS (SELECT 1 FROM ledger_progress)"
            assert wait_until(lambda: conn.execute(asked).fetchone() == (True,), seconds=90, pause=0.05)
        yield platform
