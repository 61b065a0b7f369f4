"""Wires the operator: a standby until it holds the Lease, then the leader, until it loses it or is told to stop.

A leader that lost the Lease, or that Postgres refuses (`Deposed`), ends its process, as controller-runtime's do: what
was under way ends with it, and Kubernetes starts a fresh standby.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import kopf
from redis.asyncio import Redis

from leaderboard.config import Config
from leaderboard.control.reconcile import Control
from leaderboard.store.postgres import leadership
from leaderboard.store.postgres.pool import DatabaseUnavailable, Deposed, open_pool
from leaderboard.store.redis.errors import RedisFailure
from leaderboard.telemetry.otel import Telemetry
from leaderboard.telemetry.spans import Tracer, Value
from leaderboard_operator import handlers
from leaderboard_operator.boards import Boards
from leaderboard_operator.client import Api, ApiError, Conflict
from leaderboard_operator.config import OperatorConfig
from leaderboard_operator.health import Health
from leaderboard_operator.leader import Leader
from leaderboard_operator.metrics import ACTIVE, EPOCH, RECONCILE_ERRORS, RECONCILE_SECONDS, RECONCILES
from leaderboard_operator.namespaces import Namespaces
from leaderboard_operator.objects import Objects
from leaderboard_operator.report import Reporter
from leaderboard_operator.resources import Key, Kind, Resource, tenant_key
from leaderboard_operator.sweep import Sweep
from leaderboard_operator.tenants import Tenants
from leaderboard_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)

_BOARD_WORKERS = 2  # so that a batch with boards that have to be restored does not keep the others waiting
_BOARD_CONNECTIONS = 6  # a batch for each of them and the sweep's, and some for what goes board by board
_DRAIN_SECONDS = 2.0  # for the worker to empty the outbox before a board is restored; if it takes longer, try again
_COUNT_PAUSE = 5.0
"""Seconds until a Tenant's count of boards follows. Boards come in crowds: one write a Tenant, not one a board."""
_END_SECONDS = 5.0  # for what was cancelled to end
_SWEEPS_LATE = 3.0  # pauses in which the sweep did not get on at all, after which the process had better start anew


