"""The alert rules: accepted and tried by promtool, made of metrics that the code exports, and each with a runbook."""

import logging
import re
import shlex
import shutil
import subprocess
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis as redis_py
import yaml
from prometheus_client.metrics import MetricWrapperBase
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

from leaderboard import cli
from leaderboard.api.live import Places
from leaderboard.api.seen import observe_limiter, observe_streams
from leaderboard.api.tracing import Tracing
from leaderboard.local import toolchain
from leaderboard.store.postgres.seen import observe_pool
from leaderboard.store.redis.limiter import Limiter
from leaderboard.store.redis.traced import TracedMultiplexer
from leaderboard.telemetry.metrics import Duration, Family
from leaderboard.worker.seen import ErasuresSeen, LedgerSeen, SeasonsSeen, Stores
from leaderboard_operator import metrics as operator_metrics
from support.docs import ROOT, blocks
from support.seen import Seen

RULES = sorted((ROOT / "grafana/rules").glob("*.yaml"))
TESTS = sorted(Path(__file__).parent.glob("rules/*.yaml"))
PAGE = ROOT / "docs/runbooks.md"
CHART = ROOT / "charts/leaderboard/templates"
ALL = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDED = {rule["record"] for rule in ALL if "record" in rule}
CASES = [
    case for path in TESTS for test in yaml.safe_load(path.read_text())["tests"] for case in test["alert_rule_test"]
]

# What the collector adds to every series, of the process's resource.
OF_THE_PROCESS = {"job", "instance", "service_name", "service_namespace", "service_instance_id", "service_version"}
SUFFIXES = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}
KEYWORDS = {"and", "or", "unless", "bool", "offset"}


@pytest.fixture(scope="session")
def promtool() -> str:
    if not hasattr(toolchain, "PROMTOOL"):
        return shutil.which("promtool") or pytest.skip("promtool is not on PATH")
    try:
        return str(toolchain.provide((toolchain.PROMTOOL,), say=print)["promtool"])
    except toolchain.CannotBuild as error:
        pytest.skip(f"promtool is not here and cannot be built: {error}")


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-5000:]}"


def test_prometheus_accepts_the_rules(promtool):
    assert len(RULES) == 3
    run(promtool, "check", "rules", *map(str, RULES))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(promtool, path):
    run(promtool, "test", "rules", str(path))


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tried_both_ways_and_explained(alert):
    kinds = {bool(case.get("exp_alerts")) for case in CASES if case["alertname"] == alert}
    assert kinds == {True, False}, "there must be a case in which it fires and one in which it does not"
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert.lower()}"


def test_every_case_is_about_an_alert_that_there_is():
    assert {case["alertname"] for case in CASES} == set(ALERTS)


def test_every_alert_has_a_runbook_which_says_how_urgent_it_is():
    sections = dict(re.findall(r"^## (\w+)\n\n(\w+)\.", PAGE.read_text(), re.MULTILINE))
    assert {name: kind.lower() for name, kind in sections.items()} == {
        name: rule["labels"]["severity"] for name, rule in ALERTS.items()
    }


# -- what the expressions are made of


