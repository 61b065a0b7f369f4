"""From what control said to what a resource says of itself. Nothing here does I/O."""

from collections.abc import Mapping
from datetime import datetime

from leaderboard.control.errors import ControlError, ManagedElsewhere, NotDrained, ProjectNotFound, TenantNotFound
from leaderboard.control.reconcile import Outcome
from leaderboard.domain.errors import DomainError, QuotaExceeded
from leaderboard.store.postgres.pool import DatabaseUnavailable
from leaderboard.store.redis.errors import RedisFailure
from leaderboard_operator.client import ApiError
from leaderboard_operator.conditions import ACCEPTED, CREDENTIALS, READY, STALLED, SYNCED, Condition
from leaderboard_operator.key_secrets import SecretAccessDenied, SecretConflict
from leaderboard_operator.report import Verdict
from leaderboard_operator.resources import ADOPT, PAUSED, Kind, Resource
from leaderboard_operator.seals import seal

_NOT_STALLED = Condition(type=STALLED, status=None, reason="")
_SYNCED = Condition(
    type=SYNCED, status=True, reason="ReconcileSuccess", message="Postgres and Redis agree with the spec"
)


def paused() -> Verdict:
    """The operator's hands are off; all else it said stays as it was."""
    message = f"the annotation {PAUSED} is set: nothing is changed or repaired until it is removed"
    return Verdict(conditions=(Condition(type=SYNCED, status=False, reason="ReconcilePaused", message=message),))


def refused(reason: str, message: str) -> Verdict:
    """The resource cannot be had as it is asked for; what it asks for is no fault of its form."""
    return Verdict(
        conditions=(
            Condition(type=ACCEPTED, status=False, reason=reason, message=message),
            Condition(type=SYNCED, status=False, reason=reason, message=message),
            Condition(type=READY, status=False, reason=reason, message=message),
            _NOT_STALLED,
        )
    )


def tenant_not_ready(message: str) -> Verdict:
    """A Leaderboard waits for its Tenant."""
    return Verdict(
        conditions=(Condition(type=READY, status=False, reason="TenantNotReady", message=message), _NOT_STALLED)
    )


def deleting(message: str, *, retry: bool = False) -> Verdict:
    """The deletion goes on, or waits for something."""
    return Verdict(conditions=(Condition(type=READY, status=False, reason="Deleting", message=message),), retry=retry)


def failed(item: Resource, error: Exception) -> Verdict:
    """What `error` means for the resource. An error that is nobody's fault but ours is told and tried again."""
    match error:
        case ManagedElsewhere():
            return conflict(item)
        case QuotaExceeded():
            return refused("QuotaExceeded", str(error))
        case TenantNotFound():
            return refused("TenantNotFound", str(error))
        case ProjectNotFound():
            return refused("ProjectNotFound", str(error))
        case DomainError():
            message = str(error)
            return Verdict(
                conditions=(
                    Condition(type=STALLED, status=True, reason="InvalidSpec", message=message),
                    *_unless_ready(item, "InvalidSpec", message),
                )
            )
        case SecretAccessDenied():
            return _no_secret(item, "SecretAccessDenied", str(error))
        case SecretConflict():
            return _no_secret(item, "SecretConflict", str(error))
        case DatabaseUnavailable():
            return away(item, "DatabaseUnavailable", "Postgres is not available; this is tried again")
        case RedisFailure():
            return away(item, "RedisUnavailable", "Redis is not available; this is tried again")
        case NotDrained():
            return away(item, "ReconcileError", "waits for the ledger to take in what Redis has; this is tried again")
        case ControlError() | ApiError():
            return away(item, "ReconcileError", str(error))
    return away(item, "ReconcileError", f"{type(error).__name__}; the operator's log has the details")


def conflict(item: Resource) -> Verdict:
    """Another has what the resource asks for. Not who: that would tell one namespace what is in another."""
    adopt = f'; if nobody owns it, the annotation {ADOPT}: "true" may take it over'
    if item.key.kind is Kind.TENANT:
        return refused("SlugConflict", f"the slug {item.spec.get('slug')!r} is taken; choose another{adopt}")
    return refused("KeyConflict", f"the project has a leaderboard {item.spec.get('key')!r}; choose another key{adopt}")


def away(item: Resource, reason: str, message: str) -> Verdict:
    """Something is not there now. What was ready goes on working, so Ready stays as it was."""
    return Verdict(
        conditions=(
            Condition(type=SYNCED, status=False, reason=reason, message=message),
            *_unless_ready(item, reason, message),
        ),
        retry=True,
    )


