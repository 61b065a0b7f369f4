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


def test_a_connection_that_fell_silent_is_made_again(monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 0.5)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    event = b'retry: 1\nid: %d\nevent: top\ndata: {"leaderboard":"global","total":%d,"entries":[]}\n\n'
    asked = []

    def answer():
        for number in (1, 2):
            connection, _ = server.accept()
            open_ones.append(connection)
            asked.append(connection.recv(65_536))
            connection.sendall(head + event % (number, number))

    open_ones = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with Client(url) as sdk, contextlib.closing(sdk.watch_top("global")) as tops:
            assert [next(tops).total, next(tops).total] == [1, 2]
        thread.join(10)
        for connection in open_ones:
            connection.close()
    assert b"last-event-id" not in asked[0].lower()
    assert b"last-event-id: 1\r\n" in asked[1].lower()


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
