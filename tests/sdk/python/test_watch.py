"""Live tops by the Python SDK: what changes arrives, over cuts and restarts, and what ends it is raised."""

import asyncio
import contextlib
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard_sdk import AsyncClient, Client, InvalidApiKey, NotFound, TransportError, client
from leaderboard_sdk.watching import EventParser
from support.proxy import Proxy
from support.tenants import make_tenant


@pytest.fixture
def tenant(served):
    return make_tenant(served)


def seen(top):
    return [(entry.rank, entry.user, entry.score) for entry in top.entries]


def test_what_changes_arrives_in_order(served, tenant):
    with Client(served.url, tenant.key) as sdk, contextlib.closing(sdk.watch_top("global", limit=2)) as tops:
        assert seen(next(tops)) == []
        sdk.update("global", "ann", increment=5)
        assert seen(next(tops)) == [(1, "ann", 5)]
        sdk.update("global", "bob", increment=7)
        sdk.update("global", "cyd", increment=1)
        top = next(tops)
        while top.total < 3:
            top = next(tops)
        assert seen(top) == [(1, "bob", 7), (2, "ann", 5)]


async def test_a_cut_connection_is_made_again_and_repeats_nothing(served, tenant):
    async with Proxy.to(served.url) as proxy, AsyncClient(proxy.url, tenant.key) as sdk:
        tops = sdk.watch_top("global")
        assert seen(await anext(tops)) == []
        await sdk.update("global", "ann", increment=5)
        assert seen(await anext(tops)) == [(1, "ann", 5)]
        following = asyncio.create_task(anext(tops))
        await asyncio.sleep(0)
        proxy.cut()
        # Without the id of its last event the first of the new connection would be the same top again.
        await asyncio.sleep(4)
        assert not following.done()
        await sdk.update("global", "bob", increment=7)
        assert seen(await following) == [(1, "bob", 7), (2, "ann", 5)]
        await tops.aclose()


def test_it_outlives_a_restart_of_the_api(served, tenant):
    with Client(served.url, tenant.key, max_attempts=2) as sdk, contextlib.closing(sdk.watch_top("global")) as tops:
        sdk.update("global", "ann", increment=5)
        top = next(tops)
        while not top.entries:
            top = next(tops)
        found = []
        thread = threading.Thread(target=lambda: found.append(next(tops)))
        thread.start()
        served.stop_api()
        served.start_api()
        sdk.update("global", "bob", increment=7)
        thread.join(30)
        assert [seen(top) for top in found] == [[(1, "bob", 7), (2, "ann", 5)]]


def test_what_cannot_be_followed_is_raised_at_once(served, tenant):
    with Client(served.url, tenant.key) as sdk, pytest.raises(NotFound, match="board-not-found"):
        next(sdk.watch_top("nowhere"))
    with Client(served.url, "lb_live_wrong") as sdk, pytest.raises(InvalidApiKey):
        next(sdk.watch_top("global"))


def test_a_board_that_is_deleted_ends_it_with_the_reason(served, tenant):
    with Client(served.url, tenant.key) as sdk:
        tops = sdk.watch_top("global")
        next(tops)
        sdk.delete_leaderboard("global")
        with pytest.raises(NotFound, match="board-not-found"):
            next(tops)


def test_where_nobody_listens_it_gives_up_after_its_attempts():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with Client(url, "key", max_attempts=2) as sdk, pytest.raises(TransportError):
            next(sdk.watch_top("global"))


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1\n"
EVENT = b'id: %d\nevent: top\ndata: {"leaderboard":"global","total":%d,"entries":[]}\n\n'


@contextlib.contextmanager
def scripted(*answers, close):
    """(url, what was asked) of a server that gives one answer a connection, which it leaves open or closes."""
    asked, open_ones = [], []

    def answer():
        for each in answers:
            connection, _ = server.accept()
            asked.append(connection.recv(65_536).lower())
            connection.sendall(HEAD + each)
            if close:
                connection.close()
            else:
                open_ones.append(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join(10)
        for connection in open_ones:
            connection.close()


def test_a_connection_that_fell_silent_is_made_again(monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 0.5)
    with (
        scripted(EVENT % (1, 1), EVENT % (2, 2), close=False) as (url, asked),
        Client(url) as sdk,
        contextlib.closing(sdk.watch_top("global")) as tops,
    ):
        assert [next(tops).total, next(tops).total] == [1, 2]
    assert b"last-event-id" not in asked[0]
    assert b"last-event-id: 1\r\n" in asked[1]


def test_an_event_that_was_cut_off_is_asked_for_again():
    with (
        scripted(EVENT % (1, 1) + (EVENT % (2, 2))[:-20], EVENT % (2, 2), close=True) as (url, asked),
        Client(url) as sdk,
        contextlib.closing(sdk.watch_top("global")) as tops,
    ):
        assert [next(tops).total, next(tops).total] == [1, 2]
    assert b"last-event-id: 1\r\n" in asked[1]


@pytest.mark.parametrize("status", [429, 503])
def test_an_outage_that_ends_a_stream_is_outlived(status):
    problem = b'event: problem\ndata: {"type":"/problems/store-unavailable","status":%d}\n\n' % status
    with (
        scripted(EVENT % (1, 1) + problem, problem, EVENT % (2, 2), close=True) as (url, asked),
        Client(url, max_attempts=1) as sdk,
        contextlib.closing(sdk.watch_top("global")) as tops,
    ):
        assert [next(tops).total, next(tops).total] == [1, 2]
    assert b"last-event-id: 1\r\n" in asked[2]


@pytest.mark.parametrize("key", ["", "two words", "line\nend", "\u00e9"])
def test_what_cannot_be_a_key_is_said_at_once(key):
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="api_key"):
            kind("http://127.0.0.1:1", key)


DATA = st.lists(st.sampled_from(["a", "b: c", "", "é\u2028x"]), min_size=1)
EVENTS = st.lists(st.tuples(st.sampled_from(["top", "", "problem"]), DATA))


@given(EVENTS, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 9)))
def test_events_are_the_same_however_they_are_cut(events, end, sizes):
    lines = []
    for kind, data in events:
        lines += [":comment", f"id: {kind}", *([f"event: {kind}"] if kind else [])]
        lines += [*(f"data: {each}" for each in data), ""]
    text = end.join([*lines, ""]) if lines else ""
    parser, found = EventParser(), []
    for size in sizes:
        found += parser.feed(text[:size])
        text = text[size:]
    found += parser.feed(text)
    if end == "\r" and events:
        found += parser.feed("\n")  # a \r at the end waits for what may be its other half
    assert found == [(kind or "message", "\n".join(data)) for kind, data in events]
