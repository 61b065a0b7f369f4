"""The local stack's objects, made for real on the embedded Kubernetes API with controllers and KWOK's nodes.

What `pulumi up` waits for comes about: volumes are bound, the migration's Job completes, everything is Ready. It needs
no Pulumi CLI, but the programs that `make pulumi-up` builds, and is run by that.
"""

import json
import subprocess

import pytest

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import wait_until
from leaderboard.local.toolchain import KubernetesBinaries
from leaderboard_infra.plan import Resource

pytestmark = [pytest.mark.pulumi_up, pytest.mark.timeout(1800)]


def in_order(resource: Resource) -> int:
    """What others are in comes first."""
    return 0 if resource.kind.endswith((":Namespace", ":CustomResourceDefinition")) else 1


def test_every_workload_of_the_local_stack_becomes_ready(
    planned, pretended_cluster: EmbeddedKubernetes, kubernetes_binaries: KubernetesBinaries
) -> None:
    cluster, found = pretended_cluster, planned("local")
    objects = [each for each in found.resources.values() if "apiVersion" in each.inputs]
    for resource in sorted(objects, key=in_order):
        cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(dict(resource.inputs)))
    release = found.by_name["local-release"].inputs
    chart = (kubernetes_binaries.helm, "install", release["name"], "charts/leaderboard", "--skip-crds", "--values=-")
    options = ("--wait", "--wait-for-jobs", "--atomic", "--timeout=120s", f"--namespace={release['namespace']}")
    done = subprocess.run(
        [*chart, *options, f"--kubeconfig={cluster.kubeconfig}"],
        input=json.dumps(release["values"]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    namespaces = [release["namespace"], "leaderboard-telemetry-local"]
    assert wait_until(lambda: all(not not_ready(cluster, name) for name in namespaces), seconds=60), [
        not_ready(cluster, name) for name in namespaces
    ]
    claims = cluster.kubectl("get", "persistentvolumeclaims", "--all-namespaces", "--output=json")
    assert {each["status"]["phase"] for each in json.loads(claims)["items"]} == {"Bound"}


def not_ready(cluster: EmbeddedKubernetes, namespace: str) -> list[str]:
    """The workloads of a namespace that have not all their pods ready."""
    kinds = ("deployments", "statefulsets")
    listed = json.loads(cluster.kubectl("get", ",".join(kinds), f"--namespace={namespace}", "--output=json"))["items"]
    assert listed
    return [
        each["metadata"]["name"]
        for each in listed
        if each.get("status", {}).get("readyReplicas", 0) != each["spec"]["replicas"]
    ]
