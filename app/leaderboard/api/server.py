"""gunicorn, configured in code: one command, one place for what production needs."""

import logging
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger as GunicornLogger
from uvicorn_worker import UvicornWorker

from leaderboard.api.asgi import Application
from leaderboard.api.http1 import Connection
from leaderboard.config import Config
from leaderboard.telemetry import logs

GRACEFUL_SECONDS = 25
"""How long requests under way get after SIGTERM; Kubernetes' default grace period is 30."""
KEEP_ALIVE_SECONDS = 75
"""Longer than the idle timeout of common load balancers (60 s), so that they, not we, close idle connections."""


class Worker(UvicornWorker):  # type: ignore[misc]
    """uvicorn's server on uvloop with our own protocol (docs/adr/0001 has the measurement), without an access log."""

    CONFIG_KWARGS = {  # noqa: RUF012 - declared so by the base class
        "loop": "uvloop",
        "http": Connection,
        "interface": "asgi3",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        # With the date in the bytes that begin every answer, made once a second (`Connection.common_head`).
        "headers": [("X-Content-Type-Options", "nosniff")],
        "log_config": None,
        "ws": "none",
        # Nothing here looks at the client's address or scheme, so nobody's X-Forwarded-* has to be believed.
        "proxy_headers": False,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The base class hands uvicorn's logger gunicorn's handlers, of which there are none: let it reach the root's.
        uvicorn = logging.getLogger("uvicorn.error")
        uvicorn.propagate = True
        uvicorn.setLevel(logging.ERROR)  # it warns of every malformed request, and anybody can send those


class Logger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's messages as JSON lines among ours: they go to the root logger, and no access log is kept."""

    def setup(self, cfg: Any) -> None:
        """Leave the handlers to the root logger."""
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(self.LOG_LEVELS.get(cfg.loglevel.lower(), 20))
        self.access_log.disabled = True


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn over our application; `options` are gunicorn's own settings."""

    def __init__(self, config: Config, options: dict[str, Any]) -> None:
        self._config = config
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        """Hand gunicorn its settings."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Application:
        """Return the application; called in each worker."""
        logs.set_up(self._config.log_level)
        return Application(self._config)


def run(config: Config) -> None:
    """Serve until SIGTERM (drains) or SIGINT. Does not return."""
    logs.set_up(config.log_level)
    Server(
        config,
        {
            "bind": config.bind,
            "workers": config.workers,
            "worker_class": "leaderboard.api.server.Worker",
            "worker_connections": 10_000,
            "graceful_timeout": GRACEFUL_SECONDS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "timeout": 30,
            "loglevel": config.log_level,
            "logger_class": "leaderboard.api.server.Logger",
            "control_socket_disable": True,
        },
    ).run()
