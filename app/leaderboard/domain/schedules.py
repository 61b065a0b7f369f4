"""When a board is reset: cron expressions in a time zone.

The five fields are cron's. When clocks change it is as with Debian's cron, which people know: a time that is skipped
counts as the moment the clocks went forward, one that comes twice counts the first time, and schedules of every hour or
minute follow real time.
"""

import functools
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from leaderboard.domain.errors import InvalidDocument

MAX_SCHEDULE_LENGTH = 100
"""Most characters of a schedule."""
MAX_KEEP_SEASONS = 10_000
"""Largest `keep_seasons` accepted."""
MAX_GRACE_SECONDS = 86_400
"""Largest `grace_seconds` accepted."""

_SHAPE = re.compile(r"[0-9A-Za-z*/,#-]+( +[0-9A-Za-z*/,#-]+){4}").fullmatch
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class ResetSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a board's seasons come and go."""

    schedule: str | None = None
    """A cron expression of five fields (minute, hour, day of the month, month, day of the week); None: only by hand."""
    time_zone: str = "UTC"
    """An IANA name, such as ``Europe/Berlin``."""
    keep_seasons: int = 0
    """How many archived seasons are kept, the newest; 0 keeps all."""
    grace_seconds: int = 0
    """For how many seconds after its end a season takes late updates that name it; it is archived afterwards."""


def check_reset(reset: ResetSpec) -> ResetSpec:
    """Return `reset`, or raise InvalidDocument saying what is wrong with it."""
    if not 0 <= reset.keep_seasons <= MAX_KEEP_SEASONS:
        raise InvalidDocument(
            f"reset: the seasons to keep must be 0 (all) to {MAX_KEEP_SEASONS}, got {reset.keep_seasons}"
        )
    if not 0 <= reset.grace_seconds <= MAX_GRACE_SECONDS:
        raise InvalidDocument(f"reset: the grace must be 0 to {MAX_GRACE_SECONDS} seconds, got {reset.grace_seconds}")
    _zone(reset.time_zone)
    if reset.schedule is not None:
        _check_schedule(reset.schedule)
    return reset


def next_reset(reset: ResetSpec | None, after: datetime) -> datetime | None:
    """Return when the schedule comes next after `after` (both UTC), None where there is none.

    A time that was missed does not come back: who asks later gets a later one.
    """
    if reset is None or reset.schedule is None:
        return None
    # A local time that comes twice is the first of the two for CronSim, so that one after it may be in the past.
    return next((found for found in _times(reset.schedule, reset.time_zone, after) if found > after), None)


def _times(schedule: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    for found in CronSim(schedule, after.astimezone(_zone(time_zone))):
        yield found.astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidDocument(
            f"reset: {name[:60]!r} is not a time zone; write an IANA name such as UTC or Europe/Berlin"
        ) from None


@functools.lru_cache(maxsize=1_000)
def _check_schedule(schedule: str) -> None:
    where = f"reset: the schedule {schedule[:MAX_SCHEDULE_LENGTH]!r}"
    if len(schedule) > MAX_SCHEDULE_LENGTH:
        raise InvalidDocument(f"{where}... is longer than {MAX_SCHEDULE_LENGTH} characters")
    if not _SHAPE(schedule):
        raise InvalidDocument(
            f"{where} must have five fields of cron (minute, hour, day of the month, month, day of the week), such as"
            " '0 9 * * 1' for Mondays at 9:00"
        )
    try:
        found = next(_times(schedule, "UTC", _EPOCH), None)
    except (CronSimError, AssertionError, TypeError, ValueError) as error:
        # Some expressions that make no sense are found out by what they break in CronSim.
        why = str(error) if isinstance(error, CronSimError) else "it makes no sense"
        raise InvalidDocument(f"{where} cannot be used: {why}; for Mondays at 9:00 write '0 9 * * 1'") from None
    if found is None:
        raise InvalidDocument(f"{where} names a day that never comes")
