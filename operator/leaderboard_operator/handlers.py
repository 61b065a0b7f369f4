"""What Kopf watches, and who is told. The handlers only hand over: an ``on.event`` handler's error is never retried.

Not Kopf's creation and update handlers: they keep their progress and the last seen spec in annotations of each object,
two writes an object more, and decide by differences. Here every event only says "look at this one again", and the
finalizer, the retries and the status are ours (docs/adr/0008-operator.md).
"""

from collections.abc import Mapping
from typing import Any, Protocol

import kopf

from leaderboard_operator.client import connection_info
from leaderboard_operator.resources import GROUP, VERSION, Kind

_SERVER_TIMEOUT = 600  # seconds after which the API server ends a watch and Kopf begins another


class Watcher(Protocol):
    """Who is told what the watches see."""

    def changed(self, kind: Kind, raw: Mapping[str, Any]) -> None:
        """An object is there, as `raw`."""

    def deleted(self, kind: Kind, raw: Mapping[str, Any]) -> None:
        """An object is gone; `raw` is how it was."""


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps nothing: no handler of ours asks what changed, and building it costs a deep copy an event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None


def registry_for(watcher: Watcher) -> kopf.OperatorRegistry:
    """Return Kopf's registry with our two watches and the log-in."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return connection_info()

    def seen(kind: Kind, event: Mapping[str, Any]) -> None:
        tell = watcher.deleted if event["type"] == "DELETED" else watcher.changed
        tell(kind, event["object"])

    @kopf.on.event(GROUP, VERSION, Kind.TENANT.plural, registry=registry)
    async def tenant(event: Mapping[str, Any], **_: Any) -> None:
        seen(Kind.TENANT, event)

    @kopf.on.event(GROUP, VERSION, Kind.LEADERBOARD.plural, registry=registry)
    async def leaderboard(event: Mapping[str, Any], **_: Any) -> None:
        seen(Kind.LEADERBOARD, event)

    return registry


def settings() -> kopf.OperatorSettings:
    """Return Kopf's settings: watches only."""
    chosen = kopf.OperatorSettings()
    # Not our finalizer: Kopf takes its own off every object that no handler of its kinds needs it for, which is all.
    chosen.persistence.finalizer = f"{GROUP}/kopf"
    chosen.persistence.diffbase_storage = _NoDiffs()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = _SERVER_TIMEOUT
    chosen.watching.chunk_size = 500  # else all objects in one answer: 100 MB while 10,000 are decoded
    chosen.networking.error_backoffs = (0.5, 1, 2, 2, 2, 2, 2, 2, 2, 2)  # its own end at 21 s: too late after an outage
    chosen.watching.client_timeout = _SERVER_TIMEOUT + 60
    chosen.queueing.idle_timeout = 0.5  # a task an object otherwise lingers for 5 s: 10,000 of them in a list
    chosen.process.ultimate_exiting_timeout = None  # ours to decide
    return chosen
