"""The Lua scripts, composed and named by their SHA-1.

Lua under Redis cannot import, so what the board scripts share (`board.lua`, and `events.lua` for those that write) is
put in front of each here. EVALSHA rather than Redis Functions: it runs on Redis 6.2, Valkey and managed services.
"""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from leaderboard.store.redis.errors import redis_failures


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One script as it is loaded, with the hexadecimal SHA-1 that EVALSHA takes."""

    name: str
    text: str
    sha: str


async def run(redis: Redis, script: Script, names: Sequence[str], args: Sequence[str | int]) -> Any:
    """Return what the script answers, loading it where Redis does not know it. Not hot: see `Multiplexer.run`.

    Raises RedisUnavailable.
    """
    async with redis_failures():
        try:
            return await redis.evalsha(script.sha, len(names), *names, *args)
        except NoScriptError:
            return await redis.eval(script.text, len(names), *names, *args)


def _compose(name: str, *prelude: str) -> Script:
    folder = files("leaderboard.store.redis") / "scripts"
    text = "".join((folder / f"{part}.lua").read_text() for part in (*prelude, name))
    # SHA-1 names the script in Redis's protocol; nothing rests on it being hard to forge.
    return Script(name=name, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


UPDATE = _compose("update", "board", "events")
REMOVE = _compose("remove", "board", "events")
TRIM = _compose("trim", "board", "events")
DELETE = _compose("delete")
OPEN = _compose("open")
RESET = _compose("reset")
CLOSE = _compose("close")
RESTORE = _compose("restore")
IMPORT = _compose("import", "board", "events")
TOP = _compose("top", "board")
AROUND = _compose("around", "board")
MEMBERS = _compose("members", "board")
RANK = _compose("rank", "board")
LEASE = _compose("lease")
STANDING = _compose("standing", "board")
ERASE = _compose("erase", "board", "events")
WOULD = _compose("would", "board")

ALL = (
    UPDATE,
    REMOVE,
    TRIM,
    DELETE,
    OPEN,
    RESET,
    CLOSE,
    RESTORE,
    IMPORT,
    TOP,
    AROUND,
    MEMBERS,
    RANK,
    LEASE,
    STANDING,
    ERASE,
    WOULD,
)
