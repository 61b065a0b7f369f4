"""What is sent and what comes back. Fields an answer has more are ignored: the API may add some."""

import dataclasses
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Protocol, Self

from leaderboard_sdk.errors import ApiError, of_problem


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """One update: `increment` for a sum leaderboard, `score` for a best or latest one."""

    leaderboard: str
    user: str
    increment: float | None = None
    score: float | None = None
    season: int | None = None
    """The season it is for; in another it is a Conflict."""

    def body(self) -> dict[str, Any]:
        """Return it as the API takes it. Raises ValueError unless it has exactly one of the two."""
        if (self.increment is None) == (self.score is None):
            raise ValueError("send exactly one of increment (sum) and score (best, latest)")
        number = {"score": self.score} if self.increment is None else {"increment": self.increment}
        season = {} if self.season is None else {"season": self.season}
        return {"leaderboard": self.leaderboard, "user": self.user, **number, **season}


class Page(Protocol):
    """One page of several; `next_cursor` is None on the last."""

    @property
    def next_cursor(self) -> str | None:
        """What the next page is asked for with."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    @classmethod
    def read(cls, body: Mapping[str, Any], **given: Any) -> Self:
        """Read it from an answer; `given` takes the place of fields of that name. Raises KeyError if one is missing.

        One with a default may be missing: an older platform does not send it.
        """
        names = (
            field.name
            for field in dataclasses.fields(cls)
            if field.default is dataclasses.MISSING or field.name in given or field.name in body
        )
        return cls(**{name: given[name] if name in given else body[name] for name in names})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Held(_Read):
    """Why an update waits for a decision (``min_score``, ``max_score``, ``max_gain``), and under which id."""

    id: str
    bound: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UpdateResult(_Read):
    """The answer to one update. `rank` is None for who fell out, the previous ones for who was not on the board.

    `replayed`: the update had been done before under its key, by an earlier attempt for one. With `held`, it broke the
    leaderboard's bounds and nothing changed: `score` is what it would have been, and `rank` is None.
    """

    leaderboard: str
    user: str
    score: float
    rank: int | None
    previous_score: float | None
    previous_rank: int | None
    replayed: bool
    held: Held | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry(_Read):
    """One row of a leaderboard; ranks start at 1."""

    rank: int
    user: str
    score: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Top(_Read):
    """One page; `next_cursor` is None on the last, `total` is how many are on the board."""

    leaderboard: str
    total: int
    entries: list[Entry]
    next_cursor: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rank(_Read):
    """One user's entry. `percentile` is the share of entries that are not better, itself among them: rank 1 has 100.

    `tier` is the name of the first tier of the leaderboard that holds it, None where none does.
    """

    leaderboard: str
    rank: int
    user: str
    score: float
    total: int
    percentile: float
    tier: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HistoryTop(_Read):
    """One page of a leaderboard as it was at `at`; `next_cursor` is None on the last."""

    leaderboard: str
    at: datetime
    total: int
    entries: list[Entry]
    next_cursor: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HistoryRank(_Read):
    """One user's entry as it was at `at`."""

    leaderboard: str
    at: datetime
    rank: int
    user: str
    score: float
    total: int
    percentile: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Around(_Read):
    """The entries around a user."""

    leaderboard: str
    total: int
    entries: list[Entry]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Members(_Read):
    """The entries found, in the order asked, and who is not on the board."""

    leaderboard: str
    total: int
    entries: list[Entry]
    missing: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ResetRule(_Read):
    """How a leaderboard's seasons come and go: cron's five fields, or by hand only; `keep_seasons` 0 keeps all.

    For `grace_seconds` after its end a season takes late updates that name it.
    """

    schedule: str | None = None
    time_zone: str = "UTC"
    keep_seasons: int = 0
    grace_seconds: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tier(_Read):
    """A name for ranks 1 to `top`, or for the best `percent` of the entries; exactly one of the two."""

    name: str
    top: int | None = None
    percent: float | None = None

    def body(self) -> dict[str, Any]:
        """Return it as the API takes it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bounds(_Read):
    """What a leaderboard believes; None is no bound. `max_gain`, toward its best end, is for each `per_seconds`."""

    min_score: float | None = None
    max_score: float | None = None
    max_gain: float | None = None
    per_seconds: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Leaderboard(_Read):
    """The rules of one leaderboard; `max_entries` 0 is no bound. `season` runs, until `next_reset` by its schedule.

    `tiers` are best first.
    """

    key: str
    score_update: str
    sort_order: str
    tie_policy: str
    max_entries: int
    public_read: bool
    suspended: bool
    managed: bool
    reset: ResetRule | None
    tiers: list[Tier]
    season: int
    next_reset: datetime | None
    created_at: datetime
    updated_at: datetime
    bounds: Bounds | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardPage(_Read):
    """One page of the project's leaderboards; `next_cursor` is None on the last."""

    leaderboards: list[Leaderboard]
    next_cursor: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Season(_Read):
    """A season that is over. `entries` and `checksum` are None until it is `archived`, and can be read.

    It is not before `late_until`, where it takes late updates.
    """

    season: int
    ended_at: datetime
    archived: bool
    entries: int | None
    checksum: str | None
    late_until: datetime | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Seasons(_Read):
    """One page of the seasons that are over, newest first, and the one that runs; `next_cursor` is None on the last."""

    leaderboard: str
    season: int
    seasons: list[Season]
    next_cursor: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SignedSeason(_Read):
    """What a season ended with, signed with Ed25519: the text of the first eight values, a line feed after each.

    `ended_at` is as the API wrote it, which is what was signed. The last two are None where the platform
    has no key; trust a public key that you know from elsewhere, not this one.
    """

    format: str
    tenant: str
    project: str
    leaderboard: str
    season: int
    ended_at: str
    entries: int
    checksum: str
    signature: str | None
    public_key: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SeasonTop(_Read):
    """One page of final standings; `next_cursor` is None on the last, `total` is how many there are."""

    leaderboard: str
    season: int
    total: int
    entries: list[Entry]
    next_cursor: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SeasonRank(_Read):
    """The score and rank one user ended a season with."""

    leaderboard: str
    season: int
    rank: int
    user: str
    score: float
    total: int
    percentile: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeldUpdate(_Read):
    """An update that broke the leaderboard's bounds, and what became of it.

    While it waits, `score` and `rank` are what it would come to if it were released now; None where it cannot be.
    `decided_by` is the id of an API key.
    """

    id: str
    user: str
    season: int
    submitted: float
    bound: str
    held_at: datetime
    state: str
    score: float | None
    rank: int | None
    decided_at: datetime | None
    decided_by: str | None
    note: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeldUpdates(_Read):
    """One page of held updates, newest first; `next_cursor` is None on the last."""

    leaderboard: str
    held: list[HeldUpdate]
    next_cursor: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UsageDay(_Read):
    """One UTC day: requests admitted, updates in the ledger, requests answered 429."""

    day: date
    requests: int
    score_updates: int
    rate_limited: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Use of the key's project from `from_` to `to`, both included. Days without any are left out."""

    project: str
    from_: date
    to: date
    days: list[UsageDay]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UserData(_Read):
    """One page of a user's data; `next_cursor` is None on the last. The records are as the API sends them.

    Each has `kind` (standing, checkpoint, season, event, held), `leaderboard`, `deleted`, and what belongs to its kind.
    """

    user: str
    records: list[dict[str, Any]]
    next_cursor: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Touched(_Read):
    """How much there was of a user, or is: places on boards, rows of the ledger and of final standings, and so on."""

    entries: int
    events: int
    checkpoints: int
    season_lines: int
    snapshots: int
    set_aside: int
    held: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Erasure(_Read):
    """An erasure; once `state` is ``done``, its receipt. `leaderboards` has what was touched of each, as it is sent."""

    id: str
    state: str
    subject: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    attempts: int
    waits_for: str | None
    touched: Touched
    leaderboards_touched: int
    leaderboards: list[dict[str, Any]]
    mac: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ErasureCheck(_Read):
    """What a look at a receipt came to. `verified`: it is intact, the user's, and nothing of the user was found."""

    id: str
    state: str
    verified: bool
    intact: bool
    subject: bool
    found: Touched


