"""The ops page names settings, stacks and objects that there are."""

import re

import pytest

from leaderboard_infra import plan
from leaderboard_infra.plan import physical_name
from leaderboard_infra.settings import FIELDS, is_secret, key_of
from support.docs import blocks

PAGE = "docs/ops.md"
KEYS = {key_of(field): field for field in FIELDS}
TEXT = (plan.ROOT / PAGE).read_text()


def commands(program: str) -> list[str]:
    """The lines of the page's shell blocks that run `program`."""
    return [line for block in blocks(PAGE) for line in block.splitlines() if line.startswith(f"{program} ")]


def test_every_setting_that_is_set_there_is_one() -> None:
    found = [re.search(r"config set (--secret )?(?:--path )?'?(\w+)", line) for line in commands("pulumi")]
    keys = [(match[2], bool(match[1])) for match in found if match is not None]
    assert len(keys) >= 5
    for key, secret in keys:
        assert is_secret(KEYS[key]) is secret


def test_every_word_in_the_text_that_looks_like_a_setting_is_one() -> None:
    words = set(re.findall(r"`([a-z]+[A-Z]\w*)`", TEXT))
    assert words - {"homeRegion", "deletionPolicy", "databaseReadHost"} <= KEYS.keys()


@pytest.mark.parametrize("line", commands("kubectl"))
def test_every_object_that_kubectl_is_pointed_at_is_in_a_stack(planned, line: str) -> None:
    stack = next(name for name in plan.stack_names() if f"-{name}" in line or "customresourcedefinition" in line)
    names = {physical_name(each) for each in planned(stack).resources.values()}
    names |= {f"leaderboard-{stack}/leaderboard-{stack}-api"}  # the chart's own
    namespace = re.search(r"--namespace (\S+)", line)
    for kind, name in re.findall(r"\b(service|secret|deployment)[/ ](\S+)", line):
        assert namespace is not None, kind
        assert f"{namespace[1]}/{name}" in names
    for name in re.findall(r"\b(leaderboard-[\w-]+|\w+\.leaderboard\.saas)\b", line.partition(" delete ")[2]):
        assert name in names


def test_the_sums_of_the_cost_table_are_right() -> None:
    rows = [line.strip("| \n").split("|") for line in TEXT.splitlines() if re.match(r"\| .*\| +\**\d+", line)]
    table = {row[0].strip(" *"): [int(re.search(r"\d+", cell)[0]) for cell in row[1:]] for row in rows}  # type: ignore[index]
    together = table.pop("together")
    assert len(table) == 5
    assert [sum(column) for column in zip(*table.values(), strict=True)] == together
