"""`pulumi up` with the real CLI and its plugins, against the embedded Kubernetes API with controllers and KWOK's nodes.

Run by `make pulumi-up`, since it takes minutes and builds more programs; skipped, with what is missing, where the CLI
or a plugin is not on this machine. It changes nothing of the checkout: what Pulumi writes goes into a copy.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard.local.process import wait_until
from leaderboard_infra import plan

pytestmark = [pytest.mark.pulumi_up, pytest.mark.timeout(3600)]

PLUGINS = ("kubernetes", "random")
NAMESPACES = ("leaderboard-local", "leaderboard-telemetry-local")


class Pulumi:
    """The CLI, with a backend, a home and a copy of the program of its own."""

    def __init__(self, folder: Path) -> None:
        self._project = folder / "project"
        self._project.mkdir()
        for name in ("Pulumi.yaml", "pulumi", "charts", "grafana"):
            source, target = plan.ROOT / name, self._project / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        for name in (".venv", "pyproject.toml", "uv.lock"):
            (self._project / name).symlink_to(plan.ROOT / name)
        state = folder / "state"
        state.mkdir()
        self._env = os.environ | {
            "PATH": f"{plan.ROOT / '.uv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PULUMI_BACKEND_URL": state.as_uri(),
            "PULUMI_CONFIG_PASSPHRASE": os.environ.get("PULUMI_CONFIG_PASSPHRASE", "a passphrase for a test"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",  # a test downloads no program
        }

    def __call__(self, *args: str) -> str:
        """Run a command and return what it printed; it fails the test where it fails."""
        command = ["pulumi", *args, "--non-interactive", "--color=never"]
        done = subprocess.run(command, cwd=self._project, env=self._env, capture_output=True, text=True)
        assert done.returncode == 0, f"pulumi {' '.join(args)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def resources(self) -> dict[str, dict[str, Any]]:
        """What the stack's state has, by name, the stack itself left out."""
        state = json.loads(self("stack", "export"))["deployment"].get("resources") or []
        return {each["urn"].rpartition("::")[2]: each for each in state if each["type"] != "pulumi:pulumi:Stack"}

    def changes(self) -> dict[str, str]:
        """What `pulumi up` would do, by name of the resource, what stays as it is left out."""
        steps = json.loads(self("preview", "--json"))["steps"]
        return {
            step["urn"].rpartition("::")[2]: step["op"]
            for step in steps
            if step["op"] != "same" and "pulumi:pulumi:Stack::" not in step["urn"]
        }


def why_not() -> str:
    """What is missing to run this, '' where nothing is."""
    cli = shutil.which("pulumi")
    if cli is None:
        return "the pulumi CLI is not on PATH"
    done = subprocess.run([cli, "plugin", "ls", "--json"], capture_output=True, text=True, check=False)
    listed = json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []
    installed = {each["name"] for each in listed if each["kind"] == "resource"}
    missing = [name for name in PLUGINS if name not in installed and shutil.which(f"pulumi-resource-{name}") is None]
    if missing:
        return f"of Pulumi's plugins these are missing: {', '.join(missing)} (pulumi plugin install resource NAME)"
    return ""


@pytest.fixture(scope="module")
def pulumi(tmp_path_factory: pytest.TempPathFactory) -> Pulumi:
    if missing := why_not():
        pytest.skip(missing)
    return Pulumi(tmp_path_factory.mktemp("pulumi"))


def test_the_local_stack_goes_up_is_changed_and_goes_again(
    pulumi: Pulumi, request: pytest.FixtureRequest, planned
) -> None:
    cluster: EmbeddedKubernetes = request.getfixturevalue("pretended_cluster")  # built only where there is a CLI
    pulumi("stack", "init", "local")
    pulumi("config", "set", "kubeconfig", str(cluster.kubeconfig))
    pulumi("config", "set", "kubeContext", "leaderboard")

    pulumi("up", "--yes", "--skip-preview")
    assert pulumi.resources().keys() == planned("local").by_name.keys()
    for namespace in NAMESPACES:
        for kind in ("deployments", "statefulsets"):
            found = json.loads(cluster.kubectl("get", kind, f"--namespace={namespace}", "--output=json"))["items"]
            assert found
            for each in found:
                assert each["status"]["readyReplicas"] == each["spec"]["replicas"], each["metadata"]["name"]
    secrets = pulumi("stack", "export")
    assert not re.search(r"redis://:[^@]*@", secrets), "a password is in the state in plain text"

    pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")

    pulumi("config", "set", "logLevel", "debug")
    assert pulumi.changes() == {"local-release": "update"}
    pulumi("up", "--yes", "--skip-preview")
    (variable,) = [
        each["value"]
        for each in json.loads(
            cluster.kubectl("get", "deployment", "leaderboard-local-api", f"--namespace={NAMESPACES[0]}", "-o=json")
        )["spec"]["template"]["spec"]["containers"][0]["env"]
        if each["name"] == "LEADERBOARD_LOG_LEVEL"
    ]
    assert variable == "debug"

    kept = {each.name for each in planned("local").resources.values() if each.retain}
    pulumi("destroy", "--yes", "--skip-preview")
    assert pulumi.resources() == {}
    left = {
        f"{item['kind']} {item['metadata']['namespace']}/{item['metadata']['name']}"
        for kind in ("deployments", "statefulsets", "services", "jobs", "networkpolicies", "configmaps", "secrets")
        for namespace in NAMESPACES
        for item in json.loads(cluster.kubectl("get", kind, f"--namespace={namespace}", "--output=json"))["items"]
        if item["metadata"]["name"] != "kube-root-ca.crt"
    }
    assert left == {"Secret leaderboard-local/leaderboard-credentials", "Secret leaderboard-local/postgres"}
    assert {"local-credentials", "local-postgres-credentials", "local-namespace"} <= kept
    assert wait_until(lambda: "pods" not in cluster.kubectl("get", "pods", "--all-namespaces", "-o=name"), seconds=60)
    for namespace in NAMESPACES:
        assert cluster.kubectl("get", "persistentvolumeclaims", f"--namespace={namespace}", "-o=name")
    definitions = cluster.kubectl("get", "customresourcedefinitions", "-o=name")
    assert "tenants.leaderboard.saas" in definitions
