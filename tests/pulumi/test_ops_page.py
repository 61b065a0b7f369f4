"""The ops page, and that of pulumi/, name settings, stacks, objects and files that there are."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from leaderboard import cli
from leaderboard_infra import plan
from leaderboard_infra.plan import physical_name
from leaderboard_infra.settings import FIELDS, is_secret, key_of
from support.docs import blocks

PAGE = "docs/ops.md"
PULUMI_PAGE = "pulumi/README.md"
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


@pytest.mark.parametrize("page", [PAGE, PULUMI_PAGE])
def test_what_the_other_lines_name_is_there(page: str) -> None:
    """Those that make a cluster, or need one, are for the reader: here it is looked whether they can be typed."""
    text = "\n".join(blocks(page)).replace("\\\n", " ")
    lines = [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]
    targets = set(re.findall(r"^([a-z0-9-]+):", (plan.ROOT / "Makefile").read_text(), re.MULTILINE))
    programs = {"export", "kind", "kubectl", "make", "pulumi"}
    for words in lines:
        assert words[0] in programs, words
        if words[0] == "make":
            assert words[1] in targets
        if words[0] == "pulumi":
            assert words[1] in {"config", "destroy", "login", "preview", "stack", "up"}
        if "--policy-pack" in words:
            pack = plan.ROOT / words[words.index("--policy-pack") + 1]
            assert (pack / "PulumiPolicy.yaml").is_file()
        if "--" in words:  # what runs in a pod
            program, *rest = words[words.index("--") + 1 :]
            assert program == "leaderboard"
            cli._parser().parse_args([word for word in rest if not word.startswith("<")])


def test_the_plan_is_printed_as_the_page_says() -> None:
    (line,) = [line for block in blocks(PULUMI_PAGE) for line in block.splitlines() if line.startswith("make ")]
    words = shlex.split(line)
    # With the packages that are here: `make` would look whether they are those of the lock, and get them.
    here = ["--assume-old", ".venv/.synced", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run([words[0], *here, *words[1:]], cwd=plan.ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stack local: ")


def test_the_sums_of_the_cost_table_are_right() -> None:
    rows = [line.strip("| \n").split("|") for line in TEXT.splitlines() if re.match(r"\| .*\| +\**\d+", line)]
    table = {row[0].strip(" *"): [int(re.search(r"\d+", cell)[0]) for cell in row[1:]] for row in rows}  # type: ignore[index]
    together = table.pop("together")
    assert len(table) == 5
    assert [sum(column) for column in zip(*table.values(), strict=True)] == together
