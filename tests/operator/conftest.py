"""A real Kubernetes API for the operator's tests.

=================== ======== ==============================================================================
fixture             scope    what it gives
=================== ======== ==============================================================================
kubernetes          session  a cluster: .kubectl(), .kubeconfig, .kubeconfig_for(), .service_account_token()
make_kubernetes     function (audit=False) -> an embedded one of the test's own, which it may stop and kill
make_namespace      function (**labels) -> the name of a new namespace of `kubernetes`, deleted afterwards
namespace           function one such name
kubernetes_binaries session  the paths of kube-apiserver, etcd, kubectl and helm
=================== ======== ==============================================================================

`kubernetes` is the cluster of LEADERBOARD_TEST_KUBECONFIG where that is set, else an embedded one, whose programs are
built where they are neither on the machine nor in the cache. Tests skip only where the machine cannot build them.
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderboard.local.kubernetes import Cluster, EmbeddedKubernetes
from leaderboard.local.toolchain import KUBECTL, METRICS_ONLY, OBSERVABILITY, KubernetesBinaries
from support import programs as stack_programs
from support.kubernetes import (
    MakeKubernetes,
    MakeNamespace,
    build_what_is_used,
    built,
    delete_namespace,
    embedded,
    given_kubeconfig,
    make_namespace,
    programs,
)

_numbers = itertools.count(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    build_what_is_used(session)
    stack_programs.build_what_is_used(session, [(METRICS_ONLY, {"seen"}), (OBSERVABILITY, {"seen_whole"})])


@pytest.fixture(scope="session")
def kubernetes_binaries(pytestconfig: pytest.Config) -> KubernetesBinaries:
    return built(pytestconfig)


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("kubernetes")
    given = given_kubeconfig()
    if given is not None:
        yield Cluster(folder, kubectl=programs(request.config, [KUBECTL])["kubectl"], kubeconfig=given)
        return
    with embedded(folder, binaries=request.getfixturevalue("kubernetes_binaries")) as cluster:
        yield cluster


@pytest.fixture
def make_kubernetes(kubernetes_binaries: KubernetesBinaries, tmp_path: Path) -> Iterator[MakeKubernetes]:
    with contextlib.ExitStack() as stack:

        def make(*, audit: bool = False) -> EmbeddedKubernetes:
            folder = tmp_path / f"kubernetes-{next(_numbers)}"
            return stack.enter_context(embedded(folder, binaries=kubernetes_binaries, audit=audit))

        yield make


@pytest.fixture(name="make_namespace")
def _make_namespace(kubernetes: Cluster) -> Iterator[MakeNamespace]:
    with contextlib.ExitStack() as stack:

        def make(**labels: str) -> str:
            name = make_namespace(kubernetes, **labels)
            stack.callback(delete_namespace, kubernetes, name)
            return name

        yield make


@pytest.fixture
def namespace(make_namespace: MakeNamespace) -> str:
    return make_namespace()
