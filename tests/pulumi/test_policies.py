"""The policy pack: every stack passes, and every rule has what it catches."""

import copy
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from leaderboard_infra import plan
from leaderboard_infra.policies import rules
from leaderboard_infra.policies.rules import RULES, data_is_protected, no_plaintext_secret_in_stack
from leaderboard_infra.settings import FIELDS, is_secret, key_of

PACK = Path(rules.__file__).parent
SECRET_KEYS = {key_of(field) for field in FIELDS if is_secret(field)}
STATEFUL_SET = "kubernetes:apps/v1:StatefulSet"
SERVICE = "kubernetes:core/v1:Service"
RELEASE = "kubernetes:helm.sh/v3:Release"
POSTGRES = "kubernetes:postgresql.cnpg.io/v1:Cluster"
REDIS = "kubernetes:redis.redis.opstreelabs.in/v1beta2:RedisReplication"
EKS = "aws:eks/cluster:Cluster"
DOKS = "digitalocean:index/kubernetesCluster:KubernetesCluster"

Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize("stack", plan.stack_names())
def test_every_stack_keeps_every_rule(planned, stack: str) -> None:
    for resource in planned(stack).resources.values():
        for name, rule in RULES.items():
            assert list(rule(resource.kind, resource.inputs)) == [], f"{resource.name}: {name}"
        if stack != "local":
            assert list(data_is_protected(resource.kind, resource.inputs, protect=resource.protect)) == []


def container(inputs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = inputs["spec"]["template"]["spec"]["containers"][0]
    return found


def put(*path: str, value: object) -> Change:
    def change(inputs: dict[str, Any]) -> None:
        inner = inputs
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value

    return change


def put_in_container(name: str, value: object) -> Change:
    return lambda inputs: container(inputs).update({name: value})


# A resource that a stack has, and what is done to it: the rule has to say so, and what it says.
CAUGHT: list[tuple[str, str, str, Change, str]] = [
    ("data-stays-inside", "local", "local-redis-service", put("spec", "type", value="LoadBalancer"), "LoadBalancer"),
    ("data-stays-inside", "local", "local-redis-service", put("spec", "type", value="NodePort"), "NodePort"),
    ("data-stays-inside", "local", "local-redis-service", put("spec", "externalIPs", value=["1.2.3.4"]), "externalIPs"),
    (
        "data-stays-inside",
        "us-east",
        "us-east-redis-replication",
        put("spec", "kubernetesConfig", "service", value={"serviceType": "LoadBalancer"}),
        "LoadBalancer",
    ),
    (
        "data-stays-inside",
        "us-east",
        "us-east-postgres-cluster",
        put(
            "spec", "managed", value={"services": {"additional": [{"serviceTemplate": {"spec": {"type": "NodePort"}}}]}}
        ),
        "NodePort",
    ),
    (
        "cluster-api-is-private",
        "us-east",
        "us-east-eks",
        put("vpcConfig", "endpointPublicAccess", value=True),
        "endpointPublicAccess",
    ),
    (
        "cluster-api-is-private",
        "eu-west",
        "eu-west-doks",
        put("controlPlaneFirewall", "enabled", value=False),
        "open to everybody",
    ),
    (
        "cluster-api-is-private",
        "eu-west",
        "eu-west-doks",
        put("controlPlaneFirewall", "allowedAddresses", value=["0.0.0.0/0"]),
        "every address",
    ),
    ("images-are-pinned", "local", "local-redis-server", put_in_container("image", "redis:latest"), "tag latest"),
    ("images-are-pinned", "local", "local-redis-server", put_in_container("image", "host:5000/redis"), "no tag"),
    ("images-are-pinned", "us-east", "us-east-postgres-pooler", put("spec", "pgbouncer", "image", value="a"), "no tag"),
    ("images-are-pinned", "us-east", "us-east-postgres-cluster", put("spec", "imageName", value="pg:latest"), "latest"),
    ("images-are-pinned", "us-east", "us-east-cloudnative-pg", put("version", value=None), "no version"),
    ("images-are-pinned", "us-east", "us-east-release", put("values", "image", "tag", value="latest"), "latest"),
    (
        "memory-is-limited",
        "local",
        "local-grafana",
        put_in_container("resources", {"requests": {"memory": "1Gi"}}),
        "resources.limits.memory",
    ),
    ("memory-is-limited", "local", "local-grafana", put_in_container("resources", {}), "resources.requests.memory"),
    (
        "memory-is-limited",
        "us-east",
        "us-east-redis-replication",
        put("spec", "kubernetesConfig", "resources", value=None),
        "resources.limits.memory",
    ),
    (
        "memory-is-limited",
        "us-east",
        "us-east-postgres-cluster",
        put("spec", "resources", value=None),
        "resources.limits.memory",
    ),
    (
        "volumes-outlive-pods",
        "local",
        "local-postgres-server",
        put("spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted", value="Delete"),
        "whenDeleted is not Retain",
    ),
    (
        "volumes-outlive-pods",
        "us-east",
        "us-east-redis-replication",
        put("spec", "storage", "keepAfterDelete", value=False),
        "keepAfterDelete",
    ),
    (
        "no-plaintext-secret-in-pods",
        "local",
        "local-grafana",
        put_in_container("env", [{"name": "GF_SECURITY_ADMIN_PASSWORD", "value": "admin"}]),
        "GF_SECURITY_ADMIN_PASSWORD",
    ),
]


@pytest.mark.parametrize(
    ("rule", "stack", "name", "change", "words"), CAUGHT, ids=[f"{case[0]}, {case[4]}" for case in CAUGHT]
)
def test_a_rule_catches_what_it_is_for(planned, rule: str, stack: str, name: str, change: Change, words: str) -> None:
    resource = planned(stack).by_name[name]
    assert list(RULES[rule](resource.kind, resource.inputs)) == []
    inputs = copy.deepcopy(dict(resource.inputs))
    change(inputs)
    assert any(words in problem for problem in RULES[rule](resource.kind, inputs))


def test_every_rule_has_a_case() -> None:
    assert {case[0] for case in CAUGHT} == RULES.keys()


@pytest.mark.parametrize("name", ["us-east-postgres-cluster", "us-east-redis-replication", "us-east-loki"])
def test_what_holds_data_and_is_not_protected_is_told(planned, name: str) -> None:
    resource = planned("us-east", protect_data="false").by_name[name]
    assert not resource.protect
    assert list(data_is_protected(resource.kind, resource.inputs, protect=resource.protect))


@pytest.mark.parametrize("stack", plan.stack_names())
def test_no_stack_file_has_a_secret_in_plain_text(stack: str) -> None:
    assert list(no_plaintext_secret_in_stack(plan.stack_file(stack), secret_keys=SECRET_KEYS)) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("leaderboard:redisUrl: rediss://u:p@r", True),
        ("leaderboard:redisUrl: {secure: v1:abc}", False),
        ("leaderboard:redisMode: single", False),
        ("aws:secretKey: abc", True),
        ("aws:secretKey: {secure: v1:abc}", False),
        ("cloudflare:apiToken: abc", True),
    ],
)
def test_a_secret_in_plain_text_in_a_stack_file_is_caught(line: str, problem: bool) -> None:
    config = yaml.safe_load(line)
    assert bool(list(no_plaintext_secret_in_stack(config, secret_keys=SECRET_KEYS))) is problem


