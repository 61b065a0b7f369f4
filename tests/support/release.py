"""The image's roles as containers, on servers the test names."""

import secrets
from collections.abc import Mapping
from typing import Protocol

from leaderboard.local.process import LOOPBACK, free_port, wait_until
from leaderboard.local.up import opener
from support.engine import Container

READY_SECONDS = 120.0


class Run(Protocol):
    """Start a container of the image."""

    def __call__(
        self, *command: str, env: Mapping[str, str] | None = None, mounts: tuple[str, ...] = ()
    ) -> Container: ...


class Release:
    """The image on one Postgres and one Redis: `env` is what all of its roles are told.

    Has what `support.tenants` asks of a platform.
    """

    def __init__(self, run: Run, *, redis_url: str, database: str) -> None:
        self.redis_url = redis_url
        self.database = database
        self.pepper = secrets.token_hex(32)
        self.env = {
            "LEADERBOARD_REDIS_URL": redis_url,
            "LEADERBOARD_DATABASE_URL": database,
            "LEADERBOARD_PEPPER": self.pepper,
        }
        self._run = run

    def start(self, *command: str, mounts: tuple[str, ...] = (), **env: str) -> Container:
        """Start one role."""
        return self._run(*command, env=self.env | env, mounts=mounts)

    def serve(self) -> tuple[Container, str]:
        """Start an API; return it and its URL when it is ready."""
        url = f"http://{LOOPBACK}:{(port := free_port())}"
        api = self.start("leaderboard", "serve", LEADERBOARD_BIND=f"{LOOPBACK}:{port}")
        ready = wait_until(lambda: not api.running or answers(f"{url}/readyz"), seconds=READY_SECONDS, pause=0.1)
        assert ready, f"the API was not ready within {READY_SECONDS:g} s: {api.lines()}"
        assert api.running, api.lines()
        return api, url


def answers(url: str) -> bool:
    """Whether `url` is there and says 200."""
    try:
        with opener.open(url, timeout=5):
            return True
    except OSError:  # an answer that is an error, too
        return False
