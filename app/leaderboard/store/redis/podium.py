"""The Redis of a Podium: a leaderboard is the sorted set of its name, the members' ids with their scores.

Beside it there may be the sorted set ``<name>:ttl``, member -> second of its expiry, and an expiry of the key itself.
Equal scores rank by the bytes of the member, as Redis has them.
"""

from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from leaderboard.domain.errors import InvalidScore
from leaderboard.domain.moving import Roster, UnreadableSource, in_range
from leaderboard.store.redis.errors import RedisUnavailable

_SCAN = 2_000


async def read(url: str, roster: Roster, *, leaderboard: str, now: datetime, timeout: float) -> None:
    """Take the members of one leaderboard; a scan, so that members who are there all the time are not missed.

    Only reads. Members whose expiry has passed are left out. Raises RedisUnavailable, UnreadableSource.
    """
    redis = Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
    try:
        await _read(redis, roster, leaderboard=leaderboard, now=now)
    except (RedisError, OSError) as error:
        raise RedisUnavailable(f"Podium's Redis did not do it: {error}") from error
    finally:
        await redis.aclose()


async def _read(redis: Redis, roster: Roster, *, leaderboard: str, now: datetime) -> None:
    kind = str(await redis.type(leaderboard), "ascii")  # type: ignore[arg-type]
    if kind != "zset":
        what = "has no key" if kind == "none" else f"has a {kind} under the name"
        raise UnreadableSource(
            f"this Redis {what} {leaderboard!r}: name one of Podium's leaderboards, and its database"
        )
    expired = {member async for member, at in _scan(redis, f"{leaderboard}:ttl") if at <= now.timestamp()}
    roster.ties_by_user()
    async for member, raw in _scan(redis, leaderboard):
        where = f"member {member[:60].decode(errors='backslashreplace')!r}"
        if member in expired:
            continue
        try:
            user = member.decode()
            score = in_range(raw, rule=roster.spec.score_update)
        except UnicodeDecodeError:
            roster.reject(where, "the id is not UTF-8")
        except InvalidScore as error:
            roster.reject(where, str(error))
        else:
            if not roster.again(user, score):  # a scan may give a member twice
                roster.add(where, user, score)
    if expired:
        roster.notes.append(f"{len(expired)} members had expired and were left out")
    if lasting := await redis.zcard(f"{leaderboard}:ttl") - len(expired):
        roster.notes.append(f"{lasting} members expire in Podium; their expiry is not kept, they stay")
    if (left := await redis.ttl(leaderboard)) >= 0:
        ends = datetime.fromtimestamp(now.timestamp() + left, tz=UTC)
        roster.notes.append(f"the leaderboard expires in Podium at {ends:%Y-%m-%d %H:%M} UTC; the board does not")


async def _scan(redis: Redis, key: str) -> Any:
    async for member, score in redis.zscan_iter(key, count=_SCAN):
        yield member, float(score)
