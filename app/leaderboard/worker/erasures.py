"""Erasures of members that somebody asked for: carried out until each has its receipt."""

import asyncio

from leaderboard.control import erasures as control
from leaderboard.control.tools import Tools
from leaderboard.store.postgres import erasures
from leaderboard.worker.backoff import take_turns
from leaderboard.worker.seen import ErasuresSeen

LOOK_SECONDS = 1.0
"""How often the worker looks for erasures, and for how long the oldest has waited."""
MOST = 20
"""Erasures of one turn."""


async def once(tools: Tools, *, seen: ErasuresSeen | None = None) -> None:
    """Go on with up to MOST erasures; several workers may. Raises DatabaseUnavailable, RedisFailure, RedisError."""
    if seen is None:
        await control.carry_out(tools, limit=MOST)
        return
    try:
        # First, so that it is told also where what comes fails each time.
        seen.oldest(await erasures.oldest_pending(tools.pool))
    except Exception:
        seen.unknown()
        raise
    await control.carry_out(tools, limit=MOST, finished=seen.done)


async def run(tools: Tools, *, stop: asyncio.Event, seen: ErasuresSeen | None = None) -> None:
    """Carry out erasures until `stop` is set."""

    async def turn() -> bool:
        await once(tools, seen=seen)
        return False

    await take_turns("erasures", turn, stop=stop, pause=LOOK_SECONDS)
