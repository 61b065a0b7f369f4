"""/livez, /readyz and /metrics."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from leaderboard_operator.metrics import REGISTRY

Check = Callable[[], str | None]
"""Returns what is wrong, None where nothing is."""


class Health:
    """Serves the three on ``host:port``; use it as a context manager."""

    def __init__(self, bind: str, *, live: Check, ready: Check) -> None:
        host, _, port = bind.rpartition(":")
        self._address = (host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - what an empty host means
        app = web.Application()
        app.router.add_get("/livez", _answering(live))
        app.router.add_get("/readyz", _answering(ready))
        app.router.add_get("/metrics", _metrics)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> "Health":
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def _answering(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    return answer


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
