"""``make demo-kube``: the demo by way of Kubernetes: a real API server, the operator, kubectl.

It runs the operator as a process of its own (nothing here is made of it), which logs in as the chart's service account
and so has its rights and no others.
"""

import argparse
import base64
import functools
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from leaderboard.config import PREFIX
from leaderboard.local.demo import Client, Example, commands, play, read_example, story
from leaderboard.local.kubernetes import EmbeddedKubernetes, KubectlFailed, KubernetesBinaries, find_or_build
from leaderboard.local.process import LOOPBACK, Child, LocalError, free_port
from leaderboard.local.up import LocalPlatform, add_arguments, supervise

DEFAULT_DATA = Path(".leaderboard-kube")  # not that of `make demo`, whose tenant no resource owns
FILE = Path("examples/tenant.yaml")
CHART = Path("charts/leaderboard")
RELEASE = "leaderboard"
SYSTEM = "leaderboard-system"
"""The operator's namespace. The Tenants are in ``default``, where kubectl looks unless told otherwise."""
_KUBERNETES = "1.30"  # what the chart asks for at least; a helm that was built from its module takes 1.20 for granted
_TOKEN_HOURS = 24 * 365  # nobody renews the operator's token, as the kubelet would
_OPERATOR_STOP_SECONDS = 30.0
_WAIT_SECONDS = 120


