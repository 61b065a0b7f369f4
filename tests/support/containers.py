"""Postgres and Redis in containers, with the protocol of the embedded ones: what is stopped or killed may start again.

The host's port is chosen here and stays, since a port that Docker chooses changes with every start.
"""

import secrets

import psycopg
import redis
from psycopg import sql
from testcontainers.core.container import DockerContainer

from leaderboard.local.process import LOOPBACK, free_port, wait_until

POSTGRES_IMAGE = "postgres:18-alpine"
REDIS_IMAGE = "redis:7-alpine"
_START_SECONDS = 60.0


class _Container:
    """One container, made at the first start and kept until `close`."""

    def __init__(self, container: DockerContainer, *, inner_port: int) -> None:
        self.port = free_port()
        # with_bind_ports takes no address, and would open the port to the network.
        container.ports[str(inner_port)] = (LOOPBACK, self.port)  # type: ignore[assignment]
        self._container = container
        self._made = False

    def start(self) -> None:
        """Start it and return when the server answers."""
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True
        assert wait_until(self._answers, seconds=_START_SECONDS), f"{self._container.image} did not answer"

    def stop(self) -> None:
        """Stop it in an orderly way; its data stays."""
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        """Kill it as a crash would; its data stays."""
        self._container.get_wrapped_container().kill()

    def close(self) -> None:
        """Remove it with its data, also one that Docker made and could not start, and close the way to the engine."""
        self._container.stop()

    def _answers(self) -> bool:
        raise NotImplementedError


class ContainerPostgres(_Container):
    """Postgres in a container."""

    def __init__(self) -> None:
        self._password = secrets.token_hex(24)
        container = (
            DockerContainer(POSTGRES_IMAGE)
            .with_env("POSTGRES_USER", "leaderboard")
            .with_env("POSTGRES_PASSWORD", self._password)
            .with_env("POSTGRES_DB", "leaderboard")
            .with_command("postgres -c fsync=off -c full_page_writes=off -c max_connections=200")
        )
        super().__init__(container, inner_port=5432)

    @property
    def url(self) -> str:
        return self.url_of("leaderboard")

    def url_of(self, database: str) -> str:
        return f"postgresql://leaderboard:{self._password}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str, *, template: str | None = None) -> str:
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _answers(self) -> bool:
        # The image's first start runs a server without TCP to set itself up, so an answer here is the real one's.
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class ContainerRedis(_Container):
    """Redis in a container."""

    def __init__(self, *, appendfsync: str | None, **settings: str | int) -> None:
        self._password = secrets.token_hex(24)
        words = ["redis-server", "--requirepass", self._password, "--save", ""]
        words += ["--appendonly", "no" if appendfsync is None else "yes", "--appendfsync", appendfsync or "no"]
        for name, value in settings.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        super().__init__(DockerContainer(REDIS_IMAGE).with_command(words), inner_port=6379)

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
