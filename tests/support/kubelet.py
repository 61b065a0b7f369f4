"""A kubelet for tests: what a cluster's nodes do for one namespace, without containers.

It watches the Deployments and Jobs of a real API server and runs the command of each container as a process of this
machine, in the environment that the pod would have, and writes back what became of it. So `helm upgrade --install`
waits for the migration's Job as it does in a cluster, and `kubectl wait` for the Deployments.

What it takes the place of: the controllers that make pods, the scheduler, the image (the commands are those of this
Python), Services and the pods' addresses. A port that a container names is replaced by a free one in its environment.
A pod with a ServiceAccount's token gets it as a KUBECONFIG. It does not look at limits, security contexts, volumes and
liveness: what those do is the cluster's own work.
"""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leaderboard.local.kubernetes import Cluster, KubectlFailed
from leaderboard.local.process import LOOPBACK, Child, Log, free_port, wait_until, with_death_signal
from leaderboard.local.up import opener
from support.chart import container, resolved

_PAUSE = 0.5
_JOB_SECONDS = 60.0


class Pod:
    """One replica of a Deployment, as a process."""

    def __init__(self, name: str, *, template: dict[str, Any], child: Child, ports: Mapping[int, int]) -> None:
        self.name = name
        self.template = template
        self.child = child
        self.ports = ports
        """The ports that it names, and those that it has."""

    def url(self, port: str) -> str:
        """Where the port of that name answers."""
        named = {found["name"]: found["containerPort"] for found in container(self.template)["ports"]}
        return f"http://{LOOPBACK}:{self.ports[named[port]]}"

    @property
    def ready(self) -> bool:
        """Whether it runs, and its readiness probe says so where it has one."""
        probe = container(self.template).get("readinessProbe")
        if not self.child.alive or probe is None:
            return self.child.alive
        ask = probe["httpGet"]
        try:
            opener.open(self.url(ask["port"]) + ask["path"], timeout=probe["timeoutSeconds"]).close()
        except OSError:
            return False
        return True

    def stop(self) -> bool:
        """End it as the kubelet does, but for its preStop pause; return whether it ended in time."""
        return self.child.stop(seconds=self.template["spec"].get("terminationGracePeriodSeconds", 30))