class KubernetesPlatform(LocalPlatform):
    """The platform with a Kubernetes API and the operator. The chart is that of the checkout we are in."""

    def __init__(self, folder: Path, *, binaries: KubernetesBinaries, port: int) -> None:
        super().__init__(folder, port=port)
        self._helm = binaries.helm
        self.kubernetes = EmbeddedKubernetes(folder / "kubernetes", binaries=binaries, log=self._log)
        self.operator: Child | None = None

    def start(self) -> None:
        """Start everything and return when the API and the operator are ready. Raises LocalError; call `stop` then."""
        super().start()
        with self._step("Kubernetes API"):
            self.kubernetes.start()
        with self._step("CRDs and chart"):
            self._install()
        with self._step("operator"):
            self._start_operator()

    def stop(self) -> None:
        """Stop the operator, which gives up its Lease, then the Kubernetes API, then everything else."""
        if self.operator is not None:
            self.operator.stop(seconds=_OPERATOR_STOP_SECONDS)
            self.operator = None
        self.kubernetes.stop()
        super().stop()

    def _children(self) -> list[Child]:
        ours = (self.operator, self.kubernetes.api, self.kubernetes.etcd)
        return [*super()._children(), *(child for child in ours if child is not None)]

    def _install(self) -> None:
        kubectl = self.kubernetes.kubectl
        kubectl("apply", "--server-side", "-f", str(CHART / "crds"))
        kubectl("wait", "--for=condition=Established", f"--timeout={_WAIT_SECONDS}s", "-f", str(CHART / "crds"))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
        kubectl("apply", "-f", "-", input=json.dumps(namespace))
        kubectl("apply", "-f", "-", input=self._rendered())

    def _rendered(self) -> str:
        """What the operator may do, and the policy: the processes themselves are ours to run."""
        values = ["--set-json", 'operator.tenantNamespaces=["default"]', "--set", "existingSecret=none"]
        parts = [f"--show-only=templates/{part}.yaml" for part in ("operator-rbac", "prevent-deletion")]
        command = [str(self._helm), "template", RELEASE, str(CHART), "--namespace", SYSTEM, *values, *parts]
        done = subprocess.run([*command, f"--kube-version={_KUBERNETES}"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LocalError(f"helm template {CHART} failed: {done.stderr.strip()}")
        return done.stdout

    def _start_operator(self) -> None:
        token = self.kubernetes.service_account_token(SYSTEM, f"{RELEASE}-operator", hours=_TOKEN_HOURS)
        bind = f"{LOOPBACK}:{free_port()}"
        own = {
            "NAMESPACE": SYSTEM,
            "ENDPOINT": self.url,
            "BIND": bind,
            # There is one of it in this folder. With a name of its own for each start it would have to wait for the
            # Lease of one that was killed to run out.
            "IDENTITY": "demo",
        }
        kubeconfig = self.kubernetes.kubeconfig_for("operator", token=token, namespace=SYSTEM)
        env = {"KUBECONFIG": str(kubeconfig), **{f"{PREFIX}OPERATOR_{name}": value for name, value in own.items()}}
        self.operator = self._run("operator", "leaderboard_operator", env=env)
        self._wait_ready("the operator", f"http://{bind}")


def kubectl(platform: KubernetesPlatform, *args: str) -> str:
    """Run kubectl as people would, show the command and what it said, and return that."""
    print(f"$ {shlex.join(['kubectl', *args])}")
    output = platform.kubernetes.kubectl(*args)
    print(output, flush=True)
    return output


def apply(platform: KubernetesPlatform) -> None:
    """Apply the example and wait until it is ready. Raises LocalError with what its resources say of themselves."""
    print()
    kubectl(platform, "apply", "-f", str(FILE))
    try:
        kubectl(platform, "wait", "--for=condition=Ready", f"--timeout={_WAIT_SECONDS}s", "-f", str(FILE))
    except KubectlFailed as error:
        platform.check()
        said = platform.kubernetes.kubectl("get", "-f", str(FILE), "-o", "wide", check=False)
        log = platform.folder / "log"
        raise LocalError(f"{error}\nWhat they say themselves:\n{said}What the operator says is in {log}") from error
    kubectl(platform, "get", "tenants,leaderboards")


def secrets_of(platform: KubernetesPlatform, *, tenant: str) -> dict[str, str]:
    """Return the names of the Secrets with the tenant's keys, by project. Raises LocalError."""
    found = json.loads(platform.kubernetes.kubectl("get", "tenant", tenant, "-o", "json"))
    return {key["project"]: key["secretName"] for key in found["status"]["apiKeys"]}


def client_of(platform: KubernetesPlatform, *, secret: str) -> Client:
    """Return a client with the key in a Secret. Raises LocalError."""
    encoded = platform.kubernetes.kubectl("get", "secret", secret, "-o", "jsonpath={.data.api-key}")
    return Client(platform.url, key=base64.b64decode(encoded).decode())


def kubectl_lines(*, example: Example, trigger: str) -> str:
    """Return kubectl lines to go on with, ready to paste. `trigger` is any text that was no rotationTrigger before."""
    tenant, board = f"tenant/{example.tenant.name}", f"leaderboard/{example.board.name}"
    grace = example.tenant.spec.api_key.grace_period

    def patch(what: str, spec: object) -> list[str]:
        return ["patch", what, "--type=merge", "-p", json.dumps({"spec": spec})]

    lines = [
        ("everything about the tenant, with what happened to it", ["describe", tenant]),
        (f"a new key in the same Secret; the old one works for {grace} more", patch(tenant, _rotated(trigger))),
        ("the API refuses every request of the tenant (403), and nothing is lost", patch(tenant, {"suspend": True})),
        ("in service again", patch(tenant, {"suspend": False})),
        ("refused, and the message says why", patch(board, {"sortOrder": "Ascending"})),
        ("what the resources say now", ["get", "tenants,leaderboards", "-o", "wide"]),
    ]
    return "\n".join(f"# {text}\n{shlex.join(['kubectl', *words])}" for text, words in lines)


def _rotated(trigger: str) -> object:
    return {"apiKey": {"rotationTrigger": trigger}}


def environment(platform: KubernetesPlatform) -> str:
    """Return the lines that make a shell's kubectl speak to the demo's Kubernetes API."""
    program = platform.kubernetes.binaries.kubectl
    lines = [f"export KUBECONFIG={shlex.quote(str(platform.kubernetes.kubeconfig))}"]
    if shutil.which("kubectl") != str(program):
        lines.append(f'export PATH={shlex.quote(str(program.parent))}:"$PATH"')
    return "\n".join(lines)


def show(platform: KubernetesPlatform) -> None:
    """Apply the example with kubectl, play, and print the board and how to go on."""
    example = read_example(FILE)
    apply(platform)
    secrets = secrets_of(platform, tenant=example.tenant.name)
    projects = {board.spec.project for board in example.boards}
    clients = {project: client_of(platform, secret=secrets[project]) for project in projects}
    top = play(clients, example=example)
    quoted = "'Authorization: Bearer $KEY'"  # as `commands` writes what is a variable here
    curls = commands(platform.url, key="$KEY", example=example).replace(quoted, quoted.replace("'", '"'))
    secret = secrets[example.board.spec.project]
    print(f"""{story(top, example=example, file=FILE)}

Go on by hand, in another terminal:

{environment(platform)}
# the key of the project, out of its Secret
KEY=$(kubectl get secret {secret} -o jsonpath='{{.data.api-key}}' | base64 -d)
{curls}
{kubectl_lines(example=example, trigger=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")}

The API's page: {platform.url}/docs   The operator's: docs/kubernetes.md""")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m leaderboard.local.demo_kube", description="The platform on Kubernetes, with scores."
    )
    add_arguments(parser)
    parser.set_defaults(data=DEFAULT_DATA)
    parser.add_argument("--exit", action="store_true", help="stop after the list")
    args = parser.parse_args(argv)

    def then(platform: KubernetesPlatform) -> None:
        show(platform)
        if not args.exit:
            print("Ctrl-C stops everything; the data stays.", flush=True)
            platform.watch()

    try:
        read_example(FILE)  # where we are not in a checkout, rather now than after a build
        binaries = find_or_build(functools.partial(print, flush=True))
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return supervise(
        args.data, make=lambda: KubernetesPlatform(args.data, binaries=binaries, port=args.port), then=then
    )


if __name__ == "__main__":
    sys.exit(main())
