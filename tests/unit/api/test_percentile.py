"""The percentile of a rank, against its definition in exact fractions."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.api.resources.reads import percentile


@pytest.mark.parametrize(
    ("rank", "total", "wanted"),
    [(1, 1, 100), (1, 4, 100), (2, 4, 75), (4, 4, 25), (3, 3, 33.3333), (2, 10**7, 99.9999), (10**7, 10**7, 0)],
)
def test_it_is_the_share_that_is_not_better(rank, total, wanted):
    assert percentile(rank, total) == wanted


@given(st.integers(1, 10**12), st.data())
def test_it_is_rounded_down_to_four_digits_and_100_for_the_best_alone(total, data):
    rank = data.draw(st.integers(1, total))
    told = percentile(rank, total)
    exact = Fraction(100 * (total - rank + 1), total)
    digits = round(told * 10_000)
    assert told == digits / 10_000
    assert digits <= exact * 10_000 < digits + 1
    assert (told == 100) == (rank == 1)
