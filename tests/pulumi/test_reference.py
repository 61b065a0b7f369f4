"""What is written about the settings is what they are."""

import re
from pathlib import Path

import pytest
import yaml

from leaderboard_infra import plan, reference
from leaderboard_infra.reference import PROJECT_FILE, README

PROJECT = yaml.safe_load(PROJECT_FILE.read_text())


def test_pulumi_yaml_is_made_of_the_settings() -> None:
    assert PROJECT_FILE.read_text() == reference.with_part(PROJECT_FILE, reference.project_text()), "make pulumi-docs"
    assert PROJECT["config"] == reference.project_config()


@pytest.mark.parametrize("page", reference.PAGES, ids=lambda page: page.name)
def test_the_tables_of_the_pages_are_made_of_the_settings(page: Path) -> None:
    assert page.read_text() == reference.with_part(page, reference.page_text()), "make pulumi-docs"


def test_every_setting_is_described_and_has_a_type_that_pulumi_knows() -> None:
    for key, declared in PROJECT["config"].items():
        assert declared["type"] in ("string", "integer", "boolean", "array", "object"), key
        assert len(declared["description"]) > 5
        # Without a default, Pulumi demands a value of every stack.
        assert "default" in declared


def test_the_project_is_where_pulumi_looks_for_its_parts() -> None:
    assert (plan.ROOT / PROJECT["main"] / "__main__.py").is_file()
    assert plan.ROOT / PROJECT["stackConfigDir"] == plan.STACKS
    assert PROJECT["name"] == "leaderboard"
    assert len((plan.ROOT / PROJECT["main"] / "__main__.py").read_text().splitlines()) <= 20


def test_no_file_there_hides_a_module_of_python() -> None:
    import sys

    names = {path.stem for path in (plan.ROOT / "pulumi").iterdir()}
    assert not names & set(sys.stdlib_module_names)


def test_the_page_names_every_file() -> None:
    linked = set(re.findall(r"\]\((leaderboard_infra/[^)]*)\)", README.read_text()))
    there = {f"leaderboard_infra/{path.name}" for path in (plan.ROOT / "pulumi" / "leaderboard_infra").glob("*.py")}
    assert there - {"leaderboard_infra/__init__.py"} == linked - {"leaderboard_infra/policies/"}


@pytest.mark.parametrize("page", ["pulumi/README.md", "docs/ops.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = plan.ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target
