"""What is tried again, and when."""

import copy
import json
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leaderboard_sdk import ApiError, Conflict, InDoubt, NotFound, RateLimited, TransportError, Update, answers, core
from leaderboard_sdk.retries import Answer, Attempts, Done, Patience, Wait, refusal


def _attempts(call, *, max_attempts=5, max_wait=30.0):
    return Attempts(call, Patience(max_attempts=max_attempts, max_wait=max_wait), uniform=lambda low, high: high)


def _problem(status, kind, **headers):
    return Answer(status=status, headers=headers, content=json.dumps({"type": f"/problems/{kind}"}).encode())


def _update():
    return core.update("b", "u", increment=1, score=None, idempotency_key="k")


LOST = TransportError("cut", sent=True)
NOT_SENT = TransportError("refused", sent=False)


def test_pauses_double_up_to_five_seconds() -> None:
    state = _attempts(_update(), max_attempts=9, max_wait=100)
    assert [state.lost(LOST).seconds for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_the_last_attempts_error_is_raised_with_its_key() -> None:
    state = _attempts(_update(), max_attempts=2)
    state.lost(LOST)
    with pytest.raises(InDoubt) as raised:
        state.answered(_problem(503, "in-doubt"))
    assert raised.value.idempotency_key == "k"


def test_retry_after_is_the_least_pause() -> None:
    step = _attempts(_update()).answered(_problem(429, "rate-limited", **{"retry-after": "3"}))
    assert isinstance(step, Wait)
    assert step.seconds >= 3


def test_a_retry_after_past_the_patience_raises_at_once() -> None:
    with pytest.raises(RateLimited) as raised:
        _attempts(_update()).answered(_problem(429, "rate-limited", **{"retry-after": "31"}))
    assert raised.value.retry_after == 31


def test_another_4xx_is_never_tried_again() -> None:
    with pytest.raises(NotFound):
        _attempts(_update()).answered(_problem(404, "board-not-found"))


def test_a_delete_answered_404_is_done_only_after_an_uncertain_attempt() -> None:
    gone = _problem(404, "user-not-found")
    state = _attempts(core.remove_member("b", "u"))
    state.lost(LOST)
    assert state.answered(gone) == Done(None)
    state = _attempts(core.remove_member("b", "u"))
    state.lost(NOT_SENT)
    with pytest.raises(NotFound):
        state.answered(gone)


def test_making_a_board_is_tried_again_only_where_nothing_was_done() -> None:
    assert isinstance(_attempts(core.create_leaderboard("b")).lost(NOT_SENT), Wait)
    assert isinstance(_attempts(core.create_leaderboard("b")).answered(_problem(503, "overloaded")), Wait)
    with pytest.raises(TransportError):
        _attempts(core.create_leaderboard("b")).lost(LOST)
    with pytest.raises(Conflict):
        _attempts(core.create_leaderboard("b")).answered(_problem(409, "board-exists"))


def test_updates_are_split_at_a_thousand_under_keys_that_repeat() -> None:
    updates = [Update(leaderboard="b", user="u", increment=1)] * 2001
    calls = core.update_many(updates, idempotency_key="k")
    assert [len(json.loads(call.content)["updates"]) for call in calls] == [1000, 1000, 1]
    assert [call.idempotency_key for call in calls] == ["k", "k.1", "k.2"]


def test_a_batch_whose_second_request_failed_is_repeated_whole_under_the_key_of_the_first() -> None:
    updates = [Update(leaderboard="b", user="u", increment=1)] * 1001
    second = core.update_many(updates, idempotency_key=None)[1]
    with pytest.raises(TransportError) as raised:
        _attempts(second, max_attempts=1).lost(LOST)
    key = raised.value.idempotency_key
    assert [call.idempotency_key for call in core.update_many(updates, idempotency_key=key)] == [
        key,
        second.idempotency_key,
    ]


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_errors_are_copied_whole(again) -> None:
    refused = refusal(_problem(429, "rate-limited", **{"retry-after": "3"}))
    refused.idempotency_key = "k"
    for error in (refused, LOST):
        twin = again(error)
        assert (type(twin), str(twin), twin.__dict__) == (type(error), str(error), error.__dict__)


@given(st.text(), st.text())
@example("Thu, 99 Foo 99999999999999999999 99:99:99 +9999999999999", "Wed, 21 Oct 2015 07:28:00 GMT")
@example("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 -2400")
def test_no_header_of_an_answer_hides_its_error(retry_after: str, date: str) -> None:
    error = refusal(_problem(503, "overloaded", **{"retry-after": retry_after, "date": date}))
    assert isinstance(error, ApiError)
    assert error.retry_after is None or error.retry_after >= 0


def test_a_decision_is_repeated_as_it_was_after_a_lost_answer() -> None:
    for decision in ("release", "reject"):
        call = core.decide("b", "0" * 32, decision, note="why")
        state = _attempts(call)
        assert isinstance(state.lost(LOST), Wait)
        assert json.loads(call.content or b"") == {"note": "why"}


def test_an_older_platform_may_say_nothing_of_what_is_held() -> None:
    times = {"created_at": "2026-01-31T09:00:00Z", "updated_at": "2026-01-31T09:00:00Z", "next_reset": None}
    rules = {"key": "b", "score_update": "sum", "sort_order": "descending", "tie_policy": "shared", "max_entries": 0}
    more = {"public_read": False, "suspended": False, "managed": False, "reset": None, "season": 1}
    assert answers.leaderboard(rules | more | times).bounds is None
    counts = dict.fromkeys(("entries", "events", "checkpoints", "season_lines", "snapshots", "set_aside"), 1)
    assert answers.Touched.read(counts).held == 0
    with pytest.raises(KeyError, match="set_aside"):
        answers.Touched.read({name: count for name, count in counts.items() if name != "set_aside"})
