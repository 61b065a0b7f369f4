"""What a script's refusal means to a client: the one place that turns words of Redis into problems.

Redis cannot tell a board that was never made from one it has lost: both have no meta. Postgres can, and is asked only
then; that a board does not exist is remembered for a second, so that a client polling a wrong name does not reach it
with every request.
"""

from collections.abc import Callable
from typing import NoReturn

from leaderboard.api import problems
from leaderboard.api.context import KeyContext
from leaderboard.api.problems import Problem
from leaderboard.store.postgres import boards
from leaderboard.store.postgres.pool import Pool
from leaderboard.store.redis.scores import Refusal

ABSENT_TTL = 1.0
MAX_ABSENT = 10_000

_PROBLEMS = {
    Refusal.BOARD_SUSPENDED: (problems.BOARD_SUSPENDED, None, None),
    # Not 403: who may not read a board is not told that there is one.
    Refusal.BOARD_NOT_PUBLIC: (problems.BOARD_NOT_FOUND, None, None),
    Refusal.OUTBOX_FULL: (problems.OUTBOX_FULL, None, 5.0),
    Refusal.SCORE_OUT_OF_RANGE: (problems.SCORE_OUT_OF_RANGE, None, None),
    Refusal.WRONG_FIELD_SUM: (problems.WRONG_SCORE_FIELD, "this is a sum leaderboard: send increment", None),
    Refusal.WRONG_FIELD_BEST: (problems.WRONG_SCORE_FIELD, "this is a best leaderboard: send score", None),
    Refusal.WRONG_FIELD_LATEST: (problems.WRONG_SCORE_FIELD, "this is a latest leaderboard: send score", None),
    Refusal.SEASON_OVER: (problems.SEASON_OVER, "the update is for a season that does not run", None),
    Refusal.IDEMPOTENCY_MISMATCH: (problems.IDEMPOTENCY_MISMATCH, None, None),
}


class Refusals:
    """Makes problems of refusals. `clock` gives monotonic seconds."""

    def __init__(self, pool: Pool, *, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._absent: dict[tuple[int, str], float] = {}

    async def problem(self, refusal: Refusal, context: KeyContext, key: str) -> Problem:
        """Return the problem that `refusal` is for board `key`. Raises DatabaseUnavailable."""
        if refusal is not Refusal.BOARD_UNAVAILABLE:
            kind, detail, retry_after = _PROBLEMS[refusal]
            return Problem(kind, detail, retry_after=retry_after)
        if await self._exists(context, key):
            return Problem(problems.BOARD_UNAVAILABLE, retry_after=5.0)
        return Problem(problems.BOARD_NOT_FOUND, f"the project {context.project!r} has no leaderboard {key!r}")

    async def refuse(self, refusal: Refusal, context: KeyContext, key: str) -> NoReturn:
        """Raise the problem that `refusal` is."""
        raise await self.problem(refusal, context, key)

    async def _exists(self, context: KeyContext, key: str) -> bool:
        name, now = (context.project_id, key), self._clock()
        if self._absent.get(name, 0.0) > now:
            return False
        if await boards.get(self._pool, context.project_id, key) is not None:
            return True
        if len(self._absent) >= MAX_ABSENT:
            self._absent.clear()
        self._absent[name] = now + ABSENT_TTL
        return False
