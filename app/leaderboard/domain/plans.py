"""Plans and quotas: what a tenant may have and how fast it may ask."""

import msgspec

from leaderboard.domain.errors import InvalidDocument, QuotaExceeded


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force for one tenant: its plan's, with the tenant's own overrides.

    `max_leaderboards` counts boards over all projects; `requests_per_second` is the sustained rate over all API
    processes and keys of the tenant, and also the burst.
    """

    max_leaderboards: int
    requests_per_second: int


class QuotaOverrides(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A tenant's own limits; None keeps the plan's."""

    max_leaderboards: int | None = None
    requests_per_second: int | None = None


PLANS: dict[str, Quotas] = {
    "free": Quotas(max_leaderboards=10, requests_per_second=100),
    "pro": Quotas(max_leaderboards=1_000, requests_per_second=2_000),
    "enterprise": Quotas(max_leaderboards=100_000, requests_per_second=50_000),
}
"""The plans a new installation starts with; the rows of the `plans` table are what counts afterwards."""

MAX_REQUESTS_PER_SECOND = 1_000_000
MAX_LEADERBOARDS = 1_000_000
"""Largest `max_leaderboards` that a tenant may ask for."""


def check_overrides(overrides: QuotaOverrides) -> QuotaOverrides:
    """Return `overrides`, or raise InvalidDocument where one is not a sensible number."""
    boards, rate = overrides.max_leaderboards, overrides.requests_per_second
    if boards is not None and not 0 <= boards <= MAX_LEADERBOARDS:
        raise InvalidDocument(f"quotas.maxLeaderboards must be 0 to {MAX_LEADERBOARDS}, got {boards}")
    if rate is not None and not 1 <= rate <= MAX_REQUESTS_PER_SECOND:
        raise InvalidDocument(f"quotas.requestsPerSecond must be 1 to {MAX_REQUESTS_PER_SECOND}, got {rate}")
    return overrides


def effective(plan: Quotas, overrides: QuotaOverrides | None) -> Quotas:
    """Return the limits in force, or raise InvalidDocument where an override is not a sensible number."""
    if overrides is None:
        return plan
    check_overrides(overrides)
    boards, rate = overrides.max_leaderboards, overrides.requests_per_second
    return Quotas(
        max_leaderboards=plan.max_leaderboards if boards is None else boards,
        requests_per_second=plan.requests_per_second if rate is None else rate,
    )


def check_room_for_board(quotas: Quotas, *, boards: int) -> None:
    """Raise QuotaExceeded when a tenant that has `boards` boards may not make one more."""
    if boards >= quotas.max_leaderboards:
        raise QuotaExceeded("maxLeaderboards", limit=quotas.max_leaderboards)
