"""The real servers of the observability stack, on the files of grafana/.

============ ======== ================================================================================
fixture      scope    what it gives
============ ======== ================================================================================
programs     session  the paths of otelcol, prometheus and promtool, by name
all_programs session  those, loki and tempo: for tests marked `observability`
stack        session  collector and Prometheus: .otlp_url, .prometheus_url (local/observe.py)
whole_stack  session  all four, with .loki_url and .tempo_url too: for tests marked `observability`
make_stack   function (programs) -> one of the test's own, not started, which it may .start(), .kill(), .stop()
============ ======== ================================================================================

What is neither on the machine nor in the cache is built before the first test. Tests skip only where that cannot be.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from leaderboard.local.observe import Observability
from leaderboard.local.process import Log
from leaderboard.local.toolchain import METRICS_ONLY, OBSERVABILITY
from support.programs import build_what_is_used, programs_of

_numbers = itertools.count(1)
MakeStack = Callable[[Mapping[str, Path]], Observability]
_NEEDS = [(METRICS_ONLY, {"programs", "stack"}), (OBSERVABILITY, {"all_programs", "whole_stack"})]


def pytest_collection_finish(session: pytest.Session) -> None:
    build_what_is_used(session, _NEEDS)


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> dict[str, Path]:
    return programs_of(pytestconfig, METRICS_ONLY)


@pytest.fixture(scope="session")
def all_programs(pytestconfig: pytest.Config) -> dict[str, Path]:
    return programs_of(pytestconfig, OBSERVABILITY)


@pytest.fixture(scope="session")
def stack(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observability]:
    with _started(tmp_path_factory.mktemp("stack"), programs) as started:
        yield started


@pytest.fixture(scope="session")
def whole_stack(all_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observability]:
    with _started(tmp_path_factory.mktemp("whole-stack"), all_programs) as started:
        yield started


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[MakeStack]:
    with contextlib.ExitStack() as cleanup:
        log = Log(tmp_path / "log")
        cleanup.callback(log.close)

        def make(programs: Mapping[str, Path]) -> Observability:
            made = Observability(tmp_path / f"stack-{next(_numbers)}", programs=programs, log=log)
            cleanup.callback(made.stop)
            return made

        yield make


@contextlib.contextmanager
def _started(folder: Path, programs: Mapping[str, Path]) -> Iterator[Observability]:
    log = Log(folder / "log")
    made = Observability(folder / "data", programs=programs, log=log)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        log.close()
