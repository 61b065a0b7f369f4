"""When a board is reset: daylight saving, missed times, and what is refused."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain.errors import InvalidDocument
from leaderboard.domain.schedules import ResetSpec, check_reset, next_reset


def after(schedule: str, zone: str, when: str) -> str:
    found = next_reset(ResetSpec(schedule=schedule, time_zone=zone), datetime.fromisoformat(when).astimezone(UTC))
    assert found is not None
    assert found.utcoffset() == timedelta(0)
    return found.astimezone(ZoneInfo(zone)).isoformat()


@pytest.mark.parametrize(
    ("schedule", "zone", "when", "then"),
    [
        ("0 9 * * 1", "UTC", "2026-11-30T08:59:59+00:00", "2026-11-30T09:00:00+00:00"),
        ("0 9 * * 1", "UTC", "2026-11-30T09:00:00+00:00", "2026-12-07T09:00:00+00:00"),
        ("0 0 1 * *", "Asia/Tokyo", "2026-11-30T14:00:00+00:00", "2026-12-01T00:00:00+09:00"),
        ("0 0 1 * *", "Asia/Tokyo", "2026-11-30T15:00:00+00:00", "2027-01-01T00:00:00+09:00"),
        ("59 23 L * *", "UTC", "2028-02-01T00:00:00+00:00", "2028-02-29T23:59:00+00:00"),
        # Berlin, 2026-03-29: 02:00 to 03:00 does not happen. 2026-10-25: 02:00 to 03:00 happens twice.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T03:00:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
        # In the hour's second turn what would have been in its first is over.
        ("45 2 * * *", "Europe/Berlin", "2026-10-25T02:30:00+01:00", "2026-10-26T02:45:00+01:00"),
        # Of every hour: each hour that there is.
        ("0 * * * *", "Europe/Berlin", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"),
        ("0 * * * *", "Europe/Berlin", "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"),
        # A daily reset at midnight is a day of 23 or 25 hours away.
        ("0 0 * * *", "America/New_York", "2026-03-08T00:00:00-05:00", "2026-03-09T00:00:00-04:00"),
        ("0 0 * * *", "America/New_York", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"),
        # There, midnight itself is skipped.
        ("0 0 * * *", "America/Asuncion", "2023-09-30T12:00:00-04:00", "2023-10-01T01:00:00-03:00"),
    ],
)
def test_next(schedule, zone, when, then):
    assert after(schedule, zone, when) == then


@given(
    st.sampled_from(["0 9 * * 1", "30 2 * * *", "45 1 * * 0", "*/20 * * * *", "0 */6 * * *", "0 0 1 * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.integers(0, 15 * 366 * 86_400).map(
        lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    ),
)
def test_the_next_is_always_later_and_nothing_is_skipped_between(schedule, zone, when):
    reset = ResetSpec(schedule=schedule, time_zone=zone)
    found = next_reset(reset, when)
    assert found is not None
    assert found > when
    # Asked at any time until then, the answer is the same; so a look that comes late finds it.
    assert next_reset(reset, when + (found - when) / 2) == found
    assert next_reset(reset, found - timedelta(microseconds=1)) == found


def test_without_a_schedule_there_is_none():
    now = datetime(2026, 11, 30, tzinfo=UTC)
    assert next_reset(None, now) is None
    assert next_reset(ResetSpec(keep_seasons=3), now) is None


@pytest.mark.parametrize(
    "schedule",
    [
        *("", "* * * *", "0 9 * * 1 2026", "60 * * * *", "0 24 * * *", "0 0 31 2 *", "0 9 * * MONDAY", "a b c d e"),
        *("0 0 30 2 *", "1#2/2 * * * *", "* * * * 1#2/2", "@daily", "0 9 * * \u00b2L", "* * " + "1," * 60 + "1 * *"),
        *("0 0 * * 8", "5-1 * * * *", "*/0 * * * *", "\u0661 * * * *", "* * LW-2 * *"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(schedule):
    with pytest.raises(InvalidDocument, match=r"^reset: the schedule "):
        check_reset(ResetSpec(schedule=schedule))


@given(st.text("0123456789*/,-L#W ", max_size=20))
def test_no_text_breaks_the_check(schedule):
    try:
        reset = check_reset(ResetSpec(schedule=schedule))
    except InvalidDocument:
        return
    assert next_reset(reset, datetime(2026, 1, 1, tzinfo=UTC)) is not None


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "\0", "x" * 5000])
def test_a_time_zone_that_is_none_is_refused(zone):
    with pytest.raises(InvalidDocument, match=r"is not a time zone; write an IANA name"):
        check_reset(ResetSpec(time_zone=zone))


@pytest.mark.parametrize("keep", [-1, 10_001])
def test_the_number_of_seasons_to_keep_has_bounds(keep):
    with pytest.raises(InvalidDocument, match="seasons to keep"):
        check_reset(ResetSpec(keep_seasons=keep))
