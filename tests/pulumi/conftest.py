"""The programs of pulumi/, run under Pulumi's mocks, and a Kubernetes API that takes or refuses what they make.

=================== ======== ==============================================================================
fixture             scope    what it gives
=================== ======== ==============================================================================
planned             session  (stack, preview=False, **changes) -> what one run of the program asked for
kubernetes_binaries session  the paths of kube-apiserver, etcd, kubectl and helm
chart               session  (values, release=, namespace=) -> what Helm renders; see support/chart.py
docker_compose      session  the path of docker-compose
pretended_cluster   function an embedded API with controllers, scheduler and KWOK's nodes; see support/controllers.py
=================== ======== ==============================================================================
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

# As in `pulumi up`: the folder of __main__.py comes first.
sys.path.insert(0, str(Path(__file__).parents[2] / "pulumi"))

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.toolchain import COMPOSE, PRETENDED_CLUSTER, KubernetesBinaries, provide
from leaderboard_infra import plan
from leaderboard_infra.plan import Plan
from support import programs as stack_programs
from support.chart import Chart
from support.controllers import controllers
from support.kubernetes import build_what_is_used, built, embedded


class Planned(Protocol):
    """Run the program of a stack; `changes` are settings by their field, as Pulumi spells them."""

    def __call__(self, stack: str, *, preview: bool = False, **changes: str) -> Plan: ...


def pytest_collection_finish(session: pytest.Session) -> None:
    build_what_is_used(session)
    stack_programs.build_what_is_used(session, [((COMPOSE,), {"docker_compose"})])


@pytest.fixture(scope="session")
def docker_compose(pytestconfig: pytest.Config) -> Path:
    return stack_programs.programs_of(pytestconfig, (COMPOSE,))[COMPOSE.name]


@pytest.fixture(scope="session")
def kubernetes_binaries(pytestconfig: pytest.Config) -> KubernetesBinaries:
    return built(pytestconfig)


@pytest.fixture(scope="session")
def chart(kubernetes_binaries: KubernetesBinaries) -> Chart:
    return Chart(kubernetes_binaries.helm)


@pytest.fixture(scope="session")
def planned() -> Planned:
    @functools.cache  # what it gives is frozen, and nobody changes it
    def run(stack: str, *, preview: bool = False, **changes: str) -> Plan:
        given, secret_keys = plan.stack_config(stack, **changes)
        return plan.run(stack, given=given, secret_keys=secret_keys, preview=preview)

    return run


@pytest.fixture
def pretended_cluster(kubernetes_binaries: KubernetesBinaries, tmp_path: Path) -> Iterator[EmbeddedKubernetes]:
    tools = provide(PRETENDED_CLUSTER, say=print)
    with (
        embedded(tmp_path / "api", binaries=kubernetes_binaries) as cluster,
        controllers(
            cluster,
            tmp_path / "controllers",
            manager=tools["kube-controller-manager"],
            scheduler=tools["kube-scheduler"],
            kwok=tools["kwok"],
        ),
    ):
        yield cluster
