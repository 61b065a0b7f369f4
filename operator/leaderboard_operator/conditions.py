"""Conditions: what a resource says of itself, by the conventions of the Kubernetes API. Nothing here does I/O.

A condition's lastTransitionTime changes with its status only; its observedGeneration says which spec it speaks of.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

ACCEPTED = "Accepted"
SYNCED = "Synced"
CREDENTIALS = "CredentialsReady"
READY = "Ready"
STALLED = "Stalled"

_MESSAGE_MAX = 1024  # the API allows 32,768; what nobody reads in `kubectl describe` is no message


AS_WISHED = frozenset({"Suspended", "Deleting", "ReconcilePaused"})
"""Reasons for not being ready that are the user's own doing: their Events are no warnings."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to say. `status` None takes the condition away."""

    type: str
    status: bool | None
    reason: str
    message: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What is told once, when it happens. Type is Normal or Warning."""

    type: str
    reason: str
    message: str


def merge(
    current: Sequence[Mapping[str, Any]], wanted: Sequence[Condition], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the conditions that say `wanted` over `current`; those of other types stay as they are."""
    merged = {condition["type"]: dict(condition) for condition in current}
    for condition in wanted:
        if condition.status is None:
            merged.pop(condition.type, None)
            continue
        status = "True" if condition.status else "False"
        before = merged.get(condition.type, {})
        same = before.get("status") == status
        merged[condition.type] = {
            "type": condition.type,
            "status": status,
            "observedGeneration": generation,
            "lastTransitionTime": before["lastTransitionTime"] if same else f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "reason": condition.reason,
            "message": condition.message[:_MESSAGE_MAX],
        }
    return list(merged.values())


def transition(current: Sequence[Mapping[str, Any]], wanted: Sequence[Condition]) -> Event | None:
    """Return the one Event that tells what changed between `current` and `wanted`, None where nothing did.

    Of several changes it is the worst news, in the order a person would look for the cause; else that all is well.
    """
    before = {condition["type"]: (condition.get("status"), condition.get("reason")) for condition in current}
    changed = [
        condition
        for condition in wanted
        if condition.status is not None
        and before.get(condition.type) != ("True" if condition.status else "False", condition.reason)
    ]
    for type in (STALLED, ACCEPTED, CREDENTIALS, SYNCED, READY):
        for condition in changed:
            if condition.type == type and condition.status is (type == STALLED):
                kind = "Normal" if condition.reason in AS_WISHED else "Warning"
                return Event(type=kind, reason=condition.reason, message=condition.message)
    for type in (READY, CREDENTIALS, SYNCED):
        for condition in changed:
            if condition.type == type:
                return Event(type="Normal", reason=condition.reason, message=condition.message)
    return None
