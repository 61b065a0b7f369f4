"""The programs of a Kubernetes API, for the demo that runs one; see tests/operator/conftest.py."""

import pytest

from leaderboard.local.toolchain import KubernetesBinaries
from support.kubernetes import build_what_is_used, built


def pytest_collection_finish(session: pytest.Session) -> None:
    build_what_is_used(session)


@pytest.fixture(scope="session")
def kubernetes_binaries(pytestconfig: pytest.Config) -> KubernetesBinaries:
    return built(pytestconfig)
