"""Timers without waiting: an event loop whose time passes only while nothing else is to do."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class _Selector(selectors.DefaultSelector):
    """Sleeps by setting the clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and nothing will ever happen"
            self.now += max(0.0, timeout)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(scenario: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Return what `scenario` returns, run to its end in no time; its clock is `now`."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(scenario())


def now() -> float:
    """The seconds that have passed for the scenario."""
    return asyncio.get_running_loop().time()