Item = UpdateResult | ApiError
"""One result of a batch: an update is applied or refused on its own."""


def _entries(body: Mapping[str, Any]) -> list[Entry]:
    return [Entry.read(entry) for entry in body["entries"]]


def top(body: Mapping[str, Any]) -> Top:
    """Read a page of entries."""
    return Top.read(body, entries=_entries(body))


def history_top(body: Mapping[str, Any]) -> HistoryTop:
    """Read a page of entries of the past."""
    return HistoryTop.read(body, at=datetime.fromisoformat(body["at"]), entries=_entries(body))


def history_rank(body: Mapping[str, Any]) -> HistoryRank:
    """Read one user's entry of the past."""
    return HistoryRank.read(body, at=datetime.fromisoformat(body["at"]))


def around(body: Mapping[str, Any]) -> Around:
    """Read a window."""
    return Around.read(body, entries=_entries(body))


def members(body: Mapping[str, Any]) -> Members:
    """Read several users' entries."""
    return Members.read(body, entries=_entries(body))


def leaderboard(body: Mapping[str, Any]) -> Leaderboard:
    """Read a leaderboard's rules."""
    times = {name: datetime.fromisoformat(body[name]) for name in ("created_at", "updated_at")}
    reset = None if body["reset"] is None else ResetRule.read(body["reset"])
    next_reset = None if body["next_reset"] is None else datetime.fromisoformat(body["next_reset"])
    bounds = None if body.get("bounds") is None else Bounds.read(body["bounds"])
    tiers = [Tier.read(each, top=each.get("top"), percent=each.get("percent")) for each in body.get("tiers") or []]
    return Leaderboard.read(body, reset=reset, bounds=bounds, tiers=tiers, next_reset=next_reset, **times)


