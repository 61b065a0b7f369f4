"""What the update script answers, as the store understands it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leaderboard.domain.scores import plain
from leaderboard.store.redis.errors import UnexpectedReply
from leaderboard.store.redis.scores import Applied, Refusal, outcome

scores = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**60), 2**60).map(float))
ranks = st.one_of(st.none(), st.integers(1, 10**12))


def text(value):
    """A number as Lua writes it, or '-' for none."""
    if value is None:
        return "-"
    return f"{value:.17g}" if isinstance(value, float) else str(value)


@given(st.sampled_from("AR"), scores, ranks, st.one_of(st.none(), scores), ranks)
@example("A", 2.0**53, 1, 2.0**53 + 2, 1)
@example("A", 2.0**53 + 2, 1, 5.0, 2)
@example("A", 9_999_999_999_999_998.0, 1, 1e16, 2)
@example("A", 1e300, 1, 0.1, 2)
@example("A", 1e-7, 1, 0.0, 1)
def test_numbers_come_out_as_every_answer_shows_them(kind, score, rank, previous_score, previous_rank):
    parts = (score, rank, previous_score, previous_rank)
    got = outcome(f"{kind} {' '.join(map(text, parts))}".encode())
    previous = None if previous_score is None else plain(previous_score)
    assert got == Applied(plain(score), rank, previous, previous_rank, kind == "R")
    # A whole score within 2^53 is an int, any other a float: `5` and never `5.0` in JSON.
    assert (type(got.score), type(got.previous_score)) == (type(plain(score)), type(previous))


def test_a_refusal_is_none_of_the_numbers():
    assert outcome(b"E wrong-field s") is Refusal.WRONG_FIELD_SUM
    assert outcome(b"E score-out-of-range") is Refusal.SCORE_OUT_OF_RANGE
    with pytest.raises(UnexpectedReply):
        outcome(b"E something else")
