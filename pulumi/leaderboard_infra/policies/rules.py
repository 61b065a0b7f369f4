"""The rules: each takes a resource's type token and its properties, and gives what is wrong, in words.

They see what Pulumi sends to the provider. What a Helm chart renders they do not see; of a release they see its values.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

Properties = Mapping[str, Any]
Rule = Callable[[str, Properties], Iterator[str]]

_RELEASE = "kubernetes:helm.sh/v3:Release"
_SERVICE = "kubernetes:core/v1:Service"
_STATEFUL_SET = "kubernetes:apps/v1:StatefulSet"
_WORKLOADS = {_STATEFUL_SET, "kubernetes:apps/v1:Deployment", "kubernetes:batch/v1:Job"}
_CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
_POSTGRES = "kubernetes:postgresql.cnpg.io/v1:Cluster"
_REDIS = "kubernetes:redis.redis.opstreelabs.in/v1beta2:RedisReplication"
_EKS = "aws:eks/cluster:Cluster"
_DOKS = "digitalocean:index/kubernetesCluster:KubernetesCluster"
_OUTSIDE = {"LoadBalancer", "NodePort"}
_SECRET_WORDS = ("PASSWORD", "SECRET", "TOKEN", "PEPPER", "SIGNING_KEY", "APIKEY", "API_KEY", "ACCESS_KEY")


def data_stays_inside(kind: str, properties: Properties) -> Iterator[str]:
    """No Service with a public address. The API's is the chart's; what Pulumi makes itself is data and telemetry."""
    spec = properties.get("spec") or {}
    types: list[Any] = []
    if kind == _SERVICE:
        types = [spec.get("type")]
        if spec.get("externalIPs"):
            yield "the Service has externalIPs: data must not be reachable from outside"
    elif kind == _REDIS:
        types = [_at(spec, "kubernetesConfig", "service", "serviceType")]
    elif kind == _POSTGRES:
        services = _at(spec, "managed", "services", "additional") or []
        types = [_at(each, "serviceTemplate", "spec", "type") for each in services]
    for found in types:
        if found in _OUTSIDE:
            yield f"a Service of type {found} makes data reachable from outside: leave it ClusterIP"


def cluster_api_is_private(kind: str, properties: Properties) -> Iterator[str]:
    """No Kubernetes API that everybody can knock at."""
    if kind == _EKS and _at(properties, "vpcConfig", "endpointPublicAccess") is not False:
        yield "the EKS endpoint is public: set endpointPublicAccess to false"
    if kind == _DOKS:
        firewall = properties.get("controlPlaneFirewall") or {}
        if not firewall.get("enabled") or not firewall.get("allowedAddresses"):
            yield "the DOKS endpoint is open to everybody: name who may reach it in apiAllowedCidrs"
        if {"0.0.0.0/0", "::/0"} & set(firewall.get("allowedAddresses") or ()):
            yield "the DOKS endpoint allows every address: name those that need it in apiAllowedCidrs"


def images_are_pinned(kind: str, properties: Properties) -> Iterator[str]:
    """Every image has a tag other than `latest`, or a digest; every chart from a repository has a version."""
    if kind == _RELEASE:
        if (properties.get("repositoryOpts") or {}).get("repo") and not properties.get("version"):
            yield f"the chart {properties.get('chart')} has no version: name one"
        if _at(properties, "values", "image", "tag") == "latest":
            yield "image.tag is latest: name a version or a digest"
        return
    if kind.startswith("kubernetes:"):
        for image in _images(properties.get("spec")):
            name, _, tag = image.rpartition("/")[2].partition(":")
            if "@sha256:" not in image and tag in ("", "latest"):
                yield f"the image {image} has {'the tag latest' if tag else 'no tag'}: name a version of {name}"


def memory_is_limited(kind: str, properties: Properties) -> Iterator[str]:
    """Every container says how much memory it needs and may have."""
    containers: list[Any] = []
    if kind in _WORKLOADS:
        pod = _at(properties, "spec", "template", "spec") or {}
        containers = [*(pod.get("initContainers") or ()), *(pod.get("containers") or ())]
    elif kind == _POSTGRES:
        containers = [{"name": "postgres", **(properties.get("spec") or {})}]
    elif kind == _REDIS:
        containers = [{"name": "redis", **(_at(properties, "spec", "kubernetesConfig") or {})}]
    for container in containers:
        for what in ("requests", "limits"):
            if not _at(container, "resources", what, "memory"):
                yield f"the container {container.get('name')} has no resources.{what}.memory: set it"


def volumes_outlive_pods(kind: str, properties: Properties) -> Iterator[str]:
    """Nothing deletes a volume but a person."""
    spec = properties.get("spec") or {}
    if kind == _STATEFUL_SET and spec.get("volumeClaimTemplates"):
        policy = spec.get("persistentVolumeClaimRetentionPolicy") or {}
        for when in ("whenDeleted", "whenScaled"):
            if policy.get(when) != "Retain":
                yield f"persistentVolumeClaimRetentionPolicy.{when} is not Retain: volumes would be deleted"
    if kind == _REDIS and not _at(spec, "storage", "keepAfterDelete"):
        yield "storage.keepAfterDelete is not true: volumes would be deleted with the RedisReplication"


def data_is_protected(kind: str, properties: Properties, *, protect: bool) -> Iterator[str]:
    """What holds data cannot be deleted by mistake. A stack that is to be torn down says protectData: false first."""
    holds = kind in (_CLAIM, _POSTGRES, _REDIS) or (
        kind == _STATEFUL_SET and bool((properties.get("spec") or {}).get("volumeClaimTemplates"))
    )
    if holds and not protect:
        yield "it holds data and is not protected: protectData is false"


def no_plaintext_secret_in_pods(kind: str, properties: Properties) -> Iterator[str]:
    """No password as the literal value of a container's variable: everybody who may see pods would see it."""
    if kind not in _WORKLOADS:
        return
    for container in _at(properties, "spec", "template", "spec", "containers") or ():
        for variable in container.get("env") or ():
            name = str(variable.get("name", ""))
            if variable.get("value") and any(word in name.upper() for word in _SECRET_WORDS):
                yield f"the variable {name} has its value in the pod: take it from a Secret"


