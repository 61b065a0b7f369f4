from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain.bills import Prices, bill

PRO = Prices(monthly=Decimal(29), included_updates=50_000_000, per_million=Decimal("0.50"))


@pytest.mark.parametrize(
    ("updates", "further"),
    [
        (0, "0.00"),
        (50_000_000, "0.00"),
        (50_009_999, "0.00"),  # 0.4999.. cents
        (50_010_000, "0.01"),  # half a cent, up
        (51_000_000, "0.50"),
        (250_000_000, "100.00"),
    ],
)
def test_what_is_beyond_the_plan_is_billed_by_the_million(updates, further):
    made = bill(PRO, score_updates=updates)
    assert [str(line.amount) for line in made.lines] == ["29.00", further]
    assert made.total == Decimal(29) + Decimal(further)


@given(st.integers(0, 10**13), st.integers(0, 10**13))
def test_more_never_costs_less_and_no_cent_is_lost(first, more):
    less, greater = bill(PRO, score_updates=first), bill(PRO, score_updates=first + more)
    assert less.total <= greater.total
    assert greater.total == sum(line.amount for line in greater.lines)
    exact = Decimal(max(0, first - PRO.included_updates)) * PRO.per_million / 1_000_000 + PRO.monthly
    assert abs(less.total - exact) <= Decimal("0.005")
