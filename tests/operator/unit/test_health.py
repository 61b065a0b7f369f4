"""/livez, /readyz and /metrics, asked over a socket of this machine."""

import socket
import warnings

import aiohttp
import pytest

from leaderboard_operator.health import Health
from leaderboard_operator.metrics import LEADING


def test_aiohttp_has_no_complaints():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Health("127.0.0.1:0", live=lambda: None, ready=lambda: None)


@pytest.fixture(autouse=True)
def _no_sockets():
    """Here one is opened, to ourselves."""


@pytest.fixture
def bind():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


async def get(bind, path):
    async with aiohttp.ClientSession() as session, session.get(f"http://{bind}{path}") as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_each_check_answers_for_itself(bind):
    async with Health(bind, live=lambda: None, ready=lambda: "the objects have not been listed yet"):
        assert await get(bind, "/livez") == (200, "text/plain; charset=utf-8", "ok\n")
        status, _, text = await get(bind, "/readyz")
    assert (status, text) == (503, "the objects have not been listed yet\n")


async def test_a_check_is_asked_each_time(bind):
    wrong = []
    async with Health(bind, live=lambda: wrong[0] if wrong else None, ready=lambda: None):
        assert (await get(bind, "/livez"))[0] == 200
        wrong.append("no sweep ended for 200 s")
        assert (await get(bind, "/livez"))[0] == 503
        wrong.clear()
        assert (await get(bind, "/livez"))[0] == 200


async def test_metrics_are_prometheus_text_under_controller_runtimes_names(bind):
    LEADING.labels(name="a-test").set(1)
    async with Health(bind, live=lambda: None, ready=lambda: None):
        status, kind, text = await get(bind, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    assert 'leader_election_master_status{name="a-test"} 1.0' in text
    for name in ("controller_runtime_reconcile_total", "workqueue_depth", "rest_client_requests_total"):
        assert f"\n# TYPE {name} " in text


async def test_nothing_listens_afterwards(bind):
    async with Health(bind, live=lambda: None, ready=lambda: None):
        pass
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(bind, "/livez")


async def test_other_paths_are_not_there(bind):
    async with Health(bind, live=lambda: None, ready=lambda: None):
        assert (await get(bind, "/"))[0] == 404
