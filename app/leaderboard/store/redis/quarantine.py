"""Held updates: released onto their board, or only looked at. Not hot: redis-py, which must not decode answers."""

from collections.abc import Sequence
from itertools import chain

from redis.asyncio import Redis

from leaderboard.store.redis import keys, scripts
from leaderboard.store.redis.scores import CHUNK, Applied, Refusal, outcome, refusal

RELEASE_SECONDS = 86_400
"""How long Redis knows that it applied a held update."""
_NO_BOUND = 2**53


async def release(redis: Redis, board_key: str, *, id: str, user: str, value: str, nonce: str) -> Applied | Refusal:
    """Apply the held update `id`, the bounds aside; its event's id is `nonce` (16 hexadecimal digits) and zeros.

    Past the outbox's bound too. Called again within RELEASE_SECONDS it changes nothing and answers the same. Raises
    RedisUnavailable; then it is not known whether it was done.
    """
    names = [board_key, keys.meta(board_key), keys.order(board_key), keys.OUTBOX, keys.released(board_key, id)]
    reply = await scripts.run(redis, scripts.UPDATE, names, [_NO_BOUND, RELEASE_SECONDS, nonce, 0, user, value, id])
    return refusal(reply) if isinstance(reply, bytes) else outcome(reply[0])


async def would(redis: Redis, board_key: str, updates: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
    """Return the score and rank that each update (user, ``i<increment>`` or ``s<score>``) would come to by itself.

    Empty where there is no such board, or it is being restored. Raises RedisUnavailable.
    """
    names = [board_key, keys.meta(board_key), keys.order(board_key)]
    found: list[tuple[float, int]] = []
    for at in range(0, len(updates), CHUNK):
        args = list(chain.from_iterable(updates[at : at + CHUNK]))
        reply = await scripts.run(redis, scripts.WOULD, names, args)
        if isinstance(reply, bytes):
            return []
        found += [(float(score), rank) for score, rank in zip(reply[::2], reply[1::2], strict=True)]
    return found