def leaderboards(body: Mapping[str, Any]) -> LeaderboardPage:
    """Read a page of leaderboards."""
    return LeaderboardPage.read(body, leaderboards=[leaderboard(each) for each in body["leaderboards"]])


def seasons(body: Mapping[str, Any]) -> Seasons:
    """Read a page of seasons."""
    over = [Season.read(each, ended_at=datetime.fromisoformat(each["ended_at"])) for each in body["seasons"]]
    return Seasons.read(body, seasons=over)


def season_top(body: Mapping[str, Any]) -> SeasonTop:
    """Read a page of final standings."""
    return SeasonTop.read(body, entries=_entries(body))


def held_update(body: Mapping[str, Any]) -> HeldUpdate:
    """Read a held update."""
    decided = body["decided_at"]
    return HeldUpdate.read(
        body,
        held_at=datetime.fromisoformat(body["held_at"]),
        decided_at=None if decided is None else datetime.fromisoformat(decided),
    )


def held_updates(body: Mapping[str, Any]) -> HeldUpdates:
    """Read a page of held updates."""
    return HeldUpdates.read(body, held=[held_update(each) for each in body["held"]])


def usage(body: Mapping[str, Any]) -> Usage:
    """Read the use of a project."""
    days = [UsageDay.read(each, day=date.fromisoformat(each["day"])) for each in body["days"]]
    first, last = date.fromisoformat(body["from"]), date.fromisoformat(body["to"])
    return Usage(project=body["project"], from_=first, to=last, days=days)


def erasure(body: Mapping[str, Any]) -> Erasure:
    """Read an erasure."""
    done = body["finished_at"]
    return Erasure.read(
        body,
        requested_at=datetime.fromisoformat(body["requested_at"]),
        finished_at=None if done is None else datetime.fromisoformat(done),
        touched=Touched.read(body["touched"]),
    )


def erasure_check(body: Mapping[str, Any]) -> ErasureCheck:
    """Read what a check came to."""
    return ErasureCheck.read(body, found=Touched.read(body["found"]))


def update_result(body: Mapping[str, Any], **given: Any) -> UpdateResult:
    """Read the answer to one update."""
    held = body.get("held")
    return UpdateResult.read(body, held=None if held is None else Held.read(held), **given)


def items(body: Mapping[str, Any]) -> list[Item]:
    """Read the results of a batch."""
    return [
        update_result(each) if each["status"] == 200 else of_problem(each["status"], each) for each in body["results"]
    ]
