"""Numbers that a resource's status remembers, sealed so that only the operator can have written them.

Where a row is gone (deleted by hand, a database restored from before), it is made again under the number that the
status has, so that scores and ledger stay joined to it. A namespace's own people may write statuses: unsealed, that
would let them ask for another tenant's number.
"""

import hashlib
import hmac

from leaderboard_operator.resources import Resource

_CHARS = 32  # 128 bits


def seal(number: int, *, uid: str, pepper: bytes) -> str:
    """Return the seal of a row's number for the object `uid`: HMAC-SHA-256 under the pepper (RFC 2104), cut short."""
    return hmac.new(pepper, f"seal/{uid}/{number}".encode(), hashlib.sha256).hexdigest()[:_CHARS]


def remembered(item: Resource, field: str, *, pepper: bytes) -> int | None:
    """Return the number in the status's `field`, None where it is not there or not the operator's own."""
    number, sealed = item.status.get(field), item.status.get("seal")
    if not isinstance(number, int) or not isinstance(sealed, str) or not sealed.isascii():
        return None
    return number if hmac.compare_digest(sealed, seal(number, uid=item.uid, pepper=pepper)) else None
