"""Numbers: what may be a score."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain.errors import InvalidScore
from leaderboard.domain.scores import MAX_EXACT, check_increment, check_number, plain


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(InvalidScore, match="score"):
        check_number(value, field="score")
    with pytest.raises(InvalidScore, match="increment"):
        check_increment(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_finite_number_stays_what_it_is(value):
    assert check_number(value, field="score") == value


@pytest.mark.parametrize("check", [check_increment, lambda value: check_number(value, field="score")])
def test_there_is_no_negative_zero(check):
    assert math.copysign(1, check(-0.0)) == 1


@pytest.mark.parametrize("value", [MAX_EXACT, -MAX_EXACT, 5e-324, 0.1])
def test_an_increment_within_the_exact_range_passes(value):
    assert check_increment(value) == value


@pytest.mark.parametrize("value", [MAX_EXACT + 2, -MAX_EXACT - 2, 1e308])
def test_an_increment_past_the_exact_range_is_refused(value):
    with pytest.raises(InvalidScore, match="increment"):
        check_increment(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_shown_score_reads_back_as_the_same_number(value):
    shown = plain(value)
    assert float(json.loads(json.dumps(shown))) == value
    assert isinstance(shown, int) == (value.is_integer() and abs(value) <= 2**53)


def test_a_whole_score_is_shown_without_a_point():
    assert json.dumps(plain(5.0)) == "5"
    assert json.dumps(plain(-0.0)) == "0"
    assert json.dumps(plain(0.5)) == "0.5"
