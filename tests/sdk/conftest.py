"""One platform for a module of the SDK's tests."""

from collections.abc import Iterator

import pytest

from support.platform import Platform, served_platform
from support.servers import PostgresServer


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    _template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """API and worker on stores of the module's own."""
    name = "sdk_" + request.module.__name__.rpartition(".")[2]
    with served_platform(tmp_path_factory.mktemp(name), postgres, template=_template) as platform:
        yield platform
