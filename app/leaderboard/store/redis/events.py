"""The outbox's events: one stream entry per change of a board, written in the step of Redis that makes the change.

An entry has the field ``e``: nine parts joined by U+001F, which no user id may contain::

    id  kind  leaderboard_id  incarnation  seq  submitted  score  order  user

``id`` is 32 hexadecimal digits: the API process's boot nonce (16), its counter (14), and two digits that number the
events one update caused (00 the update itself, 01.. the trims). An absent part is empty. The entry's own id gives
the time (milliseconds of Redis's clock); it is no identity, since ids repeat after a wipe or a stale fail-over.

A chunk of an import is one entry for many members, whose events have consecutive ids and numbers::

    id  i  leaderboard_id  incarnation  seq  order  user  score  user  score ...

``order`` is how the members' order prefixes are made of their numbers: ``d`` on a descending board, ``a`` on an
ascending one, empty where the tie policy keeps none.

An update that was held because it breaks the board's bounds has no number and no score, and the season and the bound in
place of an order::

    id  h  leaderboard_id  incarnation  0  submitted    season:bound  user

The entry of a write that is traced has a second field, ``t``: its W3C traceparent, to which the ledger's span links.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from leaderboard.domain.names import LeaderboardId

SEPARATOR = "\x1f"
FIELD = b"e"
TRACE_FIELD = b"t"


class EventKind(StrEnum):
    """What happened, as the one letter in the entry."""

    UPDATE = "u"
    """A score was submitted and accepted (also when Best kept the old one)."""
    REMOVE = "r"
    """A member was removed on request."""
    TRIM = "t"
    """A member fell off a board with max_entries."""
    RESET = "x"
    """The board was emptied and goes on."""
    DELETE = "d"
    """The board was deleted."""
    IMPORT = "i"
    """A member came with a score from elsewhere, `leaderboard import`."""
    HELD = "h"
    """An update was held; it is none of the board's events, and not in the ledger."""


class ScoreEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a board. `submitted` is the increment (Sum) or score (Best, Latest) that was sent; `score` the
    member's score afterwards, None when it has none; `order` its order prefix, empty where the tie policy keeps none.
    """

    id: UUID
    time: datetime
    kind: EventKind
    leaderboard_id: LeaderboardId
    incarnation: int
    seq: int
    submitted: float | None
    score: float | None
    order: str
    user: str


def update_id(nonce: str, counter: int) -> str:
    """Return the id of an update or another event of its own, as an entry has it."""
    return f"{nonce}{counter:014x}00"


class EventIds:
    """Makes the identities of events: a random boot nonce and a counter, so that no two processes ever agree."""

    def __init__(self, nonce: bytes) -> None:
        if len(nonce) != 8:
            raise ValueError("the boot nonce is 8 random bytes")
        self.nonce = nonce.hex()
        self._next = 0

    def take(self, count: int = 1) -> int:
        """Reserve `count` numbers and return the first."""
        first = self._next
        self._next += count
        return first

    def text(self, number: int) -> str:
        """Return the id of the update that has this number, as an entry has it."""
        return update_id(self.nonce, number)


def import_entry(
    *,
    first_id: str,
    board_id: LeaderboardId,
    incarnation: int,
    first_seq: int,
    order: str,
    members: Iterable[tuple[str, float]],
) -> str:
    """Return the payload of a chunk of an import, as import.lua writes it; `decode_all` reads it."""
    head = [first_id, EventKind.IMPORT.value, str(board_id), str(incarnation), str(first_seq), order]
    return SEPARATOR.join(head + [part for user, score in members for part in (user, repr(score))])


def order_prefix(order: str, seq: int) -> str:
    """Return the order prefix of the event with this number; `order` as in a chunk's entry."""
    return _PREFIXES[order](seq)


def decode_all(entry_id: bytes, payload: bytes) -> list[ScoreEvent]:
    """Return the events of one stream entry, in order. Raises ValueError for an entry that is not one of ours."""
    if payload[_KIND] == _IMPORT:
        return _decode_import(entry_id, payload)
    return [decode(entry_id, payload)]


_KIND, _IMPORT = slice(32, 35), b"\x1fi\x1f"
_PREFIXES: dict[str, Callable[[int], str]] = {
    "d": lambda seq: f"{2**48 - 1 - seq:012x}",
    "a": lambda seq: f"{seq:012x}",
    "": lambda _: "",
}


def _decode_import(entry_id: bytes, payload: bytes) -> list[ScoreEvent]:
    event_id, _, board_id, incarnation, seq, order, *members = payload.decode().split(SEPARATOR)
    if not members or order not in _PREFIXES:
        raise ValueError("an import without members, or of an unknown order")
    first_id, first_seq, prefix = int(UUID(event_id)), int(seq), _PREFIXES[order]
    return [
        ScoreEvent(
            id=UUID(int=first_id + (number << 8)),  # the last two digits number the events that one update caused
            time=_time(entry_id),
            kind=EventKind.IMPORT,
            leaderboard_id=LeaderboardId(int(board_id)),
            incarnation=int(incarnation),
            seq=first_seq + number,
            submitted=float(score),
            score=float(score),
            order=prefix(first_seq + number),
            user=user,
        )
        for number, (user, score) in enumerate(zip(members[::2], members[1::2], strict=True))
    ]


def _time(entry_id: bytes) -> datetime:
    return datetime.fromtimestamp(int(entry_id.partition(b"-")[0]) / 1000, tz=UTC)


def decode(entry_id: bytes, payload: bytes) -> ScoreEvent:
    """Return the event of an entry that has one. Raises ValueError for an entry that is not one of ours."""
    event_id, kind, board_id, incarnation, seq, submitted, score, order, user = payload.decode().split(SEPARATOR)
    return ScoreEvent(
        id=UUID(event_id),
        time=_time(entry_id),
        kind=EventKind(kind),
        leaderboard_id=LeaderboardId(int(board_id)),
        incarnation=int(incarnation),
        seq=int(seq),
        submitted=float(submitted) if submitted else None,
        score=float(score) if score else None,
        order=order,
        user=user,
    )
