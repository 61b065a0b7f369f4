"""The baseline: the same API on redis-py's asyncio client instead of the multiplexed connection.

Everything else is the product's own: gunicorn worker, HTTP protocol, Falcon app, key cache, leased limiter, handlers,
scripts, outbox. So the difference between the two is what the connection costs. redis-py is used as its documentation
shows it: a client with a socket timeout over the default pool (a connection per concurrent call), hiredis parser.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from leaderboard import config
from leaderboard.api import app, server
from leaderboard.store.redis import scripts
from leaderboard.store.redis.errors import InDoubt, UnexpectedReply
from leaderboard.store.redis.multiplexer import Multiplexer, NoScript, Prepared
from leaderboard.store.redis.scripts import Script


class RedisPy:
    """What the handlers use of a Multiplexer, on redis-py. A call's timeout is the socket's."""

    connected = True
    connects = 1
    in_flight = 0

    def __init__(self, url: str, *, timeout: float, **_bounds: Any) -> None:
        self._redis = Redis.from_url(url, socket_timeout=timeout)

    async def start(self, *, wait: float = 0.0) -> None:  # noqa: ARG002
        """Load the scripts."""
        for script in scripts.ALL:
            await self._redis.script_load(script.text)

    async def close(self) -> None:
        """Close the pool."""
        await self._redis.aclose()

    async def call(self, *args: str | bytes | int | float) -> Any:
        """Do one command."""
        try:
            return await self._redis.execute_command(*args)
        except NoScriptError as error:
            raise NoScript(str(error)) from error
        except ResponseError as error:
            raise UnexpectedReply(str(error)) from error
        except RedisError as error:
            raise InDoubt(str(error)) from error

    def call_prepared(self, prepared: Prepared, *rest: str) -> Awaitable[Any]:
        """Do one command; redis-py packs it itself, whole."""
        return self.call(*prepared.args, *rest)

    async def shared(self, key: object, args: tuple[str, ...], decode: Callable[[Any], Any]) -> Any:  # noqa: ARG002
        """Do one read; each caller makes its own."""
        return decode(await self.call(*args))

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script by its SHA-1."""
        return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)


def connection(url: str, *, name: str = "", **options: Any) -> Any:
    """Return redis-py for the requests; the revocation tail, four calls a second, stays as it is."""
    return Multiplexer(url, name=name, **options) if name == "leaderboard-tail" else RedisPy(url, **options)


if __name__ == "__main__":
    app.Multiplexer = connection  # type: ignore[assignment,misc]
    server.run(config.load())
