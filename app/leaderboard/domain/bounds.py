"""What a board believes: bounds of its scores, and of how much a member gains in an interval.

An update that breaks them is held: it changes nothing of the board until somebody releases it.
"""

import math
from enum import StrEnum

import msgspec

from leaderboard.domain.errors import InvalidDocument

MAX_INTERVAL_SECONDS = 7 * 86_400
"""Longest interval of `max_gain`."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of a board; None is no bound. `max_gain` and `per_seconds` come together."""

    min_score: float | None = None
    """Smallest score that a member may reach."""
    max_score: float | None = None
    """Largest score that a member may reach."""
    max_gain: float | None = None
    """How much a member may gain, toward the board's best end, in one interval. Losses do not give it back."""
    per_seconds: int | None = None
    """Length of the interval: intervals follow one another from 1970-01-01 00:00 UTC on."""


class Broken(StrEnum):
    """Which bound an update broke; the values are the script's words."""

    MIN_SCORE = "min_score"
    MAX_SCORE = "max_score"
    MAX_GAIN = "max_gain"


def check_bounds(bounds: Bounds) -> Bounds:
    """Return `bounds`, or raise InvalidDocument saying what is wrong with them."""
    for name in ("min_score", "max_score", "max_gain"):
        value = getattr(bounds, name)
        if value is not None and not math.isfinite(value):
            raise InvalidDocument(f"bounds: {_words(name)} must be a finite number")
    low, high = bounds.min_score, bounds.max_score
    if low is not None and high is not None and low > high:
        raise InvalidDocument(f"bounds: the smallest score ({low:g}) must not be above the largest ({high:g})")
    if (bounds.max_gain is None) != (bounds.per_seconds is None):
        raise InvalidDocument("bounds: the largest gain and the seconds of its interval come together")
    if bounds.max_gain is not None and bounds.max_gain <= 0:
        raise InvalidDocument(f"bounds: the largest gain must be above 0, got {bounds.max_gain:g}")
    if bounds.per_seconds is not None and not 1 <= bounds.per_seconds <= MAX_INTERVAL_SECONDS:
        raise InvalidDocument(
            f"bounds: the interval must be 1 to {MAX_INTERVAL_SECONDS} seconds, got {bounds.per_seconds}"
        )
    if low is None and high is None and bounds.max_gain is None:
        raise InvalidDocument("bounds: name a smallest score, a largest score or a largest gain, or leave bounds out")
    return bounds


def _words(name: str) -> str:
    return {"min_score": "the smallest score", "max_score": "the largest score", "max_gain": "the largest gain"}[name]
