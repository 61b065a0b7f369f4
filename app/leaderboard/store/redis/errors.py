"""What can go wrong with Redis, one tree::

    RedisFailure
    ├── RedisUnavailable     nothing was done; the call may be made again as it is
    │   ├── BoardUnavailable one board is not there, or is being restored; Redis itself is well
    │   └── RedisOverloaded  too many calls are under way in this process
    ├── InDoubt              the call was sent and no answer came: it may or may not have been done
    └── UnexpectedReply      Redis refused a script or answered what we do not understand: a bug, or a foreign key

The API answers 503 to the first two, each with its own problem type, and never takes one for the other.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError


class RedisFailure(Exception):
    """Redis did not do what was asked."""


class RedisUnavailable(RedisFailure):
    """Redis cannot be reached, or refused before doing anything (loading, read-only, out of memory)."""


class BoardUnavailable(RedisUnavailable):
    """Redis has nothing of the board, or it is being restored."""


class RedisOverloaded(RedisUnavailable):
    """The bound on calls in flight is reached."""


class InDoubt(RedisFailure):
    """The connection failed after the call was sent: whether it took effect is not known."""


class UnexpectedReply(RedisFailure):
    """An error reply that no state of a healthy installation explains."""


@asynccontextmanager
async def redis_failures() -> AsyncIterator[None]:
    """Let what redis-py raises inside the block be RedisUnavailable: for calls that may be made again as they are."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise RedisUnavailable(f"Redis did not do it: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """What Redis said; of a pipeline without the command, which redis-py puts first and which may have user ids."""
    _, pipelined, said = str(error).rpartition(" of pipeline caused error: ")
    return said.strip("(),'\"") if pipelined else said
