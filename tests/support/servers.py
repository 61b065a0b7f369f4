"""Postgres and Redis for tests: embedded ones, or containers where a Docker engine answers."""

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from leaderboard.local.postgres import EmbeddedPostgres
from leaderboard.local.process import Log
from leaderboard.local.redis import EmbeddedRedis, Fsync

# What a test kills is a process, never the machine: what was written is in the page cache then, so fsync would only
# cost time. The product's own settings are durable.
FAST_POSTGRES = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}


class Server(Protocol):
    """A server that a test may stop, kill and start again; its port stays."""

    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class RedisServer(Server, Protocol):
    """A Redis."""


class PostgresServer(Server, Protocol):
    """A Postgres, with databases to make and drop."""

    def url_of(self, database: str) -> str: ...
    def create_database(self, name: str, *, template: str | None = None) -> str: ...
    def drop_database(self, name: str) -> None: ...


class MakeRedis(Protocol):
    """Start one more Redis; `settings` are lines of redis.conf with `_` for `-`."""

    def __call__(self, *, appendfsync: Fsync | None = None, **settings: str | int) -> RedisServer: ...


S = TypeVar("S", bound=Server)


@functools.cache
def in_containers() -> bool:
    """Whether the servers come from containers: a Docker engine answers, and nobody said no."""
    if os.environ.get("LEADERBOARD_TEST_CONTAINERS") == "0" or shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=2).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """Run a Postgres while the block lasts."""
    if in_containers():
        from support import containers

        with contextlib.closing(containers.ContainerPostgres()) as container:
            container.start()
            yield container
        return
    with _log(folder) as log, _running(EmbeddedPostgres(folder, log=log, settings=FAST_POSTGRES)) as server:
        yield server


@contextlib.contextmanager
def redis(folder: Path, *, appendfsync: Fsync | None, **settings: str | int) -> Iterator[RedisServer]:
    """Run a Redis while the block lasts."""
    if in_containers():
        from support import containers

        with contextlib.closing(containers.ContainerRedis(appendfsync=appendfsync, **settings)) as container:
            container.start()
            yield container
        return
    with _log(folder) as log, _running(EmbeddedRedis(folder, log=log, appendfsync=appendfsync, **settings)) as server:
        yield server


@contextlib.contextmanager
def postgres_factory(folder: Path) -> Iterator[Callable[[], PostgresServer]]:
    """Give a function that starts one more Postgres; all stop when the block ends."""
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(postgres(folder / f"postgres-{next(numbers)}"))


@contextlib.contextmanager
def redis_factory(folder: Path) -> Iterator[MakeRedis]:
    """Give a function that starts one more Redis; all stop when the block ends."""
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:

        def make(*, appendfsync: Fsync | None = None, **settings: str | int) -> RedisServer:
            return stack.enter_context(redis(folder / f"redis-{next(numbers)}", appendfsync=appendfsync, **settings))

        yield make


@contextlib.contextmanager
def _log(folder: Path) -> Iterator[Log]:
    folder.mkdir(parents=True, exist_ok=True)
    log = Log(folder / "log")
    try:
        yield log
    finally:
        log.close()


@contextlib.contextmanager
def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        yield server
    finally:
        server.stop()
