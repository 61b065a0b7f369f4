"""What is seen of the worker: batches with links to the writes in them, Postgres, what was held, archived and erased,
the outbox, and Redis's memory.

Only where telemetry is on. Every worker looks at the stores, so take the largest of what they tell and not the sum.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

from opentelemetry.trace import Link, SpanKind
from redis.asyncio import Redis
from redis.exceptions import RedisError

from leaderboard.domain.bounds import Broken
from leaderboard.store.redis import keys
from leaderboard.telemetry.otel import Telemetry
from leaderboard.telemetry.sampling import parse
from leaderboard.telemetry.spans import Span, part

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks at the stores: two small commands."""


class LedgerSeen:
    """Spans and metrics of the batches."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer = telemetry.tracer
        self._appends = telemetry.operations.of("postgresql", "INSERT", "", "score_events", "")
        self._failures = telemetry.operations.of("postgresql", "INSERT", "", "score_events", "error")
        counts = telemetry.metrics.counts
        self._events = counts("leaderboard.ledger.events", "Events written to Postgres", unit="{event}").of()
        self._batches = counts("leaderboard.ledger.batches", "Batches written to Postgres", unit="{batch}").of()
        self._dead = counts(
            "leaderboard.ledger.dead", "Entries of the outbox that cannot be stored", unit="{event}"
        ).of()
        held = counts(
            "leaderboard.quarantine.held",
            "Updates held: they break their board's bounds",
            "bound",
            unit="{update}",
        )
        # All of them at once: a counter whose first value is not 0 has no increase to show.
        self._held = {bound: held.of(bound.value) for bound in Broken}

    def batch(self, traces: Sequence[bytes | None]) -> AbstractContextManager[Span | None]:
        """Let the block be the span of one batch; `traces` has an entry's traceparent, None for one without."""
        links = []
        for sent in traces:
            context = None if sent is None else parse(sent.decode("latin-1"))
            if context is not None:
                links.append(Link(context))
        attributes: dict[str, str | int | float | bool] = {
            "messaging.system": "redis",
            "messaging.operation.type": "process",
            "messaging.destination.name": keys.OUTBOX,
            "messaging.batch.message_count": len(traces),
            "leaderboard.traced_writes": len(links),
        }
        return self._tracer.work(f"process {keys.OUTBOX}", attributes, links=links, kind=SpanKind.CONSUMER)

    @contextmanager
    def append(self, events: int) -> Iterator[list[int]]:
        """Let the block be one statement that writes `events`; it puts how many were new into the list."""
        started = time.perf_counter()
        written: list[int] = []
        attributes: dict[str, str | int | float | bool] = {
            "db.system.name": "postgresql",
            "db.operation.name": "INSERT",
            "db.collection.name": "score_events",
            "db.operation.batch.size": events,
        }
        with part("INSERT score_events", attributes, kind=SpanKind.CLIENT):
            try:
                yield written
            except BaseException:
                self._failures.record(time.perf_counter() - started)
                raise
        self._appends.record(time.perf_counter() - started)
        self._events.value += sum(written)
        self._batches.value += 1

    def set_aside(self, number: int) -> None:
        """Count entries that cannot be stored."""
        self._dead.value += number

    def held(self, new: Mapping[Broken, int]) -> None:
        """Count updates that were written to the quarantine, by the bound that they broke."""
        for bound, number in new.items():
            self._held[bound].value += number


