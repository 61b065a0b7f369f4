"""docs/reference.md has every command, argument and setting of the code, and no other."""

import argparse
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from leaderboard import cli
from leaderboard import config as configuration
from leaderboard.config import PREFIX, Config
from support.docs import ROOT

PAGE = (ROOT / "docs/reference.md").read_text()
COMMANDS, _, SETTINGS = PAGE.partition("\n## Settings\n")
REQUIRED = "*required*"
NOTHING = (None, False, datetime.min.replace(tzinfo=UTC))
"""Defaults that the page leaves empty."""

Arguments = dict[str, argparse.Action]


def cells(line: str) -> list[str]:
    """Return the cells of a row of a table that is about something in backticks; of other lines, none."""
    return [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("| `") else []


def described() -> dict[str, dict[str, str]]:
    """Return the default of each argument of each command, as the page has them.

    A table under the heading of a group is for each of the group's commands.
    """
    found: dict[str, dict[str, str]] = {}
    group: dict[str, str] = {}
    into = group
    for line in COMMANDS.splitlines():
        if heading := re.match(r"(##+) (.+)", line):
            level, name = len(heading[1]), heading[2]
            assert name not in found
            if level == 2:
                into = group = {}
            else:
                into = found[name] = dict(group) if level == 3 else {}
        elif row := cells(line):
            assert row[0] not in into, row
            into[row[0]] = row[1]
    return found


def typed(action: argparse.Action) -> str:
    """Return the argument as the page shows it."""
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return "`" + "`, `".join(action.option_strings) + f"{value}`" if action.option_strings else f"`{value.strip()}`"


def taken(parser: argparse.ArgumentParser, *before: str) -> Iterator[tuple[str, Arguments]]:
    """Yield each command below `parser` with its arguments. What it shares with the command above it is that one's."""
    for choices in (each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)):
        above = {typed(action) for action in parser._actions}
        for name, sub in choices.items():
            actions = [each for each in sub._actions if not isinstance(each, argparse._SubParsersAction)]
            own = {typed(each): each for each in actions if typed(each) not in above or not before}
            own.pop("`-h`, `--help`", None)
            yield " ".join((*before, name)), own
            yield from taken(sub, *before, name)


CODE = dict(taken(cli._parser()))
FIELDS = {f"`{PREFIX}{field.name.upper()}`": field for field in msgspec.structs.fields(Config)}
ROWS = [row for row in map(cells, SETTINGS.splitlines()) if row]


def test_the_page_has_every_command_and_no_other():
    assert len(CODE) > 10
    assert {"serve", "import", "import csv"} <= CODE.keys()
    assert described().keys() == CODE.keys()


@pytest.mark.parametrize("command", CODE)
def test_the_page_has_every_argument_with_its_default_and_no_other(command):
    found = described()[command]
    assert found.keys() == CODE[command].keys()
    for name, action in CODE[command].items():
        shown = found[name]
        assert (shown == REQUIRED) is action.required, name
        if shown == "":
            assert action.default in NOTHING, name
        elif shown != REQUIRED:
            assert (action.type or str)(shown.strip("`")) == action.default, name


def test_the_text_names_no_option_that_is_none():
    options = {option for arguments in CODE.values() for each in arguments.values() for option in each.option_strings}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE)) <= options | {"--help"}


def test_the_page_has_every_setting_and_no_other():
    """Those of Config, and what the rest of the package reads by its name; not what an example of curl has."""
    code = "\n".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    found = re.findall(rf"(?<!\$)(?:{PREFIX}|{{PREFIX}})([A-Z]+(?:_[A-Z]+)*)\b", code)
    by_name = {f"`{PREFIX}{name}`" for name in found}
    assert {f"`{PREFIX}KEY`", f"`{PREFIX}REDIS_SERVER`"} <= by_name
    names = [row[0] for row in ROWS]
    assert sorted(names) == sorted(by_name | FIELDS.keys())
    assert {f"`{name}`" for name in re.findall(rf"{PREFIX}[A-Z]+(?:_[A-Z]+)*\b", PAGE)} <= set(names)


@pytest.mark.parametrize("name", FIELDS)
def test_the_page_has_the_default_and_the_least_value_of_a_setting(name):
    field = FIELDS[name]
    (row,) = (row for row in ROWS if row[0] == name)
    assert (row[1] == REQUIRED) is field.required
    if not field.required:
        assert msgspec.convert(row[1].strip("`"), field.type, strict=False) == field.default
    assert row[2] == str(configuration._LEAST.get(field.name, ""))
