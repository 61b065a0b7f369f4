"""Control's refusals, one tree::

    ControlError
    ├── NotFound
    │   ├── TenantNotFound
    │   ├── ProjectNotFound
    │   ├── BoardNotFound
    │   ├── KeyNotFound
    │   ├── ErasureNotFound
    │   └── HoldNotFound
    ├── AlreadyExists        a board of that key is there
    ├── SeasonOver           the board is in another season by now; nothing was changed
    ├── AlreadyDecided       the held update was released, or was rejected; nothing was changed
    ├── ManagedElsewhere     it belongs to another owner; nothing was changed
    │   └── KeyManaged
    ├── BoardsLeft           the tenant has boards that belong to other resources; nothing was changed
    ├── DeletionPrevented    the tenant says preventDeletion
    ├── ImportRefused        the import cannot go on like this; what it did so far stays
    ├── ResetLost            Redis lost a reset together with its event
    └── NotDrained           the outbox still holds events of the board; start the worker
        └── HoldNotReady

Beside them control lets through the domain's ImmutableField, QuotaExceeded and InvalidDocument, and the stores'
DatabaseUnavailable and RedisUnavailable: then try again, every step may be repeated. Every message says what to do.
"""


class ControlError(Exception):
    """A change that control refuses or cannot finish; the message is for whoever asked."""


class NotFound(ControlError):
    """What the change is about does not exist."""


class TenantNotFound(NotFound):
    """There is no such tenant, or it was deleted."""


class ProjectNotFound(NotFound):
    """The tenant has no such project."""


class BoardNotFound(NotFound):
    """The project has no such board."""


class KeyNotFound(NotFound):
    """There is no such API key."""


class ErasureNotFound(NotFound):
    """The project has no such erasure."""


class HoldNotFound(NotFound):
    """The board holds no such update."""


class AlreadyDecided(ControlError):
    """The held update cannot be decided so any more."""


class AlreadyExists(ControlError):
    """There is a board of that key already."""


class SeasonOver(ControlError):
    """The board is in another season than the one that was to end."""


class ManagedElsewhere(ControlError):
    """The tenant or board is managed by another owner; change it there."""


class KeyManaged(ManagedElsewhere):
    """The key is the one that a Tenant resource keeps in a Secret."""


class BoardsLeft(ControlError):
    """A tenant that is to go with its boards has some that are others' to delete."""


class DeletionPrevented(ControlError):
    """The tenant is protected by preventDeletion."""


class ImportRefused(ControlError):
    """An import that cannot go on like this: another is under way, or the board is another one by now."""


class ResetLost(ControlError):
    """Redis lost its memory after a reset and before its event was in the ledger."""


class NotDrained(ControlError):
    """The outbox still holds events of the board, so its ledger is behind."""


class HoldNotReady(NotDrained):
    """The outbox may still hold the update, or whether it was released; nothing was decided."""
