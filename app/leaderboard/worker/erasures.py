"""Erasures of members that somebody asked for: carried out until each has its receipt."""

import asyncio

from leaderboard.control import erasures as control
from leaderboard.control.tools import Tools
from leaderboard.worker.backoff import take_turns

LOOK_SECONDS = 1.0
"""How often the worker looks for erasures."""
MOST = 20
"""Erasures of one turn."""


async def run(tools: Tools, *, stop: asyncio.Event) -> None:
    """Carry out erasures until `stop` is set."""

    async def turn() -> bool:
        await control.carry_out(tools, limit=MOST)
        return False

    await take_turns("erasures", turn, stop=stop, pause=LOOK_SECONDS)
