"""Outbox -> ledger: read a batch, write it, and only then acknowledge and delete it.

Delivered at least once, written exactly once: the ledger refuses an event it has. Workers share the consumer group;
what one leaves behind, dead or killed, another takes over after `CLAIM_IDLE_MS`. No entry ever stops the others: what
cannot be decoded or stored goes to the stream `DEAD`, with an error in the log.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import psycopg
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from leaderboard.domain.bounds import Broken
from leaderboard.store.postgres import ledger
from leaderboard.store.postgres.pool import DatabaseUnavailable, Pool
from leaderboard.store.redis import events, keys
from leaderboard.telemetry.otel import Telemetry
from leaderboard.worker.backoff import Backoff
from leaderboard.worker.seen import LedgerSeen

log = logging.getLogger(__name__)

GROUP = "ledger"
DEAD = keys.SET_ASIDE
DEAD_MAX = 10_000
"""Entries kept for a person to look at; older ones go."""
BLOCK_MS = 1_000
PACE_SECONDS = 0.05
"""From one read that brought less than a batch to the next, which is how much later the ledger is. Reading at once
makes a transaction of every few events: at 500 writes a second 65% of a core for the worker in place of 10%."""
CLAIM_IDLE_MS = 5_000
"""How long an entry may be in a worker's hands before another takes it. Taking one from a worker that still lives costs
a second write of the same events, which changes nothing."""
CLAIM_EVERY_SECONDS = 5.0
FORGET_CONSUMER_MS = 3_600_000
"""Idle time after which a consumer with nothing in hand is removed: each start of a worker makes a new one."""


class Entry(msgspec.Struct, frozen=True):
    """One entry of the stream, decoded; it has no `events` where it is not ours, and `reason` says why."""

    id: bytes
    fields: dict[bytes, bytes]
    events: list[events.ScoreEvent]
    reason: str = ""


RawEntry = tuple[bytes, dict[bytes, bytes]]
"""An entry's id and fields."""


