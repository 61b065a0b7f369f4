"""The queue: nothing that was asked for is forgotten, nothing is worked on twice at once. Time is virtual."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard_operator.workqueue import FIRST_RETRY, LAST_RETRY, WorkQueue
from support.resources import board_key
from support.virtual_time import now, run

A, B, C = (board_key(name) for name in "abc")
FAR = 1000.0
"""Seconds after which nothing can be planned any more."""


def make():
    return WorkQueue("test", clock=now)


async def idle(queue, seconds):
    """Whether nothing comes for that long."""
    try:
        async with asyncio.timeout(seconds):
            await queue.take(1)
    except TimeoutError:
        return True
    return False


def test_a_key_asked_for_twice_is_taken_once():
    async def scenario():
        queue = make()
        for key in (A, B, A):
            queue.add(key)
        assert len(queue) == 2
        assert await queue.take(10) == [A, B]
        assert await idle(queue, FAR)

    run(scenario)


def test_the_longest_waiting_are_taken_first_and_no_more_than_asked_for():
    async def scenario():
        queue = make()
        for key in (C, A, B):
            queue.add(key)
        assert await queue.take(2) == [C, A]
        assert await queue.take(2) == [B]

    run(scenario)


def test_take_waits_for_the_first_key():
    async def scenario():
        queue = make()
        asyncio.get_running_loop().call_later(3, queue.add, A)
        assert await queue.take(5) == [A]
        assert now() == 3

    run(scenario)


def test_each_key_goes_to_one_of_several_workers():
    async def scenario():
        queue = make()
        workers = [asyncio.create_task(queue.take(1)) for _ in range(3)]
        await asyncio.sleep(0)
        for key in (A, B, C):
            queue.add(key)
        assert sorted(await asyncio.gather(*workers)) == [[A], [B], [C]]

    run(scenario)


def test_of_several_workers_only_one_is_sent_off_for_one_key():
    async def scenario():
        queue = make()
        workers = [asyncio.create_task(queue.take(1)) for _ in range(3)]
        await asyncio.sleep(0)
        queue.add(A)
        await asyncio.sleep(FAR)
        assert [worker.result() for worker in workers if worker.done()] == [[A]]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    run(scenario)


def test_a_worker_that_is_stopped_while_it_waits_takes_nothing_with_it():
    async def scenario():
        queue = make()
        waiting = asyncio.create_task(queue.take(1))
        await asyncio.sleep(0)
        queue.add(A)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await queue.take(1) == [A]

    run(scenario)


def test_a_key_asked_for_while_at_work_is_taken_again_afterwards_and_not_before():
    async def scenario():
        queue = make()
        queue.add(A)
        await queue.take(1)
        queue.add(A)
        queue.add(A)
        assert await idle(queue, FAR)
        queue.done(A)
        assert await queue.take(1) == [A]
        queue.done(A)
        assert await idle(queue, FAR)

    run(scenario)


class TestFailures:
    def test_the_pause_doubles_to_its_bound_and_stays_there(self):
        async def scenario():
            queue = make()
            queue.add(A)
            await queue.take(1)
            expected = FIRST_RETRY
            for _ in range(1100):  # past where 2.0 ** failures would overflow
                failed_at = now()
                queue.done(A, failed=True)
                assert await queue.take(1) == [A]
                assert 0.8 * expected <= now() - failed_at <= expected
                expected = min(LAST_RETRY, 2 * expected)

        run(scenario)

    def test_success_forgets_the_failures(self):
        async def scenario():
            queue = make()
            queue.add(A)
            for _ in range(5):
                await queue.take(1)
                queue.done(A, failed=True)
            await queue.take(1)
            queue.done(A)
            assert await idle(queue, FAR)
            queue.add(A)
            await queue.take(1)
            failed_at = now()
            queue.done(A, failed=True)
            await queue.take(1)
            assert now() - failed_at <= FIRST_RETRY

        run(scenario)

    def test_one_keys_failures_are_not_anothers(self):
        async def scenario():
            queue = make()
            queue.add(A)
            for _ in range(8):
                await queue.take(1)
                queue.done(A, failed=True)
            queue.add(B)
            assert await queue.take(1) == [B]
            failed_at = now()
            queue.done(B, failed=True)
            assert await queue.take(1) == [B]
            assert now() - failed_at <= FIRST_RETRY

        run(scenario)

    def test_what_was_asked_for_meanwhile_does_not_wait_for_the_retry(self):
        async def scenario():
            queue = make()
            queue.add(A)
            await queue.take(1)
            queue.add(A)
            queue.done(A, failed=True)
            failed_at = now()
            assert await queue.take(1) == [A]
            assert now() == failed_at

        run(scenario)


class TestAddAfter:
    def test_a_key_comes_at_its_time_and_once(self):
        async def scenario():
            queue = make()
            queue.add_after(A, 5)
            assert await queue.take(1) == [A]
            assert now() == 5
            queue.done(A)
            assert await idle(queue, FAR)

        run(scenario)

    @pytest.mark.parametrize("pauses", [(5, 1, 9), (1, 5, 9), (9, 5, 1)])
    def test_the_earliest_of_several_counts(self, pauses):
        async def scenario():
            queue = make()
            for pause in pauses:
                queue.add_after(A, pause)
            assert await queue.take(1) == [A]
            assert now() == 1
            queue.done(A)
            assert await idle(queue, FAR)

        run(scenario)

    def test_a_key_whose_time_comes_while_it_is_at_work_comes_afterwards(self):
        async def scenario():
            queue = make()
            queue.add(A)
            await queue.take(1)
            queue.add_after(A, 1)
            await asyncio.sleep(2)
            assert len(queue) == 0
            queue.done(A)
            assert await queue.take(1) == [A]

        run(scenario)


class TestClaim:
    def test_only_what_neither_waits_nor_is_at_work_is_claimed(self):
        async def scenario():
            queue = make()
            queue.add(A)
            await queue.take(1)
            queue.add(B)
            assert queue.claim([A, B, C]) == [C]
            assert await queue.take(10) == [B]

        run(scenario)

    def test_a_claimed_key_is_at_work(self):
        async def scenario():
            queue = make()
            assert queue.claim([A]) == [A]
            assert queue.claim([A]) == []
            queue.add(A)
            assert await idle(queue, FAR)
            queue.done(A)
            assert await queue.take(1) == [A]

        run(scenario)

    def test_a_claimed_key_that_failed_is_tried_again(self):
        async def scenario():
            queue = make()
            queue.claim([A])
            queue.done(A, failed=True)
            assert await queue.take(1) == [A]
            assert now() <= FIRST_RETRY

        run(scenario)


class TestForget:
    def test_a_planned_retry_is_dropped(self):
        async def scenario():
            queue = make()
            queue.add(A)
            await queue.take(1)
            queue.done(A, failed=True)
            queue.add_after(B, 1)
            queue.forget(A)
            queue.forget(B)
            queue.forget(C)  # never heard of
            assert await idle(queue, FAR)

        run(scenario)

    def test_its_failures_are_forgotten(self):
        async def scenario():
            queue = make()
            queue.add(A)
            for _ in range(6):
                await queue.take(1)
                queue.done(A, failed=True)
            queue.forget(A)
            queue.add(A)
            await queue.take(1)
            failed_at = now()
            queue.done(A, failed=True)
            await queue.take(1)
            assert now() - failed_at <= FIRST_RETRY

        run(scenario)


def test_nothing_comes_after_close():
    async def scenario():
        queue = make()
        queue.add_after(A, 1)
        queue.add_after(B, 2)
        queue.close()
        assert await idle(queue, FAR)

    run(scenario)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add_after", "take", "claim", "done", "fail", "wait"]),
        st.sampled_from([A, B, C]),
        st.sampled_from([0.0, 0.1, 3.0]),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_nothing_is_lost_and_nothing_is_at_work_twice(steps):
    async def scenario():
        queue = make()
        at_work, owed = set(), set()

        def begin(keys):
            assert not at_work & set(keys)
            at_work.update(keys)

        for step, key, seconds in steps:
            match step:
                case "add":
                    queue.add(key)
                    owed.add(key)
                case "add_after":
                    queue.add_after(key, seconds)
                    owed.add(key)
                case "take" if len(queue):
                    taken = await queue.take(2)
                    begin(taken)
                    owed.difference_update(taken)
                case "claim":
                    begin(queue.claim([A, B, C]))
                case "done" | "fail" if key in at_work:
                    at_work.remove(key)
                    queue.done(key, failed=step == "fail")
                    if step == "fail":
                        owed.add(key)
                case "wait":
                    await asyncio.sleep(seconds)
        for key in list(at_work):
            queue.done(key)
        while owed:
            async with asyncio.timeout(FAR):
                taken = await queue.take(10)
            owed.difference_update(taken)
            for key in taken:
                queue.done(key)

    run(scenario)
