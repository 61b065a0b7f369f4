"""Boards and plans: their bounds, and what may change."""

import msgspec
import pytest

from leaderboard.domain.boards import (
    MAX_ENTRIES_LIMIT,
    BoardSpec,
    ScoreUpdate,
    SortOrder,
    TiePolicy,
    check_change,
    check_spec,
)
from leaderboard.domain.errors import DomainError, ImmutableField, InvalidDocument, QuotaExceeded
from leaderboard.domain.plans import PLANS, QuotaOverrides, Quotas, check_room_for_board, effective

SPEC = BoardSpec(key="global")


@pytest.mark.parametrize("count", [0, 1, MAX_ENTRIES_LIMIT])
def test_max_entries_within_its_bounds_passes(count):
    assert check_spec(msgspec.structs.replace(SPEC, max_entries=count)).max_entries == count


@pytest.mark.parametrize("count", [-1, MAX_ENTRIES_LIMIT + 1])
def test_max_entries_out_of_bounds_is_refused(count):
    with pytest.raises(InvalidDocument, match="max_entries"):
        check_spec(msgspec.structs.replace(SPEC, max_entries=count))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "other"),
        ("sort_order", SortOrder.ASCENDING),
        ("score_update", ScoreUpdate.BEST),
        ("tie_policy", TiePolicy.SHARED),
    ],
)
def test_what_is_fixed_at_creation_cannot_change(field, value):
    with pytest.raises(ImmutableField, match=field) as refused:
        check_change(SPEC, msgspec.structs.replace(SPEC, **{field: value}))
    assert refused.value.field == field


def test_the_rest_can_change_within_its_bounds():
    wanted = msgspec.structs.replace(SPEC, max_entries=7, public_read=True, suspended=True)
    assert check_change(SPEC, wanted) == wanted
    with pytest.raises(InvalidDocument):
        check_change(SPEC, msgspec.structs.replace(SPEC, max_entries=-1))


def test_overrides_replace_only_what_they_name():
    free = PLANS["free"]
    assert effective(free, None) == free
    assert effective(free, QuotaOverrides()) == free
    assert effective(free, QuotaOverrides(max_leaderboards=0)) == Quotas(
        max_leaderboards=0, requests_per_second=free.requests_per_second
    )
    assert effective(free, QuotaOverrides(requests_per_second=7)) == Quotas(
        max_leaderboards=free.max_leaderboards, requests_per_second=7
    )


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        (QuotaOverrides(max_leaderboards=-1), "quotas.maxLeaderboards"),
        (QuotaOverrides(requests_per_second=0), "quotas.requestsPerSecond"),
        (QuotaOverrides(requests_per_second=-5), "quotas.requestsPerSecond"),
        (QuotaOverrides(requests_per_second=1_000_001), "quotas.requestsPerSecond"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused_by_name(overrides, field):
    with pytest.raises(InvalidDocument, match=field):
        effective(PLANS["free"], overrides)


def test_there_is_room_up_to_the_quota_and_not_past_it():
    quotas = Quotas(max_leaderboards=2, requests_per_second=1)
    check_room_for_board(quotas, boards=1)
    for boards in (2, 3):
        with pytest.raises(QuotaExceeded, match="maxLeaderboards = 2"):
            check_room_for_board(quotas, boards=boards)


def test_every_refusal_is_a_domain_error():
    for error in (ImmutableField("f", current=1, wanted=2), QuotaExceeded("q", limit=1), InvalidDocument("d")):
        assert isinstance(error, DomainError)
