"""The chart as Helm renders it, and values that stand for what people set."""

import copy
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from support.kubernetes import CHART

Manifest = dict[str, Any]
# libyaml's loader where PyYAML was built with it: ten times faster, the same answers.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())

PEPPER = "a pepper that has at least 32 characters"
OWN_SECRET = {
    "existingSecret": "",
    "secret": {"databaseUrl": "postgresql://db/leaderboard", "redisUrl": "redis://redis", "pepper": PEPPER},
}
"""The chart makes the Secret itself."""

FULL: dict[str, Any] = {
    **OWN_SECRET,
    "image": {
        "repository": "registry.example.com:5000/games/leaderboard",
        "digest": f"sha256:{'0123456789abcdef' * 4}",
        "pullPolicy": "Always",
        "pullSecrets": ["registry"],
    },
    "region": "eu-west",
    "keyEnv": "test",
    "logLevel": "debug",
    "settings": {"idempotencyTtl": 60, "outboxMax": 5_000_000, "redisTimeout": 0.25},
    "telemetry": {"enabled": True, "endpoint": "http://collector.observability.svc:4318"},
    "api": {
        "workers": 2,
        "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9},
        "podDisruptionBudget": {"maxUnavailable": "25%"},
        "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"example.com/a": "b"}},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "scores.example.com",
            "annotations": {"example.com/a": "true"},
            "tlsSecret": "scores-tls",
        },
        "gateway": {
            "enabled": True,
            "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
            "hostnames": ["scores.example.com", "*.scores.example.com"],
        },
        "podAnnotations": {"example.com/a": "1"},
        "nodeSelector": {"pool": "api"},
        "tolerations": [{"key": "pool", "operator": "Equal", "value": "api", "effect": "NoSchedule"}],
    },
    "worker": {"replicas": 3, "podAnnotations": {"example.com/a": "1"}, "nodeSelector": {"pool": "worker"}},
    "operator": {
        "replicas": 3,
        "endpoint": "https://scores.example.com",
        "settings": {"sweepSeconds": 30.5, "leaseSeconds": 30, "renewSeconds": 20, "retrySeconds": 5},
        "tolerations": [{"operator": "Exists"}],
    },
    "migrate": {"backoffLimit": 0, "nodeSelector": {"pool": "worker"}, "tolerations": [{"operator": "Exists"}]},
    "networkPolicy": {
        "ingress": {"from": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]},
        "metrics": {"from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
        "egress": {
            "database": {"cidr": "10.1.0.0/24", "port": 6432},
            "redis": {"cidr": "fd00::/64", "port": 6380},
            "otlp": {"cidr": "10.3.0.0/24", "port": 4318},
            "kubernetesApi": {"cidr": "10.4.0.1/32", "ports": [6443]},
        },
    },
    "serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
}
MINIMAL: dict[str, Any] = {
    "api": {"replicas": 1, "podDisruptionBudget": {"enabled": False}},
    "operator": {"enabled": False},
    "migrate": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
MATRIX: dict[str, dict[str, Any]] = {
    "default": {},
    "minimal": MINIMAL,
    "full": FULL,
    "own secret": OWN_SECRET,
    "a tag": {"image": {"tag": "1.2.3"}},
    "a digest": {"image": {"digest": FULL["image"]["digest"]}},
    "a region": {"region": "us-east"},
    "settings": {"settings": FULL["settings"]},
    "telemetry": {"telemetry": FULL["telemetry"]},
    "autoscaling": {"api": {"autoscaling": {"enabled": True}}},
    "no disruption budget": {"api": {"podDisruptionBudget": {"enabled": False}}},
    "ingress": {"api": {"ingress": {"enabled": True, "host": "a.example.com"}}},
    "ingress with TLS": {"api": {"ingress": FULL["api"]["ingress"]}},
    "gateway": {"api": {"gateway": {"enabled": True, "parentRefs": [{"name": "public"}]}}},
    "node port": {"api": {"service": {"type": "NodePort"}}},
    "no operator": {"operator": {"enabled": False}},
    "every namespace": {"operator": {"tenantNamespaces": ["*"]}},
    "no migration": {"migrate": {"enabled": False}},
    "no policies": {"networkPolicy": {"enabled": False}},
    "service monitor": {"serviceMonitor": {"enabled": True}},
    "no limit of CPU": {"api": {"resources": {"limits": {"cpu": None}}}},
}
"""Values by what they show, each on top of an `existingSecret`: the default, the least, the most, each by itself."""


class ChartRefused(Exception):
    """Helm would not render the chart; the message is Helm's."""


class Chart:
    """Renders the chart; `path` is another folder where that one is tested."""

    def __init__(self, helm: Path, *, path: Path = CHART) -> None:
        self.helm = helm
        self.path = path

    def __call__(
        self, values: Mapping[str, Any] | None = None, *, release: str = "rel", namespace: str = "platform"
    ) -> list[Manifest]:
        """Return what `helm template` makes of `values`, hooks too. Raises ChartRefused."""
        command = [str(self.helm), "template", release, str(self.path), f"--namespace={namespace}"]
        command += ["--kube-version=1.36.0", "--values=-"]  # else what this build of Helm takes for usual
        given = json.dumps({"existingSecret": "stores"} | dict(values or {}))
        done = subprocess.run(command, input=given, capture_output=True, text=True)
        if done.returncode != 0:
            raise ChartRefused(done.stderr)
        return [manifest for manifest in yaml.load_all(done.stdout, Loader=_Loader) if manifest]


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `change` laid over it, as Helm does."""
    found = copy.deepcopy(dict(base))
    for name, value in change.items():
        inner = found.get(name)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        found[name] = merged(inner, value) if both else copy.deepcopy(value)
    return found


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return ``{"a": {"b": value}}`` for the path ``a.b``."""
    for name in reversed(path.split(".")):
        value = {name: value}
    found: dict[str, Any] = value
    return found


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Return those of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def only(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one of that kind and name."""
    (found,) = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod templates by their role: api, worker, operator, migrate."""
    return {
        owner["metadata"]["labels"]["app.kubernetes.io/component"]: owner["spec"]["template"]
        for owner in of_kind(manifests, "Deployment", "Job")
    }


def container(template: Manifest) -> Manifest:
    """Return the one container of a pod template."""
    (found,) = template["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def settled(template: Manifest, *, secret: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a template's container as its process sees it, with the keys of its Secret."""
    fields = {"metadata.name": "a-pod", "metadata.namespace": "platform"}
    found: dict[str, str] = {}
    for variable in container(template)["env"]:
        assert variable["name"] not in found, f"{variable['name']} is there twice"
        value = resolved(variable, secrets=lambda _, key: secret[key], fields=fields, before=found)
        if value is not None:
            found[variable["name"]] = value
    return found


def resolved(
    variable: Mapping[str, Any], *, secrets: Any, fields: Mapping[str, str], before: Mapping[str, str]
) -> str | None:
    """Return a variable's value: its own, with ``$(NAME)`` of those `before` it, or what it refers to.

    None where that is optional and the Secret does not have it.
    """
    source = variable.get("valueFrom", {})
    if "secretKeyRef" in source:
        wanted = source["secretKeyRef"]
        try:
            value: str = secrets(wanted["name"], wanted["key"])
        except KeyError:
            if not wanted.get("optional"):
                raise
            return None
        return value
    if "fieldRef" in source:
        return fields[source["fieldRef"]["fieldPath"]]
    assert not source, f"this kubelet knows no {source}"
    text: str = variable.get("value", "")
    for name, value in before.items():
        text = text.replace(f"$({name})", value)
    return text


def described(schema: Mapping[str, Any] = SCHEMA, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each value of the schema with its dotted path, references followed, outer ones first."""
    for name, node in schema.get("properties", {}).items():
        whole = f"{path}{name}"
        referred = SCHEMA["definitions"][node["$ref"].rpartition("/")[2]] if "$ref" in node else {}
        yield whole, referred | node
        yield from described(referred | node, f"{whole}.")


def leaves() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the values that hold no others."""
    for path, node in described():
        if "properties" not in node and path != "global":
            yield path, node


def default(path: str) -> Any:
    """Return what values.yaml says for a path, None where it says nothing."""
    found: Any = DEFAULTS
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found