class Leading:
    """Everything that works while this replica leads: queues, workers, the sweep. Kopf tells it what it watched."""

    def __init__(
        self,
        *,
        api: Api,
        control: Control,
        redis: Redis,
        base: Config,
        config: OperatorConfig,
        tracer: Tracer | None = None,
    ) -> None:
        self._config = config
        self._tracer = tracer
        self._objects = Objects()
        self._tenant_queue = WorkQueue("tenant", clock=time.monotonic)
        self._board_queue = WorkQueue("leaderboard", clock=time.monotonic)
        namespaces = Namespaces(api)
        reporter = Reporter(api, self._objects)
        self._tenants = Tenants(
            control=control,
            api=api,
            objects=self._objects,
            namespaces=namespaces,
            reporter=reporter,
            endpoint=config.endpoint,
            pepper=base.pepper.encode(),
            wake=self._wake,
            gone=self._gone,
        )
        self._boards = Boards(
            control=control,
            objects=self._objects,
            namespaces=namespaces,
            reporter=reporter,
            pepper=base.pepper.encode(),
            counted=lambda tenant: self._tenant_queue.add_after(tenant, _COUNT_PAUSE),
            gone=self._gone,
            later=self._board_queue.add_after,
        )
        self.sweep = Sweep(
            api=api,
            redis=redis,
            control=control,
            objects=self._objects,
            namespaces=namespaces,
            tenants=self._tenants,
            boards=self._boards,
            tenant_queue=self._tenant_queue,
            board_queue=self._board_queue,
            wake=self._wake,
            gone=self._gone,
            pause=config.sweep_seconds,
            clock=time.monotonic,
            tracer=tracer,
        )

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run; none of it ends but by an error."""
        tenants = [self._work_on_tenants() for _ in range(self._config.tenant_workers)]
        boards = [self._work_on_boards() for _ in range(_BOARD_WORKERS)]
        return [*tenants, *boards, self.sweep.run()]

    def close(self) -> None:
        """Stop the timers."""
        self._tenant_queue.close()
        self._board_queue.close()

    # -- what Kopf tells (handlers.Watcher)

    def changed(self, kind: Kind, raw: Mapping[str, Any]) -> None:
        """Queue an object whose spec or metadata is another than known."""
        item, asks = self._objects.see(kind, raw, by_watch=True)
        if asks:
            self._wake(item.key)

    def deleted(self, kind: Kind, raw: Mapping[str, Any]) -> None:
        """Forget an object, and look at those that waited for it to go."""
        metadata = raw["metadata"]
        item = self._objects.get(Key(kind, metadata["namespace"], metadata["name"]))
        if item is not None and item.uid == metadata["uid"]:
            self._gone(item)

    def _gone(self, item: Resource) -> None:
        rivals = self._objects.rivals(item)
        if not self._objects.gone(item.key, uid=item.uid):
            return
        self._queue(item.key).forget(item.key)
        if item.key.kind is Kind.TENANT:
            rivals += self._objects.boards_of(item.key)
        else:
            tenant = tenant_key(item)
            self._wake(tenant)  # it may wait for this board to go; if not, its count is another
            rivals += [
                board
                for board in self._objects.boards_of(tenant)
                if board.condition("Accepted").get("reason") == "QuotaExceeded"
            ]
        for rival in rivals:
            self._wake(rival.key)

    def _queue(self, key: Key) -> WorkQueue:
        return self._tenant_queue if key.kind is Kind.TENANT else self._board_queue

    def _wake(self, key: Key) -> None:
        self._queue(key).add(key)

    # -- working

    async def _work_on_tenants(self) -> None:
        await self.sweep.listed.wait()
        while True:
            (key,) = await self._tenant_queue.take(1)
            with _measured("tenant", [key], tracer=self._tracer) as failed:
                try:
                    if not await self._tenants.reconcile(key):
                        failed.add(key)
                except Conflict:
                    failed.add(key)  # it, or its Secret, changed meanwhile
                except (ApiError, DatabaseUnavailable) as error:
                    log.warning("%s: %s", key, error)
                    failed.add(key)
                except Deposed:
                    raise
                except Exception:  # the loop must outlive it
                    log.exception("%s: an error of the operator's own", key)
                    failed.add(key)
                finally:
                    self._tenant_queue.done(key, failed=key in failed)

    async def _work_on_boards(self) -> None:
        await self.sweep.listed.wait()
        while True:
            keys = await self._board_queue.take(self._config.board_batch)
            with _measured("leaderboard", keys, tracer=self._tracer) as failed:
                try:
                    failed.update(await self._boards_or_one_by_one(keys))
                finally:
                    for key in keys:
                        self._board_queue.done(key, failed=key in failed)

    async def _boards_or_one_by_one(self, keys: list[Key]) -> set[Key]:
        try:
            return await self._boards.reconcile(keys)
        except Deposed:
            raise
        except (DatabaseUnavailable, RedisFailure) as error:
            log.warning("%d Leaderboards wait: %s", len(keys), error)
            await self._boards.say_why_not(keys, error)
            return set(keys)
        except Exception:  # the loop must outlive it, and the others must not wait for the one that is to blame
            log.exception("%d Leaderboards: an error of the operator's own", len(keys))
            if len(keys) == 1:
                return set(keys)
            failed = [await self._boards_or_one_by_one([key]) for key in keys]
            return set().union(*failed)


@contextmanager
def _measured(controller: str, keys: Sequence[Key], *, tracer: Tracer | None) -> Iterator[set[Key]]:
    """Count one piece of work on the objects `keys`, and let it be a span; the block fills the set with those that
    failed.
    """
    failed: set[Key] = set()
    number = len(keys)
    started = time.monotonic()
    ACTIVE.labels(controller=controller).inc()
    about: dict[str, Value] = {
        "controller": controller,
        "leaderboard.objects": number,
        "leaderboard.first": str(keys[0]),
    }
    try:
        with nullcontext() if tracer is None else tracer.work(f"reconcile {controller}", about) as span:
            yield failed
            if span is not None and failed:
                span.attributes["leaderboard.failed"] = len(failed)
                span.fail(None, kind="reconcile")
    finally:
        ACTIVE.labels(controller=controller).dec()
        share = (time.monotonic() - started) / number
        for _ in range(number):
            RECONCILE_SECONDS.labels(controller=controller).observe(share)
        RECONCILES.labels(controller=controller, result="success").inc(number - len(failed))
        RECONCILES.labels(controller=controller, result="error").inc(len(failed))
        RECONCILE_ERRORS.labels(controller=controller).inc(len(failed))


class Operator:
    """One replica."""

    def __init__(self, base: Config, config: OperatorConfig, *, telemetry: Telemetry | None = None) -> None:
        self._base = base
        self._telemetry = telemetry
        self._config = config
        self._leading: Leading | None = None
        self._stop = asyncio.Event()
        self._stuck: set[asyncio.Task[object]] = set()

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until the lead is lost. Returns the exit code: 0 was told, 1 lost."""
        self._take_signals()
        async with (
            Api(connections=self._config.api_connections) as api,
            # Renewing the Lease must not wait behind hundreds of statuses.
            Api(connections=2) as own,
            Health(self._config.bind, live=self._live, ready=self._ready),
        ):
            leader = Leader(own, self._config, clock=time.monotonic)
            try:
                told = await self._first(leader.acquire(), self._stop.wait()) == 1
                code = 0 if told else await self._lead(api, leader)
            finally:
                await leader.release()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.close)
        if self._stuck:
            # Kopf does not end when it is cancelled while it logs in, and the loop would wait for it for ever.
            log.warning("%d tasks did not end; this process does", len(self._stuck))
            os._exit(code)
        return code

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _first(self, *things: Coroutine[Any, Any, object]) -> int:
        """Run all of `things` until one ends, and cancel the others; return which it was. Raises what it raised."""
        tasks = [asyncio.create_task(thing) for thing in things]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            _, stuck = await asyncio.wait(tasks, timeout=_END_SECONDS)
            self._stuck |= stuck
        for number, task in enumerate(tasks):
            if task.done() and not task.cancelled():
                task.result()
                return number
        raise asyncio.CancelledError

    async def _lead(self, api: Api, leader: Leader) -> int:
        try:
            ended = await self._first(self._work(api), leader.keep(), self._stop.wait())
        except Deposed as error:
            log.error("Postgres refuses this replica: %s", error)
            return 1
        return 0 if ended == 2 else 1

    async def _work(self, api: Api) -> None:
        epoch = await self._take_epoch()
        EPOCH.set(epoch)
        async with self._stores(epoch) as (control, redis):
            self._leading = Leading(
                api=api,
                control=control,
                redis=redis,
                base=self._base,
                config=self._config,
                tracer=None if self._telemetry is None else self._telemetry.tracer,
            )
            try:
                await self._first(*self._leading.workers(), self._watch(self._leading))
            finally:
                self._leading.close()
                self._leading = None
                EPOCH.set(0)

    async def _watch(self, leading: Leading) -> None:
        """Let Kopf watch. Returns only where it ended, after about a minute in which the API server refused it.

        Then the process had better end too: Kopf cancels every task that began after its own, ours among them.
        """
        await leading.sweep.listed.wait()
        others = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=handlers.registry_for(leading),
            settings=handlers.settings(),
            standalone=True,
            clusterwide=True,
        )
        self._take_signals()  # Kopf has taken them, and would wait 5 s for every task that began after its own
        try:
            await kopf.run_tasks(tasks, ignored=others)
        except Exception:  # told here: what follows from it is the end of this process, whatever it was
            log.exception("the watch ended")

    async def _take_epoch(self) -> int:
        """Make Postgres refuse every leader before this one; waits for as long as Postgres is away."""
        pool = await open_pool(self._base.database_url, size=1, timeout=self._base.database_timeout)
        try:
            while True:
                try:
                    epoch = await leadership.take(pool, holder=self._config.identity, now=datetime.now(UTC))
                except DatabaseUnavailable as error:
                    log.warning("the lead waits for Postgres: %s", error)
                    await asyncio.sleep(self._config.retry_seconds)
                else:
                    log.info("epoch %d", epoch)
                    return epoch
        finally:
            await pool.close()

    @asynccontextmanager
    async def _stores(self, epoch: int) -> AsyncIterator[tuple[Control, Redis]]:
        async with AsyncExitStack() as stack:
            pool = await open_pool(
                self._base.database_url,
                size=self._config.tenant_workers + _BOARD_CONNECTIONS,
                timeout=self._base.database_timeout,
                epoch=epoch,
            )
            stack.push_async_callback(pool.close)
            redis = Redis.from_url(
                self._base.redis_url,
                socket_timeout=self._base.redis_timeout,
                socket_connect_timeout=self._base.redis_timeout,
            )
            stack.push_async_callback(redis.aclose)
            control = Control(
                pool,
                redis,
                pepper=self._base.pepper.encode(),
                key_env=self._base.key_env,
                drain_seconds=_DRAIN_SECONDS,
            )
            yield control, redis

    # -- health

    def _live(self) -> str | None:
        if self._leading is None:
            return None
        sweep = self._leading.sweep
        if sweep.idle > _SWEEPS_LATE * self._config.sweep_seconds:
            return f"the sweep did not get on for {sweep.idle:.0f} s"
        if sweep.watch_silent:
            return "the watch of the Kubernetes API tells nothing"
        return None

    def _ready(self) -> str | None:
        # A standby is ready: it would lead at once. A leader is once it has seen every object.
        if self._leading is not None and not self._leading.sweep.listed.is_set():
            return "the objects have not been listed yet"
        return self._live()