class SeasonsSeen:
    """Metrics of the archive. `lag` is for how many seconds the oldest season has waited that could be archived; None,
    and then not told, where that is not known: a number that stands still would be believed."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.lag: float | None = None
        counts = telemetry.metrics.counts
        self._archived = counts("leaderboard.seasons.archived", "Seasons moved to Postgres", unit="{season}").of()
        telemetry.gauge(
            "leaderboard.seasons.lag",
            self._lag,
            unit="s",
            description="Time for which the oldest season has waited that could be archived",
        )

    def archived(self, number: int) -> None:
        """Count seasons that were moved to Postgres."""
        self._archived.value += number

    def _lag(self) -> list[tuple[dict[str, str | int], float]]:
        lag = self.lag  # read once: the exporting thread reads while the worker writes
        return [] if lag is None else [({}, lag)]


class ErasuresSeen:
    """Metrics of erasures. How long the oldest that is pending has waited is told as of the export, by `clock`.

    It is told from the first look on, 0 where none is pending; and not after a look that failed.
    """

    def __init__(self, telemetry: Telemetry, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._looked: tuple[datetime | None] | None = None
        counts = telemetry.metrics.counts
        self._done = counts("leaderboard.erasures.done", "Erasures that have their receipt", unit="{erasure}").of()
        telemetry.gauge(
            "leaderboard.erasures.lag",
            self._lag,
            unit="s",
            description="Time since the oldest erasure was asked for that is still pending",
        )

    def done(self) -> None:
        """Count an erasure that has its receipt now."""
        self._done.value += 1

    def oldest(self, requested_at: datetime | None) -> None:
        """Note when the oldest that is pending was asked for, None where none is."""
        self._looked = (requested_at,)

    def unknown(self) -> None:
        """Tell nothing until the next look: a number that stands still would be believed."""
        self._looked = None

    def _lag(self) -> list[tuple[dict[str, str | int], float]]:
        looked = self._looked  # read once: the exporting thread reads while the worker writes
        if looked is None:
            return []
        (since,) = looked
        return [({}, 0.0 if since is None else max(0.0, (self._clock() - since).total_seconds()))]


class Stores:
    """The outbox's length and lag, and Redis's memory, looked at every LOOK_SECONDS."""

    def __init__(self, telemetry: Telemetry, redis: Redis, *, outbox_max: int) -> None:
        self._redis = redis
        self._seen: dict[str, float] = {}
        for name, unit, description in (
            ("leaderboard.outbox.length", "{event}", "Events that wait to be written to Postgres"),
            ("leaderboard.outbox.lag", "s", "Age of the oldest event in the outbox"),
            ("redis.memory.used", "By", "Memory that Redis has allocated"),
            ("redis.memory.rss", "By", "Memory of the Redis process"),
            ("redis.memory.limit", "By", "Redis's maxmemory, 0 without one"),
            ("redis.clients.connected", "{connection}", "Connections to Redis"),
        ):
            telemetry.gauge(
                name,
                lambda name=name: [({}, self._seen[name])] if name in self._seen else [],  # type: ignore[misc]
                unit=unit,
                description=description,
            )
        telemetry.gauge(
            "leaderboard.outbox.limit",
            lambda: [({}, outbox_max)],
            unit="{event}",
            description="Events in the outbox at which writes are refused",
        )

    async def watch(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set. What cannot be asked is not told: a number that stands still would be believed."""
        while not stop.is_set():
            try:
                await self.look()
            except RedisError as error:
                self._seen = {}
                log.debug("Redis was not looked at: %s", error)
            try:
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Ask Redis once. Raises RedisError."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.xlen(keys.OUTBOX)
        pipe.xrange(keys.OUTBOX, count=1)
        pipe.time()
        pipe.info("memory")
        pipe.info("clients")
        length, oldest, now, memory, clients = await pipe.execute()
        self._seen = {
            "leaderboard.outbox.length": length,
            "leaderboard.outbox.lag": _age(oldest, now),
            "redis.memory.used": memory["used_memory"],
            "redis.memory.rss": memory["used_memory_rss"],
            "redis.memory.limit": memory["maxmemory"],
            "redis.clients.connected": clients["connected_clients"],
        }


def _age(oldest: Any, now: tuple[int, int]) -> float:
    """Return the seconds since the first of `oldest` (an XRANGE) was appended, by Redis's own clock."""
    if not oldest:
        return 0.0
    milliseconds = int(oldest[0][0].partition(b"-")[0])
    return max(0.0, now[0] + now[1] / 1e6 - milliseconds / 1000)
