"""Helm, and a Kubernetes API that takes or refuses what the chart makes.

=================== ======== =======================================================================
fixture             scope    what it gives
=================== ======== =======================================================================
kubernetes_binaries session  the paths of kube-apiserver, etcd, kubectl and helm
chart               session  (values, release=, namespace=) -> what Helm renders; see support/chart.py
=================== ======== =======================================================================

The clusters are always embedded ones: what is installed here, such as others' CRDs, belongs in nobody's.
"""

import pytest

from leaderboard.local.toolchain import KubernetesBinaries
from support.chart import Chart
from support.kubernetes import build_what_is_used, built


def pytest_collection_finish(session: pytest.Session) -> None:
    build_what_is_used(session)


@pytest.fixture(scope="session")
def kubernetes_binaries(pytestconfig: pytest.Config) -> KubernetesBinaries:
    return built(pytestconfig)


@pytest.fixture(scope="session")
def chart(kubernetes_binaries: KubernetesBinaries) -> Chart:
    return Chart(kubernetes_binaries.helm)
