"""Namespaces and their labels, and whom a Tenant lets refer to it by them."""

import asyncio

from leaderboard_operator import references
from leaderboard_operator.client import Api, NotFound
from leaderboard_operator.resources import Resource


class Namespaces:
    """Reads a namespace's labels when somebody needs them, once, and keeps them until `forget` (each sweep)."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._labels: dict[str, dict[str, str] | None] = {}
        self._lock = asyncio.Lock()

    async def labels(self, namespace: str) -> dict[str, str] | None:
        """Return the labels, None where there is no such namespace. Raises ApiError."""
        async with self._lock:  # a batch of Leaderboards asks for the same few all at once
            if namespace not in self._labels:
                self._labels[namespace] = await self._read(namespace)
            return self._labels[namespace]

    async def _read(self, namespace: str) -> dict[str, str] | None:
        try:
            found = await self._api.call("GET", f"/api/v1/namespaces/{namespace}")
        except NotFound:
            return None
        labels: dict[str, str] = found["metadata"].get("labels") or {}
        return labels

    async def permit(self, tenant: Resource, board: Resource) -> bool:
        """Whether `tenant` lets the Leaderboard refer to it. Raises ApiError."""
        namespace = board.key.namespace
        if namespace == tenant.key.namespace:
            return True
        labels = await self.labels(namespace) if references.needs_labels(tenant) else None
        return references.permits(tenant, namespace=namespace, labels=labels)

    def forget(self) -> None:
        """Read every namespace anew when it is needed next."""
        self._labels.clear()
