"""The client that blocks: one connection pool, any number of threads."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from leaderboard_sdk import core
from leaderboard_sdk.answers import (
    Around,
    Bounds,
    Entry,
    Erasure,
    ErasureCheck,
    HeldUpdate,
    HeldUpdates,
    HistoryRank,
    HistoryTop,
    Item,
    Leaderboard,
    LeaderboardPage,
    Members,
    Page,
    Rank,
    ResetRule,
    Season,
    SeasonRank,
    Seasons,
    SeasonTop,
    SignedSeason,
    Tier,
    Top,
    Update,
    UpdateResult,
    Usage,
    UserData,
)
from leaderboard_sdk.batcher import MAX_WAITING, Batcher
from leaderboard_sdk.errors import LeaderboardError
from leaderboard_sdk.retries import Answer, Call, Done, Patience, attempts
from leaderboard_sdk.transport import lost
from leaderboard_sdk.watching import SILENCE, Watch

T = TypeVar("T")
P = TypeVar("P", bound=Page)


class Client:
    """Calls of the API, each tried again where that is safe. Raises LeaderboardError (see `errors`).

    `timeout` are the seconds one attempt may take to connect, to send and to be answered, each. A call makes up to
    `max_attempts`, and spends up to `max_wait` seconds in pauses between them. `http` is a client of your own (proxies,
    certificates, limits), which you close yourself and whose time-outs count. `sleep` makes the pauses, in seconds.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 5.0,
        max_attempts: int = 5,
        max_wait: float = 30.0,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._api_key = core.checked(api_key)
        self._patience = Patience(max_attempts=max_attempts, max_wait=max_wait)
        self._owned = http is None
        self._http = http or httpx.Client(timeout=timeout)
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owned:
            self._http.close()

    def update(
        self,
        leaderboard: str,
        user: str,
        *,
        increment: float | None = None,
        score: float | None = None,
        season: int | None = None,
        idempotency_key: str | None = None,
    ) -> UpdateResult:
        """Update one score. A key of your own makes a repetition, even by another process, count once.

        With `season`, it counts in that one or not at all: in another it is a Conflict.
        """
        return self._run(
            core.update(
                leaderboard,
                user,
                increment=increment,
                score=score,
                season=season,
                idempotency_key=idempotency_key,
            )
        )

    def update_many(self, updates: Iterable[Update], *, idempotency_key: str | None = None) -> list[Item]:
        """Update many scores, 1,000 in a request. Returns one result each in their order, an ApiError where refused.

        Raises LeaderboardError where a whole request failed; requests before it were done. Repeat the same updates
        under its `idempotency_key`, or under a key of your own that they had, and those count once.
        """
        results: list[Item] = []
        for call in core.update_many(updates, idempotency_key=idempotency_key):
            part = self._run(call)
            results += part
        return results

    def top(
        self, leaderboard: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> Top:
        """Read the best entries: the first page, or the one at `offset` or after `cursor`."""
        return self._run(core.top(leaderboard, limit=limit, offset=offset, cursor=cursor))

    def iter_top(self, leaderboard: str, *, page_size: int = 100) -> Iterator[Entry]:
        """Go through all entries from the best, `page_size` in a request."""
        for page in _pages(lambda cursor: self.top(leaderboard, limit=page_size, cursor=cursor)):
            yield from page.entries

    def watch_top(self, leaderboard: str, *, limit: int | None = None) -> Iterator[Top]:
        """Follow the best entries: the top now, and again whenever it changed, at most once a second.

        A connection that is lost or silent for 45 s is made again, and goes on from what was received; it ends with
        the iterator. Raises what the API gives as the reason why it cannot be followed (any more), and TransportError
        where no connection came about in `max_attempts`.
        """
        watch = Watch(core.live_top(leaderboard, limit=limit), self._patience)
        given = self._http.timeout
        timeout = httpx.Timeout(connect=given.connect, write=given.write, pool=given.pool, read=SILENCE)
        while True:
            stream = self._http.stream(
                "GET", self._base_url + watch.path, headers=watch.headers(self._api_key), timeout=timeout
            )
            try:
                with stream as response:
                    if response.is_success:
                        for piece in response.iter_text():
                            yield from watch.received(piece)
                        pause = watch.ended(None)
                    else:
                        content = response.read()
                        answer = Answer(status=response.status_code, headers=response.headers, content=content)
                        pause = watch.refused(answer)
            except httpx.TransportError as error:
                pause = watch.ended(lost(error))
            self._sleep(pause)

    def rank(self, leaderboard: str, user: str) -> Rank:
        """Read one user's score and rank."""
        return self._run(core.rank(leaderboard, user))

    def history_top(
        self, leaderboard: str, *, at: datetime | str, limit: int | None = None, cursor: str | None = None
    ) -> HistoryTop:
        """Read the best entries as they were at a moment: one with a time zone, or RFC 3339 text. Pages cost alike.

        One of the last two seconds is waited for, as for any other 503.
        """
        return self._run(core.history_top(leaderboard, at=at, limit=limit, cursor=cursor))

    def history_rank(self, leaderboard: str, user: str, *, at: datetime | str) -> HistoryRank:
        """Read one user's score and rank as they were at a moment, given as in `history_top`."""
        return self._run(core.history_rank(leaderboard, user, at=at))

    def around(self, leaderboard: str, user: str, *, limit: int | None = None) -> Around:
        """Read `limit` entries with the user in the middle."""
        return self._run(core.around(leaderboard, user, limit=limit))

    def members(self, leaderboard: str, ids: Sequence[str]) -> Members:
        """Read up to 100 users' entries."""
        return self._run(core.members(leaderboard, ids))

    def remove_member(self, leaderboard: str, user: str) -> None:
        """Take a user off. Who is not on the board raises NotFound, unless an earlier attempt may have done it.

        Raises ValueError for the user `..`, whose path a proxy may take for that of the leaderboard.
        """
        self._run(core.remove_member(leaderboard, user))

    def list_leaderboards(self, *, limit: int | None = None, cursor: str | None = None) -> LeaderboardPage:
        """List the project's leaderboards, a page at a time."""
        return self._run(core.list_leaderboards(limit=limit, cursor=cursor))

    def iter_leaderboards(self, *, page_size: int = 100) -> Iterator[Leaderboard]:
        """Go through all leaderboards of the project."""
        for page in _pages(lambda cursor: self.list_leaderboards(limit=page_size, cursor=cursor)):
            yield from page.leaderboards

    def create_leaderboard(
        self,
        key: str,
        *,
        score_update: str | None = None,
        sort_order: str | None = None,
        tie_policy: str | None = None,
        max_entries: int | None = None,
        public_read: bool | None = None,
        reset: ResetRule | None = None,
        bounds: Bounds | None = None,
        tiers: Sequence[Tier] | None = None,
    ) -> Leaderboard:
        """Make a leaderboard. After a lost answer it is not tried again: the second attempt would be a Conflict."""
        return self._run(
            core.create_leaderboard(
                key,
                score_update=score_update,
                sort_order=sort_order,
                tie_policy=tie_policy,
                max_entries=max_entries,
                public_read=public_read,
                reset=reset,
                bounds=bounds,
                tiers=tiers,
            )
        )

    def get_leaderboard(self, leaderboard: str) -> Leaderboard:
        """Show a leaderboard's rules."""
        return self._run(core.get_leaderboard(leaderboard))

    def change_leaderboard(
        self,
        leaderboard: str,
        *,
        max_entries: int | None = None,
        public_read: bool | None = None,
        reset: ResetRule | None = None,
        bounds: Bounds | None = None,
        tiers: Sequence[Tier] | None = None,
    ) -> Leaderboard:
        """Change a leaderboard; what is None stays.

        ``ResetRule()`` takes a schedule away, ``Bounds()`` the bounds, ``[]`` the tiers.
        """
        return self._run(
            core.change_leaderboard(
                leaderboard,
                max_entries=max_entries,
                public_read=public_read,
                reset=reset,
                bounds=bounds,
                tiers=tiers,
            )
        )

    def delete_leaderboard(self, leaderboard: str) -> None:
        """Delete a leaderboard with its entries."""
        self._run(core.delete_leaderboard(leaderboard))

    def reset(self, leaderboard: str, season: int) -> Leaderboard:
        """End the season that runs, whose number has to be given; the next starts empty.

        After a lost answer it is not tried again: the second attempt would be a Conflict.
        """
        return self._run(core.reset(leaderboard, season))

    def seasons(self, leaderboard: str, *, limit: int | None = None, cursor: str | None = None) -> Seasons:
        """List the seasons that are over, newest first, a page at a time."""
        return self._run(core.seasons(leaderboard, limit=limit, cursor=cursor))

    def iter_seasons(self, leaderboard: str, *, page_size: int = 100) -> Iterator[Season]:
        """Go through all seasons that are over, newest first."""
        for page in _pages(lambda cursor: self.seasons(leaderboard, limit=page_size, cursor=cursor)):
            yield from page.seasons

    def season(self, leaderboard: str, season: int) -> SignedSeason:
        """Read how many a season ended with, the checksum over all of them, and the signature.

        Waits for one that is on its way to the archive.
        """
        return self._run(core.season(leaderboard, season))

    def season_top(
        self, leaderboard: str, season: int, *, limit: int | None = None, cursor: str | None = None
    ) -> SeasonTop:
        """Read what a season ended with, a page at a time. Waits for one that is on its way to the archive."""
        return self._run(core.season_top(leaderboard, season, limit=limit, cursor=cursor))

    def iter_season_top(self, leaderboard: str, season: int, *, page_size: int = 100) -> Iterator[Entry]:
        """Go through all entries that a season ended with."""
        for page in _pages(lambda cursor: self.season_top(leaderboard, season, limit=page_size, cursor=cursor)):
            yield from page.entries

    def season_rank(self, leaderboard: str, season: int, user: str) -> SeasonRank:
        """Read the score and rank that one user ended a season with."""
        return self._run(core.season_rank(leaderboard, season, user))

    def held_updates(
        self,
        leaderboard: str,
        *,
        state: str | None = None,
        user: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> HeldUpdates:
        """List the updates that broke the leaderboard's bounds, newest first, a page at a time.

        Those that wait for a decision; with `state`, those that were ``released`` or ``rejected``.
        """
        return self._run(core.held_updates(leaderboard, state=state, user=user, limit=limit, cursor=cursor))

    def iter_held_updates(
        self, leaderboard: str, *, state: str | None = None, user: str | None = None, page_size: int = 100
    ) -> Iterator[HeldUpdate]:
        """Go through all held updates, newest first; `state` and `user` as in `held_updates`."""
        for page in _pages(
            lambda cursor: self.held_updates(leaderboard, state=state, user=user, limit=page_size, cursor=cursor)
        ):
            yield from page.held

    def held_update(self, leaderboard: str, id: str) -> HeldUpdate:
        """Read an update that was held, whatever became of it."""
        return self._run(core.held_update(leaderboard, id))

    def release(self, leaderboard: str, id: str, *, note: str | None = None) -> HeldUpdate:
        """Apply a held update as if it came now, its bounds aside; once, however often this is called.

        Of one that was rejected, or is for a season that is over, it is a Conflict.
        """
        return self._run(core.decide(leaderboard, id, "release", note=note))

    def reject(self, leaderboard: str, id: str, *, note: str | None = None) -> HeldUpdate:
        """Let a held update never count. Of one that was released it is a Conflict."""
        return self._run(core.decide(leaderboard, id, "reject", note=note))

    def usage(self, from_: date | str | None = None, to: date | str | None = None) -> Usage:
        """Read the project's use by UTC day, both days included; by default the last 30."""
        return self._run(core.usage(from_, to))

    def user_data(self, user: str, *, limit: int | None = None, cursor: str | None = None) -> UserData:
        """Read a page of all that the project has of a user."""
        return self._run(core.user_data(user, limit=limit, cursor=cursor))

    def iter_user_data(self, user: str, *, page_size: int = 100) -> Iterator[dict[str, Any]]:
        """Go through all that the project has of a user, `page_size` records in a request."""
        for page in _pages(lambda cursor: self.user_data(user, limit=page_size, cursor=cursor)):
            yield from page.records

    def erase_user(self, user: str) -> Erasure:
        """Ask for a user to be erased from the whole project; read `erasure` until its state is ``done``."""
        return self._run(core.erase_user(user))

    def erasure(self, id: str) -> Erasure:
        """Read how far an erasure is, or its receipt."""
        return self._run(core.erasure(id))

    def check_erasure(self, id: str, user: str) -> ErasureCheck:
        """Look whether a receipt is as it was written, is this user's, and whether there is nothing of the user."""
        return self._run(core.check_erasure(id, user))

    def public_top(
        self,
        tenant: str,
        project: str,
        leaderboard: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> Top:
        """Read the best entries of an open leaderboard; the API key is not sent."""
        return self._run(core.public_top(tenant, project, leaderboard, limit=limit, offset=offset, cursor=cursor))

    def batcher(self, *, max_batch: int = 500, max_delay: float = 0.02, max_waiting: int = MAX_WAITING) -> Batcher:
        """Return a batcher, which sends updates together: `max_batch`, or those of `max_delay` seconds.

        `max_waiting` may wait to be sent; past it `submit` waits too, so that a slow API slows who feeds it.
        """
        return Batcher(self, max_batch=max_batch, max_delay=max_delay, max_waiting=max_waiting)

    def _update_each(self, updates: Iterable[Update]) -> list[UpdateResult | LeaderboardError]:
        results: list[UpdateResult | LeaderboardError] = []
        for call in core.update_many(updates, idempotency_key=None):
            try:
                part = self._run(call)
            except LeaderboardError as error:
                results += core.each_failed(call, error)
            else:
                results += part
        return results

    def _run(self, call: Call[T]) -> T:
        state = attempts(call, self._patience)
        headers = core.headers(self._api_key, call)
        while True:
            try:
                response = self._http.request(
                    call.method, self._base_url + call.path, headers=headers, content=call.content
                )
            except httpx.TransportError as error:
                step = state.lost(lost(error))
            else:
                answer = Answer(status=response.status_code, headers=response.headers, content=response.content)
                step = state.answered(answer)
            if isinstance(step, Done):
                return step.value
            self._sleep(step.seconds)


def _pages(read: Callable[[str | None], P]) -> Iterator[P]:
    """Yield all pages; `read` takes the cursor of one, None for the first."""
    cursor: str | None = None
    while True:
        page = read(cursor)
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return
