"""The container image, built once a session and run as the chart runs it.

================ ======== ===============================================================================
fixture          scope    what it gives
================ ======== ===============================================================================
engine           session  a Docker engine of this machine (see support/engine.py)
image            session  the name of the image, built from the checkout
run              function (*command, env=None, mounts=()) -> a Container of the image
release          function the image's roles on `database` and `redis_url`, see support/release.py
kubernetes       session  a Kubernetes API, as in tests/operator
================ ======== ===============================================================================

The tests skip, with the reason, where this machine has no engine and cannot start one.
"""

import contextlib
from collections.abc import Iterator, Mapping

import pytest

from leaderboard.local.kubernetes import EmbeddedKubernetes
from support import engine as engines
from support.engine import Container, Engine, NoEngine
from support.kubernetes import build_what_is_used, built, embedded
from support.release import Release, Run

_engine = pytest.StashKey[Engine | NoEngine]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test: no test's time limit runs yet, and nothing captures the progress lines."""
    build_what_is_used(session)
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "image" in used and not session.config.option.collectonly:
        _prepare(session.config)


def _prepare(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(text: str) -> None:
        if reporter is not None:
            reporter.write_line(text)
            reporter.flush()

    stack = contextlib.ExitStack()
    config.add_cleanup(stack.close)
    try:
        found = stack.enter_context(engines.find(say=say))
        engines.build(found, say=say)
    except NoEngine as error:
        config.stash[_engine] = error
    else:
        config.stash[_engine] = found


@pytest.fixture(scope="session")
def engine(pytestconfig: pytest.Config) -> Engine:
    found = pytestconfig.stash[_engine]
    if isinstance(found, NoEngine):
        pytest.skip(f"no container image: {found}")
    return found


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    return engines.IMAGE


@pytest.fixture(name="run")
def _run(engine: Engine, image: str) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:

        def run(*command: str, env: Mapping[str, str] | None = None, mounts: tuple[str, ...] = ()) -> Container:
            container = Container(engine, image, *command, env=env or {}, mounts=mounts)
            stack.callback(container.close)
            return container

        yield run


@pytest.fixture
def release(run: Run, database: str, redis_url: str) -> Release:
    return Release(run, redis_url=redis_url, database=database)


@pytest.fixture(scope="session")
def kubernetes(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKubernetes]:
    with embedded(tmp_path_factory.mktemp("kubernetes"), binaries=built(pytestconfig)) as cluster:
        yield cluster