def _no_secret(item: Resource, reason: str, message: str) -> Verdict:
    return Verdict(
        conditions=(
            Condition(type=ACCEPTED, status=True, reason="Accepted"),
            Condition(type=SYNCED, status=False, reason=reason, message=message),
            Condition(type=CREDENTIALS, status=False, reason=reason, message=message),
            *_unless_ready(item, reason, message),
            _NOT_STALLED,
        )
    )


def _unless_ready(item: Resource, reason: str, message: str) -> tuple[Condition, ...]:
    if item.condition(READY).get("status") == "True":
        return ()
    return (Condition(type=READY, status=False, reason=reason, message=message),)


def tenant_done(
    item: Resource, outcome: Outcome, *, secrets: Mapping[str, str], repaired: tuple[str, ...], pepper: bytes
) -> Verdict:
    """A Tenant that is as its spec says. `secrets` are their names by project, `repaired` those put right."""
    api_keys = [
        {
            "project": key.project,
            "id": key.id,
            **({"secretName": secrets[key.project]} if key.project in secrets else {}),
            **({"previousID": key.previous_id} if key.previous_id else {}),
            **({"previousExpiresAt": _time(key.previous_expires_at)} if key.previous_expires_at else {}),
        }
        for key in outcome.keys_in_force
    ]
    rotating = [key for key in outcome.keys_in_force if key.previous_expires_at]
    credentials = Condition(
        type=CREDENTIALS,
        status=True,
        reason="Rotating" if rotating else "KeyIssued",
        message=", ".join(
            f"key {key.previous_id} of project {key.project} ends at {_time(key.previous_expires_at)}"
            for key in rotating
            if key.previous_expires_at
        )
        or "each project's key is in its Secret",
    )
    return Verdict(
        conditions=(
            Condition(type=ACCEPTED, status=True, reason="Accepted", message=f"tenant {outcome.tenant_id}"),
            _SYNCED,
            credentials,
            _ready(suspended=bool(item.spec.get("suspend")), what="every request with a key of this tenant is refused"),
            _NOT_STALLED,
        ),
        fields={
            "tenantID": outcome.tenant_id,
            "seal": seal(outcome.tenant_id, uid=item.uid, pepper=pepper),
            "leaderboards": outcome.boards,
            "apiKeys": api_keys,
        },
        repairs=(*_repairs(item, outcome), *(f"Secret {name} put right" for name in repaired)),
    )


def board_done(item: Resource, outcome: Outcome, *, tenant_suspended: bool, pepper: bytes) -> Verdict:
    """A Leaderboard that is as its spec says."""
    assert outcome.board is not None
    ready = _ready(suspended=outcome.board.spec.suspended, what="scores and reads of this board are refused")
    if tenant_suspended:
        ready = Condition(type=READY, status=False, reason="TenantNotReady", message="its Tenant is suspended")
    next_reset = outcome.board.next_reset
    return Verdict(
        conditions=(
            Condition(type=ACCEPTED, status=True, reason="Accepted", message=f"leaderboard {outcome.board.id}"),
            _SYNCED,
            ready,
            _NOT_STALLED,
        ),
        fields={
            "leaderboardID": outcome.board.id,
            "seal": seal(outcome.board.id, uid=item.uid, pepper=pepper),
            "redisNamespace": outcome.namespace,
            "entries": outcome.entries,
            "season": outcome.board.season,
            "nextReset": None if next_reset is None else f"{next_reset:%Y-%m-%dT%H:%M:%SZ}",
        },
        repairs=_repairs(item, outcome),
    )


def _ready(*, suspended: bool, what: str) -> Condition:
    if suspended:
        message = f"spec.suspend is true: {what}; the data is kept"
        return Condition(type=READY, status=False, reason="Suspended", message=message)
    return Condition(type=READY, status=True, reason="Available", message="in service")


def _repairs(item: Resource, outcome: Outcome) -> tuple[str, ...]:
    """What control changed although the spec had been carried out before: others' doing, but for due rotations."""
    if not synced(item):
        return ()
    rotated = tuple(f"key {key.id} " for key in outcome.keys if key.previous_id and not key.lost)
    # Where it has the id it had, it says so itself.
    told = any(change.startswith("made again") for change in outcome.changes)
    done = ("made again",) if outcome.created and not told else ()
    return done + tuple(change for change in outcome.changes if not rotated or not change.startswith(rotated))


def synced(item: Resource) -> bool:
    """Whether the resource says that its spec, as it is now, was carried out."""
    said = item.condition(SYNCED)
    return said.get("status") == "True" and said.get("observedGeneration") == item.generation


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
