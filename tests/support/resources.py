"""Tenants and Leaderboards as the Kubernetes API sends them."""

import itertools
from collections.abc import Mapping
from typing import Any

from leaderboard_operator.resources import FINALIZER, GROUP, VERSION, Key, Kind, Resource, resource

versions = itertools.count(1000)
"""Each later than all before, as the resourceVersions of a real API."""


def raw(
    kind: Kind,
    name: str,
    *,
    spec: Mapping[str, Any],
    namespace: str = "games",
    uid: str | None = None,
    version: int | None = None,
    created: str = "2026-03-01T12:00:00Z",
    held: bool = True,
    deleting: bool = False,
    status: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    generation: int = 1,
) -> dict[str, Any]:
    """An object as of a `version` later than that of every object made before."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": str(kind),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{kind}-{namespace}-{name}",
            "resourceVersion": str(next(versions) if version is None else version),
            "generation": generation,
            "creationTimestamp": created,
            **({"finalizers": [FINALIZER]} if held else {}),
            **({"deletionTimestamp": created} if deleting else {}),
            **({"annotations": dict(annotations)} if annotations else {}),
        },
        "spec": dict(spec),
        **({"status": dict(status)} if status is not None else {}),
    }


def raw_tenant(
    name: str = "acme", *, slug: str | None = None, more: Mapping[str, Any] = {}, **said: Any
) -> dict[str, Any]:
    """A Tenant; `more` goes into its spec."""
    return raw(Kind.TENANT, name, spec={"slug": slug or name, **more}, **said)


def raw_board(
    name: str = "global",
    *,
    key: str | None = None,
    tenant: str = "acme",
    tenant_namespace: str | None = None,
    more: Mapping[str, Any] = {},
    **said: Any,
) -> dict[str, Any]:
    """A Leaderboard; `more` goes into its spec."""
    ref = {"name": tenant, **({"namespace": tenant_namespace} if tenant_namespace else {})}
    return raw(Kind.LEADERBOARD, name, spec={"tenantRef": ref, "key": key or name, **more}, **said)


def make_tenant(name: str = "acme", **said: Any) -> Resource:
    return resource(Kind.TENANT, raw_tenant(name, **said))


def make_board(name: str = "global", **said: Any) -> Resource:
    return resource(Kind.LEADERBOARD, raw_board(name, **said))


def condition(type: str, status: str, reason: str = "Because", *, generation: int = 1) -> dict[str, Any]:
    """A condition as a status has it."""
    return {
        "type": type,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": "2026-03-01T12:00:00Z",
        "reason": reason,
        "message": "",
    }


def tenant_key(name: str, namespace: str = "games") -> Key:
    return Key(Kind.TENANT, namespace, name)


def board_key(name: str, namespace: str = "games") -> Key:
    return Key(Kind.LEADERBOARD, namespace, name)
