"""The attempts of a call as a server sees them, by both clients: what is sent again, after which pauses, and how often.

The pauses are asked for and not made: `sleep` only writes them down.
"""

import asyncio
from typing import Any

import pytest

from leaderboard_sdk import ApiError, AsyncClient, Client, InDoubt, TransportError, Unavailable, Update
from leaderboard_sdk.retries import FIRST_PAUSE
from support.scripted import CUT, Reply, problem, scripted

APPLIED = Reply(
    body={"leaderboard": "b", "user": "u", "score": 5, "rank": 1, "previous_score": None, "previous_rank": None}
)
TOP = Reply(body={"leaderboard": "b", "total": 0, "entries": [], "next_cursor": None})


class Caller:
    """Makes one call with a client of its own; `pauses` are those of all its calls."""

    def __init__(self, kind: type[Client] | type[AsyncClient]) -> None:
        self._kind = kind
        self.pauses: list[float] = []

    def __call__(self, url: str, name: str, *args: Any, patience: dict[str, Any] | None = None, **how: Any) -> Any:
        if self._kind is Client:
            with Client(url, "key", sleep=self.pauses.append, **(patience or {})) as client:
                return getattr(client, name)(*args, **how)

        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        async def run() -> Any:
            async with AsyncClient(url, "key", sleep=sleep, **(patience or {})) as client:
                return await getattr(client, name)(*args, **how)

        return asyncio.run(run())


@pytest.fixture(params=[Client, AsyncClient])
def call(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"Retry_After": "7"}, 7),
        # The clock of who answers is years off, and no matter.
        ({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry_After": "Wed, 21 Oct 2015 07:28:09 GMT"}, 9),
        ({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry_After": "Wednesday, 21-Oct-15 07:28:09 GMT"}, 9),
        ({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry_After": "Wed, 21 Oct 2015 07:27:00 GMT"}, 0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:09 GMT"}, 0),
        ({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry_After": "soon"}, 0),
    ],
    ids=["seconds", "date", "date of old", "past date", "date by no clock", "neither"],
)
def test_no_pause_is_shorter_than_retry_after(call: Caller, headers: dict[str, str], least: float) -> None:
    with scripted(problem(503, "overloaded", **headers), APPLIED) as server:
        assert call(server.url, "update", "b", "u", increment=5).score == 5
    (pause,) = call.pauses
    assert least <= pause <= least + FIRST_PAUSE


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_go_better_is_tried_again(call: Caller, status: int) -> None:
    with scripted(Reply(status), TOP) as server:
        assert call(server.url, "top", "b").total == 0
    assert [asked.path for asked in server.asked] == ["/v1/leaderboards/b/top"] * 2
    assert len(call.pauses) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 409, 413, 415, 421, 422, 500, 501])
@pytest.mark.parametrize("name", ["update", "top"])
def test_every_other_answer_is_the_last(call: Caller, name: str, status: int) -> None:
    how = {"update": {"args": ("b", "u"), "increment": 5}, "top": {"args": ("b",)}}[name]
    args = how.pop("args")
    with scripted(problem(status, "said-no", Retry_After="1")) as server, pytest.raises(ApiError) as raised:
        call(server.url, name, *args, **how)
    assert (raised.value.status, raised.value.type) == (status, "said-no")
    assert raised.value.trace_id == "trace of said-no"
    assert len(server.asked) == 1
    assert call.pauses == []


@pytest.mark.parametrize(
    "lost", [CUT, Reply(body=APPLIED.body, cut=0), Reply(body=APPLIED.body, cut=20)], ids=["answer", "body", "half"]
)
def test_an_update_whose_answer_is_lost_is_sent_again_as_it_was(call: Caller, lost: Reply) -> None:
    with scripted(lost, lost, APPLIED) as server:
        assert call(server.url, "update", "b", "u", increment=5).rank == 1
    keys = {asked.headers["idempotency-key"] for asked in server.asked}
    assert len(keys) == 1
    assert [asked.body for asked in server.asked] == [{"leaderboard": "b", "user": "u", "increment": 5}] * 3
    assert len(call.pauses) == 2


def test_a_new_update_has_a_key_of_its_own(call: Caller) -> None:
    with scripted(APPLIED) as server:
        for _ in range(2):
            call(server.url, "update", "b", "u", increment=5)
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


@pytest.mark.parametrize("bound", [1, 3])
def test_the_attempts_are_bounded_and_the_last_ones_error_is_raised(call: Caller, bound: int) -> None:
    failing = [CUT, problem(503, "overloaded"), problem(503, "in-doubt")][-bound:]
    with scripted(*failing, APPLIED) as server, pytest.raises(InDoubt) as raised:
        call(server.url, "update", "b", "u", increment=5, patience={"max_attempts": bound})
    assert len(server.asked) == bound
    assert (raised.value.type, raised.value.trace_id) == ("in-doubt", "trace of in-doubt")
    assert {asked.headers["idempotency-key"] for asked in server.asked} == {raised.value.idempotency_key}


def test_the_pauses_together_are_bounded(call: Caller) -> None:
    with scripted(problem(503, "overloaded", Retry_After="4")) as server, pytest.raises(Unavailable) as raised:
        call(server.url, "top", "b", patience={"max_attempts": 99, "max_wait": 10.0})
    assert len(server.asked) == 3
    assert raised.value.retry_after == 4


def test_where_nobody_answers_the_transport_error_names_the_key(call: Caller) -> None:
    with scripted(CUT) as server, pytest.raises(TransportError) as raised:
        call(server.url, "update", "b", "u", increment=5, idempotency_key="match-7", patience={"max_attempts": 2})
    assert raised.value.sent
    assert raised.value.idempotency_key == "match-7"
    assert [asked.headers["idempotency-key"] for asked in server.asked] == ["match-7"] * 2


def test_a_batch_with_one_update_in_doubt_is_sent_again_whole(call: Caller) -> None:
    applied = {"status": 200, "replayed": False, **APPLIED.body}
    in_doubt = {"status": 503, "type": "/problems/in-doubt"}
    updates = [{"leaderboard": "b", "user": user, "increment": 1} for user in ("ann", "bob")]
    with scripted(
        Reply(body={"results": [applied, in_doubt]}), Reply(body={"results": [{**applied, "replayed": True}, applied]})
    ) as server:
        results = call(server.url, "update_many", [Update(**each) for each in updates])
    assert [result.replayed for result in results] == [True, False]
    assert [asked.body for asked in server.asked] == [{"updates": updates}] * 2
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
