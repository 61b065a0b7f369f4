"""The names of Redis keys. Nothing else in the package spells one.

A board is ``l:{tenant}:{project}:{leaderboard}``, as in ``l:23:race_app:global``: the braces are not part of it. What
belongs to a board carries the whole board key as its hash tag, so on a Redis Cluster it lives in the board's slot and
one script may touch it: CRC16 is taken of the text inside the first ``{}``, and of the whole key without one.
"""

from leaderboard.domain.names import TenantId

OUTBOX = "outbox"
"""The one outbox stream of a single Redis. A cluster needs one per slot, made from the board's tag."""

SET_ASIDE = f"{OUTBOX}:dead"
"""Stream of the outbox's entries that cannot be stored, for a person to look at."""

REVOCATIONS = "revocations"
"""Stream of what API workers must forget: fields ``kind`` (``key`` or ``tenant``) and ``id``."""


def board(tenant: TenantId, project: str, key: str) -> str:
    """Return the sorted set of a board, also its namespace."""
    return f"l:{tenant}:{project}:{key}"


def meta(board_key: str) -> str:
    """Return the hash with the board's rules; without it nothing is read or written."""
    return f"meta:{{{board_key}}}"


def order(board_key: str) -> str:
    """Return the hash user -> order prefix of a first_to_reach board."""
    return f"order:{{{board_key}}}"


def season(board_key: str, number: int) -> str:
    """Return the sorted set of a season that is over, until it is in Postgres."""
    return f"season:{{{board_key}}}:{number}"


def season_order(board_key: str, number: int) -> str:
    """Return the order hash of a season that is over and takes late updates."""
    return f"season-order:{{{board_key}}}:{number}"


def importing(board_key: str) -> str:
    """Return the hash that says how far an import into the board is."""
    return f"import:{{{board_key}}}"


def gains(board_key: str) -> tuple[str, str]:
    """Return the hashes user -> gain of an interval and the next, of a board with such a bound; update.lua's."""
    return f"gain:{{{board_key}}}:0", f"gain:{{{board_key}}}:1"


def idempotency(board_key: str, key: str) -> str:
    """Return the record of one Idempotency-Key on one board."""
    return f"idem:{{{board_key}}}:{key}"


def released(board_key: str, id: str) -> str:
    """Return the record of a held update's release, as of an Idempotency-Key."""
    return f"released:{{{board_key}}}:{id}"


def rate_limit(tenant: TenantId) -> str:
    """Return the token bucket of a tenant's requests with a key."""
    return f"rl:{tenant}"


def public_rate_limit(tenant: TenantId) -> str:
    """Return the token bucket of a tenant's public reads, apart from those with a key."""
    return f"rl:public:{tenant}"
