"""Whom a Tenant lets in: a namespace's labels are read only where they matter, and once."""

import asyncio

import pytest

from leaderboard_operator.client import ApiUnavailable
from leaderboard_operator.namespaces import Namespaces
from support.memory_api import MemoryApi
from support.resources import make_board, make_tenant

BLUE = {"from": "Selector", "selector": {"matchLabels": {"team": "blue"}}}


class Counting(MemoryApi):
    """Answers a little later, and counts what is read."""

    def __init__(self):
        super().__init__()
        self.reads = []
        self.before = lambda method, path: self.reads.append(path.rpartition("/")[2])

    async def call(self, *args, **options):
        await asyncio.sleep(0)
        return await super().call(*args, **options)


@pytest.fixture
def api():
    api = Counting()
    api.namespace("theirs", team="blue")
    return api


def tenant(allowed=None):
    return make_tenant(namespace="home", more={"allowedNamespaces": allowed} if allowed else {})


def board(namespace="theirs"):
    return make_board(namespace=namespace, tenant_namespace="home")


@pytest.mark.parametrize(
    ("allowed", "namespace", "permitted"),
    [
        (None, "home", True),
        (None, "theirs", False),
        ({"from": "All"}, "theirs", True),
        (BLUE, "home", True),
    ],
)
async def test_labels_are_not_read_where_they_do_not_matter(api, allowed, namespace, permitted):
    assert await Namespaces(api).permit(tenant(allowed), board(namespace)) is permitted
    assert api.reads == []


async def test_a_selector_asks_for_them(api):
    namespaces = Namespaces(api)
    assert await namespaces.permit(tenant(BLUE), board())
    api.namespace("theirs", team="red")
    assert await namespaces.permit(tenant(BLUE), board())  # as of this sweep
    namespaces.forget()
    assert not await namespaces.permit(tenant(BLUE), board())


async def test_a_namespace_that_is_not_there_is_not_let_in(api):
    anybody = {"from": "Selector", "selector": {}}
    assert not await Namespaces(api).permit(tenant(anybody), board("nowhere"))


async def test_many_that_ask_at_once_read_each_once(api):
    namespaces = Namespaces(api)
    boards = [board(name) for name in ("theirs", "nowhere")] * 50
    answers = await asyncio.gather(*(namespaces.permit(tenant(BLUE), each) for each in boards))
    assert answers == [True, False] * 50
    assert sorted(api.reads) == ["nowhere", "theirs"]


async def test_what_could_not_be_read_is_neither_yes_nor_no_and_read_again(api):
    namespaces = Namespaces(api)

    def away(method, path):
        raise ApiUnavailable("away")

    api.before = away
    with pytest.raises(ApiUnavailable):
        await namespaces.permit(tenant(BLUE), board())
    api.before = lambda method, path: None
    assert await namespaces.permit(tenant(BLUE), board())
