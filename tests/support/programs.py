"""The programs of the observability stack for tests: built before the first test, or a reason to skip."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from leaderboard.local.process import LocalError
from leaderboard.local.toolchain import CannotBuild, Tool, provide

_provided = pytest.StashKey[dict[str, Path | LocalError]]()


def build_what_is_used(session: pytest.Session, needs: Sequence[tuple[Sequence[Tool], set[str]]]) -> None:
    """Build what the collected tests' fixtures need, by `needs` (tools, fixtures): for pytest_collection_finish.

    A build may take longer than the time limit of a test, which counts its fixtures too.
    """
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for tools, fixtures in needs:
        if used & fixtures:
            _build(session.config, tools)


def programs_of(config: pytest.Config, tools: Sequence[Tool]) -> dict[str, Path]:
    """Return where `tools` are, by name; skip the test where this machine cannot build them."""
    _build(config, tools)  # of a test that asks for a fixture by name when it runs
    found = {}
    for tool in tools:
        provided = config.stash[_provided][tool.name]
        if isinstance(provided, CannotBuild):
            pytest.skip(f"no {tool.name}: {str(provided).splitlines()[0]}")
        if isinstance(provided, LocalError):
            raise provided
        found[tool.name] = provided
    return found


def _build(config: pytest.Config, tools: Sequence[Tool]) -> None:
    provided = config.stash.setdefault(_provided, {})
    say = say_to(config)
    for tool in tools:
        if tool.name in provided:
            continue
        try:
            provided |= provide([tool], say=say)
        except LocalError as error:  # what becomes of the tests is said by their fixtures
            provided[tool.name] = error
            say(f"No {tool.name}: {error}")


def say_to(config: pytest.Config) -> Callable[[str], None]:
    """Return what prints a line of progress at once, whatever captures the tests' output."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(text: str) -> None:
        if reporter is None:
            print(text, file=sys.stderr, flush=True)
        else:
            reporter.write_line(text)
            reporter.flush()

    return say
