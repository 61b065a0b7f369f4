"""Tiers: whom they hold, against their definition in exact fractions; and what is refused."""

import math
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain.errors import InvalidDocument, InvalidName
from leaderboard.domain.tiers import MAX_TIERS, MAX_TOP, MIN_PERCENT, Tier, check_tiers, tier_of


def top(count, name="a"):
    return Tier(name=name, top=count)


def share(percent, name="a"):
    return Tier(name=name, percent=percent)


@pytest.mark.parametrize(
    ("tier", "rank", "total", "held"),
    [
        (top(1), 1, 1, True),
        (top(3), 3, 10, True),
        (top(3), 4, 10, False),
        (top(MAX_TOP), 2, 2, True),
        (share(10), 1, 1, True),  # a share is rounded up: rank 1 is in every one
        (share(MIN_PERCENT), 1, 1, True),
        (share(MIN_PERCENT), 2, 1_000_000, False),
        (share(MIN_PERCENT), 2, 1_000_001, True),
        (share(10), 1, 10, True),
        (share(10), 2, 10, False),
        (share(10), 2, 11, True),
        (share(50), 2, 3, True),
        (share(50), 3, 3, False),
        (share(100), 7, 7, True),
        # In floating point 0.57 of 10,000 would be 56.99..., and 1.1 of 1,000 more than 11.
        (share(0.57), 57, 10_000, True),
        (share(0.57), 58, 10_000, False),
        (share(1.1), 11, 1_000, True),
        (share(1.1), 12, 1_000, False),
    ],
)
def test_a_tier_holds_the_ranks_within_its_bound(tier, rank, total, held):
    assert tier_of([tier], rank=rank, total=total) == ("a" if held else None)


def test_the_first_that_holds_counts_whatever_its_kind():
    tiers = [top(3, "podium"), share(10, "gold"), top(50, "fifty"), share(50, "half")]
    check_tiers(tiers)
    assert [tier_of(tiers, rank=rank, total=1000) for rank in (1, 3, 4, 50, 100, 101, 500, 501)] == [
        *("podium", "podium", "gold", "gold", "gold", "half", "half", None)
    ]
    assert [tier_of(tiers, rank=rank, total=60) for rank in (3, 6, 7, 50, 51)] == [
        *("podium", "gold", "fifty", "fifty", None)
    ]
    assert tier_of([], rank=1, total=1) is None


tops = st.integers(1, 60)
percents = st.integers(1, 1_000_000).map(lambda grains: grains / 10_000)


@st.composite
def lists(draw):
    """Tiers of both kinds in any mixture, the bounds of each growing."""
    ranks = sorted(draw(st.sets(tops, max_size=6)), reverse=True)
    shares = sorted(draw(st.sets(percents, max_size=6)), reverse=True)
    found = []
    while ranks or shares:
        name = f"t{len(found)}"
        of_ranks = ranks and (not shares or draw(st.booleans()))
        found.append(top(ranks.pop(), name) if of_ranks else share(shares.pop(), name))
    return found


@given(lists(), st.integers(1, 70))
def test_every_rank_is_in_the_first_tier_whose_bound_holds_it(tiers, total):
    check_tiers(tiers)
    for rank in range(1, total + 1):
        wanted = None
        for tier in reversed(tiers):
            # What was written, in decimal.
            last = tier.top if tier.percent is None else math.ceil(total * Fraction(repr(tier.percent)) / 100)
            if rank <= last:
                wanted = tier.name
        assert tier_of(tiers, rank=rank, total=total) == wanted


@given(percents)
def test_a_percent_of_four_digits_is_taken_as_it_is_written(percent):
    check_tiers([share(percent)])
    assert msgspec.json.decode(msgspec.json.encode(share(percent)), type=Tier) == share(percent)


def test_as_many_as_allowed_are_taken():
    check_tiers([top(number, f"t{number}") for number in range(1, MAX_TIERS + 1)])
    check_tiers([])


@pytest.mark.parametrize("name", ["a", "G" * 32, "Top 10 %", "Ürün III", "黄金", "🏆 Gold 🏆"])
def test_a_name_is_any_visible_text(name):
    check_tiers([top(1, name)])


@pytest.mark.parametrize(
    "name", ["", " ", "a ", " a", "a  b", "a\n", "a\tb", "\x00", "\x7f", "\x85", "\xa0", "a\xa0b", "\ud800", "G" * 33]
)
def test_a_name_that_cannot_be_read_is_refused(name):
    with pytest.raises(InvalidName, match=r"tiers: the name .* must be 1-32 visible characters"):
        check_tiers([top(1, name)])


@pytest.mark.parametrize(
    ("tiers", "says"),
    [
        ([top(1), top(2)], "'a' is there twice; give each tier a name of its own"),
        ([Tier(name="a")], "exactly one of top .* and percent"),
        ([Tier(name="a", top=1, percent=1)], "exactly one of top .* and percent"),
        ([top(0)], "top must be 1 to 10000000, got 0"),
        ([top(-1)], "top must be 1 to"),
        ([top(MAX_TOP + 1)], "top must be 1 to"),
        ([share(0)], "percent must be 0.0001 to 100"),
        ([share(-1)], "percent must be"),
        ([share(100.0001)], "percent must be"),
        ([share(0.00009)], "percent must be"),
        ([share(33.33333)], "at most four digits after the point, got 33.33333"),
        ([share(math.nan)], "percent must be"),
        ([share(math.inf)], "percent must be"),
        ([share(10**400)], "percent must be"),
        ([top(5, "b"), top(5)], "'a': nobody could reach it, since a tier before it has top 5; list the best tier"),
        ([top(5, "b"), share(1, "c"), top(4)], "'a': nobody could reach it, since a tier before it has top 5"),
        ([share(5, "b"), share(5)], "'a': nobody could reach it, since a tier before it has percent 5"),
        ([share(5, "b"), top(1, "c"), share(4.9999)], "'a': nobody could reach it"),
        ([top(number + 1, f"t{number}") for number in range(MAX_TIERS + 1)], "at most 20, got 21"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(tiers, says):
    with pytest.raises(InvalidDocument, match=f"^tiers: .*{says}"):
        check_tiers(tiers)
