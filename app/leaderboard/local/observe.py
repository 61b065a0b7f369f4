"""What shows how the platform is, in a folder: collector, Prometheus, Loki and Tempo as our direct children.

They run on the files of ``grafana/`` in the checkout, the same as in containers: what differs here comes from
variables that those files name. All listen on 127.0.0.1, on ports that are free when the object is made and kept over
restarts. Each knows the files by a link in the folder, so that its command line says whose it is.
"""

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from leaderboard.local.process import (
    LOOPBACK,
    Child,
    LocalError,
    Log,
    end_leftover,
    free_port,
    opener,
    port_is_free,
    wait_until,
    with_death_signal,
    write_private,
)
from leaderboard.local.toolchain import COLLECTOR, LOKI, OBSERVABILITY, PROMETHEUS, TEMPO, Say, provide

FILES = Path(__file__).parents[3] / "grafana"
"""The configuration: at the root of the checkout, and in no package."""

_START_SECONDS = 90.0
_STOP_SECONDS = 20.0
_RETENTION = "48h"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One server: how it is run, and how to tell that it is ready."""

    command: Sequence[str]
    """Its first option names its configuration below the folder: by that a leftover one is recognised."""
    ready: str
    """The URL that answers 200 once it is ready."""
    env: Mapping[str, str] = {}
    ends_by: str = "TERM"
    """The signal that ends it."""


def find_or_build(say: Say) -> dict[str, Path]:
    """Return the programs, by name; what is missing is built into the cache, which takes about 15 minutes for all.

    `say` gets progress lines. Raises CannotBuild where this machine cannot, LocalError for what else is wrong.
    """
    check_files()
    return provide(OBSERVABILITY, say=say)


def check_files() -> None:
    """Raise LocalError where this package was not installed from a checkout, in place."""
    if not (FILES / "collector.yaml").is_file():
        raise LocalError(
            f"there is no {FILES / 'collector.yaml'}: the observability stack's configuration is in the checkout, "
            "in no package; run `make up OBSERVE=1` in one"
        )


class Observability:
    """The stack with its data in `folder`, of the `programs` that there are, by name: the collector and Prometheus at
    least, without Loki or Tempo the collector keeps trying to reach them.

    `otlp_port` None takes a free one. Lines of the servers go to `log` under their names. Not thread-safe.
    """

    def __init__(self, folder: Path, *, programs: Mapping[str, Path], log: Log, otlp_port: int | None = None) -> None:
        check_files()
        if otlp_port is not None and not port_is_free(otlp_port):
            raise LocalError(f"port {otlp_port} on {LOOPBACK} is in use by another program, and OTLP was to come there")
        self._folder = folder.resolve()
        self._log = log
        self.otlp_url = _at(otlp_port or free_port())
        self.prometheus_url, self.loki_url, self.tempo_url = (_at(free_port()) for _ in range(3))
        self._traces_url = _at(free_port())  # where Tempo takes what it is asked for at `tempo_url`
        # Who is sent to, before who sends.
        made = {
            PROMETHEUS.name: self._prometheus,
            LOKI.name: self._loki,
            TEMPO.name: self._tempo,
            COLLECTOR.name: self._collector,
        }
        self._servers = {name: make(str(programs[name])) for name, make in made.items() if name in programs}
        self._running: dict[str, Child] = {}

    @property
    def children(self) -> list[Child]:
        """The processes that were started and not stopped."""
        return list(self._running.values())

    def start(self) -> None:
        """Start what does not run on what the folder holds, and return when all are ready.

        Servers left over from a supervisor that died are stopped first. Raises LocalError with a server's own words
        when it does not come up.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        link = self._folder / "grafana"
        link.unlink(missing_ok=True)
        link.symlink_to(FILES)
        for name, server in self._servers.items():
            if name not in self._running or not self._running[name].alive:
                self._run(name, server)
        for name, server in self._servers.items():
            self._wait_ready(name, server)

    def check(self) -> None:
        """Raise LocalError if a server has ended, saying which and with its last lines."""
        for child in self.children:
            if not child.alive:
                raise LocalError(child.how_it_ended())

    def kill(self, name: str) -> None:
        """Kill one server as a crash would (by its program's name), so that `start` can start it again."""
        self._running.pop(name).kill()

    def stop(self) -> None:
        """Stop all, the collector first, which then sends what it has; the data stays."""
        for name in reversed(self._servers):
            child = self._running.pop(name, None)
            if child is not None:
                child.stop(sig=_signal(self._servers[name]), seconds=_STOP_SECONDS)
                self._pid_file(name).unlink(missing_ok=True)

    def _run(self, name: str, server: Server) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            left = int(self._pid_file(name).read_text())
            end_leftover(left, mark=server.command[1], sig=_signal(server), seconds=_STOP_SECONDS)
        command = with_death_signal(server.command, server.ends_by)
        env = {**os.environ, **server.env}
        child = Child(command, name=name, log=self._log, env=env, cwd=self._folder)
        self._running[name] = child
        write_private(self._pid_file(name), f"{child.pid}\n")

    def _wait_ready(self, name: str, server: Server) -> None:
        child = self._running[name]
        if not wait_until(lambda: not child.alive or _answers(server.ready), seconds=_START_SECONDS, pause=0.05):
            raise LocalError(f"{name} was not ready within {_START_SECONDS:g} s\n{child.how_it_ended()}")
        if not child.alive:
            raise LocalError(child.how_it_ended())

    def _pid_file(self, name: str) -> Path:
        return self._folder / f"{name}.pid"

    def _config(self, name: str) -> str:
        return str(self._folder / "grafana" / f"{name}.yaml")

    def _collector(self, program: str) -> Server:
        health = f"{LOOPBACK}:{free_port()}"
        env = {
            "HEALTH_ENDPOINT": health,
            "GRPC_ENDPOINT": f"{LOOPBACK}:{free_port()}",
            "HTTP_ENDPOINT": self.otlp_url.removeprefix("http://"),
            "PROMETHEUS_URL": self.prometheus_url,
            "LOKI_URL": self.loki_url,
            "TEMPO_URL": self._traces_url,
            # One person looks at one machine: at once, and at everything.
            "DECISION_WAIT": "1s",
            "KEPT_PERCENT": "100",
        }
        return Server(command=[program, f"--config={self._config('collector')}"], ready=f"http://{health}", env=env)

    def _prometheus(self, program: str) -> Server:
        command = [
            program,
            f"--config.file={self._config('prometheus')}",
            f"--storage.tsdb.path={self._folder / 'prometheus'}",
            f"--storage.tsdb.retention.time={_RETENTION}",
            f"--web.listen-address={self.prometheus_url.removeprefix('http://')}",
            "--web.enable-remote-write-receiver",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]
        return Server(command=command, ready=f"{self.prometheus_url}/-/ready")

    def _loki(self, program: str) -> Server:
        env = self._common("loki", self.loki_url)
        command = [program, f"-config.file={self._config('loki')}", "-config.expand-env=true"]
        return Server(command=command, ready=f"{self.loki_url}/ready", env=env)

    def _tempo(self, program: str) -> Server:
        env = self._common("tempo", self.tempo_url) | {
            "OTLP_PORT": self._traces_url.rpartition(":")[2],
            "TRACE_IDLE": "1s",
        }
        command = [program, f"-config.file={self._config('tempo')}", "-config.expand-env=true"]
        # Asked to end it waits for ever. All but the traces of the last two seconds is in its write-ahead log.
        return Server(command=command, ready=f"{self.tempo_url}/ready", env=env, ends_by="KILL")

    def _common(self, name: str, url: str) -> dict[str, str]:
        return {
            "LISTEN": LOOPBACK,
            "HTTP_PORT": url.rpartition(":")[2],
            "GRPC_PORT": str(free_port()),
            "DATA": str(self._folder / name),
            "RETENTION": _RETENTION,
        }


def _at(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _signal(server: Server) -> signal.Signals:
    return signal.Signals[f"SIG{server.ends_by}"]


def _answers(url: str) -> bool:
    try:
        with opener.open(url, timeout=5):
            return True
    except OSError:
        return False
