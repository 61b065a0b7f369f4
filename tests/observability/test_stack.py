"""The stack as `leaderboard up --observe` runs it: it starts, stops, is killed, and keeps what it had."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from leaderboard.local import observe
from leaderboard.local.observe import FILES, Observability
from leaderboard.local.process import LocalError, Log, opener, pid_exists, wait_until
from leaderboard.local.toolchain import COLLECTOR, LOKI, PROMETHEUS, PROMTOOL, TEMPO

MakeStack = Callable[..., Observability]
SECONDS = 30.0


def send_one(stack: Observability, *, name: str, service: str = "stack-test") -> None:
    """Count to one under `name`, and export it."""
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{stack.otlp_url}/v1/metrics"))
    resource = Resource({"service.name": service, "service.namespace": "leaderboard", "service.instance.id": "1"})
    provider = MeterProvider(metric_readers=[reader], resource=resource)
    provider.get_meter("test").create_counter(name).add(1)
    provider.shutdown()


def ask(stack: Observability, query: str) -> list[dict]:
    text = urllib.parse.urlencode({"query": query})
    with opener.open(f"{stack.prometheus_url}/api/v1/query?{text}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def test_what_is_sent_to_the_collector_can_be_asked_of_prometheus(stack: Observability) -> None:
    send_one(stack, name="stack.test.sent")
    assert wait_until(lambda: ask(stack, "stack_test_sent_total") != [], seconds=SECONDS)
    [found] = ask(stack, "stack_test_sent_total")
    assert found["value"][1] == "1"
    assert found["metric"]["service_name"] == "stack-test"
    assert found["metric"]["job"] == "leaderboard/stack-test"
    assert found["metric"]["instance"] == "1"


def test_stop_leaves_no_process_and_a_start_finds_what_there_was(
    make_stack: MakeStack, programs: dict[str, Path]
) -> None:
    made = make_stack(programs)
    made.start()
    send_one(made, name="stack.test.kept")
    assert wait_until(lambda: ask(made, "stack_test_kept_total") != [], seconds=SECONDS)
    pids = [child.pid for child in made.children]
    assert len(pids) == 2
    made.stop()
    assert made.children == []
    assert not any(map(pid_exists, pids))
    made.start()
    assert ask(made, "last_over_time(stack_test_kept_total[1h])") != []


def test_a_server_that_was_killed_is_named_and_comes_back_with_its_data(
    make_stack: MakeStack, programs: dict[str, Path]
) -> None:
    made = make_stack(programs)
    made.start()
    send_one(made, name="stack.test.before")
    assert wait_until(lambda: ask(made, "stack_test_before_total") != [], seconds=SECONDS)
    [server] = [child for child in made.children if child.name == PROMETHEUS.name]
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.alive, seconds=SECONDS)
    with pytest.raises(LocalError, match="prometheus was killed by SIGKILL"):
        made.check()
    made.start()
    made.check()
    assert ask(made, "last_over_time(stack_test_before_total[1h])") != []


def test_the_collector_keeps_for_prometheus_what_came_while_that_was_away(
    make_stack: MakeStack, programs: dict[str, Path]
) -> None:
    made = make_stack(programs)
    made.start()
    made.kill(PROMETHEUS.name)
    send_one(made, name="stack.test.meanwhile")
    made.start()
    assert wait_until(lambda: ask(made, "stack_test_meanwhile_total") != [], seconds=SECONDS)


def test_servers_of_a_supervisor_that_died_are_stopped_first(
    make_stack: MakeStack, programs: dict[str, Path], tmp_path: Path
) -> None:
    made = make_stack(programs)
    made.start()
    pids = [child.pid for child in made.children]
    log = Log(tmp_path / "second")
    second = Observability(made._folder, programs=programs, log=log)
    try:
        second.start()
        assert not any(child.alive for child in made.children)
        assert not set(pids) & {child.pid for child in second.children}
    finally:
        second.stop()
        log.close()


def test_a_port_that_is_taken_is_said_before_anything_starts(programs: dict[str, Path], tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=f"port {port} on 127.0.0.1 is in use"):
            Observability(tmp_path / "data", programs=programs, log=log, otlp_port=port)
    log.close()


def test_a_server_that_cannot_start_says_why_in_its_own_words(make_stack: MakeStack, programs: dict[str, Path]) -> None:
    made = make_stack(programs)
    with socket.socket() as taken:  # between the choice of the port and the start
        taken.bind(("127.0.0.1", int(made.prometheus_url.rpartition(":")[2])))
        taken.listen()
        with pytest.raises(LocalError, match=r"(?s)prometheus ended with exit code 1.*address already in use"):
            made.start()


def test_without_a_checkout_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(observe, "FILES", tmp_path)
    with pytest.raises(LocalError, match="is in the checkout, in no package"):
        observe.check_files()


def accepted(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # Without our variables: as in containers.
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, env={"PATH": "/bin"})


def spoilt(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.write_text((FILES / name).read_text() + "\nnobody_knows_this: {}\n")
    return path


def test_the_collector_takes_its_configuration_and_no_other(programs: dict[str, Path], tmp_path: Path) -> None:
    command = [programs[COLLECTOR.name], "validate"]
    done = accepted(*command, f"--config={FILES / 'collector.yaml'}")
    assert done.returncode == 0, done.stderr
    assert accepted(*command, f"--config={spoilt(tmp_path, 'collector.yaml')}").returncode != 0


def test_prometheus_takes_its_configuration_and_no_other(programs: dict[str, Path], tmp_path: Path) -> None:
    command = [programs[PROMTOOL.name], "check", "config"]
    done = accepted(*command, FILES / "prometheus.yaml")
    assert done.returncode == 0, done.stderr
    assert accepted(*command, spoilt(tmp_path, "prometheus.yaml")).returncode != 0


@pytest.mark.observability
@pytest.mark.parametrize(("name", "verify"), [(LOKI.name, "-verify-config"), (TEMPO.name, "-config.verify")])
def test_loki_and_tempo_take_their_configuration_and_no_other(
    all_programs: dict[str, Path], tmp_path: Path, name: str, verify: str
) -> None:
    command = [all_programs[name], "-config.expand-env=true", verify]
    done = accepted(*command, f"-config.file={FILES / name}.yaml")
    assert done.returncode == 0, done.stderr
    assert accepted(*command, f"-config.file={spoilt(tmp_path, f'{name}.yaml')}").returncode != 0


@pytest.mark.observability
def test_a_trace_and_a_log_line_are_found_again_after_a_restart(
    make_stack: MakeStack, all_programs: dict[str, Path]
) -> None:
    made = make_stack(all_programs)
    made.start()
    now, trace = time.time_ns(), os.urandom(16).hex()
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "stack-test"}}]}
    span = {"traceId": trace, "spanId": os.urandom(8).hex(), "name": "kept", "kind": 2}
    span |= {"startTimeUnixNano": str(now - 1_000_000), "endTimeUnixNano": str(now)}
    line = {"timeUnixNano": str(now), "traceId": trace, "spanId": span["spanId"], "body": {"stringValue": "kept too"}}
    post(f"{made.otlp_url}/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})
    post(f"{made.otlp_url}/v1/logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [line]}]}]})
    query = urllib.parse.urlencode({"query": f'{{service_name="stack-test"}} | trace_id="{trace}"'})

    def missing() -> list[str]:
        lines = get(f"{made.loki_url}/loki/api/v1/query_range?{query}")
        found = get(f"{made.tempo_url}/api/search?tags=service.name%3Dstack-test")
        there = {
            "line": lines and lines["data"]["result"],
            "trace": get(f"{made.tempo_url}/api/traces/{trace}"),
            "trace, searched": found and found.get("traces"),
        }
        return [name for name, what in there.items() if not what]

    assert wait_until(lambda: not missing(), seconds=SECONDS, pause=0.2), missing()
    made.stop()
    made.start()
    assert wait_until(lambda: not missing(), seconds=SECONDS, pause=0.2), missing()


def post(url: str, body: dict) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    opener.open(request, timeout=10).close()


def get(url: str) -> dict | None:
    try:
        with opener.open(urllib.request.Request(url, headers={"accept": "application/json"}), timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return None
