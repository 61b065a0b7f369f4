"""Tiers: names for stretches of a board, by rank or by share, such as Gold for the best ten percent."""

from collections.abc import Sequence

import msgspec

from leaderboard.domain import names
from leaderboard.domain.errors import InvalidDocument

MAX_TIERS = 20
"""Most tiers of one board."""
MAX_TOP = 10_000_000
"""Largest `top`: as many entries as a bounded board may have."""
MIN_PERCENT = 0.0001
"""Smallest `percent`, and its grain: a share is told in as many digits as a percentile."""

_GRAINS = 10_000  # of a percent
_ORDER = "list the best tier first, each bound larger than the ones of its kind before it"


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tier: ranks 1 to `top`, or the best `percent` of the board's entries; exactly one of the two."""

    name: str
    top: int | None = None
    percent: float | None = None


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Raise InvalidDocument or InvalidName where a board cannot have these tiers, best first."""
    if len(tiers) > MAX_TIERS:
        raise InvalidDocument(f"tiers: a board has at most {MAX_TIERS}, got {len(tiers)}")
    seen: set[str] = set()
    top, percent = 0, 0.0
    for tier in tiers:
        names.tier(tier.name)
        where = f"tiers: {tier.name!r}"
        if tier.name in seen:
            raise InvalidDocument(f"{where} is there twice; give each tier a name of its own")
        seen.add(tier.name)
        if (tier.top is None) == (tier.percent is None):
            raise InvalidDocument(f"{where} must have exactly one of top (a rank) and percent (a share of the board)")
        if tier.top is not None:
            if not 1 <= tier.top <= MAX_TOP:
                raise InvalidDocument(f"{where}: top must be 1 to {MAX_TOP}, got {tier.top}")
            if tier.top <= top:
                raise InvalidDocument(f"{where}: nobody could reach it, since a tier before it has top {top}; {_ORDER}")
            top = tier.top
        elif tier.percent is not None:
            # NaN is in no range.
            if not MIN_PERCENT <= tier.percent <= 100 or _grains(tier.percent) / _GRAINS != tier.percent:
                raise InvalidDocument(
                    f"{where}: percent must be {MIN_PERCENT} to 100, with at most four digits after the point, got"
                    f" {tier.percent!r}"
                )
            if tier.percent <= percent:
                raise InvalidDocument(
                    f"{where}: nobody could reach it, since a tier before it has percent {percent!r}; {_ORDER}"
                )
            percent = tier.percent


def _grains(percent: float) -> int:
    return int(percent * _GRAINS + 0.5)


def tier_of(tiers: Sequence[Tier], *, rank: int, total: int) -> str | None:
    """Return the name of the first tier that holds `rank` (from 1) among `total` entries, None where none does.

    `tiers` have passed `check_tiers`. A share holds rank <= ceil(total * percent / 100), reckoned in whole numbers.
    """
    for tier in tiers:
        if tier.top is not None:
            if rank <= tier.top:
                return tier.name
        # rank <= ceil(x) is rank - 1 < x.
        elif tier.percent is not None and (rank - 1) * 100 * _GRAINS < total * _grains(tier.percent):
            return tier.name
    return None
