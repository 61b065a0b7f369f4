"""What a resource says of itself changes when it has to, and only then."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard_operator.conditions import (
    ACCEPTED,
    AS_WISHED,
    CREDENTIALS,
    READY,
    STALLED,
    SYNCED,
    Condition,
    Event,
    merge,
    transition,
)

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = T0 + timedelta(minutes=5)
TYPES = (STALLED, ACCEPTED, CREDENTIALS, SYNCED, READY)


def say(type=READY, status=True, reason="Available", message="in service"):
    return Condition(type=type, status=status, reason=reason, message=message)


def said(*conditions, generation=1, now=T0):
    return merge((), conditions, generation=generation, now=now)


SAYING = st.builds(
    Condition,
    type=st.sampled_from(TYPES),
    status=st.sampled_from([True, False, None]),
    reason=st.sampled_from(["Available", "Suspended", "ReconcileError"]),
    message=st.sampled_from(["", "because"]),
)
VERDICTS = st.lists(SAYING, unique_by=lambda condition: condition.type)


class TestMerge:
    def test_a_new_condition_is_written_whole(self):
        assert said(say(), generation=7) == [
            {
                "type": "Ready",
                "status": "True",
                "observedGeneration": 7,
                "lastTransitionTime": "2026-03-01T12:00:00Z",
                "reason": "Available",
                "message": "in service",
            }
        ]

    def test_the_transition_time_stays_while_only_reason_message_and_generation_change(self):
        before = said(say(status=False, reason="Suspended"))
        (after,) = merge(before, [say(status=False, reason="Deleting", message="waits")], generation=2, now=LATER)
        assert after["lastTransitionTime"] == before[0]["lastTransitionTime"]
        assert (after["reason"], after["message"], after["observedGeneration"]) == ("Deleting", "waits", 2)

    @pytest.mark.parametrize("status", [True, False])
    def test_the_transition_time_moves_with_the_status(self, status):
        (after,) = merge(said(say(status=not status)), [say(status=status)], generation=1, now=LATER)
        assert after["lastTransitionTime"] == "2026-03-01T12:05:00Z"

    def test_a_condition_without_status_is_taken_away(self):
        before = said(say(STALLED), say())
        assert [found["type"] for found in merge(before, [say(STALLED, None)], generation=1, now=LATER)] == [READY]

    def test_taking_away_what_is_not_there_changes_nothing(self):
        before = said(say())
        assert merge(before, [say(STALLED, None)], generation=1, now=LATER) == before

    def test_one_that_comes_back_begins_a_new_time(self):
        gone = merge(said(say(STALLED)), [say(STALLED, None)], generation=1, now=T0)
        (back,) = merge(gone, [say(STALLED)], generation=1, now=LATER)
        assert back["lastTransitionTime"] == "2026-03-01T12:05:00Z"

    def test_conditions_of_others_stay_as_they_are(self):
        foreign = {"type": "example.com/Billed", "status": "Unknown", "reason": "Odd", "more": 1}
        assert merge([foreign], [say()], generation=1, now=T0)[0] == foreign

    def test_a_long_message_is_cut(self):
        (found,) = said(say(message="x" * 5000))
        assert found["message"] == "x" * 1024

    def test_what_was_said_before_is_not_changed_in_place(self):
        before = said(say())
        copy = [dict(condition) for condition in before]
        merge(before, [say(status=False)], generation=2, now=LATER)
        assert before == copy

    @given(st.lists(VERDICTS, max_size=4), VERDICTS)
    def test_saying_the_same_again_later_changes_nothing(self, history, verdict):
        current = []
        for earlier in history:
            current = merge(current, earlier, generation=1, now=T0)
        once = merge(current, verdict, generation=2, now=T0)
        assert merge(once, verdict, generation=2, now=LATER) == once

    @given(VERDICTS, VERDICTS)
    def test_each_type_is_there_once_and_the_time_tells_the_status(self, first, second):
        before = {found["type"]: found for found in merge((), first, generation=1, now=T0)}
        after = merge(before.values(), second, generation=2, now=LATER)
        assert len({found["type"] for found in after}) == len(after)
        for found in after:
            earlier = before.get(found["type"])
            moved = earlier is None or earlier["status"] != found["status"]
            assert found["lastTransitionTime"] == ("2026-03-01T12:05:00Z" if moved else "2026-03-01T12:00:00Z")


class TestTransition:
    def test_nothing_new_is_no_event(self):
        assert transition(said(say()), [say(message="put otherwise")]) is None

    def test_good_news_is_normal(self):
        assert transition((), [say(ACCEPTED), say()]) == Event(type="Normal", reason="Available", message="in service")

    def test_bad_news_is_a_warning_with_its_reason_and_message(self):
        news = say(SYNCED, False, "DatabaseUnavailable", "Postgres is away")
        assert transition(said(say(SYNCED)), [news]) == Event(
            type="Warning", reason="DatabaseUnavailable", message="Postgres is away"
        )

    def test_another_reason_for_the_same_status_is_told(self):
        event = transition(said(say(READY, False, "Suspended")), [say(READY, False, "Deleting")])
        assert event is not None
        assert event.reason == "Deleting"

    def test_bad_news_goes_before_good(self):
        event = transition((), [say(), say(CREDENTIALS, False, "SecretConflict", "in the way")])
        assert event is not None
        assert (event.type, event.reason) == ("Warning", "SecretConflict")

    def test_of_several_the_worst_comes_first_whatever_the_order_they_are_said_in(self):
        bad = [say(type, type == STALLED, f"From{type}") for type in TYPES]
        for order in permutations(bad):
            event = transition((), order)
            assert event is not None
            assert event.reason == f"From{STALLED}"
        for number, type in enumerate(TYPES):
            event = transition((), bad[number:])
            assert event is not None
            assert event.reason == f"From{type}"

    def test_old_bad_news_is_not_told_again_with_good_one(self):
        before = said(say(SYNCED, False, "RedisUnavailable"), say(READY, False, "RedisUnavailable"))
        event = transition(before, [say(SYNCED, False, "RedisUnavailable"), say()])
        assert event is not None
        assert (event.type, event.reason) == ("Normal", "Available")

    def test_being_stalled_is_bad_and_not_being_it_any_more_no_news(self):
        stalled = say(STALLED, True, "InvalidSpec", "plan must be one of ...")
        event = transition((), [stalled])
        assert event is not None
        assert (event.type, event.reason) == ("Warning", "InvalidSpec")
        assert transition(said(stalled), [say(STALLED, None)]) is None

    @pytest.mark.parametrize("reason", sorted(AS_WISHED))
    def test_what_the_user_wishes_is_told_and_no_warning(self, reason):
        news = say(READY, False, reason, "as asked")
        assert transition(said(say()), [news]) == Event(type="Normal", reason=reason, message="as asked")

    @given(VERDICTS, VERDICTS)
    def test_what_was_told_is_not_told_twice(self, first, second):
        current = merge(merge((), first, generation=1, now=T0), second, generation=1, now=T0)
        assert transition(current, second) is None
