"""What all components have in common."""

from collections.abc import Mapping
from typing import Any

import pulumi

from leaderboard_infra.settings import Settings


class Component(pulumi.ComponentResource):
    """A part of a stack; its children name it as their parent and nothing else, and get its providers that way."""

    def __init__(self, kind: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        scope, _, name = kind.partition(":")
        super().__init__(f"leaderboard:{scope}:{name}", f"{settings.prefix}-{name.lower()}", None, opts)
        self.settings = settings
        self.inside = pulumi.ResourceOptions(parent=self)
        self.kept = pulumi.ResourceOptions(parent=self, protect=settings.protect_data, retain_on_delete=True)
        """For what data would go with, or keys without which it is worth nothing: it outlives the stack."""
        self.guarded = pulumi.ResourceOptions(parent=self, protect=settings.protect_data)
        """For what runs on data that is kept elsewhere, in volumes that nothing deletes."""
        # Kubernetes lets nobody change the template of a StatefulSet's volumes, and Pulumi would make another one.
        self.stateful = pulumi.ResourceOptions.merge(
            self.guarded, pulumi.ResourceOptions(ignore_changes=["spec.volumeClaimTemplates"])
        )

    def name(self, what: str) -> str:
        """Return the name, in the stack, of the child `what`."""
        return f"{self.settings.prefix}-{what}"

    def after(self, *others: pulumi.Resource) -> pulumi.ResourceOptions:
        """Options of a child that has to wait for what no value of it comes from."""
        return pulumi.ResourceOptions(parent=self, depends_on=others)


def labels(name: str) -> dict[str, str]:
    """The labels of a server's pods, which its Service and policies select."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "leaderboard"}


def run_as(user: int) -> dict[str, Any]:
    """A pod's security context, as Pod Security's level `restricted` asks; its volumes belong to `user`."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


CONFINED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""A container's security context."""


def resources(memory: str, *, cpu: str = "100m") -> dict[str, Any]:
    """A container's resources. Memory is asked for in full: a server that is killed for it loses more than it saves.

    The processor has no limit: an idle core is for whoever can use it, and throttling is latency.
    """
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def claim(storage: str, *, storage_class: pulumi.Input[str] | None) -> dict[str, Any]:
    """The one volume of a StatefulSet's pod, called `data`."""
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return {"metadata": {"name": "data"}, "spec": spec}


RETAIN_CLAIMS: Mapping[str, str] = {"whenDeleted": "Retain", "whenScaled": "Retain"}
"""A StatefulSet's volumes stay when it goes."""


def namespace_spec(name: str) -> dict[str, Any]:
    """A Namespace's metadata; nothing privileged runs there."""
    return {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}


def only_from(server: str, *peers: Mapping[str, Any], port: int) -> dict[str, Any]:
    """A NetworkPolicy's spec: the pods of `server` are reached from `peers` alone, on `port` alone."""
    return {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": server}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": list(peers), "ports": [{"protocol": "TCP", "port": port}]}],
    }


SAME_NAMESPACE: dict[str, Any] = {"podSelector": {}}
"""A NetworkPolicy's peer: all pods of the policy's own namespace."""


def in_namespace(name: str) -> dict[str, Any]:
    """A NetworkPolicy's peer: all pods of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def bytes_of(quantity: str) -> int:
    """Return a size such as 512Mi in bytes."""
    return int(quantity[:-2]) << {"Mi": 20, "Gi": 30, "Ti": 40}[quantity[-2:]]
