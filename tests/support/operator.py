"""The operator as the process it is in production, with the RBAC of the chart and nothing more."""

import base64
import json
import os
import subprocess
import sys
import threading
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from leaderboard.local.kubernetes import Cluster
from leaderboard.local.process import LOOPBACK, Child, Log, free_port, wait_until, with_death_signal
from leaderboard.local.up import opener
from support.client import Answer
from support.kubernetes import CHART
from support.platform import Platform

RELEASE = "leaderboard"


def install_rbac(cluster: Cluster, helm: Path, *, namespace: str, tenant_namespaces: list[str]) -> None:
    """Install what the operator may do: the service account, its roles, the admission policy."""
    values = json.dumps(tenant_namespaces)
    with_values = ["--set-json", f"operator.tenantNamespaces={values}"] if tenant_namespaces else []
    with_values.append("--set=existingSecret=none")
    parts = [f"--show-only=templates/{part}.yaml" for part in ("operator-rbac", "prevent-deletion")]
    command = [str(helm), "template", RELEASE, str(CHART), "--namespace", namespace, "--kube-version=1.30"]
    rendered = run([*command, *parts, *with_values])
    cluster.kubectl("apply", "-f", "-", input=rendered)


def run(command: list[str]) -> str:
    """Run a program and return what it printed; its error output is the message of the failure."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class OperatorPod:
    """One replica. `supervised`: started again whenever it ends, as the kubelet does; `stop` and `kill` end that."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        kubeconfig: Path,
        namespace: str,
        platform: Platform,
        env: Mapping[str, str] | None = None,
        supervised: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.env = platform.env | {
            "KUBECONFIG": str(kubeconfig),
            "LEADERBOARD_OPERATOR_NAMESPACE": namespace,
            "LEADERBOARD_OPERATOR_BIND": f"{LOOPBACK}:{self.port}",
            "LEADERBOARD_OPERATOR_ENDPOINT": platform.url,
            **(env or {}),
        }
        self.log_path = folder / f"{name}.log"
        self._log = Log(self.log_path)
        self._supervised = supervised
        self._wanted = False
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._supervisor: threading.Thread | None = None
        self._closed = threading.Event()
        self.starts = 0
        self.exits: list[int] = []
        """How those processes ended that its supervisor started again."""

    @property
    def child(self) -> Child:
        """The process."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child

    def start(self) -> None:
        """Start the process; returns at once."""
        with self._lock:
            self._wanted = True
            self._spawn()
        if self._supervised and self._supervisor is None:
            self._supervisor = threading.Thread(target=self._supervise, name=f"kubelet-{self.name}", daemon=True)
            self._supervisor.start()

    def stop(self) -> None:
        """End it as Kubernetes does: SIGTERM and 30 s."""
        with self._lock:
            self._wanted = False
            if self._child is not None:
                assert self._child.stop(seconds=30), f"{self.name} did not stop on SIGTERM within 30 s"

    def kill(self) -> None:
        """Kill it; it stays dead until it is started."""
        with self._lock:
            self._wanted = False
            self.child.kill()

    def crash(self) -> None:
        """Kill it and start it again at once."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Stop it for good."""
        self.stop()  # before its supervisor: a process whose parent's thread ends is told to end as well
        self._closed.set()
        if self._supervisor is not None:
            self._supervisor.join()
        self._log.close()

    def get(self, path: str) -> Answer:
        """Ask one of /livez, /readyz, /metrics. Status 0: nobody answers."""
        try:
            with opener.open(self.url + path, timeout=5) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())
        except OSError:
            return Answer(0, {}, b"")

    def metric(self, name: str, /, **labels: str) -> float:
        """Return one sample of /metrics, 0 where it is not there (yet)."""
        for family in text_string_to_metric_families(self.get("/metrics").body.decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return 0.0

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with those labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics").body.decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def leads(self) -> bool:
        """Whether it holds the Lease, by its own word."""
        return self.metric("leader_election_master_status") == 1

    def wait_ready(self, *, seconds: float = 90) -> None:
        """Return when it leads and has seen every object, or fail with its log."""
        ready = wait_until(
            lambda: self.metric("leaderboard_operator_epoch") > 0 and self.get("/readyz").status == 200,
            seconds=seconds,
            pause=0.1,
        )
        assert ready, f"{self.name} is not ready: {self.get('/readyz')}\n{self.log_path.read_text()[-4000:]}"

    def bugs(self) -> list[str]:
        """Return the lines of its log that tell of an exception nobody had thought of."""
        return [line for line in self.log_path.read_text().splitlines() if "Traceback" in line]

    def wait_sweep(self, *, seconds: float = 90) -> None:
        """Return when a sweep that began after the call has ended."""
        name = "leaderboard_operator_sweep_seconds_count"
        wanted = self.metric(name) + 2
        eventually(lambda: self.metric(name) >= wanted, "a whole sweep", seconds=seconds)

    def _spawn(self) -> None:
        program = with_death_signal([sys.executable, "-m", "leaderboard_operator"], "TERM")
        self._child = Child(program, name=self.name, log=self._log, env=os.environ | self.env)
        self.starts += 1

    def _supervise(self) -> None:
        while not self._closed.wait(0.2):
            with self._lock:
                if self._wanted and not self.child.alive:
                    self.exits.append(self.child.popen.returncode)
                    self._spawn()


class Kube:
    """What tests ask of a cluster, with kubectl, in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, *, kubeconfig: Path | None = None) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._kubeconfig = kubeconfig

    def __call__(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        command = ["--namespace", self.namespace, *args]
        return self.cluster.kubectl(*command, input=input, kubeconfig=self._kubeconfig, check=check)

    def apply(self, *objects: Mapping[str, Any]) -> str:
        """Apply objects; a namespace in them is theirs, else this one."""
        return self("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object."""
        found: dict[str, Any] = json.loads(self("get", kind, name, "-o", "json"))
        return found

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return one object, None where there is none."""
        text = self("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def items(self, kind: str, *args: str) -> list[dict[str, Any]]:
        """Return every object of a kind."""
        found: list[dict[str, Any]] = json.loads(self("get", kind, "-o", "json", *args))["items"]
        return found

    def patch(self, kind: str, name: str, change: Mapping[str, Any], *args: str) -> str:
        """Merge `change` into an object."""
        return self("patch", kind, name, "--type=merge", "-p", json.dumps(change), *args)

    def secret(self, name: str) -> dict[str, str] | None:
        """Return a Secret's data as text, None where there is none."""
        found = self.find("secret", name)
        if found is None:
            return None
        return {field: base64.b64decode(value).decode() for field, value in (found.get("data") or {}).items()}

    def events(self, name: str, *, kind: str | None = None) -> list[tuple[str, str, str]]:
        """Return (type, reason, message) of the Events about an object, oldest first."""
        found = [
            event
            for event in self.items("events")
            if event["involvedObject"]["name"] == name and kind in (None, event["involvedObject"]["kind"])
        ]
        found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
        return [(event["type"], event["reason"], event["message"]) for event in found]

    def condition(self, kind: str, name: str, type: str) -> tuple[str, str, str]:
        """Return (status, reason, message) of a condition, empty texts where there is none."""
        for condition in (self.get(kind, name).get("status") or {}).get("conditions", ()):
            if condition["type"] == type:
                return condition["status"], condition["reason"], condition["message"]
        return "", "", ""

    def wait_for(self, kind: str, name: str, type: str, status: str, reason: str, *, seconds: float = 90) -> str:
        """Wait until a condition says so, and return its message."""
        last: list[tuple[str, str, str]] = [("", "", "")]

        def said() -> bool:
            last[0] = self.condition(kind, name, type)
            return last[0][:2] == (status, reason)

        assert wait_until(said, seconds=seconds, pause=0.2), f"{kind}/{name} {type} says {last[0]}"
        return last[0][2]


def tenant(name: str = "acme", **spec: Any) -> dict[str, Any]:
    """Return a Tenant to apply; its slug is its name unless given."""
    return _object("Tenant", name, {"slug": name, **spec})


def leaderboard(name: str = "global", *, of: str | Mapping[str, str] = "acme", **spec: Any) -> dict[str, Any]:
    """Return a Leaderboard to apply; its key is its name unless given."""
    ref = {"name": of} if isinstance(of, str) else dict(of)
    return _object("Leaderboard", name, {"tenantRef": ref, "key": name, **spec})


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "leaderboard.saas/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }


def eventually(condition: Callable[[], bool], what: str, *, seconds: float = 90) -> None:
    """Wait until `condition` holds; `what` is said where it never does."""
    assert wait_until(condition, seconds=seconds, pause=0.2), f"not within {seconds:g} s: {what}"
