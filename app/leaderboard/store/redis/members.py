"""One member on many boards: what there is of it, and taking it out for good.

Not hot: redis-py, in pipelines. Suspended boards are looked into and changed like others.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from leaderboard.domain.boards import TiePolicy
from leaderboard.domain.names import LeaderboardId
from leaderboard.store.redis import events, keys, scripts
from leaderboard.store.redis.boards import ORDER_CHARS
from leaderboard.store.redis.errors import redis_failures
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.scripts import Script

_TOGETHER = 250
"""Boards a round trip: the script calls take Redis some 5 ms, and others have their turn between two."""
_ENTRIES = 500
"""Entries of the stream of what was set aside in one read."""


class Place(NamedTuple):
    """A member's score and rank on a board; None both where only another key of the board names it."""

    score: float | None
    rank: int | None


class Unavailable(NamedTuple):
    """A board that cannot be looked into. `restoring`: it is being written anew; else Redis has nothing of it."""

    restoring: bool


class SetAside(NamedTuple):
    """An entry that names the member in the stream of what cannot be stored."""

    id: bytes
    leaderboard_id: LeaderboardId


class MemberStore:
    """Every method raises RedisUnavailable when Redis fails. `redis` must not decode answers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def look(self, board_keys: Sequence[str], user: str) -> list[Place | Unavailable | None]:
        """Return for each board what it has of the user, None where that is nothing."""
        answers = await self._each(scripts.STANDING, [(board_key, (user,)) for board_key in board_keys])
        found: list[Place | Unavailable | None] = []
        for board_key, answer in zip(board_keys, answers, strict=True):
            if isinstance(answer, bytes):
                found.append(await self._unavailable(board_key))
            elif answer is None:
                found.append(None)
            else:
                found.append(Place(float(answer[0]), answer[1]) if answer else Place(None, None))
        return found

    async def erase(self, boards: Mapping[str, bool], user: str, *, ids: EventIds) -> None:
        """Take the user off the boards (key -> whether an event is due also where it is not there), each in one step.

        Boards that cannot be looked into are passed over.
        """
        calls = [
            (board_key, (ids.nonce, ids.take(), user, "1" if always else "0")) for board_key, always in boards.items()
        ]
        await self._each(scripts.ERASE, calls)

    async def _unavailable(self, board_key: str) -> Unavailable:
        async with redis_failures():
            return Unavailable(restoring=bool(await self._redis.hexists(keys.meta(board_key), "state")))

    async def _each(self, script: Script, calls: Sequence[tuple[str, tuple[str | int, ...]]]) -> list[Any]:
        answers: list[Any] = []
        async with redis_failures():
            for at in range(0, len(calls), _TOGETHER):
                answers += await self._together(script, calls[at : at + _TOGETHER])
        return answers

    async def _together(self, script: Script, calls: Sequence[tuple[str, tuple[str | int, ...]]]) -> list[Any]:
        def pipeline() -> Any:
            pipe = self._redis.pipeline(transaction=False)
            for board_key, args in calls:
                names = (board_key, keys.meta(board_key), keys.order(board_key), keys.OUTBOX, *keys.gains(board_key))
                pipe.evalsha(script.sha, len(names), *names, *args)
            return pipe

        try:
            return list(await pipeline().execute())
        except NoScriptError:
            # None of them ran: the pipeline's first command fails before the script is there, and nobody unloads it.
            await self._redis.script_load(script.text)
            return list(await pipeline().execute())

    # -- seasons that are over and not archived yet

    async def in_season(self, board_key: str, season: int, user: str, tie: TiePolicy) -> bool:
        """Whether the entries of a season that are still in Redis have the user. Reads all of them where it must."""
        name = keys.season(board_key, season)
        async with redis_failures():
            if tie is not TiePolicy.FIRST_TO_REACH:
                return await self._redis.zscore(name, user) is not None
            async for member, _ in self._redis.zscan_iter(name, match="?" * ORDER_CHARS + _literal(user), count=2_000):
                if member[ORDER_CHARS:] == user.encode():
                    return True
        return False

    # -- what could not be stored

    async def set_aside(self, user: str) -> list[SetAside]:
        """Return the entries, set aside by the worker, that name the user and a board by its number."""
        found: list[SetAside] = []
        start = "-"
        async with redis_failures():
            while True:
                chunk: Any = await self._redis.xrange(keys.SET_ASIDE, min=start, count=_ENTRIES)
                for entry_id, fields in chunk:
                    board_id = _names(fields.get(events.FIELD, b""), user.encode())
                    if board_id is not None:
                        found.append(SetAside(entry_id, board_id))
                if len(chunk) < _ENTRIES:
                    return found
                start = "(" + chunk[-1][0].decode()

    async def drop_set_aside(self, entries: Iterable[SetAside]) -> None:
        """Remove entries of the stream of what cannot be stored."""
        ids = [entry.id for entry in entries]
        async with redis_failures():
            if ids:
                await self._redis.xdel(keys.SET_ASIDE, *ids)


def _names(payload: bytes, user: bytes) -> LeaderboardId | None:
    """Return the board of an entry that names the user, None for one that does not, or that names no board."""
    parts = payload.split(events.SEPARATOR.encode())
    # An event of ours has the user last, and numbers before it, which a user may be called as well.
    if user not in parts[8 if len(parts) == 9 else 3 :] or not parts[2].isdigit() or len(parts[2]) > 18:
        return None
    return LeaderboardId(int(parts[2]))


def _literal(user: str) -> str:
    """Return the glob pattern that matches the user only."""
    return "".join(f"\\{char}" if char in "*?[]^-\\" else char for char in user)
