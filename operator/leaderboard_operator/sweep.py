"""The sweep: every object against every row and namespace, in sets, once a minute.

It is what makes the operator level-based for real. What the watch missed, what somebody changed in Postgres, Redis or
a Secret, what a crash left half done: all of it is found here, with no event to tell of it.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from leaderboard.control.reconcile import Control
from leaderboard.store.postgres.pool import DatabaseUnavailable, Deposed
from leaderboard.store.redis.errors import RedisFailure, RedisUnavailable
from leaderboard.telemetry.spans import Tracer
from leaderboard_operator.boards import Boards
from leaderboard_operator.client import Api, ApiError, NotFound
from leaderboard_operator.metrics import ORPHANS, RESOURCES, SWEEP_LAST, SWEEP_SECONDS
from leaderboard_operator.namespaces import Namespaces
from leaderboard_operator.objects import Objects
from leaderboard_operator.resources import Key, Kind, Resource
from leaderboard_operator.tenants import Tenants
from leaderboard_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)

CHUNK = 500
"""Objects looked at in one go."""
ENTRIES_WRITTEN = 1_000
"""Leaderboards whose count of entries is brought up to date in one sweep, at about 1 ms each. More change on a busy
platform; the rest come in the next sweeps."""
_RETRY_SECONDS = 2.0


class Sweep:
    """Sweeps for one leader. `wake` queues an object, `gone` is told of one that is no more; `clock` in seconds."""

    def __init__(
        self,
        *,
        api: Api,
        redis: Redis,
        control: Control,
        objects: Objects,
        namespaces: Namespaces,
        tenants: Tenants,
        boards: Boards,
        tenant_queue: WorkQueue,
        board_queue: WorkQueue,
        wake: Callable[[Key], None],
        gone: Callable[[Resource], None],
        pause: float,
        clock: Callable[[], float],
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._api = api
        self._redis = redis
        self._control = control
        self._objects = objects
        self._namespaces = namespaces
        self._tenants = tenants
        self._boards = boards
        self._tenant_queue = tenant_queue
        self._board_queue = board_queue
        self._pause = pause
        self._clock = clock
        self._wake = wake
        self._gone = gone
        self._run_id: str | None = None
        self._unwatched: dict[Kind, set[tuple[Key, int]]] = {}
        self._moved_at = clock()
        self.listed = asyncio.Event()
        """Set when every object has been seen once. Nothing may be decided before: who knows half takes the other half
        for missing."""
        self.watch_silent = False
        """Whether the watch has not told what was known a whole sweep ago."""

    @property
    def idle(self) -> float:
        """Seconds since the sweep last got on: ended, was given up, or did a chunk of its work."""
        return self._clock() - self._moved_at

    async def run(self) -> None:
        """Sweep until Deposed is raised."""
        while True:
            try:
                with nullcontext() if self._tracer is None else self._tracer.work("sweep", {"controller": "sweep"}):
                    await self.once()
            except (ApiError, DatabaseUnavailable, RedisFailure) as error:
                log.warning("the sweep was given up and starts again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            except Deposed:
                raise
            except Exception:  # an error of the operator's own must not stop what repairs everybody's
                log.exception("the sweep failed")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await asyncio.sleep(self._pause)
            self._moved_at = self._clock()

    async def once(self) -> None:
        """Sweep once. Raises ApiError, DatabaseUnavailable, RedisFailure, Deposed."""
        started = self._clock()
        self._namespaces.forget()
        await self._list()
        boards = [item.key for item in self._objects.of_kind(Kind.LEADERBOARD)]
        # A Redis that was restarted or failed over may have come back older than the ledger; only then ask for that.
        run_id = await self._redis_run_id()
        if run_id != self._run_id:
            self._boards.suspect(boards)
            self._run_id = run_id
        await self._sweep_tenants()
        await self._sweep_boards(boards)
        SWEEP_SECONDS.observe(self._clock() - started)
        SWEEP_LAST.set(time.time())
        self._hear()
        self._count()
        await self._look_for_orphans()

    async def _sweep_tenants(self) -> None:
        keys = self._tenant_queue.claim([item.key for item in self._objects.of_kind(Kind.TENANT)])
        differing: list[Key] = []
        try:
            for chunk in _chunks(keys):
                items = [item for key in chunk if (item := self._objects.get(key)) is not None]
                differing += await self._tenants.survey(items)
                self._moved_at = self._clock()
        finally:
            for key in keys:
                self._tenant_queue.done(key)
        for key in differing:
            self._wake(key)

    async def _sweep_boards(self, keys: list[Key]) -> None:
        # Not from the same end each time: on a busy platform the counts of entries would never get past the first.
        start = random.randrange(len(keys)) if keys else 0
        keys = keys[start:] + keys[:start]
        chunks = list(_chunks(keys))
        entries = ENTRIES_WRITTEN // max(1, len(chunks))
        for chunk in chunks:
            claimed = self._board_queue.claim(chunk)
            failed: set[Key] = set(claimed)
            try:
                failed = await self._boards.reconcile(claimed, entries=entries)
            finally:
                for key in claimed:
                    self._board_queue.done(key, failed=key in failed)
            self._moved_at = self._clock()

    async def _list(self) -> None:
        """Bring `objects` up to date from the API server itself."""
        for kind in Kind:
            known = self._objects.of_kind(kind)
            listed: set[Key] = set()
            self._objects.begin_list()
            async for raw in self._api.list_all(kind):
                item, asks = self._objects.see(kind, raw)
                listed.add(item.key)
                if asks and self.listed.is_set():
                    self._wake(item.key)
            for item in known:
                # One that came by the watch while the pages were read is newer than the list.
                if item.key not in listed and self._objects.get(item.key) is item and await self._is_gone(item):
                    self._gone(item)
            self._moved_at = self._clock()
        self.listed.set()

    async def _is_gone(self, item: Resource) -> bool:
        try:
            raw = await self._api.read(item.key)
        except NotFound:
            return True
        uid: str = raw["metadata"]["uid"]
        return uid != item.uid

    def _hear(self) -> None:
        """See whether the watch has told by now what it had not told when the sweep before ended."""
        for kind in Kind:
            now = self._objects.unwatched(kind)
            self.watch_silent = bool(now & self._unwatched.get(kind, set()))
            self._unwatched[kind] = now
            if self.watch_silent:
                log.error("the watch of %s tells nothing: %d objects are newer than it says", kind.plural, len(now))
                return

    async def _redis_run_id(self) -> str:
        try:
            info: dict[str, Any] = await self._redis.info("server")
        except (RedisError, OSError) as error:
            raise RedisUnavailable(f"Redis does not say who it is: {error}") from error
        return str(info.get("run_id", ""))

    def _count(self) -> None:
        for kind in Kind:
            ready = {"True": 0, "False": 0, "Unknown": 0}
            for item in self._objects.of_kind(kind):
                ready[item.condition("Ready").get("status", "Unknown")] += 1
            for status, number in ready.items():
                RESOURCES.labels(kind=kind, ready=status).set(number)

    async def _look_for_orphans(self) -> None:
        """Count what belongs to an object that is no more: its finalizer was taken off by hand."""
        tenants, boards = await self._control.owners()
        for kind, owners in ((Kind.TENANT, tenants), (Kind.LEADERBOARD, boards)):
            there = {item.uid for item in self._objects.of_kind(kind)}
            ORPHANS.labels(kind=kind).set(len(owners - there))


def _chunks(keys: list[Key]) -> Iterator[list[Key]]:
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]
