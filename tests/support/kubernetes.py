"""Kubernetes for tests: the programs of an embedded API, and namespaces that go again."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from leaderboard.local.kubernetes import Cluster, EmbeddedKubernetes, KubectlFailed
from leaderboard.local.process import LocalError, Log, wait_until
from leaderboard.local.toolchain import KUBECTL, TOOLS, CannotBuild, KubernetesBinaries, Tool, provide
from support.programs import say_to

KUBECONFIG_VARIABLE = "LEADERBOARD_TEST_KUBECONFIG"
"""A cluster for the tests to use. Never the user's default context: a test must not touch a cluster by accident."""

CHART = Path(__file__).parents[2] / "charts" / "leaderboard"
_API = "/apis/leaderboard.saas/v1alpha1"
_provided = pytest.StashKey[dict[str, Path] | LocalError]()


class MakeKubernetes(Protocol):
    """Start one more embedded Kubernetes API, empty; `audit` writes its requests to `.audit_log`."""

    def __call__(self, *, audit: bool = False) -> EmbeddedKubernetes: ...


class MakeNamespace(Protocol):
    """Make a namespace and return its name; `labels` are its own."""

    def __call__(self, **labels: str) -> str: ...


def build_what_is_used(session: pytest.Session) -> None:
    """Build what the collected tests need of Kubernetes, before the first of them runs: for pytest_collection_finish.

    A build may take longer than the time limit of a test, which counts its fixtures too. Here no test's limit runs
    yet, and nothing captures the progress lines.
    """
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if used & {"kubernetes_binaries", "make_kubernetes"} or ("kubernetes" in used and given_kubeconfig() is None):
        _build(session.config, TOOLS)
    elif "kubernetes" in used:
        _build(session.config, [KUBECTL])


def _build(config: pytest.Config, tools: Sequence[Tool]) -> None:
    try:
        config.stash[_provided] = provide(tools, say=say_to(config))
    except LocalError as error:  # what becomes of the tests is said by their fixtures
        config.stash[_provided] = error
        say_to(config)(f"No Kubernetes API: {error}")


def programs(config: pytest.Config, tools: Sequence[Tool]) -> dict[str, Path]:
    """Return where the programs are, by name; skip the test where this machine cannot build them."""
    if _provided not in config.stash:  # a test that asks for a fixture by name when it runs
        _build(config, tools)
    provided = config.stash[_provided]
    if isinstance(provided, CannotBuild):
        pytest.skip(f"no Kubernetes API: {str(provided).splitlines()[0]}")
    if isinstance(provided, LocalError):
        raise provided
    return provided


def built(config: pytest.Config) -> KubernetesBinaries:
    """Return all the programs; skip the test where this machine cannot build them."""
    return KubernetesBinaries(**{name.replace("-", "_"): path for name, path in programs(config, TOOLS).items()})


def given_kubeconfig() -> Path | None:
    """Return the kubeconfig that the tests were told to use, None for an embedded cluster."""
    given = os.environ.get(KUBECONFIG_VARIABLE)
    return Path(given) if given else None


def make_namespace(cluster: Cluster, **labels: str) -> str:
    """Make a namespace whose name no other test has."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    metadata = {"name": name, "labels": labels}
    cluster.kubectl(
        "create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    )
    return name


def delete_namespace(cluster: Cluster, name: str) -> None:
    """Delete a namespace with its tenants, leaderboards and Secrets, no operator running.

    In a real cluster a controller then deletes everything else in it. The embedded one has none: what else there was
    stays behind, invisible, and the namespace's own finalizer is taken off here.
    """
    delete_contents(cluster, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    if isinstance(cluster, EmbeddedKubernetes):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}}
        cluster.kubectl(
            "replace", "--raw", f"/api/v1/namespaces/{name}/finalize", "-f", "-", input=json.dumps(namespace)
        )


def delete_contents(cluster: Cluster, name: str) -> None:
    """Delete the tenants, leaderboards and Secrets of a namespace, no operator running."""
    for plural in ("leaderboards", "tenants"):
        _delete_resources(cluster, f"{_API}/namespaces/{name}/{plural}")
    cluster.kubectl("delete", "--raw", f"/api/v1/namespaces/{name}/secrets")


def _delete_resources(cluster: Cluster, path: str) -> None:
    try:
        found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", "--raw", path))["items"]
    except KubectlFailed as error:
        if "NotFound" in str(error):  # the custom resources are not installed
            return
        raise
    if not found:
        return
    kept = [{key: item[key] for key in ("apiVersion", "kind", "metadata")} for item in found]
    # Nobody would take the operator's finalizer off, and a tenant may ask to be kept from deletion.
    patch: dict[str, Any] = {"metadata": {"finalizers": None}}
    if path.endswith("/tenants"):
        patch["spec"] = {"preventDeletion": False}
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": kept})
    cluster.kubectl("patch", "--type=merge", "-f", "-", "-p", json.dumps(patch), input=items)
    cluster.kubectl("delete", "--raw", path)


@contextlib.contextmanager
def embedded(folder: Path, *, binaries: KubernetesBinaries, audit: bool = False) -> Iterator[EmbeddedKubernetes]:
    """Run a Kubernetes API while the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    log = Log(folder / "log")
    # What a test kills is a process, never the machine: waiting for the disk would only cost time.
    cluster = EmbeddedKubernetes(folder, binaries=binaries, log=log, durable=False, audit=audit)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        log.close()


def install_crds(cluster: Cluster) -> None:
    """Install the chart's custom resources, and return when the API serves them."""
    crds = f"--filename={CHART / 'crds'}"
    cluster.kubectl("apply", "--server-side", "--force-conflicts", crds)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", crds)
    for plural in ("tenants", "leaderboards"):
        path = f"{_API}/{plural}?limit=1"
        assert wait_until(lambda path=path: "items" in cluster.kubectl("get", "--raw", path, check=False), seconds=90)  # type: ignore[misc]
