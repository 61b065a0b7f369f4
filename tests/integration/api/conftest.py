"""One platform for a module of these tests: what they change is their own tenants'."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `api_helpers`; importlib mode leaves sys.path alone

from api_helpers import Client

from support.platform import Platform, served_platform
from support.servers import PostgresServer
from support.tenants import Tenant, make_tenant


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    _template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """API (two workers) and worker on stores of the module's own; `WORKERS` and `ENV` of the module change them."""
    name = "api_" + request.module.__name__.rpartition(".")[2]
    workers, env = getattr(request.module, "WORKERS", 2), getattr(request.module, "ENV", None)
    folder = tmp_path_factory.mktemp(name)
    with served_platform(folder, postgres, template=_template, workers=workers, env=env) as platform:
        yield platform


@pytest.fixture
def new_tenant(served: Platform) -> Callable[..., Tenant]:
    """(**wanted) -> a new tenant on `served` (see support/tenants.py)."""
    return lambda **wanted: make_tenant(served, **wanted)


@pytest.fixture
def connect(served: Platform) -> Iterator[Callable[..., Client]]:
    """(key=None) -> a client of `served`."""
    clients: list[Client] = []

    def make(key: str | None = None) -> Client:
        clients.append(Client(served.url, key))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(new_tenant: Callable[..., Tenant], connect: Callable[..., Client]) -> Any:
    """A client with the admin key of a new tenant that has the board `global`."""
    return connect(new_tenant().key)