def decode(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """Return the entry with its events, or with the reason it has none. Raises nothing."""
    try:
        return Entry(entry_id, fields, events.decode_all(entry_id, fields[events.FIELD]))
    except (KeyError, ValueError, OverflowError, OSError) as error:
        return Entry(entry_id, fields, [], f"{type(error).__name__}: {error}")


def batches(raw: Iterable[RawEntry], *, limit: int) -> Iterator[list[Entry]]:
    """Decode the entries and yield them, in order, in batches of at most `limit` events.

    An entry is never split, so that it can be removed as a whole; one with more events is a batch of its own.
    """
    batch: list[Entry] = []
    size = 0
    for entry_id, fields in raw:
        entry = decode(entry_id, fields)
        if batch and size + len(entry.events) > limit:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += len(entry.events)
    if batch:
        yield batch


class OutboxWorker:
    """Moves events from Redis to Postgres until told to stop.

    `batch` is the number of events per transaction. `redis` must not decode answers, nor repeat commands by itself.
    """

    def __init__(
        self, pool: Pool, redis: Redis, *, batch: int, stop: asyncio.Event, telemetry: Telemetry | None = None
    ) -> None:
        self._seen = None if telemetry is None else LedgerSeen(telemetry)
        self._pool = pool
        self._redis = redis
        self._batch = batch
        self._stop = stop
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._redis_outage = Backoff("Redis", stop=stop)
        self._database_outage = Backoff("PostgreSQL", stop=stop)
        self._next_claim = 0.0
        self.moved = 0
        """Entries that left the outbox through this worker."""

    async def run(self) -> None:
        """Work until `stop` is set; the batch in hand is finished first, unless Postgres or Redis is away."""
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            try:
                if loop.time() >= self._next_claim:
                    await self._take_over()
                    self._next_claim = loop.time() + CLAIM_EVERY_SECONDS
                entries = await self._read()
                read_at = loop.time()
                self._redis_outage.over()
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    await self._redis_outage.wait(error)
                    continue
                await self._make_group()
                continue
            except RedisError as error:
                await self._redis_outage.wait(error)
                continue
            await self._move(entries)
            if 0 < len(entries) < self._batch:
                await asyncio.sleep(read_at + PACE_SECONDS - loop.time())

    async def _make_group(self) -> None:
        """Make the group (again, after Redis was emptied), reading from the stream's beginning."""
        try:
            await self._redis.xgroup_create(keys.OUTBOX, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another worker made it meanwhile
                await self._redis_outage.wait(error)
        except RedisError as error:
            await self._redis_outage.wait(error)

    async def _read(self) -> list[RawEntry]:
        answer: Any = await self._redis.xreadgroup(
            GROUP, self._name, {keys.OUTBOX: ">"}, count=self._batch, block=BLOCK_MS
        )
        return _entries(answer)

    async def _take_over(self) -> None:
        """Finish what workers that are gone had in their hands, and forget those workers."""
        start: Any = b"0-0"
        while not self._stop.is_set():
            answer: Any = await self._redis.xautoclaim(
                keys.OUTBOX, GROUP, self._name, CLAIM_IDLE_MS, start_id=start, count=self._batch
            )
            start, claimed = answer[0], [(id, fields) for id, fields in answer[1] if id is not None and fields]
            if claimed:
                log.info("took over %d entries from a worker that is gone", len(claimed))
                await self._move(claimed)
            if start == b"0-0":
                break
        consumers: Any = await self._redis.xinfo_consumers(keys.OUTBOX, GROUP)
        for consumer in consumers:
            if consumer["pending"] == 0 and consumer["idle"] > FORGET_CONSUMER_MS:
                await self._redis.xgroup_delconsumer(keys.OUTBOX, GROUP, consumer["name"])

    async def _move(self, raw: list[RawEntry]) -> None:
        """Write the entries to the ledger, then take them out of the outbox; through outages, until told to stop."""
        for entries in batches(raw, limit=self._batch):
            if self._seen is None:
                moved = await self._move_all(entries)
            else:
                with self._seen.batch([entry.fields.get(events.TRACE_FIELD) for entry in entries]):
                    moved = await self._move_all(entries)
            if not moved:
                return  # asked to stop while a store is away: the next worker finds them

    async def _move_all(self, entries: list[Entry]) -> bool:
        good = [entry for entry in entries if entry.events]
        dead = [entry for entry in entries if not entry.events]
        refused = await self._write(good)
        if refused is None:
            return False
        dead += refused
        if self._seen is not None:
            self._seen.set_aside(len(dead))
        for entry in dead:
            log.error("event %s cannot be stored, moved to %s: %s", entry.id.decode(), DEAD, entry.reason)
        while True:
            try:
                await self._remove(entries, dead)
            except RedisError as error:
                if self._stop.is_set():
                    return False
                await self._redis_outage.wait(error)
            else:
                self._redis_outage.over()
                self.moved += len(entries)
                return True

    async def _write(self, entries: list[Entry]) -> list[Entry] | None:
        """Write the events; return those that Postgres refuses for good, None when told to stop before it was done."""
        while True:
            try:
                await self._append([event for entry in entries for event in entry.events])
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                # One of them cannot be stored, now or ever. Halve the batch until it is alone.
                if len(entries) == 1:
                    return [msgspec.structs.replace(entries[0], reason=str(error).strip())]
                middle = len(entries) // 2
                first = await self._write(entries[:middle])
                second = None if first is None else await self._write(entries[middle:])
                return None if first is None or second is None else first + second
            except (DatabaseUnavailable, psycopg.Error) as error:
                # Also what is plainly wrong (a missing column): nothing is set aside because of a bad deployment.
                if self._stop.is_set():
                    return None
                await self._database_outage.wait(error)
            else:
                self._database_outage.over()
                return []

    async def _append(self, batch: list[events.ScoreEvent]) -> None:
        if self._seen is None:
            await ledger.append(self._pool, batch)
            return
        held: Counter[Broken] = Counter()
        with self._seen.append(len(batch)) as written:
            written.append(await ledger.append(self._pool, batch, quarantined=held))
        self._seen.held(held)

    async def _remove(self, entries: list[Entry], dead: Iterable[Entry]) -> None:
        pipe = self._redis.pipeline(transaction=True)
        for entry in dead:
            fields: dict[Any, Any] = {**entry.fields, b"id": entry.id, b"reason": entry.reason}
            pipe.xadd(DEAD, fields, maxlen=DEAD_MAX, approximate=True)
        ids = [entry.id for entry in entries]
        pipe.xack(keys.OUTBOX, GROUP, *ids)
        pipe.xdel(keys.OUTBOX, *ids)
        await pipe.execute()


def _entries(answer: Any) -> list[RawEntry]:
    """Return the entries of an XREADGROUP of one stream, in the shape of either protocol version."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (chunks,) = answer.values()
        return [entry for chunk in chunks for entry in chunk]
    return list(answer[0][1])
