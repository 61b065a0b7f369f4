"""A real API server takes every object that any stack makes, and what the chart makes of the values it is given.

The custom resources of CloudNativePG, its backup plugin and redis-operator come from their Go modules, pinned by
version and hash, at the versions whose charts the stacks install.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from leaderboard.local.kubernetes import Cluster, KubectlFailed
from leaderboard.local.toolchain import KubernetesBinaries
from leaderboard_infra import operators, plan
from leaderboard_infra.plan import Plan
from leaderboard_infra.policies.rules import images_are_pinned, memory_is_limited, no_plaintext_secret_in_pods
from support.chart import Chart, Manifest, only
from support.kubernetes import embedded


class Module(NamedTuple):
    """A Go module with custom resources in it."""

    version: str
    hash: str
    folder: str


MODULES = [
    Module(
        f"github.com/OT-CONTAINER-KIT/redis-operator@v{operators.REDIS_OPERATOR}",
        "h1:Cx2soYpremzU6vOeP5/fF+ODVFr7GyWzRM8CdW8jru0=",
        "config/crd/bases",
    ),
    Module(
        "github.com/cloudnative-pg/cloudnative-pg@v1.30.0",
        "h1:fnhVq44xXx97MNiuvJsPrX1vSjYbgdyBK5MSGfdHdp0=",
        "config/crd/bases",
    ),
    Module(
        "github.com/cloudnative-pg/plugin-barman-cloud@v0.13.0",
        "h1:dcEVsozSmdx5p2LbG1hbkWBvr6LXs1xpCsQiJWpo/ew=",
        "config/crd/bases",
    ),
]
USED = {"clusters", "poolers", "scheduledbackups", "objectstores", "redisreplications", "redissentinels"}

# Between them every mode of Redis, Postgres and observability.
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    **{stack: (stack, {}) for stack in plan.stack_names() if stack != "global"},
    "no telemetry, an Ingress": (
        "local",
        {
            "observability_mode": "off",
            "telemetry_storage": "20Gi",
            "telemetry_retention": "15d",
            "host": "scores.example.com",
            "tls_secret": "certificate",
            "ingress_class": "nginx",
            "api_max_replicas": "5",
            "tenant_namespaces": '["games"]',
            "platform_settings": '{"idempotencyTtl": 60, "outboxMax": 5000000}',
            "storage_class": "fast",
        },
    ),
    "operated, without backups": (
        "local",
        {"redis_mode": "cluster", "postgres_mode": "cloudnative-pg", "postgres_instances": "1", "operator": "false"},
    ),
}
each_run = pytest.mark.parametrize("run", RUNS)


def crds() -> list[Path]:
    """Return the files of the custom resources; skip the test where Go cannot get them."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go on PATH to get the custom resources of CloudNativePG and redis-operator with")
    # What was downloaded is compared with the hash above, so nobody else has to be asked for one.
    env = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GONOSUMDB": "*", "GO111MODULE": "on"}
    found = []
    for module in MODULES:
        command = [go, "mod", "download", "-json", module.version]
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=240)
        if done.returncode != 0:
            pytest.skip(f"Go cannot get {module.version}: {(done.stderr or done.stdout).strip()[-300:]}")
        told = json.loads(done.stdout)
        assert told["Sum"] == module.hash
        folder = Path(told["Dir"]) / module.folder
        found += [path for path in sorted(folder.glob("*.yaml")) if path.stem.rpartition("_")[2] in USED]
    assert len(found) == len(USED)
    return found


@pytest.fixture(scope="module")
def cluster(kubernetes_binaries: KubernetesBinaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    files = crds()
    with embedded(tmp_path_factory.mktemp("accepted"), binaries=kubernetes_binaries) as cluster:
        named = [f"--filename={path}" for path in files]
        cluster.kubectl("apply", "--server-side", *named)
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *named)
        yield cluster


def objects(found: Plan) -> list[Manifest]:
    """The Kubernetes objects of a run, releases apart."""
    return [
        {key: value for key, value in each.inputs.items() if key not in ("id", "urn")}
        for each in found.resources.values()
        if each.kind.startswith("kubernetes:") and "metadata" in each.inputs
    ]


def send(cluster: Cluster, manifests: list[Manifest]) -> str:
    """Ask the API server whether it would take all of these; unknown fields are errors."""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    options = ["--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "--field-manager=test"]
    return cluster.kubectl("apply", *options, "-f", "-", input=listed)


def make_namespaces(cluster: Cluster, manifests: list[Manifest], *more: str) -> None:
    """A dry run makes none, and what is in one would be refused for want of it."""
    names = [each["metadata"]["name"] for each in manifests if each["kind"] == "Namespace"]
    made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in [*names, *more]]
    cluster.kubectl(
        "apply", "--server-side", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    )


