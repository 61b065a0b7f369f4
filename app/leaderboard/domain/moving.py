"""Moving in: what a source of scores says, checked line by line, and how a board differs from it.

A source is held whole, about 200 bytes a member: duplicates can only be told by whoever knows all of them, and the
board's order has to be compared with all of it.
"""

import csv
import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator

import msgspec

from leaderboard.domain.boards import BoardSpec, ScoreUpdate, SortOrder, TiePolicy
from leaderboard.domain.errors import DomainError, InvalidName, InvalidScore
from leaderboard.domain.names import user_id
from leaderboard.domain.scores import MAX_EXACT, check_number

EXAMPLES = 10
"""What is shown of each kind of trouble or difference, at most."""
LONGEST = 400
"""Characters of a number: more than any double needs."""

_number = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII).fullmatch
_integer = re.compile(r"[+-]?[0-9]+", re.ASCII).fullmatch


class UnreadableSource(DomainError):
    """The source is not what it was said to be; the message says what to do."""


def score_of(text: str, *, rule: ScoreUpdate) -> float:
    """Return the score that `text` says, or raise InvalidScore."""
    text = text.strip()
    if len(text) > LONGEST or _number(text) is None:
        raise InvalidScore(f"{text[:40]!r} is not a number")
    score = check_number(float(text), field="the score")
    if _integer(text) is not None and int(text) != score:
        raise InvalidScore(f"{text[:40]} cannot be kept exactly: it is past 2^53")
    return in_range(score, rule=rule)


def in_range(score: float, *, rule: ScoreUpdate) -> float:
    """Return `score` as a board of that rule may hold it, or raise InvalidScore."""
    score = check_number(score, field="the score")
    if rule is ScoreUpdate.SUM and not -MAX_EXACT <= score <= MAX_EXACT:
        raise InvalidScore("a sum board holds scores between -2^53 and 2^53")
    return score


