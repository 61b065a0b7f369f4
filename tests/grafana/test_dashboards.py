"""The dashboards' JSON: fresh, by the rules, and every query one that its language's own parser takes."""

import copy
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from leaderboard.local import toolchain
from leaderboard_dashboards import __main__ as writer
from leaderboard_dashboards.lint import problems
from leaderboard_dashboards.queries import ALL, SAMPLES, Language, Shape, fill

ROOT = Path(__file__).parents[2]
LEZER = Path(__file__).parent / "lezer"
RENDERED = writer.rendered()


def test_the_committed_files_are_those_that_the_code_makes() -> None:
    committed = {path.name: path.read_text() for path in writer.FOLDER.glob("*.json")}
    assert committed == RENDERED, "run make dashboards"


@pytest.mark.parametrize("file", RENDERED)
def test_grafanas_schema_reads_every_file_and_writes_the_same(file: str) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    read = Dashboard.from_json(json.loads(RENDERED[file]))
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == json.loads(RENDERED[file])


@pytest.mark.parametrize("file", RENDERED)
def test_every_dashboard_keeps_to_the_rules(file: str) -> None:
    assert problems(json.loads(RENDERED[file])) == []


def test_every_query_is_asked_by_a_panel_or_a_variable() -> None:
    text = json.dumps([json.loads(one) for one in RENDERED.values()])
    assert [query.name for query in ALL if json.dumps(query.text)[1:-1] not in text] == []


def test_names_and_uids_are_of_one_thing_only() -> None:
    assert len({query.name for query in ALL}) == len(ALL)
    uids = [json.loads(one)["uid"] for one in RENDERED.values()]
    assert len(set(uids)) == len(uids)


def test_the_data_sources_are_those_that_grafana_is_provisioned_with() -> None:
    provisioned = yaml.safe_load((ROOT / "grafana/provisioning/datasources/datasources.yaml").read_text())
    assert {source["uid"]: source["type"] for source in provisioned["datasources"]} == {
        language.value: language.value for language in Language
    }


def _good() -> dict:
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "templating": {"list": [{"name": "tenant"}]},
        "panels": [
            {
                "id": number,
                "title": f"panel {number}",
                "description": "What it shows.",
                "type": "timeseries",
                "datasource": source,
                "gridPos": {"x": 12 * (number - 1), "y": 0, "w": 12, "h": 8},
                "fieldConfig": {"defaults": {"unit": "s"}},
                "targets": [{"refId": "A", "datasource": source, "legendFormat": "x", "expr": 'up{a="$tenant"}'}],
            }
            for number in (1, 2)
        ],
    }


def _asking(text: str):
    return lambda board: board["panels"][0]["targets"][0].update(expr=text)


BAD = {
    "panel 1: no unit": lambda board: board["panels"][0]["fieldConfig"]["defaults"].clear(),
    "panel 1: no description": lambda board: board["panels"][0].update(description=""),
    "panel 1: no query": lambda board: board["panels"][0].update(targets=[]),
    "panel 1: no legend": lambda board: board["panels"][0]["targets"][0].update(legendFormat=""),
    "panel 1: two queries of one refId": lambda board: board["panels"][0].update(
        targets=board["panels"][0]["targets"] * 2
    ),
    "panel 1: a data source that is not named by the uid of one that is provisioned": lambda board: board["panels"][
        0
    ].update(datasource={"uid": "another"}),
    "panel 1: not on the grid": lambda board: board["panels"][0]["gridPos"].update(x=-1),
    "panel 1 and panel 2 lie on each other": lambda board: board["panels"][1]["gridPos"].update(x=11),
    "panels have no id or the same one": lambda board: board["panels"][1].update(id=1),
    "the variable other is used and not defined": _asking("up{a='$other'}"),
    "the variable tenant is defined and not used": lambda board: [
        panel["targets"][0].update(expr="up") for panel in board["panels"]
    ],
    "panel 1: a tenant label on a metric that has none": _asking("sum by (leaderboard_tenant) (rate(x_total[1m]))"),
    "panel 1: histogram_quantile over something else than a rate by le": _asking("histogram_quantile(0.9, x_bucket)"),
    "panel 1: a division by what may be zero": _asking("sum (a) / (sum (b))"),
}


def _known(board: dict) -> set[str]:
    return {target["expr"] for panel in board["panels"] for target in panel["targets"]}


def test_a_good_dashboard_has_no_problems() -> None:
    assert problems(_good(), _known(_good())) == []


@pytest.mark.parametrize("told", BAD)
def test_each_rule_finds_what_breaks_it(told: str) -> None:
    board = copy.deepcopy(_good())
    BAD[told](board)
    assert told in problems(board, _known(board))


def test_a_query_from_elsewhere_is_found() -> None:
    assert "panel 1: a query that is not in queries.py" in problems(_good(), {"up"})


def _promtool() -> Path:
    tool = getattr(toolchain, "PROMTOOL", None)
    if tool is not None:
        try:
            return toolchain.provide((tool,), say=print)[tool.name]
        except toolchain.CannotBuild as error:
            pytest.skip(f"no promtool: {error}")
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool on PATH")
    return Path(found)


def _check(promtool: Path, folder: Path, texts: dict[str, str]) -> subprocess.CompletedProcess[str]:
    rules = [{"record": f"q:{name}", "expr": fill(text, SAMPLES)} for name, text in texts.items()]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    return subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, timeout=60)


def test_promtool_parses_every_promql(tmp_path: Path) -> None:
    promtool = _promtool()
    checked = _check(promtool, tmp_path, {query.name: query.text for query in ALL if query.language is Language.PROMQL})
    assert checked.returncode == 0, checked.stderr
    assert _check(promtool, tmp_path, {"wrong": "sum by ("}).returncode != 0


def _parsed(queries: list[tuple[str, str]]) -> list[list[str]]:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node or npm")
    if not (LEZER / "node_modules").exists():
        installed = subprocess.run(
            ["npm", "ci", "--silent", "--ignore-scripts"], cwd=LEZER, capture_output=True, text=True, timeout=120
        )
        if installed.returncode != 0:
            pytest.skip(f"npm could not install the parsers: {installed.stderr.strip()}")
    done = subprocess.run(
        ["node", "parse.mjs"], cwd=LEZER, input=json.dumps(queries), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_lezer_parses_every_logql_and_traceql() -> None:
    asked = [
        (query.language.value, fill(query.text, SAMPLES))
        for query in ALL
        if query.language is not Language.PROMQL and query.shape is not Shape.TRACE
    ]
    assert {language for language, _ in asked} == {"loki", "tempo"}
    wrong = _parsed([*asked, ("loki", '{a="b"} |'), ("tempo", "{ span.a > }")])
    assert [found for found in zip(asked, wrong, strict=False) if found[1]] == []
    assert all(wrong[-2:])