def parts(expression: str) -> tuple[set[str], list[tuple[str, str]], set[str]]:
    """The metrics of a PromQL expression, the (metric, label) pairs of its selectors, the labels it groups by."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    grouped: set[str] = set()

    def group(found: re.Match[str]) -> str:
        grouped.update(re.findall(r"\w+", found[1]))
        return " "

    text = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", group, text)
    selected: list[tuple[str, str]] = []

    def select(found: re.Match[str]) -> str:
        selected.extend((found[1], label) for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found[2]))
        return f"{found[1]} "

    text = re.sub(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}", select, text)
    text = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", text)
    names = set(re.findall(r"(?<![\w.:])[a-zA-Z_:][\w:]*\b(?!\s*\(|:)", text)) - KEYWORDS
    return names, selected, grouped


def test_the_parts_of_an_expression_are_found():
    expression = """
      sum by (le, route) (rate(a_bucket{code=~"5..|{x}", le!="0.01"}[5m])) / on (route) group_left () b:c:d
      unless max(last_over_time(e_total[1m] offset 1d)) > bool 14.4 * 0.001
    """
    assert parts(expression) == (
        {"a_bucket", "b:c:d", "e_total"},
        [("a_bucket", "code"), ("a_bucket", "le")],
        {"le", "route"},
    )


def prometheus(name: str, unit: str, *, counter: bool = False) -> str:
    """The name that the collector gives to a metric."""
    suffix = "" if unit.startswith("{") else SUFFIXES[unit]
    return name.replace(".", "_") + suffix + ("_total" if counter else "")


async def exported(redis_url: str) -> dict[str, set[str]]:
    """The labels of every metric that API, worker and operator can tell, by its name in Prometheus."""
    seen = Seen()
    telemetry = seen.telemetry
    multiplexer = TracedMultiplexer(redis_url, telemetry=telemetry, timeout=1.0, max_in_flight=1)
    pool = AsyncConnectionPool(open=False)
    observe_limiter(telemetry, Limiter(multiplexer, clock=time.monotonic))
    observe_streams(telemetry, Places())
    observe_pool(telemetry, pool)
    Tracing(telemetry)
    LedgerSeen(telemetry)
    SeasonsSeen(telemetry).lag = 0.0
    ErasuresSeen(telemetry, clock=lambda: datetime.now(UTC)).oldest(None)
    async with Redis.from_url(redis_url) as client:
        await Stores(telemetry, client, outbox_max=1).look()
    seen._logs.shutdown()  # from now on it refuses what it is given: what is dropped is told only where something was
    logging.getLogger(__name__).warning("something to be dropped")
    telemetry.close()

    found: dict[str, set[str]] = defaultdict(set)
    for metric in telemetry.metrics._families:
        if isinstance(metric, Family):
            name, _, unit = metric._about
            labels = {label.replace(".", "_") for label in metric._labels}
            if metric._make is Duration:
                name = prometheus(name, unit)
                found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
            else:
                found[prometheus(name, unit, counter=True)] |= labels
            continue
        for attributes, _ in metric._read():
            name = prometheus(metric.name, metric._unit, counter=metric._sums)
            found[name] |= {label.replace(".", "_") for label in attributes}
    for metric in vars(operator_metrics).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        (described,), labels = metric.describe(), set(metric._labelnames)
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}[described.type]
        found |= {
            f"{described.name}{ending}": labels | ({"le"} if ending == "_bucket" else set()) for ending in endings
        }
    return {name: labels | OF_THE_PROCESS for name, labels in found.items()}


async def test_rules_and_runbooks_ask_only_for_what_is_exported(redis_url):
    known = await exported(redis_url)
    known |= {name: {"slo", "kind"} for name in RECORDED}
    asked = [rule["expr"] for rule in ALL] + promql()
    wrong = set()
    for expression in asked:
        names, selected, grouped = parts(expression)
        assert names, expression
        wrong |= names - known.keys()
        wrong |= {f"{name}{{{label}}}" for name, label in selected if label not in known.get(name, ())}
        wrong |= grouped - set().union(*(known.get(name, set()) for name in names))
    assert wrong == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_annotations_name_only_labels_that_the_alert_has(alert):
    rule = ALERTS[alert]
    named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    has = parts(rule["expr"])[2] | ({"kind"} if "kind:" in rule["expr"] else set())
    assert named <= has


# -- what the runbooks tell people to type


def promql() -> list[str]:
    return re.findall(r"^ *```promql\n(.*?)^ *```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def lines(program: str) -> list[list[str]]:
    """The commands of the page that begin with `program`, as words; those in a pod are what runs there."""
    found = []
    for line in "\n".join(blocks("docs/runbooks.md")).splitlines():
        words = shlex.split(line)
        if "exec" in words:
            found.append(words[: words.index("--")])
            words = words[words.index("--") + 1 :]
        if words:
            found.append(words)
    return [words for words in found if words[0] == program]


def test_prometheus_understands_the_queries_of_the_runbooks(promtool, tmp_path):
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(promql())]
    assert rules
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run(promtool, "check", "rules", "--lint=none", str(path))


def test_the_command_line_knows_the_commands_of_the_runbooks():
    inline = re.findall(r"`(leaderboard [a-z][^`]*)`", PAGE.read_text())
    commands = lines("leaderboard") + [shlex.split(found) for found in inline]
    assert {words[1] for words in commands} == {"verify", "migrate"}
    for words in commands:
        cli._parser().parse_args(words[1:])


def test_redis_knows_the_commands_of_the_runbooks(redis_url):
    with redis_py.Redis.from_url(redis_url) as client:
        client.xgroup_create("outbox", "ledger", mkstream=True)
        before = client.config_get("maxmemory")["maxmemory"]
        asked = [words[3:] for words in lines("redis-cli") if words[3] != "--bigkeys"]
        assert len(asked) > 5
        for words in asked:
            client.execute_command(*words)
        client.config_set("maxmemory", before)


def test_postgres_understands_the_statements_of_the_runbooks(database):
    statements = [words[words.index("-c") + 1] for words in lines("psql")]
    assert len(statements) > 2
    with psycopg.connect(database) as connection:
        for statement in statements:
            connection.execute(statement)


def test_the_chart_has_what_the_runbooks_ask_of_kubectl():
    names = set(re.findall(r"deployment/[\w-]+", PAGE.read_text()))
    roles = {path.stem for path in CHART.glob("*.yaml") if "kind: Deployment" in path.read_text()}
    assert names == {f"deployment/leaderboard-{role}" for role in roles}