class Roster:
    """The members a source has for one board. `rejected` counts lines that could not be taken, `examples` says why.

    `notes` are for people: what of the source is not kept.
    """

    def __init__(self, spec: BoardSpec) -> None:
        self.spec = spec
        self.rejected = 0
        self.examples: list[str] = []
        self.notes: list[str] = []
        self._index: dict[str, int] = {}
        self._scores = array("d")
        self._seconds: array[int] | None = None
        self._by_user = False
        self._ranked: array[int] | None = None
        self._users: list[str] = []

    def __len__(self) -> int:
        return len(self._index)

    @property
    def descending(self) -> bool:
        """Whether the board's best score is the highest."""
        return self.spec.sort_order is SortOrder.DESCENDING

    def ties_by_user(self, *, seconds: bool = False) -> None:
        """Say, before anything is added, that the source ranks equal scores by user id, in the board's direction.

        With `seconds` by a second score before that, which `add` is given.
        """
        self._by_user = True
        self._seconds = array("q") if seconds else None

    def add(self, where: str, user: str, score: float, *, second: int = 0) -> None:
        """Take one member; `where` is its place in the source, for people. A user that is there stays as it is."""
        try:
            user_id(user)
        except InvalidName as error:
            self.reject(where, f"{error} ({user[:60]!r})")
            return
        at = self._index.setdefault(user, len(self._scores))
        if at < len(self._scores):
            self.reject(where, f"user {user!r} was there before with {self._scores[at]!r}, which counts")
            return
        self._scores.append(score)
        if self._seconds is not None:
            self._seconds.append(second)

    def again(self, user: str, score: float) -> bool:
        """Give a user that is there another score; False where it is not there."""
        at = self._index.get(user)
        if at is not None:
            self._scores[at] = score
        return at is not None

    def reject(self, where: str, why: str, *, lines: int = 1) -> None:
        """Count what cannot be taken: so many `lines` of a file, or one member."""
        self.rejected += lines
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{where}: {why}")

    def score(self, user: str) -> float | None:
        """Return the user's score, None where the source does not have the user."""
        at = self._index.get(user)
        return None if at is None else self._scores[at]

    def ranked(self) -> "array[int]":
        """Return the members' numbers in the order of their ranks, best first. Nothing may be added after it."""
        if self._ranked is None:
            self._users = list(self._index)
            order = list(range(len(self._users)))
            # The sort is stable, also the other way round: what comes first stays first among equals.
            if self._by_user:
                order.sort(key=self._users.__getitem__, reverse=self.descending)
            if self._seconds is not None:
                order.sort(key=self._seconds.__getitem__, reverse=self.descending)
            order.sort(key=self._scores.__getitem__, reverse=self.descending)
            self._ranked = array("L", order)
        return self._ranked

    @property
    def wanted(self) -> int:
        """How many members the board has room for: the best `max_entries`."""
        return min(len(self), self.spec.max_entries or len(self))

    def chunk(self, start: int, size: int) -> tuple[list[str], list[float]]:
        """Return users and scores of up to `size` members from rank `start` (0 is the best) that there is room for."""
        numbers = self.ranked()[start : min(start + size, self.wanted)]
        return [self._users[n] for n in numbers], [self._scores[n] for n in numbers]

    def user(self, number: int) -> str:
        """Return the user of a number that `ranked` gave."""
        return self._users[number]

    def digest(self, *more: str) -> str:
        """Return what names these members with these scores in this order, and `more`: 32 hexadecimal digits."""
        hashed = hashlib.sha256("\x1f".join(more).encode())
        for start in range(0, self.wanted, 10_000):
            users, scores = self.chunk(start, 10_000)
            hashed.update("".join(f"\x1e{u}\x1f{s!r}" for u, s in zip(users, scores, strict=True)).encode())
        return hashed.hexdigest()[:32]

    def compare(self) -> "Comparison":
        """Begin to compare the board with the source."""
        return Comparison(self, self.ranked(), self._index, self._scores)


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """How a board differs from a source, in members; `examples` has a few lines for people of each kind.

    `better` are those of `different` whose score in the source is the better one.
    """

    same: int
    missing: int
    extra: int
    different: int
    better: int
    disordered: int
    examples: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether there is no difference."""
        return not (self.missing or self.extra or self.different or self.disordered)


class Comparison:
    """A board, seen from its best member to its worst, beside a source. Made by `Roster.compare`."""

    def __init__(self, roster: Roster, ranked: "array[int]", index: dict[str, int], scores: "array[float]") -> None:
        self._roster, self._ranked, self._index, self._scores = roster, ranked, index, scores
        # Where each member stands in the source. Only first_to_reach keeps the order of equal scores.
        self._place: array[int] | None = None
        if roster.spec.tie_policy is TiePolicy.FIRST_TO_REACH:
            self._place = array("L", bytes(ranked.itemsize * len(ranked)))
            for place, number in enumerate(ranked):
                self._place[number] = place
        self._seen = bytearray(len(ranked))
        self._on_board = self._furthest = 0
        self._last: float | None = None
        self._ahead = ""
        self._counts = dict.fromkeys(("same", "missing", "extra", "different", "better", "disordered"), 0)
        self._examples: list[str] = []

    def see(self, user: str, score: float) -> None:
        """Take the board's next member."""
        self._on_board += 1
        self._last = score
        number = self._index.get(user)
        if number is None:
            self._note("extra", f"{user}: only on the board, with {score!r}")
            return
        self._seen[number] = 1
        wanted = self._scores[number]
        if wanted != score:
            self._note("different", f"{user}: {score!r} on the board, {wanted!r} in the source")
            self._counts["better"] += (wanted > score) == self._roster.descending
            return
        self._counts["same"] += 1
        if self._place is not None:
            place = self._place[number]
            if place < self._furthest:
                self._note("disordered", f"{user}: behind {self._ahead} on the board, ahead of it in the source")
            else:
                self._furthest, self._ahead = place, user

    def finish(self) -> Diff:
        """Return what was found. On a board that is full, who would be past its end is not missing."""
        bound = self._roster.spec.max_entries
        full = bool(bound) and self._on_board >= bound
        for number in self._ranked:
            if self._seen[number]:
                continue
            score = self._scores[number]
            if full and self._last is not None:
                ahead = score > self._last if self._roster.descending else score < self._last
                if not ahead:
                    break  # nor is anybody after it
            self._note("missing", f"{self._roster.user(number)}: not on the board, {score!r} in the source")
        return Diff(**self._counts, examples=tuple(self._examples))

    def _note(self, kind: str, text: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] <= EXAMPLES // 2:
            self._examples.append(text)


# -- files


def read_csv(lines: Iterable[str], roster: Roster, *, user_column: str, score_column: str) -> None:
    """Take the members of a CSV file with a header; among equal scores the earlier line is ahead.

    `lines` are of a file opened with ``newline=""``. Raises UnreadableSource.
    """
    header, rows = _rows(lines, roster)
    user, score = _columns(header, user_column, score_column)
    for where, row in rows:
        _take(roster, where, row[user], row[score])


