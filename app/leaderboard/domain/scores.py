"""Numbers: what a score may be, and how it crosses the wire to Redis.

A score is an IEEE 754 double, kept alone in the sorted set's score. It crosses to Lua as text with 17 significant
digits or Python's shortest round-trip form: both give back the same double, while Lua's ``tostring`` (``%.14g``)
would not.
"""

import math

from leaderboard.domain.errors import InvalidScore

MAX_EXACT = 2.0**53
"""Largest magnitude up to which every integer is a double. A Sum past it would silently swallow increments of 1."""


def check_number(value: float, *, field: str) -> float:
    """Return `value` with -0.0 made 0.0, or raise InvalidScore for NaN and the infinities."""
    if not math.isfinite(value):
        raise InvalidScore(f"{field} must be a finite number")
    return value + 0.0


def check_increment(value: float) -> float:
    """Return `value` as the increment of a Sum board, or raise InvalidScore beyond +-2^53."""
    if not -MAX_EXACT <= value <= MAX_EXACT:  # also false for NaN
        raise InvalidScore("increment must be between -2^53 and 2^53")
    return value + 0.0


def plain(value: float) -> int | float:
    """Return a whole score within +-2^53 as an int, so that JSON shows ``5`` and not ``5.0``."""
    if value.is_integer() and -MAX_EXACT <= value <= MAX_EXACT:
        return int(value)
    return value
