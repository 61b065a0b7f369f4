"""Says things to the Kubernetes API: statuses, finalizers, Events."""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from leaderboard_operator.client import Api, ApiError, NotFound
from leaderboard_operator.conditions import Condition, Event, merge, transition
from leaderboard_operator.objects import Objects
from leaderboard_operator.resources import FINALIZER, GROUP, VERSION, Resource

log = logging.getLogger(__name__)

COMPONENT = "leaderboard-operator"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconciliation found: what the resource shall say of itself, and what comes next."""

    conditions: tuple[Condition, ...]
    fields: Mapping[str, Any] = {}
    """Other fields of the status; None removes one."""
    repairs: tuple[str, ...] = ()
    """What had been changed behind the operator's back, for people to read."""
    retry: bool = False
    """Whether to try again soon: something is away, not wrong."""


class Reporter:
    """Writes what changed and keeps `objects` up to date with what the API answers. `now` gives aware times."""

    def __init__(self, api: Api, objects: Objects, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api = api
        self._objects = objects
        self._now = now

    async def hold(self, item: Resource) -> Resource:
        """Put our finalizer on the object and return it. Conflict: it changed meanwhile; NotFound: it went."""
        return self._objects.answered(item, await self._finalizers(item, (*item.finalizers, FINALIZER)))

    async def let_go(self, item: Resource) -> bool:
        """Take our finalizer off an object that is being deleted; return whether that was the last, so that it is gone.

        Conflict: it changed meanwhile.
        """
        try:
            raw = await self._finalizers(item, tuple(name for name in item.finalizers if name != FINALIZER))
        except NotFound:
            return True
        # The answer, not what is known after it: of an object that went with this it has the version from before.
        return not raw["metadata"].get("finalizers")

    async def _finalizers(self, item: Resource, wanted: Sequence[str]) -> dict[str, Any]:
        metadata = {"finalizers": list(wanted), "resourceVersion": str(item.version)}
        return await self._api.patch(item.key, {"metadata": metadata})

    async def report(self, item: Resource, verdict: Verdict, *, quiet: bool = False) -> None:
        """Write the status where it differs, and tell what changed in an Event.

        Raises ApiError; Conflict where the object of that name is another by now.

        `quiet`: no Event for good news.
        """
        known = self._objects.get(item.key)
        if known is not None and known.uid == item.uid:
            # What was said meanwhile, by another look at the same object, is not to be said again.
            item = msgspec.structs.replace(item, status=known.status)
        current = item.status.get("conditions") or ()
        conditions = merge(current, verdict.conditions, generation=item.generation, now=self._now())
        status = {
            **{name: value for name, value in verdict.fields.items() if item.status.get(name) != value},
            **({"conditions": conditions} if conditions != list(current) else {}),
            **({"observedGeneration": item.generation} if self._generation(item) != item.generation else {}),
        }
        if verdict.repairs:
            # Before the status: should that fail, the next reconciliation finds nothing left to repair, or to tell.
            await self._tell(item, Event(type="Normal", reason="Repaired", message="; ".join(verdict.repairs)))
        if status:
            try:
                raw = await self._api.patch_status(item.key, status, uid=item.uid)
            except NotFound:
                return
            self._objects.answered(item, raw)
        event = transition(current, verdict.conditions)
        if event is not None and not (quiet and event.type == "Normal"):
            await self._tell(item, event)

    @staticmethod
    def _generation(item: Resource) -> int:
        return int(item.status.get("observedGeneration") or 0)

    async def _tell(self, item: Resource, event: Event) -> None:
        now = f"{self._now():%Y-%m-%dT%H:%M:%SZ}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{item.key.name[:200].rstrip('-.')}.{secrets.token_hex(8)}",
                "namespace": item.key.namespace,
            },
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": str(item.key.kind),
                "namespace": item.key.namespace,
                "name": item.key.name,
                "uid": item.uid,
                "resourceVersion": str(item.version),
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._api.call("POST", f"/api/v1/namespaces/{item.key.namespace}/events", body=body)
        except ApiError as error:
            # An Event is for people's convenience: the status says the same, and must not wait for it.
            log.warning("%s: the Event %s was not told: %s", item.key, event.reason, error)
