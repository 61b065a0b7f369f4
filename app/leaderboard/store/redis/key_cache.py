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
from collections.abc import Set as AbstractSet
from typing import Generic, Protocol, TypeVar

from leaderboard.store.redis.errors import RedisUnavailable
from leaderboard.store.redis.revocations import SILENCE_S, RevocationTail

FOUND_TTL = 600.0
UNKNOWN_TTL = 10.0
MAX_ENTRIES = 50_000
MAX_UNKNOWN = 5_000
"""Unknown names remembered, apart from the found ones: made-up keys must not push out real ones."""
MAX_ATTEMPTS = 3
"""How often a look-up is made again because a revocation named what it found."""
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
_ALL = ("all", "")


class _Entry(Generic[C]):
    __slots__ = ("checked_at", "context", "expires_at")

    def __init__(self, context: C | None, *, checked_at: float, expires_at: float) -> None:
        self.context = context
        self.checked_at = checked_at
        self.expires_at = expires_at


class KeyCache(Generic[C]):
    """Contexts by name, looked up once. `clock` gives monotonic seconds; `lookup` returns None for an unknown name.

    Names of different kinds (API keys, public projects) go into caches of their own: what a sender writes into a
    header must never name another kind's entry. `fetch` raises whatever `lookup` raises, and RedisUnavailable when
    revocations of the very name keep coming.
    """

    def __init__(
        self, tail: RevocationTail, *, lookup: Callable[[str], Awaitable[C | None]], clock: Callable[[], float]
    ) -> None:
        self._tail = tail
        tail.subscribe(self)
        self._lookup = lookup
        self._clock = clock
        self._entries: dict[bytes, _Entry[C]] = {}
        self._unknown: dict[bytes, _Entry[C]] = {}
        self._lookups: dict[bytes, asyncio.Task[C | None]] = {}
        self._room = asyncio.Semaphore(MAX_LOOKUPS)
        # What was revoked while each look-up was under way.
        self._told: dict[bytes, set[tuple[str, str]]] = {}

    def get(self, name: str) -> tuple[bool, C | None]:
        """Return (True, context or None) from memory, (False, None) when `fetch` must ask. Every request's path."""
        fingerprint = _fingerprint(name)
        entry = self._entries.get(fingerprint) or self._unknown.get(fingerprint)
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
            task.add_done_callback(lambda done: self._looked_up(fingerprint, done))
        return await asyncio.shield(task)

    async def _look_up(self, name: str, fingerprint: bytes) -> C | None:
        async with self._room:
            for _ in range(MAX_ATTEMPTS):
                told = self._told[fingerprint] = set()
                asked_at = self._clock()
                try:
                    context = await self._lookup(name)
                finally:
                    del self._told[fingerprint]
                # A revocation that came while the database was read may be newer than what it said: ask again. Only
                # for what it names, or one tenant's revocations could hold up everybody's look-ups.
                if not (told and (_ALL in told or _names(told, context))):
                    if context is not None or not told:  # a name may have been made meanwhile
                        self._remember(fingerprint, context, asked_at=asked_at)
                    return context
        raise RedisUnavailable("the key was revoked or changed again and again while it was looked up")

    def _looked_up(self, fingerprint: bytes, task: "asyncio.Task[C | None]") -> None:
        self._lookups.pop(fingerprint, None)
        if not task.cancelled():
            task.exception()  # seen, also where every caller has gone away meanwhile

    def _remember(self, fingerprint: bytes, context: C | None, *, asked_at: float) -> None:
        self._entries.pop(fingerprint, None)
        self._unknown.pop(fingerprint, None)
        entries, room, ttl = self._entries, MAX_ENTRIES, FOUND_TTL
        if context is None:
            entries, room, ttl = self._unknown, MAX_UNKNOWN, UNKNOWN_TTL
        if len(entries) >= room:
            entries.pop(next(iter(entries)))
        entries[fingerprint] = _Entry(context, checked_at=asked_at, expires_at=asked_at + ttl)

    def forget_all(self) -> None:
        """Drop everything: revocations may have been missed."""
        for told in self._told.values():
            told.add(_ALL)
        self._entries.clear()
        self._unknown.clear()

    def forget(self, revoked: AbstractSet[tuple[str, str]]) -> None:
        """Drop what the revocations name, each a kind (``key`` or ``tenant``) and an id."""
        for told in self._told.values():
            told.update(revoked)
        # A scan: revocations are rare, and a second index would have to be kept right on every look-up. Unknown
        # names go too, so that a key is good as soon as it is made.
        self._entries = {name: entry for name, entry in self._entries.items() if not _names(revoked, entry.context)}
        self._unknown.clear()


def _names(revoked: AbstractSet[tuple[str, str]], context: Context | None) -> bool:
    return context is not None and (("key", context.key_id) in revoked or ("tenant", str(context.tenant_id)) in revoked)


def _fingerprint(name: str) -> bytes:
    # The cache must not be a list of working keys in memory. BLAKE2b of 74 characters costs 0.3 us, SHA-256 0.4.
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass")).digest()
