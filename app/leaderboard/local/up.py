"""``leaderboard up``: the whole platform on one machine, under one supervisor, in one data folder.

The folder survives restarts. It holds ``postgres/``, ``redis/``, ``pepper``, ``env`` (the settings, for other
commands), ``log`` (of all processes) and ``lock`` (held while a supervisor runs; freed however that ends).
"""

import argparse
import contextlib
import fcntl
import os
import secrets
import shlex
import signal
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TypeVar

from leaderboard.config import PREFIX
from leaderboard.local import observe
from leaderboard.local.observe import FILES, Observability
from leaderboard.local.postgres import EmbeddedPostgres
from leaderboard.local.process import (
    LOOPBACK,
    Child,
    LocalError,
    Log,
    end_leftover,
    free_port,
    is_ours,
    keep,
    opener,
    port_is_free,
    processes,
    wait_until,
    with_death_signal,
    write_private,
)
from leaderboard.local.redis import EmbeddedRedis
from leaderboard.store.postgres import migrate
from leaderboard.store.postgres.pool import DatabaseUnavailable

DEFAULT_DATA = Path(".leaderboard")
DEFAULT_PORT = 8080
_READY_SECONDS = 60.0
_API_DRAIN_SECONDS = 30.0
_WORKER_DRAIN_SECONDS = 60.0
_WORKER_CRASH_SECONDS = 5.0  # when a server has died already, there is nothing to finish the batch with
_LOG_LIMIT = 50_000_000  # bytes; a larger log is set aside at the next start, as log.1

Say = Callable[[str], None]
P = TypeVar("P", bound="LocalPlatform")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``leaderboard up``."""
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the data folder (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="the API's port on 127.0.0.1; 0 takes a free one (%(default)s)"
    )


def add_observe(parser: argparse.ArgumentParser) -> None:
    """Declare --observe, which the demos do not have."""
    parser.add_argument(
        "--observe",
        action="store_true",
        help="also start collector, Prometheus, Loki and Tempo, built once with Go where they are not in the cache "
        "(about 15 minutes)",
    )


def run(args: argparse.Namespace) -> int:
    """Run ``leaderboard up`` until Ctrl-C or SIGTERM; return the exit code. `args` has `data`, `port`, `observe`."""

    def make() -> LocalPlatform:
        programs = observe.find_or_build(print) if args.observe else None
        return LocalPlatform(args.data, port=args.port, observability=programs)

    return supervise(args.data, make=make, then=_stay)


def _stay(platform: "LocalPlatform") -> None:
    program = Path(os.path.relpath(Path(sys.executable).with_name("leaderboard")))
    apply = [str(program), "apply", "-f", "examples/tenant.yaml"]
    if platform.folder != DEFAULT_DATA:
        apply += ["--data", str(platform.folder)]
    print(f"""
  API       {platform.url}   (its page: {platform.url}/docs)
  log       {platform.folder / "log"}
  settings  {platform.folder / "env"}
  next      {shlex.join(apply)}{_where_to_look(platform.observability)}