def read_nakama(lines: Iterable[str], roster: Roster, *, leaderboard: str, expiry: str | None) -> None:
    """Take the members of one leaderboard out of Nakama's table leaderboard_record, as COPY writes it with a header.

    Nakama ranks by score, subscore, owner. `expiry` is an expiry_time as it is in the file, None where there is only
    one. Raises UnreadableSource.
    """
    roster.ties_by_user(seconds=True)
    header, rows = _rows(lines, roster)
    board, owner, score = _columns(header, "leaderboard_id", "owner_id", "score")
    second = header.index("subscore") if "subscore" in header else None
    until = header.index("expiry_time") if "expiry_time" in header else None
    metadata = header.index("metadata") if "metadata" in header else None
    boards: dict[str, int] = {}
    expiries: dict[str, int] = {}
    seconds = with_metadata = 0
    for where, row in rows:
        if row[board] != leaderboard:
            if len(boards) < EXAMPLES or row[board] in boards:
                boards[row[board]] = boards.get(row[board], 0) + 1
            continue
        if until is not None:
            expiries[row[until]] = expiries.get(row[until], 0) + 1
            if expiry is not None and row[until] != expiry:
                continue
            if len(expiries) > 1 and expiry is None:
                continue  # only counted from here on, to name them all
        sub = row[second] if second is not None else "0"
        if len(sub) > 20 or _integer(sub) is None or abs(int(sub)) >= 2**63:
            roster.reject(where, f"subscore {sub[:40]!r} is not a whole number of 64 bits")
            continue
        seconds += int(sub) != 0
        with_metadata += metadata is not None and row[metadata].strip() not in ("", "{}")
        _take(roster, where, row[owner], row[score], second=int(sub))
    if expiry is None and len(expiries) > 1:
        raise UnreadableSource(
            f"leaderboard {leaderboard!r} has records of {len(expiries)} periods; say which with --expiry: "
            + ", ".join(f"'{time}' ({count} records)" for time, count in list(expiries.items())[:EXAMPLES])
        )
    if expiry is not None and expiry not in expiries:
        raise UnreadableSource(f"no record of {leaderboard!r} has expiry_time {expiry!r}; there are {list(expiries)}")
    if not len(roster) and not roster.rejected:
        raise UnreadableSource(f"the file has no record of leaderboard {leaderboard!r}; there are {sorted(boards)}")
    kept = "is kept as the order of equal scores" if roster.spec.tie_policy is TiePolicy.FIRST_TO_REACH else "is lost"
    if seconds:
        roster.notes.append(f"{seconds} records have a subscore; it {kept}, the number itself is not")
    if with_metadata:
        roster.notes.append(f"{with_metadata} records have metadata, which is not kept")
    roster.notes.append("not kept either: username, num_score, max_num_score, create_time, update_time, expiry_time")


def _take(roster: Roster, where: str, user: str, text: str, *, second: int = 0) -> None:
    try:
        score = score_of(text, rule=roster.spec.score_update)
    except InvalidScore as error:
        roster.reject(where, f"user {user[:60]!r}: {error}")
        return
    roster.add(where, user, score, second=second)


def _rows(lines: Iterable[str], roster: Roster) -> tuple[list[str], Iterator[tuple[str, list[str]]]]:
    """Return the header and the rows with where they are; what is not a row of that header is rejected."""
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader)
    except StopIteration:
        raise UnreadableSource("the file is empty") from None
    except csv.Error as error:
        raise UnreadableSource(f"the first line is not CSV: {error}") from error
    header = [name.strip() for name in header]

    def reject(first: int, why: str) -> None:
        last = reader.line_num
        roster.reject(_where(first, last), why, lines=max(1, last - first + 1))

    def rows() -> Iterator[tuple[str, list[str]]]:
        while True:
            before = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reject(before, f"not CSV: {error}: is a quote not closed?")
                continue
            where = _where(before, reader.line_num)
            if reader.line_num > before:
                # No user has a line break, and metadata as COPY writes it neither: a quote was left open.
                reject(before, "one row over several lines: is a quote not closed?")
            elif len(row) != len(header):
                if row:
                    roster.reject(where, f"{len(row)} fields where the header has {len(header)}")
            else:
                yield where, row

    return header, rows()


def _where(first: int, last: int) -> str:
    return f"line {first}" if last <= first else f"lines {first}-{last}"


def _columns(header: list[str], *names: str) -> list[int]:
    if missing := [name for name in names if name not in header]:
        raise UnreadableSource(
            f"the first line has no column {', '.join(missing)}, it has {', '.join(header)[:200]!r}: the file must "
            "begin with a header"
        )
    return [header.index(name) for name in names]
