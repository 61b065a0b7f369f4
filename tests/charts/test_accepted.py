"""A real API server takes everything that the chart makes, and Pod Security's level `restricted` every pod of it.

The custom resources of others come from their Go modules, pinned by version and hash, through Go's own module cache.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from leaderboard.local.kubernetes import Cluster, KubectlFailed
from leaderboard.local.toolchain import KubernetesBinaries
from support.chart import MATRIX, Chart, Manifest, of_kind, templates
from support.kubernetes import embedded, install_crds, make_namespace


class Module(NamedTuple):
    """A Go module with custom resources in it."""

    version: str
    hash: str
    files: tuple[str, ...]


MODULES = {
    "HTTPRoute": Module(
        "sigs.k8s.io/gateway-api@v1.3.0",
        "h1:q6okN+/UKDATola4JY7zXzx40WO4VISk7i9DIfOvr9M=",
        ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",),
    ),
    "ServiceMonitor": Module(
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        ("example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",),
    ),
}


def crds_of(kind: str) -> list[Path]:
    """Return the files with the custom resources behind `kind`; skip the test where Go cannot get them."""
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"no Go on PATH to get the custom resources of {kind} with")
    module = MODULES[kind]
    # What was downloaded is compared with the hash above, so nobody else has to be asked for one.
    env = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GONOSUMDB": "*", "GO111MODULE": "on"}
    done = subprocess.run(
        [go, "mod", "download", "-json", module.version], env=env, cwd="/", capture_output=True, text=True, timeout=240
    )
    if done.returncode != 0:
        pytest.skip(f"Go cannot get {module.version}: {(done.stderr or done.stdout).strip()[-300:]}")
    told = json.loads(done.stdout)
    assert told["Sum"] == module.hash
    return [Path(told["Dir"]) / file for file in module.files]


@pytest.fixture(scope="module")
def cluster(kubernetes_binaries: KubernetesBinaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with embedded(tmp_path_factory.mktemp("accepted"), binaries=kubernetes_binaries) as cluster:
        install_crds(cluster)
        yield cluster


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> str:
    """A namespace that refuses pods which may do too much."""
    name = make_namespace(cluster, **{"pod-security.kubernetes.io/enforce": "restricted"})
    for account in ("default", "rel", "rel-operator", "rel-migrate"):  # no controller makes the first here
        cluster.kubectl("create", "serviceaccount", account, f"--namespace={name}")
    return name


@pytest.fixture(scope="module")
def serves(cluster: Cluster) -> Any:
    """(kind) -> make the cluster serve it."""
    installed: set[str] = set()

    def serve(kind: str) -> None:
        if kind not in installed:
            files = [f"--filename={path}" for path in crds_of(kind)]
            cluster.kubectl("apply", "--server-side", *files)
            cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *files)
            installed.add(kind)

    return serve


def as_list(manifests: list[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})


@pytest.mark.parametrize("name", MATRIX)
def test_the_server_takes_every_object(chart: Chart, cluster: Cluster, restricted: str, serves: Any, name: str) -> None:
    manifests = chart(MATRIX[name], namespace=restricted)
    for kind in {manifest["kind"] for manifest in manifests} & set(MODULES):
        serves(kind)
    told = cluster.kubectl("apply", "--dry-run=server", "--server-side", "-f", "-", input=as_list(manifests))
    assert told.count("serverside-applied (server dry run)") == len(manifests)


def pods_of(manifests: list[Manifest], namespace: str) -> list[Manifest]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": f"rel-{role}", "namespace": namespace},
            "spec": template["spec"],
        }
        for role, template in templates(manifests).items()
    ]


@pytest.mark.parametrize("name", MATRIX)
def test_pod_security_takes_every_pod(chart: Chart, cluster: Cluster, restricted: str, name: str) -> None:
    pods = pods_of(chart(MATRIX[name], namespace=restricted), restricted)
    told = cluster.kubectl("create", "--dry-run=server", "-f", "-", input=as_list(pods))
    assert told.count("created (server dry run)") == len(pods) >= 2


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (lambda pod: pod["spec"].pop("securityContext"), "runAsNonRoot != true"),
        (lambda pod: pod["spec"]["containers"][0].pop("securityContext"), "allowPrivilegeEscalation != false"),
    ],
)
def test_pod_security_would_refuse_a_pod_without(
    chart: Chart, cluster: Cluster, restricted: str, where: Any, says: str
) -> None:
    pods = pods_of(chart(namespace=restricted), restricted)
    for pod in pods:
        where(pod)
        with pytest.raises(KubectlFailed, match=says):
            cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod))


def test_a_new_version_of_the_chart_can_be_laid_over_an_old_one(
    chart: Chart, cluster: Cluster, restricted: str, tmp_path: Path
) -> None:
    """No field that cannot be changed differs between two versions or two sets of values."""
    shutil.copytree(chart.path, tmp_path / "chart")
    described = tmp_path / "chart" / "Chart.yaml"
    described.write_text(described.read_text().replace("ersion: 0.1.0", "ersion: 0.2.0"))
    newer = Chart(chart.helm, path=tmp_path / "chart")

    def objects(made: list[Manifest]) -> list[Manifest]:  # the Job is deleted before a new one is made
        return [manifest for manifest in made if manifest not in of_kind(made, "Job", "HTTPRoute", "ServiceMonitor")]

    cluster.kubectl("apply", "-f", "-", input=as_list(objects(chart(namespace=restricted))))
    for made in (newer(namespace=restricted), newer(MATRIX["full"], namespace=restricted)):
        assert "app.kubernetes.io/version': '0.2.0" in str(made)
        told = cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=as_list(objects(made)))
        assert "deployment.apps/rel-api configured" in told
