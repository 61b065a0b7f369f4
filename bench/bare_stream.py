"""What a stream is measured beside: the same server, with a handler that opens an event stream and forgets it."""

from typing import Any, ClassVar

import falcon.asgi

from leaderboard import config
from leaderboard.api import app, server
from leaderboard.api.exchange import KEY
from leaderboard.domain.keys import Scope


class Bare:
    """Opens an event stream of one comment."""

    scopes: ClassVar[dict[str, Scope]] = {"GET": Scope.READ}

    def __init__(self, _live: Any) -> None:
        """Take what the real one takes."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, leaderboard: str) -> None:  # noqa: ARG002
        """Open it."""
        req.scope[KEY].open_stream({"content-type": "text/event-stream"}, b":\n\n", on_gone=lambda: None)


if __name__ == "__main__":
    app.stream.Stream = Bare  # type: ignore[assignment,misc]
    server.run(config.load())