@each_run
def test_the_api_server_takes_every_object_of_a_stack(planned, cluster: Cluster, run: str) -> None:
    stack, changes = RUNS[run]
    manifests = objects(planned(stack, **changes))
    make_namespaces(cluster, manifests)
    answers = send(cluster, manifests).splitlines()
    assert len(answers) == len(manifests) > 10
    assert all("serverside-applied" in answer for answer in answers)


def test_it_would_not_take_a_field_that_is_not_there(planned, cluster: Cluster) -> None:
    manifests = objects(planned("us-east"))
    make_namespaces(cluster, manifests)
    (pooler,) = [each for each in manifests if each["kind"] == "Pooler"]
    with pytest.raises(KubectlFailed, match="poolmode"):
        send(cluster, [pooler | {"spec": pooler["spec"] | {"poolmode": "session"}}])
    with pytest.raises(KubectlFailed, match="poolMode"):
        send(cluster, [pooler | {"spec": pooler["spec"] | {"pgbouncer": {"poolMode": "statement"}}}])


def release(found: Plan) -> Mapping[str, Any]:
    (made,) = [each for each in found.resources.values() if each.name.endswith("-release")]
    return made.inputs


@each_run
def test_the_chart_takes_the_values_and_the_api_server_what_it_makes(
    planned, chart: Chart, cluster: Cluster, run: str
) -> None:
    stack, changes = RUNS[run]
    inputs = release(planned(stack, **changes))
    rendered = chart(inputs["values"], release=inputs["name"], namespace=inputs["namespace"])
    make_namespaces(cluster, [], inputs["namespace"], "games")
    send(cluster, rendered)
    for manifest in rendered:
        group = manifest["apiVersion"] if "/" in manifest["apiVersion"] else f"core/{manifest['apiVersion']}"
        kind = f"kubernetes:{group}:{manifest['kind']}"
        for rule in (images_are_pinned, memory_is_limited, no_plaintext_secret_in_pods):
            assert list(rule(kind, manifest)) == []


def test_the_chart_is_where_the_program_says(planned) -> None:
    path = plan.ROOT / "pulumi" / release(planned("local"))["chart"]
    assert yaml.safe_load((path / "Chart.yaml").read_text())["name"] == "leaderboard"
    assert release(planned("local"))["skipCrds"] is True
    definitions = [each for each in objects(planned("local")) if each["kind"] == "CustomResourceDefinition"]
    made = {each["metadata"]["name"] for each in definitions}
    there = {yaml.safe_load(crd.read_text())["metadata"]["name"] for crd in (path / "crds").glob("*.yaml")}
    assert made == there


def test_the_platform_finds_its_credentials_under_the_names_that_the_chart_asks_for(planned, chart: Chart) -> None:
    found = planned("local")
    inputs = release(found)
    asked, optional = set(), set()
    for manifest in chart(inputs["values"], release=inputs["name"], namespace=inputs["namespace"]):
        if manifest["kind"] in ("Deployment", "Job"):
            for container in manifest["spec"]["template"]["spec"]["containers"]:
                for variable in container["env"]:
                    reference = variable.get("valueFrom", {}).get("secretKeyRef")
                    if reference:
                        found_as = optional if reference.get("optional") else asked
                        found_as.add((reference["name"], reference["key"]))
    secret = found.by_name["local-credentials"].inputs
    assert asked == {(secret["metadata"]["name"], key) for key in secret["stringData"]}
    signing = planned("local", signing_key="ab" * 32).by_name["local-credentials"].inputs
    assert asked | optional == {(signing["metadata"]["name"], key) for key in signing["stringData"]}
    assert signing["stringData"]["signing-key"] == "ab" * 32


def test_network_policies_let_the_platform_reach_its_servers(planned, chart: Chart) -> None:
    found = planned("local", **_EXTERNAL)
    rendered = chart(release(found)["values"], release="leaderboard-local", namespace="leaderboard-local")
    api = only(rendered, "NetworkPolicy", "leaderboard-local-api")
    ports = {port["port"] for rule in api["spec"]["egress"] for port in rule["ports"]}
    assert {6380, 6432, 443} <= ports


_EXTERNAL = {
    "redis_mode": "external",
    "redis_url": "rediss://u:p@redis.example.com:6380",
    "redis_memory": "1Gi",
    "redis_storage": "10Gi",
    "postgres_mode": "external",
    "postgres_url": "postgresql://u:p@postgres.example.com:6432/db",
    "postgres_memory": "1Gi",
    "postgres_storage": "20Gi",
    "observability_mode": "external",
    "otlp_endpoint": "https://otlp.example.com",
    "telemetry_storage": "20Gi",
    "telemetry_retention": "15d",
}
