"""The key cache: what each worker remembers of API keys, and how it is made to forget within a second.

A key's context is looked up in Postgres once and then served from memory: found keys for ten minutes, unknown ones for
ten seconds. The revocation tail (`revocations.py`) drops what it names. Each answer of the tail, also an empty one,
says that nothing was missed; when none has come for 750 ms, an entry is used only if it was checked against Postgres
within that time. So a revocation holds everywhere within one second, with Postgres up or
down, or requests are refused.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from leaderboard.store.redis.revocations import SILENCE_S, RevocationTail

FOUND_TTL = 600.0
UNKNOWN_TTL = 10.0
MAX_ENTRIES = 50_000
MAX_LOOKUPS = 8
"""Look-ups under way at once: made-up keys must not take the database from everybody."""


class Context(Protocol):
    """What the cache must know of a value to forget it: the ids a revocation names."""

    @property
    def key_id(self) -> str:
        """The API key's public id; empty for an entry that no key stands behind."""

    @property
    def tenant_id(self) -> int:
        """The tenant whose suspension or new plan drops the entry."""


C = TypeVar("C", bound=Context)


class _Entry(Generic[C]):
    __slots__ = ("checked_at", "context", "expires_at")

    def __init__(self, context: C | None, *, checked_at: float, expires_at: float) -> None:
        self.context = context
        self.checked_at = checked_at
        self.expires_at = expires_at


class KeyCache(Generic[C]):
    """Contexts by name, looked up once. `clock` gives monotonic seconds; `lookup` returns None for an unknown name.

    Names of different kinds (API keys, public projects) go into caches of their own: what a sender writes into a
    header must never name another kind's entry. Raises whatever `lookup` raises.
    """

    def __init__(
        self, tail: RevocationTail, *, lookup: Callable[[str], Awaitable[C | None]], clock: Callable[[], float]
    ) -> None:
        self._tail = tail
        tail.subscribe(self)
        self._lookup = lookup
        self._clock = clock
        self._entries: dict[bytes, _Entry[C]] = {}
        self._lookups: dict[bytes, asyncio.Task[C | None]] = {}
        self._room = asyncio.Semaphore(MAX_LOOKUPS)
        self._generation = 0

    def get(self, name: str) -> tuple[bool, C | None]:
        """Return (True, context or None) from memory, (False, None) when `fetch` must ask. Every request's path."""
        entry = self._entries.get(_fingerprint(name))
        if entry is None:
            return False, None
        now = self._clock()
        if now >= entry.expires_at or (now - self._tail.heard_at > SILENCE_S and now - entry.checked_at > SILENCE_S):
            return False, None
        return True, entry.context

    async def fetch(self, name: str) -> C | None:
        """Look `name` up in the database and remember the answer; callers of one name share one look-up."""
        fingerprint = _fingerprint(name)
        task = self._lookups.get(fingerprint)
        if task is None:
            task = self._lookups[fingerprint] = asyncio.create_task(self._look_up(name, fingerprint))
            task.add_done_callback(lambda _: self._lookups.pop(fingerprint, None))
        return await asyncio.shield(task)

    async def _look_up(self, name: str, fingerprint: bytes) -> C | None:
        async with self._room:
            while True:
                generation, asked_at = self._generation, self._clock()
                context = await self._lookup(name)
                # A revocation that came while the database was read may be newer than what it said: ask again.
                if generation == self._generation:
                    break
        if len(self._entries) >= MAX_ENTRIES:
            self._entries.pop(next(iter(self._entries)))
        ttl = UNKNOWN_TTL if context is None else FOUND_TTL
        self._entries[fingerprint] = _Entry(context, checked_at=asked_at, expires_at=asked_at + ttl)
        return context

    def forget_all(self) -> None:
        """Drop everything: revocations may have been missed."""
        self._generation += 1
        self._entries.clear()

    def forget(self, kind: str, id: str) -> None:
        """Drop what a revocation of `kind` (``key`` or ``tenant``) names."""
        self._generation += 1
        # A scan: revocations are rare, and a second index would have to be kept right on every look-up. Unknown
        # names go too, so that a key is good as soon as it is made.
        self._entries = {
            name: entry
            for name, entry in self._entries.items()
            if entry.context is not None
            and (entry.context.key_id != id if kind == "key" else str(entry.context.tenant_id) != id)
        }


def _fingerprint(name: str) -> bytes:
    # The cache must not be a list of working keys in memory. SHA-256 of 74 characters costs 0.6 us.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