def test_the_pack_has_every_rule_and_hands_it_what_pulumi_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import pulumi_policy

    packs: list[dict[str, Any]] = []
    monkeypatch.setattr(pulumi_policy, "PolicyPack", lambda **said: packs.append(said))
    monkeypatch.setattr(sys, "path", [str(PACK), *sys.path])
    monkeypatch.delitem(sys.modules, "rules", raising=False)
    spec = importlib.util.spec_from_file_location("pack", PACK / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    monkeypatch.delitem(sys.modules, "rules")

    (pack,) = packs
    policies = {policy.name: policy for policy in pack["policies"]}
    assert policies.keys() == {*RULES, "data-is-protected"}
    assert all(policy.description for policy in policies.values())

    arguments = SimpleNamespace(
        resource_type=SERVICE, props={"spec": {"type": "LoadBalancer"}}, opts=SimpleNamespace(protect=False)
    )
    said: list[str] = []
    for policy in policies.values():
        policy.validate(arguments, lambda problem, _: said.append(problem))
    assert said == ["a Service of type LoadBalancer makes data reachable from outside: leave it ClusterIP"]


def test_the_pack_is_one_that_pulumi_starts() -> None:
    project = yaml.safe_load((PACK / "PulumiPolicy.yaml").read_text())
    assert project["runtime"]["name"] == "python"
    root = (PACK / project["runtime"]["options"]["virtualenv"]).resolve()
    assert root == plan.ROOT / ".venv"
