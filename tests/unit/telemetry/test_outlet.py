"""Nobody waits for a collector, and what it does not take is counted."""

import logging
import threading
import time

import pytest

from leaderboard.telemetry.outlet import Losses, Outlet, Pump


class Collector:
    """Takes batches, unless it is told to refuse, to raise, or to hang until it is let go."""

    def __init__(self):
        self.batches, self.takes, self.error = [], True, None
        self.asked, self.free = threading.Semaphore(0), threading.Event()
        self.free.set()

    def export(self, batch):
        self.asked.release()
        self.free.wait()
        if self.error is not None:
            raise self.error
        self.batches.append(list(batch))
        return self.takes


@pytest.fixture
def losses():
    return Losses()


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.free.set()


def outlet(collector, losses, *, capacity=100, batch=10, delay=3600.0):
    made = Outlet(
        "traces",
        export=collector.export,
        abort=collector.free.set,
        losses=losses,
        capacity=capacity,
        batch=batch,
        delay=delay,
    )
    made.start()
    return made


def end(outlet, *, seconds=30.0):
    outlet.stop(deadline=time.monotonic() + seconds)
    outlet.join()


def test_everything_goes_out_in_order_and_in_batches(collector, losses):
    out = outlet(collector, losses)
    for number in range(25):
        out.put(number)
    end(out)
    assert [item for batch in collector.batches for item in batch] == list(range(25))
    assert max(map(len, collector.batches)) <= 10
    assert (out.exported, losses.dropped) == (25, {})


def test_a_full_batch_does_not_wait_for_its_time(collector, losses):
    out = outlet(collector, losses)
    for number in range(10):
        out.put(number)
    assert collector.asked.acquire(timeout=30)
    end(out)


def test_while_the_collector_hangs_the_queue_keeps_its_bound_and_nobody_waits(collector, losses):
    collector.free.clear()
    out = outlet(collector, losses, capacity=50)
    for number in range(10):
        out.put(number)
    assert collector.asked.acquire(timeout=30)  # these ten are on their way, and hang
    for number in range(1_000):
        out.put(number)  # returns, or this test never ends
    collector.free.set()
    end(out)
    assert losses.dropped == {("traces", "full"): 950}
    assert out.exported == 60


@pytest.mark.parametrize("error", [None, ValueError("cannot be encoded")])
def test_what_is_refused_or_cannot_be_encoded_is_counted_and_gone(collector, losses, error):
    collector.takes, collector.error = False, error
    out = outlet(collector, losses)
    for number in range(15):
        out.put(number)
    end(out)
    assert losses.dropped == {("traces", "refused"): 15}
    assert out.exported == 0


def test_the_end_waits_for_a_bounded_time_and_counts_what_is_left(collector, losses):
    collector.free.clear()
    out = outlet(collector, losses)
    for number in range(30):
        out.put(number)
    assert collector.asked.acquire(timeout=30)
    end(out, seconds=0.0)
    left = losses.dropped["traces", "ended"]
    assert left == 20


def test_an_outage_is_one_line_a_minute(caplog):
    now = [0.0]
    losses = Losses(clock=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            losses.add("traces", "full", 7)
            now[0] += 1.0
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "7 items" in lines[0]
    assert "420 items" in lines[1]  # those of the minute between
    assert losses.dropped == {("traces", "full"): 700}


def test_the_pump_exports_once_more_at_the_end():
    exports = []
    pump = Pump(export=lambda: exports.append(1), abort=lambda: None, every=3600.0)
    pump.start()
    pump.stop(deadline=time.monotonic() + 30)
    pump.join()
    assert exports == [1]