class Kubelet:
    """Runs what `namespace` has. `ports`: for a Deployment, the port that its first replica gets for its first one.

    `pods` are the running ones by name, `exits` how those ended that had to be started again, `jobs` what each Job
    printed. Whatever it could not do is in `errors`.
    """

    def __init__(self, cluster: Cluster, namespace: str, *, folder: Path, ports: Mapping[str, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "log"
        self.pods: dict[str, Pod] = {}
        self.exits: list[tuple[str, int | None]] = []
        self.jobs: dict[str, str] = {}
        self.errors: list[str] = []
        self._cluster = cluster
        self._namespace = namespace
        self._folder = folder
        self._log = Log(self.log_path)
        self._given = dict(ports)
        self._numbers = itertools.count(1)
        self._done: set[str] = set()
        self._said: dict[str, Any] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    @contextlib.contextmanager
    def running(self) -> Iterator["Kubelet"]:
        """Work while the block lasts; every pod ends with it."""
        self._thread.start()
        try:
            yield self
        finally:
            self._closed.set()
            self._thread.join()
            self._log.close()

    def replicas(self, deployment: str) -> list[Pod]:
        """Return a Deployment's pods, the first one first."""
        return [pod for name, pod in sorted(self.pods.items()) if name.rpartition("-")[0] == deployment]

    # -- the loop

    def _run(self) -> None:
        try:
            while not self._closed.wait(_PAUSE):
                try:
                    self._turn()
                except KubectlFailed as error:  # a namespace that is not there yet, an object that just went
                    self.errors.append(str(error))
        finally:
            for pod in self.pods.values():
                pod.stop()

    def _turn(self) -> None:
        found = json.loads(self._kubectl("get", "jobs,deployments", "--output=json"))["items"]
        deployments = {item["metadata"]["name"]: item for item in found if item["kind"] == "Deployment"}
        for item in found:
            if item["kind"] == "Job" and item["metadata"]["uid"] not in self._done:
                self._done.add(item["metadata"]["uid"])
                self._run_job(item)
        wanted = {
            f"{name}-{number}": item["spec"]["template"]
            for name, item in deployments.items()
            for number in range(item["spec"]["replicas"])
        }
        for name, pod in list(self.pods.items()):
            if wanted.get(name) != pod.template:
                if not pod.stop():
                    self.errors.append(f"{name} did not end within its grace period")
                del self.pods[name]
            elif not pod.child.alive:
                self.exits.append((name, pod.child.popen.returncode))
                del self.pods[name]
        for name, template in wanted.items():
            if name not in self.pods:
                self.pods[name] = self._start(name, template)
        for name, item in deployments.items():
            self._tell(item, ready=sum(pod.ready for pod in self.replicas(name)))

    # -- pods

    def _start(self, name: str, template: dict[str, Any]) -> Pod:
        named = [port["containerPort"] for port in container(template).get("ports", ())]
        ports = {port: free_port() for port in named}
        deployment, _, number = name.rpartition("-")
        if number == "0" and deployment in self._given:
            ports[named[0]] = self._given[deployment]
        command, env = self._process(name, template, ports)
        return Pod(name, template=template, child=Child(command, name=name, log=self._log, env=env), ports=ports)

    def _process(
        self, name: str, template: dict[str, Any], ports: Mapping[int, int]
    ) -> tuple[list[str], dict[str, str]]:
        """Return a pod's command and environment. Nothing of this process's own environment is in it."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {"PATH": path, "HOME": str(self._folder)}
        fields = {"metadata.name": name, "metadata.namespace": self._namespace}
        given: dict[str, str] = {}
        for variable in container(template)["env"]:
            value = resolved(variable, secrets=self._secret, fields=fields, before=given)
            if value is None:
                continue
            for port, free in ports.items():
                value = value.replace(f"0.0.0.0:{port}", f"{LOOPBACK}:{free}")
            given[variable["name"]] = value
        spec = template["spec"]
        account = json.loads(self._kubectl("get", "serviceaccount", spec["serviceAccountName"], "--output=json"))
        if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
            token = self._cluster.service_account_token(self._namespace, spec["serviceAccountName"])
            config = self._cluster.kubeconfig_for(name, token=token, namespace=self._namespace)
            given["KUBECONFIG"] = str(config)
        program, *arguments = container(template)["command"]
        found = shutil.which(program, path=path)
        assert found is not None, f"there is no {program}"
        return with_death_signal([found, *arguments], "TERM"), env | given

    def _secret(self, name: str, key: str) -> str:
        found = json.loads(self._kubectl("get", "secret", name, "--output=json"))
        return base64.b64decode(found["data"][key]).decode()

    # -- what became of it

    def _run_job(self, job: dict[str, Any]) -> None:
        """Run a Job to its end and say so in its status, as the Job controller does."""
        name = job["metadata"]["name"]
        began = _now()
        command, env = self._process(name, job["spec"]["template"], {})
        for _ in range(job["spec"]["backoffLimit"] + 1):
            done = subprocess.run(
                command, env=env, capture_output=True, text=True, timeout=_JOB_SECONDS, cwd=self._folder, check=False
            )
            self.jobs[name] = done.stdout + done.stderr
            if done.returncode == 0:
                break
        succeeded = done.returncode == 0
        types = ("SuccessCriteriaMet", "Complete") if succeeded else ("FailureTarget", "Failed")
        reason = "CompletionsReached" if succeeded else "BackoffLimitExceeded"
        ended = {"succeeded": 1, "completionTime": _now()} if succeeded else {"failed": 1}
        conditions = [
            {"type": type, "status": "True", "reason": reason, "lastProbeTime": _now(), "lastTransitionTime": _now()}
            for type in types
        ]
        self._patch_status("job", name, {"startTime": began, **ended, "conditions": conditions})

    def _tell(self, deployment: dict[str, Any], *, ready: int) -> None:
        """Write a Deployment's status where it is another than the one written before."""
        name, wanted = deployment["metadata"]["name"], deployment["spec"]["replicas"]
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": wanted,
            "updatedReplicas": wanted,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": wanted - ready,
        }
        # One of a name may have gone and come again.
        if self._said.get(name) == (deployment["metadata"]["uid"], status):
            return
        available = "True" if ready == wanted else "False"
        reason = "MinimumReplicasAvailable" if ready == wanted else "MinimumReplicasUnavailable"
        at = {"lastUpdateTime": _now(), "lastTransitionTime": _now()}
        conditions = [{"type": "Available", "status": available, "reason": reason, **at}]
        self._patch_status("deployment", name, status | {"conditions": conditions})
        self._said[name] = (deployment["metadata"]["uid"], status)

    def _patch_status(self, kind: str, name: str, status: Mapping[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self._kubectl("patch", kind, name, "--subresource=status", "--type=merge", f"--patch={patch}")

    def _kubectl(self, *args: str) -> str:
        return self._cluster.kubectl(f"--namespace={self._namespace}", *args)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def wait_for(kubelet: Kubelet, deployment: str, *, replicas: int, seconds: float = 60) -> list[Pod]:
    """Return a Deployment's pods when so many are ready, or fail with the log."""

    def there() -> bool:
        pods = kubelet.replicas(deployment)
        return len(pods) == replicas and all(pod.ready for pod in pods)

    assert wait_until(there, seconds=seconds, pause=0.2), f"{kubelet.errors}\n{kubelet.log_path.read_text()[-4000:]}"
    return kubelet.replicas(deployment)
