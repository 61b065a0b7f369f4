"""Erasures of members, and the receipts they leave.

A receipt does not name its member: it has an HMAC-SHA-256 of project and user under the server's pepper, so that only
who knows the user can tell whose it is, and an HMAC over all that it says, so that an edited one is found out.
"""

import hmac
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from leaderboard.domain.names import LeaderboardId, ProjectId

PSEUDONYM_BYTES = 12
_encode = msgspec.json.Encoder().encode


class ErasureState(StrEnum):
    """How far an erasure is."""

    PENDING = "pending"
    DONE = "done"


class Touched(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a member there was, or is.

    `entries` on boards in Redis (1 a board), `events` and `checkpoints` of the ledger, `season_lines` of final
    standings, `snapshots` of the dashboard's that were dropped, entries of the outbox that were `set_aside`, and
    updates that were `held`, which were deleted.
    """

    entries: int = 0
    events: int = 0
    checkpoints: int = 0
    season_lines: int = 0
    snapshots: int = 0
    set_aside: int = 0
    held: int = 0

    def __add__(self, other: "Touched") -> "Touched":
        return Touched(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What was touched of one board. `leaderboard` is its key."""

    leaderboard_id: LeaderboardId
    leaderboard: str
    touched: Touched


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """One erasure. `member` is None once it is done; then `finished_at` and `mac` (32 bytes) are there.

    `requested_by` is the id of the API key that asked, `waits_for` what keeps a pending one, for people to read.
    """

    id: UUID
    project_id: ProjectId
    digest: bytes
    state: ErasureState
    member: str | None
    requested_by: str
    requested_at: datetime
    attempts: int
    waits_for: str | None
    finished_at: datetime | None
    mac: bytes | None


def member_digest(pepper: bytes, project_id: ProjectId, member: str) -> bytes:
    """Return the 32 bytes that a receipt keeps of its member."""
    key = hmac.digest(pepper, b"leaderboard erasure member", "sha256")
    return hmac.digest(key, f"{project_id} {member}".encode(), "sha256")


def receipt_mac(pepper: bytes, erasure: Erasure, lines: list[Line]) -> bytes:
    """Return the MAC over all that the receipt of a finished erasure says; `lines` in the order of the boards' ids."""
    assert erasure.finished_at is not None
    said = [
        erasure.id.hex,
        erasure.project_id,
        erasure.digest.hex(),
        erasure.requested_by,
        # In one zone: Postgres gives them back in that of the session.
        erasure.requested_at.astimezone(UTC),
        erasure.finished_at.astimezone(UTC),
        lines,
    ]
    return hmac.digest(hmac.digest(pepper, b"leaderboard erasure receipt", "sha256"), _encode(said), "sha256")


def sealed(pepper: bytes, erasure: Erasure, lines: list[Line]) -> bool:
    """Whether the receipt is as it was written when the erasure was done."""
    if erasure.state is not ErasureState.DONE or erasure.mac is None:
        return False
    return hmac.compare_digest(erasure.mac, receipt_mac(pepper, erasure, lines))


def pseudonym(entropy: bytes) -> str:
    """Return the name that stands for a member from now on, of `PSEUDONYM_BYTES` random bytes."""
    if len(entropy) != PSEUDONYM_BYTES:
        raise ValueError(f"a pseudonym takes {PSEUDONYM_BYTES} bytes of entropy")
    return f"erased-{entropy.hex()}"
