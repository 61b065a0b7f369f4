"""The whole platform with its operator on a real Kubernetes API.

================= ======== ================================================================================
fixture           scope    what it gives
================= ======== ================================================================================
make_world        function (cluster=None, namespaces=1, platform=None) -> a World: API, worker, cluster, namespaces
world             function one such, on the session's cluster
operator          function (world, running) its one replica, ready
make_shared_world module   (cluster=None, namespaces=1) -> a World with a database and a Redis of its own
shared_world      module   one such, with two namespaces
shared_operator   module   (shared_world, running) its one replica, which sweeps once a second
team              module   (shared_operator) who works in the first namespace, see support/team.py
neighbours        module   (shared_operator) who works in the second one
stores            module   Postgres and Redis of shared_world, see support/stores.py
name              function a name for a Tenant that no other test has
================= ======== ================================================================================

An operator sees the whole cluster: never run those of two worlds on one cluster at a time.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from leaderboard.local.kubernetes import Cluster
from leaderboard.local.toolchain import KubernetesBinaries
from support import servers
from support.kubernetes import MakeKubernetes, delete_namespace, install_crds, make_namespace
from support.operator import Kube, OperatorPod, install_rbac
from support.platform import MakePlatform, Platform
from support.servers import PostgresServer
from support.stores import Stores
from support.team import Team

_numbers = itertools.count(1)


class World:
    """A platform, a cluster, the operator's namespace `system` and namespaces of Tenants, where it may use Secrets."""

    def __init__(
        self,
        *,
        folder: Path,
        cluster: Cluster,
        platform: Platform,
        system: str,
        kubes: list[Kube],
        stack: contextlib.ExitStack,
    ) -> None:
        self.cluster = cluster
        self.platform = platform
        self.system = system
        self.kubes = kubes
        self._folder = folder
        self._stack = stack

    @property
    def kube(self) -> Kube:
        """Its first namespace of Tenants."""
        return self.kubes[0]

    def pod(
        self, name: str = "operator", *, env: Mapping[str, str] | None = None, supervised: bool = False
    ) -> OperatorPod:
        """Return a new replica, not started; it is stopped when the test ends."""
        token = self.cluster.service_account_token(self.system, "leaderboard-operator")
        pod = OperatorPod(
            self._folder,
            name=name,
            kubeconfig=self.cluster.kubeconfig_for(f"{self.system}-{name}", token=token, namespace=self.system),
            namespace=self.system,
            platform=self.platform,
            env=env,
            supervised=supervised,
        )
        self._stack.callback(pod.close)
        return pod


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(
    kubernetes: Cluster,
    kubernetes_binaries: KubernetesBinaries,
    make_kubernetes: MakeKubernetes,  # not used: a cluster of the test's own has to outlive what is in it
    make_platform: MakePlatform,
    tmp_path: Path,
) -> Iterator[MakeWorld]:
    with contextlib.ExitStack() as stack:

        def make(*, cluster: Cluster | None = None, namespaces: int = 1, platform: Platform | None = None) -> World:
            return _open(
                stack,
                cluster=cluster or kubernetes,
                helm=kubernetes_binaries.helm,
                platform=platform or make_platform(),
                namespaces=namespaces,
                folder=tmp_path / f"operator-{next(_numbers)}",
            )

        yield make


def _open(
    stack: contextlib.ExitStack, *, cluster: Cluster, helm: Path, platform: Platform, namespaces: int, folder: Path
) -> World:
    install_crds(cluster)
    names = [make_namespace(cluster) for _ in range(namespaces + 1)]
    for name in names:
        stack.callback(delete_namespace, cluster, name)
    system, *tenants = names
    install_rbac(cluster, helm, namespace=system, tenant_namespaces=tenants)
    return World(
        folder=folder,
        cluster=cluster,
        platform=platform,
        system=system,
        kubes=[Kube(cluster, name) for name in tenants],
        stack=stack,
    )


@pytest.fixture(scope="module")
def make_shared_world(
    kubernetes: Cluster,
    kubernetes_binaries: KubernetesBinaries,
    postgres: PostgresServer,
    _template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MakeWorld]:
    with contextlib.ExitStack() as stack:

        def make(*, cluster: Cluster | None = None, namespaces: int = 1) -> World:
            database = f"shared_{next(_numbers)}"
            url = postgres.create_database(database, template=_template)
            stack.callback(postgres.drop_database, database)
            redis = stack.enter_context(servers.redis(tmp_path_factory.mktemp("redis"), appendfsync=None))
            platform = Platform(tmp_path_factory.mktemp("platform"), redis_url=redis.url, database=url)
            stack.callback(platform.stop)
            platform.start()
            return _open(
                stack,
                cluster=cluster or kubernetes,
                helm=kubernetes_binaries.helm,
                platform=platform,
                namespaces=namespaces,
                folder=tmp_path_factory.mktemp("operator"),
            )

        yield make


@pytest.fixture(scope="module")
def shared_world(make_shared_world: MakeWorld) -> World:
    return make_shared_world(namespaces=2)


@pytest.fixture(scope="module")
def shared_operator(shared_world: World) -> Iterator[OperatorPod]:
    pod = shared_world.pod(env={"LEADERBOARD_OPERATOR_SWEEP_SECONDS": "1"})
    pod.start()
    pod.wait_ready()
    yield pod
    assert pod.child.alive, pod.child.how_it_ended()
    assert pod.bugs() == []


@pytest.fixture(scope="module")
def team(shared_world: World, shared_operator: OperatorPod) -> Team:
    return Team(shared_world.kube, shared_world.platform.url)


@pytest.fixture(scope="module")
def neighbours(shared_world: World, shared_operator: OperatorPod) -> Team:
    return Team(shared_world.kubes[1], shared_world.platform.url)


@pytest.fixture(scope="module")
def stores(shared_world: World) -> Iterator[Stores]:
    platform = shared_world.platform
    with contextlib.closing(Stores(database=platform.database, redis_url=platform.redis_url)) as opened:
        yield opened


@pytest.fixture
def name() -> str:
    return f"t{next(_numbers)}"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


@pytest.fixture
def operator(world: World) -> OperatorPod:
    pod = world.pod()
    pod.start()
    pod.wait_ready()
    return pod
