"""API and worker as the processes they are in production, on servers the test names."""

import contextlib
import os
import secrets
import signal
import sys
import urllib.error
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import psycopg

from leaderboard.local.process import LOOPBACK, Child, Log, children, free_port, wait_until, with_death_signal
from leaderboard.local.up import opener
from support import servers
from support.servers import PostgresServer

READY_SECONDS = 120.0


class Platform:
    """`leaderboard serve` with `workers` processes and `leaderboard work`.

    `url` is the API's; `env` the whole environment of both processes (LEADERBOARD_* with the URLs and the pepper);
    `log` the file with the lines of both; `api` and `worker` are the processes (.pid, .alive, .popen).
    """

    def __init__(
        self, folder: Path, *, redis_url: str, database: str, workers: int = 1, env: Mapping[str, str] | None = None
    ) -> None:
        self.redis_url = redis_url
        self.database = database
        self.workers = workers
        self.pepper = secrets.token_hex(32)
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        self.env = os.environ | {
            "LEADERBOARD_REDIS_URL": redis_url,
            "LEADERBOARD_DATABASE_URL": database,
            "LEADERBOARD_PEPPER": self.pepper,
            "LEADERBOARD_BIND": f"{LOOPBACK}:{port}",
            "LEADERBOARD_WORKERS": str(workers),
            **(env or {}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        self._log = Log(self.log)
        self._api: Child | None = None
        self._worker: Child | None = None

    @property
    def api(self) -> Child:
        """The API's main process."""
        assert self._api is not None, "the API is not running"
        return self._api

    @property
    def worker(self) -> Child:
        """The worker's process."""
        assert self._worker is not None, "the worker is not running"
        return self._worker

    def start(self) -> None:
        """Start both and return when the API is ready and the worker at work: on a busy machine that takes seconds."""
        self.start_worker()
        self.start_api()
        with psycopg.connect(self.database, autocommit=True) as conn:
            asked = "SELECT EXISTS (SELECT 1 FROM ledger_progress)"
            working = wait_until(
                lambda: not self.worker.alive or conn.execute(asked).fetchone() == (True,), seconds=READY_SECONDS
            )
        assert self.worker.alive, self.worker.how_it_ended()
        assert working, f"the worker did not say within {READY_SECONDS} s how far the ledger is"

    def start_api(self) -> None:
        """Start the API and return when it is ready."""
        self._api = self._run("api", "serve")
        self.wait_ready()

    def start_worker(self) -> None:
        """Start the worker."""
        self._worker = self._run("worker", "work")

    def stop(self) -> None:
        """Stop both as an orchestrator would: SIGTERM, and 30 s each to finish."""
        self.stop_api()
        self.stop_worker()
        self._log.close()

    def stop_api(self) -> None:
        """Stop the API in an orderly way, if it runs."""
        if self._api is not None:
            assert self._api.stop(seconds=30), "the API did not stop on SIGTERM within 30 s"
            self._api = None

    def stop_worker(self) -> None:
        """Stop the worker in an orderly way, if it runs."""
        if self._worker is not None:
            assert self._worker.stop(seconds=30), "the worker did not stop on SIGTERM within 30 s"
            self._worker = None

    def kill_api(self) -> None:
        """Kill the whole API with SIGKILL."""
        self.api.kill()
        self._api = None

    def kill_worker(self) -> None:
        """Kill the worker with SIGKILL."""
        self.worker.kill()
        self._worker = None

    def restart_worker(self) -> None:
        """Kill the worker with SIGKILL and start it again."""
        self.kill_worker()
        self.start_worker()

    def api_workers(self) -> list[int]:
        """The ids of the API's worker processes."""
        return sorted(children(self.api.pid))

    def kill_api_worker(self) -> int:
        """Kill the API's worker process that holds the most connections with SIGKILL, return its id; the main process
        starts another. (A client that opens all its connections at once may find them all at one worker.)"""
        victim = max(self.api_workers(), key=lambda pid: len(os.listdir(f"/proc/{pid}/fd")))
        os.kill(victim, signal.SIGKILL)
        return victim

    def wait_ready(self) -> None:
        """Return when /readyz says 200, or fail with why not."""
        if not wait_until(lambda: not self.api.alive or self._ready_answer() == "", seconds=READY_SECONDS, pause=0.05):
            raise AssertionError(f"the API was not ready within {READY_SECONDS} s: {self._ready_answer()}")
        assert self.api.alive, self.api.how_it_ended()

    def lines(self, name: str) -> list[str]:
        """What `name` ("api" or "worker") has written so far, without the mark of its name."""
        marked = (line.partition(" | ") for line in self.log.read_text(errors="replace").splitlines())
        return [text for mark, _, text in marked if mark.strip() == name]

    def _ready_answer(self) -> str:
        try:
            with opener.open(f"{self.url}/readyz", timeout=5):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.read(2000).decode(errors='replace')}"
        except OSError as error:
            return str(error)

    def _run(self, name: str, command: str) -> Child:
        program = with_death_signal([sys.executable, "-m", "leaderboard.cli", command], "TERM")
        return Child(program, name=name, log=self._log, env=self.env)


@contextlib.contextmanager
def served_platform(folder: Path, postgres: PostgresServer, *, template: str, **how: Any) -> Iterator[Platform]:
    """Run a Platform on a database named as `folder` is and a Redis of its own; `how` are its other arguments.

    Not on the session's Redis: a test beside it empties that, and the workers of two platforms on one Redis take each
    other's events.
    """
    with servers.redis(folder / "redis", appendfsync=None) as redis_server:
        database = postgres.create_database(folder.name, template=template)
        platform = Platform(folder, redis_url=redis_server.url, database=database, **how)
        try:
            platform.start()
            yield platform
        finally:
            platform.stop()
            postgres.drop_database(folder.name)


class MakePlatform(Protocol):
    """Start API and worker; the databases default to `database` and `redis_url`."""

    def __call__(
        self,
        *,
        workers: int = 1,
        redis_url: str | None = None,
        database: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Platform: ...
