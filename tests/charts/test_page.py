"""What docs/kubernetes.md and its runbook tell people to type works as it stands there, from an empty cluster on.

Two values are others than on the page: the API's URL, as https://leaderboards.example.com leads nowhere, and the pause
between two sweeps, which the page waits for in several places.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import LOOPBACK, free_port
from leaderboard.local.toolchain import KubernetesBinaries
from support import servers
from support.chart import PEPPER
from support.docs import ROOT, blocks, run
from support.kubelet import Kubelet, wait_for
from support.kubernetes import embedded
from support.operator import Kube
from support.servers import PostgresServer

PAGE = "docs/kubernetes.md"
SYSTEM = "leaderboard-system"
ENDPOINT = "https://leaderboards.example.com"


class Reader:
    """Somebody with a checkout, a cluster, a Postgres and a Redis, who reads the page."""

    def __init__(
        self, folder: Path, *, binaries: KubernetesBinaries, cluster: EmbeddedKubernetes, kubelet: Kubelet, url: str
    ) -> None:
        self.cluster = cluster
        self.kubelet = kubelet
        self.env: dict[str, str] = {}
        self._url = url
        self._checkout = folder / "checkout"
        self._checkout.mkdir()
        for name in ("charts", "examples"):
            (self._checkout / name).symlink_to(ROOT / name)
        programs = [binaries.kubectl.parent, binaries.helm.parent, Path(sys.executable).parent]
        plain = {name: value for name, value in os.environ.items() if not name.startswith("LEADERBOARD_")}
        self.env = plain | {
            "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
            "KUBECONFIG": str(cluster.kubeconfig),
            "HELM_CACHE_HOME": str(folder / "helm"),
        }

    def types(self, script: str) -> str:
        """Run a script as somebody in the checkout would."""
        script = script.replace(ENDPOINT, f"{self._url},operator.settings.sweepSeconds=5")
        return run(script, env=self.env, cwd=self._checkout)


@pytest.fixture(scope="module")
def reader(
    kubernetes_binaries: KubernetesBinaries, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("page")
    port = free_port()
    with (
        servers.redis(folder / "redis", appendfsync=None) as redis,
        embedded(folder / "kubernetes", binaries=kubernetes_binaries) as cluster,
        Kubelet(cluster, SYSTEM, folder=folder / "kubelet", ports={"leaderboard-api": port}).running() as kubelet,
    ):
        url = f"http://{LOOPBACK}:{port}"
        reader = Reader(folder, binaries=kubernetes_binaries, cluster=cluster, kubelet=kubelet, url=url)
        reader.env |= {
            "LEADERBOARD_DATABASE_URL": postgres.create_database("page"),
            "LEADERBOARD_REDIS_URL": redis.url,
            "LEADERBOARD_PEPPER": PEPPER,
        }
        yield reader
    assert kubelet.exits == []


def test_every_command_of_the_page_works(reader: Reader) -> None:
    """One after another, as somebody reads."""
    page = blocks(PAGE)
    assert ENDPOINT in "".join(page)
    reader.types("".join(page))
    assert len(wait_for(reader.kubelet, "leaderboard-api", replicas=2)) == 2


def test_the_runbook_on_denied_secrets_helps(reader: Reader) -> None:
    games = Kube(reader.cluster, "games")
    reader.types("kubectl create namespace games")
    tenant = {"apiVersion": "leaderboard.saas/v1alpha1", "kind": "Tenant", "metadata": {"name": "chess"}}
    games.apply(tenant | {"spec": {"slug": "chess"}})
    games.wait_for("tenant", "chess", "CredentialsReady", "False", "SecretAccessDenied", seconds=60)
    pods = {name: pod.child.pid for name, pod in reader.kubelet.pods.items()}
    reader.types("".join(blocks("docs/runbooks/secret-access-denied.md")))
    games.wait_for("tenant", "chess", "Ready", "True", "Available", seconds=120)
    assert {name: pod.child.pid for name, pod in reader.kubelet.pods.items()} == pods
