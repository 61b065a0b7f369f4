import pytest

from leaderboard.api import problems
from leaderboard.api.problems import Problem
from leaderboard.api.sessions import BURST, MAX_BUCKETS, REQUESTS_PER_SECOND, SessionLimiter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(limiter: SessionLimiter, name: str, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            limiter.take(name)
        except Problem:
            continue
        count += 1
    return count


def test_a_burst_and_then_the_rate():
    clock = Clock()
    limiter = SessionLimiter(clock=clock)
    assert taken(limiter, "a", 200) == BURST
    for second in range(1, 4):
        clock.now = second
        assert taken(limiter, "a", 200) == REQUESTS_PER_SECOND


def test_one_key_does_not_use_up_anothers():
    limiter = SessionLimiter(clock=Clock())
    taken(limiter, "a", 200)
    limiter.take("b")


def test_the_refusal_says_when_to_come_back():
    clock = Clock()
    limiter = SessionLimiter(clock=clock)
    taken(limiter, "a", int(BURST))
    with pytest.raises(Problem) as refused:
        limiter.take("a")
    assert refused.value.kind is problems.RATE_LIMITED
    assert refused.value.retry_after is not None
    clock.now += refused.value.retry_after
    limiter.take("a")


def test_memory_is_bounded_and_who_asks_is_not_forgotten():
    limiter = SessionLimiter(clock=Clock())
    taken(limiter, "busy", 200)
    for number in range(MAX_BUCKETS * 2):
        limiter.take(str(number))
        if number % 100 == 0:
            assert taken(limiter, "busy", 1) == 0
    assert len(limiter._buckets) <= MAX_BUCKETS