def no_plaintext_secret_in_stack(config: Mapping[str, Any], *, secret_keys: Collection[str]) -> Iterator[str]:
    """Every secret of a stack's `config:` is encrypted; keys with a provider's own namespace are looked at by name."""
    for key, value in config.items():
        namespace, _, name = key.rpartition(":")
        words = name.replace("-", "").replace("_", "").upper()
        ours = namespace in ("", "leaderboard") and name in secret_keys
        named = any(word.replace("_", "") in words for word in _SECRET_WORDS) and namespace not in ("", "leaderboard")
        encrypted = isinstance(value, Mapping) and "secure" in value
        if (ours or named) and not encrypted:
            yield f"{key} is a secret in plain text: set it again with: pulumi config set --secret {key}"


RULES: Mapping[str, Rule] = {
    "data-stays-inside": data_stays_inside,
    "cluster-api-is-private": cluster_api_is_private,
    "images-are-pinned": images_are_pinned,
    "memory-is-limited": memory_is_limited,
    "volumes-outlive-pods": volumes_outlive_pods,
    "no-plaintext-secret-in-pods": no_plaintext_secret_in_pods,
}
"""Those that stop an update. `data_is_protected` only warns: a stack to be torn down is not."""


def _at(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _images(value: Any) -> Iterator[str]:
    """Give every image that is named anywhere below, whatever the resource."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            if key in ("image", "imageName") and isinstance(below, str):
                yield below
            else:
                yield from _images(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _images(below)
