"""Every call of the API as a `Call`: what to send and how to read the answer. No I/O."""

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from leaderboard_sdk import answers
from leaderboard_sdk.answers import (
    Around,
    Bounds,
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
    Rank,
    ResetRule,
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
from leaderboard_sdk.errors import ApiError, LeaderboardError
from leaderboard_sdk.retries import Call, Repeat

T = TypeVar("T")

MAX_BATCH = 1000
"""Updates the API takes at once."""
MAX_BODY = 250_000
"""Bytes of updates in one request; the API takes 256 KiB unless the installation says otherwise."""


def new_key() -> str:
    """Return a new Idempotency-Key."""
    return uuid.uuid4().hex


def checked(api_key: str | None) -> str | None:
    """Return the key, or raise ValueError for what cannot be one: an empty variable of the environment, mostly."""
    if api_key is not None and not (api_key and all("!" <= char <= "~" for char in api_key)):
        raise ValueError("api_key is empty, or has characters that no key has; None is for calls without a key")
    return api_key


def headers(api_key: str | None, call: Call[Any]) -> dict[str, str]:
    """Return all headers of the call's requests."""
    given = {"Accept": "application/json", **call.headers}
    if api_key is not None and not call.public:
        given["Authorization"] = f"Bearer {api_key}"
    if call.content is not None:
        given["Content-Type"] = "application/json"
    if call.idempotency_key is not None:
        given["Idempotency-Key"] = call.idempotency_key
    return given


def update(
    leaderboard: str,
    user: str,
    *,
    increment: float | None,
    score: float | None,
    season: int | None = None,
    idempotency_key: str | None,
) -> Call[UpdateResult]:
    """One update, under a key of its own unless one is given."""
    sent = Update(leaderboard=leaderboard, user=user, increment=increment, score=score, season=season)
    return Call(
        method="POST",
        path="/v1/scores/update",
        read=lambda body, headers: answers.update_result(body, replayed=headers.get("idempotency-replayed") == "true"),
        repeat=Repeat.SAFE,
        content=_json(sent.body()),
        idempotency_key=idempotency_key or new_key(),
    )


def update_many(updates: Iterable[Update], *, idempotency_key: str | None) -> list[Call[list[Item]]]:
    """The requests for any number of updates, in their order.

    The first has the given key, those after it `<key>.1`, `<key>.2`: the same updates in the same order give the same
    requests under the same keys. So what is raised names the given key, whichever request failed.
    """
    key = idempotency_key or new_key()
    return [
        _batch(part, key=key if index == 0 else f"{key}.{index}", whole=key)
        for index, part in enumerate(_parts([encoded(update) for update in updates]))
    ]


def encoded(update: Update) -> bytes:
    """Return it as it is sent. Raises ValueError or TypeError for one that no JSON can say."""
    return _json(update.body())


def each_failed(call: Call[list[Item]], error: LeaderboardError) -> list[LeaderboardError]:
    """Return what a request that failed is for each of its updates: the error, under the key of that update alone."""
    return [error.under(f"{call.idempotency_key}:{index}") for index in range(call.updates)]


def _parts(bodies: Sequence[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for body in bodies:
        if part and (len(part) == MAX_BATCH or size + len(body) > MAX_BODY):
            yield part
            part, size = [], 0
        part.append(body)
        size += len(body) + 1
    if part:
        yield part


def _batch(bodies: Sequence[bytes], *, key: str, whole: str) -> Call[list[Item]]:
    def read(body: Any, headers: Mapping[str, str]) -> list[Item]:  # noqa: ARG001  # what every `read` takes
        results = answers.items(body)
        if len(results) != len(bodies):
            raise ValueError(f"{len(bodies)} updates were answered with {len(results)} results")
        for index, item in enumerate(results):
            if isinstance(item, ApiError):
                item.idempotency_key = f"{key}:{index}"
        return results

    content = b'{"updates":[' + b",".join(bodies) + b"]}"
    return Call(
        method="POST",
        path="/v1/scores/batch",
        read=read,
        repeat=Repeat.SAFE,
        content=content,
        idempotency_key=key,
        whole_key=whole,
        updates=len(bodies),
    )


def top(leaderboard: str, *, limit: int | None, offset: int | None, cursor: str | None) -> Call[Top]:
    """A page of entries."""
    path = f"{_board(leaderboard)}/top{_query(limit=limit, offset=offset, cursor=cursor)}"
    return _get(path, lambda body, _: answers.top(body))


def live_top(leaderboard: str, *, limit: int | None) -> str:
    """The path of the stream of the top."""
    return f"{_board(leaderboard)}/stream{_query(limit=limit)}"


def public_top(
    tenant: str, project: str, leaderboard: str, *, limit: int | None, offset: int | None, cursor: str | None
) -> Call[Top]:
    """A page of entries of an open leaderboard, without a key."""
    query = _query(limit=limit, offset=offset, cursor=cursor)
    path = f"/v1/public/{_segment(tenant)}/{_segment(project)}/leaderboards/{_segment(leaderboard)}/top{query}"
    return _get(path, lambda body, _: answers.top(body), public=True)


def rank(leaderboard: str, user: str) -> Call[Rank]:
    """One user's entry."""
    return _get(f"{_board(leaderboard)}/rank/{_segment(user)}", lambda body, _: Rank.read(body))


def history_top(leaderboard: str, *, at: datetime | str, limit: int | None, cursor: str | None) -> Call[HistoryTop]:
    """A page of entries as of a time. Raises ValueError for a time without an offset."""
    path = f"{_board(leaderboard)}/history/top{_query(at=_moment(at), limit=limit, cursor=cursor)}"
    return _get(path, lambda body, _: answers.history_top(body))


def history_rank(leaderboard: str, user: str, *, at: datetime | str) -> Call[HistoryRank]:
    """One user's entry as of a time. Raises ValueError for a time without an offset."""
    path = f"{_board(leaderboard)}/history/rank/{_segment(user)}{_query(at=_moment(at))}"
    return _get(path, lambda body, _: answers.history_rank(body))


def around(leaderboard: str, user: str, *, limit: int | None) -> Call[Around]:
    """The entries around a user."""
    path = f"{_board(leaderboard)}/around/{_segment(user)}{_query(limit=limit)}"
    return _get(path, lambda body, _: answers.around(body))


def members(leaderboard: str, ids: Sequence[str]) -> Call[Members]:
    """Several users' entries."""
    # A comma inside an id is escaped like all else, so it is not the one that divides ids.
    query = urlencode([("ids", each) for each in ids], quote_via=quote, safe="")
    return _get(f"{_board(leaderboard)}/members?{query}", lambda body, _: answers.members(body))


def remove_member(leaderboard: str, user: str) -> Call[None]:
    """Take a user off."""
    if user == "..":
        # A proxy that resolves steps within a path would make of it the deletion of the whole leaderboard.
        raise ValueError("the user .. cannot be removed: its path may be taken for that of the leaderboard")
    return _delete(f"{_board(leaderboard)}/members/{_segment(user)}")


def list_leaderboards(*, limit: int | None, cursor: str | None) -> Call[LeaderboardPage]:
    """A page of the project's leaderboards."""
    path = f"/v1/leaderboards{_query(limit=limit, cursor=cursor)}"
    return _get(path, lambda body, _: answers.leaderboards(body))


def create_leaderboard(key: str, **rules: object) -> Call[Leaderboard]:
    """Make a leaderboard; a rule that is None is left to the API."""
    return _change("POST", "/v1/leaderboards", {"key": key, **_plain(rules)})


def get_leaderboard(leaderboard: str) -> Call[Leaderboard]:
    """A leaderboard's rules."""
    return _get(_board(leaderboard), lambda body, _: answers.leaderboard(body))


def change_leaderboard(leaderboard: str, **rules: object) -> Call[Leaderboard]:
    """Change what may change; a rule that is None stays."""
    return _change("PATCH", _board(leaderboard), _plain(rules))


def delete_leaderboard(leaderboard: str) -> Call[None]:
    """Delete a leaderboard with its entries."""
    return _delete(_board(leaderboard))


def reset(leaderboard: str, season: int) -> Call[Leaderboard]:
    """End a season."""
    return _change("POST", f"{_board(leaderboard)}/reset", {"season": season})


def seasons(leaderboard: str, *, limit: int | None, cursor: str | None) -> Call[Seasons]:
    """A page of the seasons that are over."""
    path = f"{_board(leaderboard)}/seasons{_query(limit=limit, cursor=cursor)}"
    return _get(path, lambda body, _: answers.seasons(body))


def season(leaderboard: str, number: int) -> Call[SignedSeason]:
    """What a season ended with."""
    return _get(f"{_board(leaderboard)}/seasons/{number}", lambda body, _: SignedSeason.read(body))


def season_top(leaderboard: str, season: int, *, limit: int | None, cursor: str | None) -> Call[SeasonTop]:
    """A page of final standings."""
    path = f"{_board(leaderboard)}/seasons/{season}/top{_query(limit=limit, cursor=cursor)}"
    return _get(path, lambda body, _: answers.season_top(body))


def season_rank(leaderboard: str, season: int, user: str) -> Call[SeasonRank]:
    """One user's line of final standings."""
    path = f"{_board(leaderboard)}/seasons/{season}/rank/{_segment(user)}"
    return _get(path, lambda body, _: SeasonRank.read(body))


def held_updates(
    leaderboard: str, *, state: str | None, user: str | None, limit: int | None, cursor: str | None
) -> Call[HeldUpdates]:
    """A page of the updates that were held."""
    path = f"{_board(leaderboard)}/held{_query(state=state, user=user, limit=limit, cursor=cursor)}"
    return _get(path, lambda body, _: answers.held_updates(body))


def held_update(leaderboard: str, id: str) -> Call[HeldUpdate]:
    """One update that was held."""
    return _get(f"{_board(leaderboard)}/held/{_segment(id)}", lambda body, _: answers.held_update(body))


def decide(leaderboard: str, id: str, decision: str, *, note: str | None) -> Call[HeldUpdate]:
    """``release`` or ``reject`` a held update. Either counts once, however often it is sent."""
    return Call(
        method="POST",
        path=f"{_board(leaderboard)}/held/{_segment(id)}/{decision}",
        read=lambda body, _: answers.held_update(body),
        repeat=Repeat.SAFE,
        content=_json({} if note is None else {"note": note}),
    )


def usage(first: date | str | None, last: date | str | None) -> Call[Usage]:
    """The use of the project."""
    path = f"/v1/usage{_query(**{'from': first, 'to': last})}"
    return _get(path, lambda body, _: answers.usage(body))


def user_data(user: str, *, limit: int | None, cursor: str | None) -> Call[UserData]:
    """A page of what there is of a user."""
    path = f"/v1/users/{_segment(user)}/data{_query(limit=limit, cursor=cursor)}"
    return _get(path, lambda body, _: UserData.read(body))


def erase_user(user: str) -> Call[Erasure]:
    """Ask for a user to be erased. May be repeated: while it is pending it is the same erasure."""
    return Call(
        method="POST",
        path=f"/v1/users/{_segment(user)}/erasure",
        read=lambda body, _: answers.erasure(body),
        repeat=Repeat.SAFE,
    )


def erasure(id: str) -> Call[Erasure]:
    """How far an erasure is."""
    return _get(f"/v1/erasures/{_segment(id)}", lambda body, _: answers.erasure(body))


def check_erasure(id: str, user: str) -> Call[ErasureCheck]:
    """Whether a receipt is true."""
    return Call(
        method="POST",
        path=f"/v1/erasures/{_segment(id)}/check",
        read=lambda body, _: answers.erasure_check(body),
        repeat=Repeat.SAFE,
        content=_json({"user": user}),
    )


def _get(path: str, read: Callable[[Any, Mapping[str, str]], T], *, public: bool = False) -> Call[T]:
    return Call(method="GET", path=path, read=read, repeat=Repeat.SAFE, public=public)


def _delete(path: str) -> Call[None]:
    return Call(method="DELETE", path=path, read=lambda _body, _headers: None, repeat=Repeat.DELETE)


def _change(method: str, path: str, body: Mapping[str, object]) -> Call[Leaderboard]:
    return Call(
        method=method,
        path=path,
        read=lambda body, _: answers.leaderboard(body),
        repeat=Repeat.UNSAFE,
        content=_json(body),
    )


def _plain(rules: Mapping[str, object]) -> dict[str, object]:
    return {name: _sent(rule) for name, rule in rules.items() if rule is not None}


def _sent(rule: object) -> object:
    if rule == Bounds():  # to the API, which takes no bounds without one, that is null
        return None
    if isinstance(rule, ResetRule | Bounds):
        return dataclasses.asdict(rule)
    if isinstance(rule, Tier):
        return rule.body()
    return [_sent(each) for each in rule] if isinstance(rule, Sequence) and not isinstance(rule, str) else rule


def _board(leaderboard: str) -> str:
    return f"/v1/leaderboards/{_segment(leaderboard)}"


def _segment(text: str) -> str:
    if text in (".", ".."):  # which a URL would lose as steps within its path; the API reads them escaped
        return text.replace(".", "%2E")
    return quote(text, safe="")


def _moment(at: datetime | str) -> str:
    if isinstance(at, str):
        return at
    if at.utcoffset() is None:
        raise ValueError("at has no time zone: datetime.now(UTC), for one, has")
    return at.isoformat()


def _query(**given: object) -> str:
    known = {name: str(value) for name, value in given.items() if value is not None}
    return f"?{urlencode(known, quote_via=quote, safe='')}" if known else ""


def _json(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