Ctrl-C stops everything; the data stays.""")
    sys.stdout.flush()
    platform.watch()


def _where_to_look(stack: Observability | None) -> str:
    if stack is None:
        return ""
    files = Path(os.path.relpath(FILES))
    return f"""

  Prometheus  {stack.prometheus_url}
  Loki        {stack.loki_url}
  Tempo       {stack.tempo_url}
  OTLP        {stack.otlp_url}   (HTTP)
  Grafana is not among them: point one of yours at these as {files / "provisioning/datasources"} does, with the
  dashboards of {files / "dashboards"}; or run all in containers: {files / "docker-compose.yaml"}"""


def supervise(folder: Path, *, make: Callable[[], P], then: Callable[[P], None]) -> int:
    """Start the platform, call `then` with it, stop it when that returns or on a signal; return the exit code.

    `make` gives the platform on `folder`, whose lock is held by then. The code is 0 after `then` returned or a signal,
    1 where something failed; what failed is on standard error.
    """
    began = time.monotonic()
    try:
        with _signals_interrupt(), locked(folder):
            platform = make()
            try:
                platform.start()
                print(f"Ready after {time.monotonic() - began:.1f} s.")
                sys.stdout.flush()
                then(platform)
            except KeyboardInterrupt:
                print("\nStopping.")
            finally:
                with _signals_ignored():
                    platform.stop()
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before there was anything to stop
        return 0
    return 0


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, made if need be. Raises LocalError naming the process that has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Not inherited by the children: the lock ends with this process, however it ends.
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode().strip()
            raise LocalError(
                f"{folder} is in use by another `leaderboard up` (process {holder}): stop that with Ctrl-C or "
                f"`kill {holder}`, or give this one its own folder with --data"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class LocalPlatform:
    """Postgres, Redis, API and worker on `folder`, whose lock the caller holds. `port` 0 takes a free one.

    `observability` has the programs of its stack, by name; None: no telemetry leaves, unless the environment says so.
    `url`, `env` (the children's settings), `pepper` and the servers' own `.url` are for who works with it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = DEFAULT_PORT,
        say: Say = print,
        observability: Mapping[str, Path] | None = None,
    ) -> None:
        self.folder = folder
        self._say = say
        self._began = time.monotonic()
        # Python ignores an unknown -X; this one marks the process as ours on its command line.
        self._mark = f"leaderboard_data={folder.resolve()}"
        self._end_leftovers()
        if port != 0 and not port_is_free(port):
            raise LocalError(f"port {port} on {LOOPBACK} is in use by another program: stop that, or use --port")
        self.port = port or free_port()
        log = folder / "log"
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(folder / "log.1")
        self._log = Log(log)
        self.postgres = EmbeddedPostgres(folder / "postgres", log=self._log)
        self.redis = EmbeddedRedis(folder / "redis", log=self._log, appendfsync="everysec")
        self.pepper = keep(folder / "pepper", lambda: secrets.token_hex(32))
        self.observability = (
            None
            if observability is None
            else Observability(folder / "observability", programs=observability, log=self._log)
        )
        self.api: Child | None = None
        self.worker: Child | None = None
        self.env: Mapping[str, str] = {}

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start everything and return when the API says it is ready. Raises LocalError; call `stop` then too."""
        self._log.note("up", f"supervisor {os.getpid()} starts")
        with self._step("Postgres"):
            self.postgres.start()
        with self._step("Redis"):
            self.redis.start()
        self.env = self._settings()
        lines = (f"{name}={shlex.quote(value)}\n" for name, value in self.env.items())
        write_private(self.folder / "env", "".join(lines))
        with self._step("migrations"):
            self._migrate()
        if self.observability is not None:
            with self._step("observability"):
                self.observability.start()
        with self._step("API and worker"):
            self.api = self._run("api", "leaderboard.cli", "serve")
            self.worker = self._run("worker", "leaderboard.cli", "work")
            self._wait_ready("the API", self.url)

    def watch(self) -> None:
        """Return never; raise LocalError when a process dies, saying which and with its last lines."""
        while True:
            self.check()
            time.sleep(0.2)

    def check(self) -> None:
        """Raise LocalError if a process has died, saying which and with its last lines."""
        for child in self._children():
            if not child.alive:
                raise LocalError(f"{child.how_it_ended()}\nEverything else is stopped. See {self.folder / 'log'}")

    def stop(self) -> None:
        """Stop what runs: the API finishes its requests, the worker the batch in hand, then Redis and Postgres."""
        crashed = any(not child.alive for child in self._children())
        if self.api is not None and not self.api.stop(seconds=_API_DRAIN_SECONDS):
            self._say(f"  the API did not finish within {_API_DRAIN_SECONDS:g} s and was killed")
        seconds = _WORKER_CRASH_SECONDS if crashed else _WORKER_DRAIN_SECONDS
        if self.worker is not None and not self.worker.stop(seconds=seconds):
            self._say(f"  the worker did not finish within {seconds:g} s and was killed; it goes on at the next start")
        if self.observability is not None:
            self.observability.stop()
        self.redis.stop()
        self.postgres.stop()
        self._log.note("up", f"supervisor {os.getpid()} stopped everything")
        self._log.close()

    def _children(self) -> list[Child]:
        every = (self.postgres.child, self.redis.child, self.api, self.worker)
        seen_by = [] if self.observability is None else self.observability.children
        return [child for child in every if child is not None] + seen_by

    def _run(self, name: str, module: str, *args: str, env: Mapping[str, str] | None = None) -> Child:
        python = [sys.executable, "-X", self._mark, "-m", module, *args]
        settings = {**os.environ, **self.env, **(env or {})}
        return Child(with_death_signal(python, "TERM"), name=name, log=self._log, env=settings)

    def _migrate(self) -> None:
        # We hold the folder's lock, so a lock inside the database is that of a run that was killed.
        try:
            if migrate.break_lock(self.postgres.url):
                self._say("  a run was killed while it migrated the database; going on with it")
            migrate.apply(self.postgres.url)
        except (migrate.MigrationLocked, DatabaseUnavailable) as error:
            raise LocalError(f"the migrations failed: {error}") from error

    def _wait_ready(self, what: str, url: str) -> None:
        def ready() -> bool:
            self.check()
            return _why_not_ready(url) == ""

        if not wait_until(ready, seconds=_READY_SECONDS, pause=0.1):
            raise LocalError(f"{what} was not ready within {_READY_SECONDS:g} s: {_why_not_ready(url)}")

    def _settings(self) -> dict[str, str]:
        return self._telemetry() | {
            f"{PREFIX}REDIS_URL": self.redis.url,
            f"{PREFIX}DATABASE_URL": self.postgres.url,
            f"{PREFIX}PEPPER": self.pepper,
            f"{PREFIX}BIND": f"{LOOPBACK}:{self.port}",
        }

    def _telemetry(self) -> dict[str, str]:
        if self.observability is None:
            return {}
        # One person looks at one machine: every trace, and what happened a moment ago. Who knows better says so.
        ours = {"OTEL_TRACES_SAMPLER": "parentbased_always_on", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}
        ours = {name: os.environ.get(name, value) for name, value in ours.items()}
        return ours | {f"{PREFIX}TELEMETRY": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": self.observability.otlp_url}

    def _end_leftovers(self) -> None:
        """Stop the API and worker of a supervisor that was killed; Postgres and Redis see to their own."""
        left = [pid for pid in processes() if is_ours(pid, mark=self._mark)]
        if left:
            self._say(f"  a run of this folder was killed; stopping what it left: {', '.join(map(str, left))}")
        for pid in left:
            end_leftover(pid, mark=self._mark, seconds=_API_DRAIN_SECONDS)

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        now = time.monotonic()
        self._say(f"  {now - self._began:5.1f} s  {name:<15} ({now - began:.1f} s)")
        sys.stdout.flush()


def _why_not_ready(url: str) -> str:
    """Why the server at `url` is not ready, empty if it is."""
    try:
        with opener.open(f"{url}/readyz", timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return f"/readyz answers {error.code} {error.read(2000).decode(errors='replace')}"
    except OSError as error:
        return str(error)


_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 1.0


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let each stopping signal raise KeyboardInterrupt in the main thread."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # What is raised while a finalizer runs goes no further than that: it is raised until somebody has taken it.
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        raise KeyboardInterrupt

    with _handled(interrupt):
        yield


def _signals_ignored() -> contextlib.AbstractContextManager[None]:
    """Let a second Ctrl-C not cut short the stop that the first one asked for."""
    return _handled(signal.SIG_IGN)


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (*_STOPPING, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, there in before.items():
            signal.signal(number, there)
