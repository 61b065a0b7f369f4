"""Decoding entries, and waiting out outages, without servers."""

import asyncio
import logging

import pytest

from leaderboard.store.redis.events import EventKind
from leaderboard.worker import backoff
from leaderboard.worker.backoff import Backoff
from leaderboard.worker.outbox import _entries, batches, decode

GOOD = "\x1f".join(["0" * 31 + "7", "u", "5", "1", "9", "1.5", "3.5", "00f", "ann"]).encode()


def test_an_entry_of_ours_is_decoded():
    (event,) = decode(b"1700000000000-3", {b"e": GOOD}).events
    assert (event.kind, event.leaderboard_id, event.seq, event.user) == (EventKind.UPDATE, 5, 9, "ann")


def test_a_batch_has_whole_entries_and_no_more_events_than_it_may():
    def chunk(events):
        head = ["0" * 30 + "00", "i", "5", "1", "9", ""]
        return {b"e": "\x1f".join([*head, *(part for n in range(events) for part in (f"u{n}", "1"))]).encode()}

    raw = [(b"%d-0" % n, fields) for n, fields in enumerate([chunk(2), {b"e": GOOD}, chunk(3), {}, chunk(9), chunk(1)])]
    found = list(batches(iter(raw), limit=4))
    assert [[entry.id for entry in batch] for batch in found] == [
        [b"0-0", b"1-0"],
        [b"2-0", b"3-0"],
        [b"4-0"],
        [b"5-0"],
    ]
    assert [sum(len(entry.events) for entry in batch) for batch in found] == [3, 3, 9, 1]
    assert list(batches([], limit=4)) == []


@pytest.mark.parametrize(
    ("entry_id", "fields"),
    [
        (b"1-0", {}),
        (b"1-0", {b"e": b""}),
        (b"1-0", {b"e": b"\xff"}),
        (b"1-0", {b"e": GOOD + b"\x1fmore"}),
        (b"1-0", {b"e": GOOD.replace(b"u\x1f", b"?\x1f", 1)}),
        (b"99999999999999999999-0", {b"e": GOOD}),
    ],
)
def test_any_other_is_given_a_reason(entry_id, fields):
    entry = decode(entry_id, fields)
    assert entry.events == []
    assert entry.reason


def test_both_protocols_shapes_are_read():
    entries = [(b"1-0", {b"e": b"x"})]
    assert _entries([[b"outbox", entries]]) == entries
    assert _entries({b"outbox": [entries]}) == entries
    assert _entries([]) == _entries({}) == _entries(None) == []


async def test_an_outage_is_logged_once_and_once_when_it_is_over(monkeypatch, caplog):
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.0)
    outage = Backoff("it", stop=asyncio.Event())
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            await outage.wait(RuntimeError("away"))
        outage.over()
        outage.over()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_pause_ends_when_told_to_stop(monkeypatch):
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 3600.0)
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 3600.0)
    stop = asyncio.Event()
    waiting = asyncio.create_task(Backoff("it", stop=stop).wait(RuntimeError("away")))
    await asyncio.sleep(0)
    stop.set()
    await waiting
