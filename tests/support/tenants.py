"""Tenants for tests, made the one way tenants are made: by control."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec
import redis.asyncio

from leaderboard.control.keys import KeyDelivery
from leaderboard.control.reconcile import Control
from leaderboard.domain import documents
from leaderboard.store.postgres.pool import open_pool

_numbers = itertools.count(1)


class Servers(Protocol):
    """What control needs to know; a Platform is one."""

    redis_url: str
    database: str
    pepper: str


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant with the text of each project's key."""

    id: int
    slug: str
    keys: Mapping[str, str]

    @property
    def key(self) -> str:
        """The key of its first project."""
        return next(iter(self.keys.values()))


class MemorySink:
    """Keeps new keys in a dict of project -> text."""

    keeps = False

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}

    async def deliver(self, delivery: KeyDelivery) -> None:
        self.keys[delivery.project] = delivery.key.text

    async def holds(self, project: str, key_id: str, hmac: bytes) -> bool:
        return f"_{key_id}_" in self.keys.get(project, "")


async def apply_tenant(
    servers: Servers,
    *,
    slug: str | None = None,
    projects: Sequence[str] = ("default",),
    boards: Sequence[str | Mapping[str, Any]] = ("global",),
    scope: str = "admin",
    plan: str = "enterprise",
    quotas: Mapping[str, int] | None = None,
    origins: Sequence[str] = (),
) -> Tenant:
    """Make a tenant with its projects, each with `boards`; return it with its keys.

    A board is its key, or the `spec` of a Leaderboard document without tenantRef and project
    (``{"key": "laps", "scoreUpdate": "Best", "tiePolicy": "Shared"}``). `quotas` are ``{"requestsPerSecond": 5}``.
    `origins` are the web pages' that may read with keys of scope read.
    """
    slug = slug or f"tenant-{next(_numbers)}"
    spec: dict[str, Any] = {
        "slug": slug,
        "plan": plan,
        "projects": [{"name": name, "allowedOrigins": list(origins)} for name in projects],
        "apiKey": {"scope": scope},
    }
    if quotas is not None:
        spec["quotas"] = dict(quotas)
    sink = MemorySink()
    pool = await open_pool(servers.database, size=2, timeout=10)
    client = redis.asyncio.Redis.from_url(servers.redis_url)
    try:
        control = Control(pool, client, pepper=servers.pepper.encode())
        outcome = await control.reconcile(_document("Tenant", slug, spec), sink=sink)
        for project in projects:
            for board in boards:
                given = {"key": board} if isinstance(board, str) else dict(board)
                given |= {"tenantRef": {"name": slug}, "project": project}
                await control.reconcile(_document("Leaderboard", given["key"], given))
    finally:
        await client.aclose()
        await pool.close()
    return Tenant(id=outcome.tenant_id, slug=slug, keys={name: sink.keys[name] for name in projects})


def make_tenant(servers: Servers, **wanted: Any) -> Tenant:
    """Do what `apply_tenant` does, from a test with or without an event loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(apply_tenant(servers, **wanted))).result()


def _document(kind: str, name: str, spec: Mapping[str, Any]) -> documents.Document:
    return documents.parse(
        {"apiVersion": documents.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}
    )
