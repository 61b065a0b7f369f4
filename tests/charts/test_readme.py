"""The chart's page says what the chart is."""

import importlib.util
import re
from pathlib import Path

from support.kubernetes import CHART


def test_the_table_of_values_is_fresh():
    spec = importlib.util.spec_from_file_location("chart_readme", Path(__file__).with_name("readme.py"))
    assert spec is not None
    assert spec.loader is not None
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    page = (CHART / "README.md").read_text()
    assert readme.renewed(page) == page, "make chart-docs"
    assert page.count("| `api.replicas` | `2` |") == 1


def test_every_link_leads_somewhere():
    page = CHART / "README.md"
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
