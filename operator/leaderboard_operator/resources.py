"""What the Kubernetes API says of our resources, as values. No I/O."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

GROUP = "leaderboard.saas"
VERSION = "v1alpha1"
FINALIZER = f"{GROUP}/cleanup"
PAUSED = f"{GROUP}/paused"
"""Annotation: with ``"true"`` the operator keeps its hands off, deletion included."""
ADOPT = f"{GROUP}/adopt"
"""Annotation: with ``"true"`` the resource takes over a tenant or board that nobody owns, where it may."""


class Kind(StrEnum):
    """Our two kinds."""

    TENANT = "Tenant"
    LEADERBOARD = "Leaderboard"

    @property
    def plural(self) -> str:
        """The resource's name in paths."""
        return f"{self.lower()}s"


class Key(NamedTuple):
    """Names one object."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One object as last seen. `spec` and `status` are as the API sent them."""

    key: Key
    uid: str
    version: int
    """The resourceVersion: within one resource type they compare as numbers (KEP-5504)."""
    generation: int
    created: str
    """RFC 3339, in whole seconds: with the UID behind it, the order in which objects were made."""
    deleting: bool
    finalizers: tuple[str, ...]
    paused: bool
    adopt: bool
    spec: dict[str, Any]
    status: dict[str, Any]

    @property
    def age(self) -> tuple[str, str]:
        """Sorts the oldest first."""
        return self.created, self.uid

    @property
    def held(self) -> bool:
        """Whether our finalizer keeps the object from going before its data is dealt with."""
        return FINALIZER in self.finalizers

    @property
    def trigger(self) -> tuple[object, ...]:
        """What of the object asks for work when it changes. Its status is ours, so it does not."""
        return self.uid, self.generation, self.deleting, self.held, self.paused, self.adopt

    def newer_than(self, other: "Resource") -> bool:
        """Whether this was read after `other`."""
        return self.version > other.version

    def manifest(self) -> dict[str, Any]:
        """Return the document that was applied, as `leaderboard.domain.documents.parse` takes it."""
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": str(self.key.kind),
            "metadata": {"name": self.key.name, "namespace": self.key.namespace},
            "spec": self.spec,
        }

    def condition(self, type: str) -> Mapping[str, Any]:
        """Return the condition of that type, empty where there is none."""
        for condition in self.status.get("conditions") or ():
            if condition.get("type") == type:
                found: Mapping[str, Any] = condition
                return found
        return {}


def resource(kind: Kind, raw: Mapping[str, Any]) -> Resource:
    """Return the object that the API sent as `raw`."""
    metadata = raw["metadata"]
    annotations = metadata.get("annotations") or {}
    return Resource(
        key=Key(kind, metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        generation=metadata.get("generation", 0),
        created=metadata["creationTimestamp"],
        deleting=metadata.get("deletionTimestamp") is not None,
        finalizers=tuple(metadata.get("finalizers") or ()),
        paused=annotations.get(PAUSED) == "true",
        adopt=annotations.get(ADOPT) == "true",
        spec=fields_of(raw, "spec"),
        status=fields_of(raw, "status"),
    )


def tenant_key(board: Resource) -> Key:
    """Return the Tenant that a Leaderboard's tenantRef names."""
    ref = fields_of(board.spec, "tenantRef")
    return Key(Kind.TENANT, text_of(ref, "namespace") or board.key.namespace, text_of(ref, "name"))


# By the schema each field is there and has its type. An object that was written under an older one must not stop us.


def text_of(fields: Mapping[str, Any], name: str, default: str = "") -> str:
    """Return the text in a field, `default` where there is none."""
    value = fields.get(name, default)
    return value if isinstance(value, str) else default


def fields_of(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the object in a field, an empty one where there is none."""
    value = raw.get(name)
    return value if isinstance(value, dict) else {}
