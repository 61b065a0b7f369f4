"""Tenants and Leaderboards of the operator on an API in memory: what it decides, says and writes, without servers."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from leaderboard_operator.boards import Boards
from leaderboard_operator.client import path_of
from leaderboard_operator.namespaces import Namespaces
from leaderboard_operator.objects import Objects
from leaderboard_operator.report import Reporter
from leaderboard_operator.resources import Key, Kind, Resource
from leaderboard_operator.seals import seal
from leaderboard_operator.tenants import Tenants
from support.memory_api import MemoryApi
from support.recorded_control import TENANT_ID, RecordedControl
from support.resources import condition, raw_board, raw_tenant

PEPPER = b"p" * 32
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Desk:
    """One leader's `tenants` and `boards`, and what they told each other: `woken`, `counted`, `went`, `later`."""

    def __init__(self) -> None:
        self.api = MemoryApi()
        self.control: Any = RecordedControl()
        self.objects = Objects()
        self.namespaces = Namespaces(self.api)
        self.woken: list[Key] = []
        self.counted: list[Key] = []
        self.went: list[Resource] = []
        self.later: list[tuple[Key, float]] = []
        self.reporter = Reporter(self.api, self.objects, now=lambda: NOW)
        self.tenants = Tenants(
            control=self.control,
            api=self.api,
            objects=self.objects,
            namespaces=self.namespaces,
            reporter=self.reporter,
            endpoint="https://scores.example.com",
            pepper=PEPPER,
            wake=self.woken.append,
            gone=self.went.append,
        )
        self.boards = Boards(
            control=self.control,
            objects=self.objects,
            namespaces=self.namespaces,
            reporter=self.reporter,
            pepper=PEPPER,
            counted=self.counted.append,
            gone=self.went.append,
            later=lambda key, seconds: self.later.append((key, seconds)),
        )

    # -- what there is

    def add(self, kind: Kind, raw: Mapping[str, Any]) -> Resource:
        """Apply an object, and let the operator know it."""
        self.api.add(kind, raw)
        return self.objects.see(kind, raw)[0]

    def tenant(self, name: str = "acme", **said: Any) -> Resource:
        """A Tenant as it was applied; `said` as for `raw_tenant`."""
        return self.add(Kind.TENANT, raw_tenant(name, **{"held": False, **said}))

    def ready_tenant(self, name: str = "acme", **said: Any) -> Resource:
        """A Tenant that was carried out."""
        uid = said.setdefault("uid", f"uid-{name}")
        return self.tenant(name, **{"held": True, "status": ready_tenant_status(uid), **said})

    def board(self, name: str = "global", **said: Any) -> Resource:
        """A Leaderboard as it was applied; `said` as for `raw_board`."""
        return self.add(Kind.LEADERBOARD, raw_board(name, **{"held": False, **said}))

    def forget(self, item: Resource) -> None:
        """Delete an object, and let the operator know."""
        self.api.objects.pop(path_of(item.key), None)
        self.objects.gone(item.key, uid=item.uid)

    # -- what came of it

    def now(self, item: Resource) -> Resource:
        """Return an object as the operator knows it."""
        found = self.objects.get(item.key)
        assert found is not None
        return found

    async def look(self, *items: Resource, entries: int | None = None) -> list[str]:
        """Reconcile Leaderboards; return the names of those that have to be tried again."""
        failed = await self.boards.reconcile([item.key for item in items], entries=entries)
        return sorted(key.name for key in failed)

    def message(self, item: Resource, type: str = "Ready") -> str:
        """Return what an object's condition says."""
        (message,) = [found["message"] for found in self.api.status(item)["conditions"] if found["type"] == type]
        return str(message)


def sealed(field: str, number: int, *, uid: str) -> dict[str, Any]:
    """A status in which the operator wrote the number itself."""
    return {field: number, "seal": seal(number, uid=uid, pepper=PEPPER)}


def ready_tenant_status(uid: str) -> dict[str, Any]:
    return {
        **sealed("tenantID", TENANT_ID, uid=uid),
        "observedGeneration": 1,
        "conditions": [
            condition("Accepted", "True", "Accepted"),
            condition("Synced", "True", "ReconcileSuccess"),
            condition("Ready", "True", "Available"),
        ],
    }
