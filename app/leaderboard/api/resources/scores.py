"""Writes: ``POST /v1/scores/update`` and ``POST /v1/scores/batch``."""

import asyncio
import hashlib
from typing import Any, ClassVar

import falcon.asgi
import msgspec

from leaderboard.api import headers, problems, queries
from leaderboard.api.bodies import MAX_BATCH, Batch, BodyReader, Update, decode
from leaderboard.api.context import KeyContext
from leaderboard.api.middleware import RateLimit
from leaderboard.api.problems import Problem
from leaderboard.api.refusals import Refusals
from leaderboard.domain import names, scores
from leaderboard.domain.boards import MAX_SEASON
from leaderboard.domain.errors import DomainError, InvalidName
from leaderboard.domain.keys import Scope
from leaderboard.store.redis.errors import InDoubt, RedisFailure, RedisUnavailable
from leaderboard.store.redis.scores import Applied, Scores

_encode = msgspec.json.Encoder().encode
_decode_item = msgspec.json.Decoder(Update).decode


class HeldBody(msgspec.Struct):
    """Why an update waits for a decision, and under which id."""

    id: str
    bound: str


class UpdateResult(msgspec.Struct):
    """The answer to one update. A rank is null for who is not (or was not) on the board.

    With `held`, nothing changed: the score is what it would have been.
    """

    leaderboard: str
    user: str
    score: int | float
    rank: int | None
    previous_score: int | float | None
    previous_rank: int | None
    held: HeldBody | msgspec.UnsetType = msgspec.UNSET


class ItemResult(msgspec.Struct):
    """The answer to one applied update of a batch; a refused one is a problem instead."""

    status: int
    leaderboard: str
    user: str
    score: int | float
    rank: int | None
    previous_score: int | float | None
    previous_rank: int | None
    replayed: bool
    held: HeldBody | msgspec.UnsetType = msgspec.UNSET


def _value(update: Update) -> str:
    """Return the update's value as the script takes it, or raise InvalidScore or Problem."""
    if (update.increment is None) == (update.score is None):
        raise Problem(problems.INVALID_REQUEST, "send exactly one of increment (sum) and score (best, latest)")
    # repr is the shortest text that reads back as the same double.
    if update.increment is not None:
        value = f"i{scores.check_increment(update.increment)!r}"
    else:
        assert update.score is not None
        value = f"s{scores.check_number(update.score, field='score')!r}"
    return value if update.season is None else f"{_season(update.season)}:{value}"


def _season(number: int | float) -> int:
    season = queries.whole(number, field="season")
    if not 1 <= season <= MAX_SEASON:
        raise Problem(problems.INVALID_REQUEST, f"season must be 1 to {MAX_SEASON}, got {season}")
    return season


def _fingerprint(user: str, value: str) -> str:
    # The board and the key are in the record's name; 64 bits tell two bodies under one key apart.
    return hashlib.blake2b(f"{user} {value}".encode(), digest_size=8).hexdigest()


def _result(update: Update, applied: Applied) -> UpdateResult:
    return UpdateResult(
        update.leaderboard,
        update.user,
        applied.score,
        applied.rank,
        applied.previous_score,
        applied.previous_rank,
        msgspec.UNSET if applied.held is None else HeldBody(applied.held.id, applied.held.bound),
    )


def _idempotency_key(req: falcon.asgi.Request) -> str | None:
    key = headers.optional(req, b"idempotency-key")
    if key is None:
        return None
    try:
        return names.idempotency_key(key)
    except InvalidName as error:
        raise Problem(problems.INVALID_PARAMETER, str(error)) from error


class ScoreUpdates:
    """One member of one board: one Redis round trip."""

    scopes: ClassVar[dict[str, Scope]] = {"POST": Scope.WRITE}

    def __init__(self, store: Scores, refusals: Refusals, *, body: BodyReader[Update]) -> None:
        self._store = store
        self._refusals = refusals
        self._body = body

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Apply the update and answer score and ranks."""
        context: KeyContext = req.context.key
        update = await self._body.read(req)
        key = names.board_key(update.leaderboard)
        user = names.user_id(update.user)
        value = _value(update)
        idempotency = _idempotency_key(req)
        outcome = await self._store.update(
            context.namespace + key,
            user=user,
            value=value,
            idempotency=None if idempotency is None else (idempotency, _fingerprint(user, value)),
        )
        if not isinstance(outcome, Applied):
            await self._refusals.refuse(outcome, context, key)
        if outcome.replayed:
            resp.set_header("Idempotency-Replayed", "true")
        resp.data = _encode(_result(update, outcome))


class ScoreBatches:
    """Up to 1,000 updates of several boards. Each is applied or refused on its own: there is no all-or-nothing."""

    scopes: ClassVar[dict[str, Scope]] = {"POST": Scope.WRITE}

    def __init__(self, store: Scores, refusals: Refusals, *, rate_limit: RateLimit, body: BodyReader[Batch]) -> None:
        self._store = store
        self._refusals = refusals
        self._rate_limit = rate_limit
        self._body = body

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Apply the updates, those of one board in their order, and answer one result each."""
        context: KeyContext = req.context.key
        batch = await self._body.read(req)
        count = len(batch.updates)
        if not 1 <= count <= MAX_BATCH:
            raise Problem(problems.INVALID_REQUEST, f"updates must be 1 to {MAX_BATCH} items, got {count}")
        idempotency = _idempotency_key(req)
        if count > 1:
            await self._rate_limit.admit_more(context, resp, count=count - 1)

        results: list[Any] = [None] * count
        boards: dict[str, list[tuple[int, Update, str]]] = {}
        for index, raw in enumerate(batch.updates):
            try:
                update: Update = decode(_decode_item, raw)
                names.user_id(update.user)
                boards.setdefault(names.board_key(update.leaderboard), []).append((index, update, _value(update)))
            except Problem as problem:
                results[index] = problems.brief(problem.kind, problem.detail)
            except DomainError as error:
                results[index] = problems.brief(problems.INVALID_REQUEST, str(error))
        await asyncio.gather(*(self._apply(context, key, items, results, idempotency) for key, items in boards.items()))
        resp.data = _encode({"results": results})

    async def _apply(
        self,
        context: KeyContext,
        key: str,
        items: list[tuple[int, Update, str]],
        results: list[Any],
        idempotency: str | None,
    ) -> None:
        outcomes = await self._store.update_many(
            context.namespace + key,
            [
                (
                    update.user,
                    value,
                    None if idempotency is None else (f"{idempotency}:{index}", _fingerprint(update.user, value)),
                )
                for index, update, value in items
            ],
        )
        for (index, update, _), outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Applied):
                done = _result(update, outcome)
                results[index] = ItemResult(
                    200,
                    done.leaderboard,
                    done.user,
                    done.score,
                    done.rank,
                    done.previous_score,
                    done.previous_rank,
                    outcome.replayed,
                    done.held,
                )
            elif isinstance(outcome, RedisFailure):
                kind = _failure(outcome)
                results[index] = problems.brief(kind, None)
            else:
                problem = await self._refusals.problem(outcome, context, key)
                results[index] = problems.brief(problem.kind, problem.detail)


def _failure(error: RedisFailure) -> problems.ProblemType:
    if isinstance(error, InDoubt):
        return problems.IN_DOUBT
    if isinstance(error, RedisUnavailable):
        return problems.STORE_UNAVAILABLE
    return problems.INTERNAL_ERROR
