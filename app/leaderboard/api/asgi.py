"""The ASGI entry point: opens the process's parts at start-up, then is the Falcon application."""

import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from leaderboard.api.app import Parts, create_app, open_parts
from leaderboard.config import Config, load
from leaderboard.telemetry import logs

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Application:
    """Builds the application inside the worker's event loop, where its connections belong.

    Calling it returns the inner application's own coroutine: the wrapper adds no step to a request.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._app: Any = None
        self._parts: Parts | None = None

    def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            return self._lifespan(receive, send)
        awaitable: Awaitable[None] = self._app(scope, receive, send)
        return awaitable

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._parts = await open_parts(self._config)
                    self._app = create_app(self._config, self._parts)
                except Exception as error:
                    log.exception("the API could not start")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                _tune_collector()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._parts is not None:
                    await self._parts.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _tune_collector() -> None:
    # What start-up made stays for good, and a request leaves no cycles (a test holds that). Looking through all of it
    # every so often showed as 40 ms in the p99 of large answers (docs/adr/0001).
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def application() -> Application:
    """Return the application of the environment's configuration, with JSON logs set up."""
    config = load()
    logs.set_up(config.log_level)
    return Application(config)
