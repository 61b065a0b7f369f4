"""Kopf only watches: it writes nothing, and keeps its hands off our finalizer."""

import pytest

from leaderboard_operator import handlers
from leaderboard_operator.resources import FINALIZER, Kind


def test_kopf_does_not_know_our_finalizer():
    """It takes its own off every object that no handler needs it for, which here is every object."""
    assert handlers.settings().persistence.finalizer != FINALIZER


def test_kopf_posts_nothing_and_scans_nothing():
    chosen = handlers.settings()
    assert not chosen.posting.enabled
    assert chosen.scanning.disabled


def test_kopf_keeps_nothing_about_an_object():
    """What it keeps to tell differences by is a deep copy an event, and an annotation where a handler asks for it."""
    storage = handlers.settings().persistence.diffbase_storage
    assert storage.build(body={"spec": {"key": "global"}}) == {}
    assert storage.fetch(body={}) is None


def test_many_objects_are_listed_in_pages():
    assert handlers.settings().watching.chunk_size == 500


def test_a_watch_is_back_soon_after_an_outage():
    pauses = handlers.settings().networking.error_backoffs
    assert max(pauses) <= 2
    assert sum(pauses) < 30


@pytest.mark.parametrize(
    ("type", "told"), [(None, "changed"), ("ADDED", "changed"), ("MODIFIED", "changed"), ("DELETED", "deleted")]
)
async def test_every_event_is_handed_over(type, told):
    heard = []

    class Watcher:
        def changed(self, kind, raw):
            heard.append(("changed", kind, raw))

        def deleted(self, kind, raw):
            heard.append(("deleted", kind, raw))

    registry = handlers.registry_for(Watcher())
    by_id = {handler.id.rpartition(".")[2]: handler.fn for handler in registry._watching.get_all_handlers()}
    assert set(by_id) == {"tenant", "leaderboard"}
    for name, kind in (("tenant", Kind.TENANT), ("leaderboard", Kind.LEADERBOARD)):
        await by_id[name](event={"type": type, "object": {"kind": kind}})
        assert heard.pop() == (told, kind, {"kind": kind})


def test_a_watch_ends_at_the_server_before_the_client_gives_it_up():
    chosen = handlers.settings()
    assert chosen.watching.server_timeout is not None
    assert chosen.watching.client_timeout is not None
    assert chosen.watching.server_timeout < chosen.watching.client_timeout
