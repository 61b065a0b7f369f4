"""A Kubernetes API of one's own in a folder: one etcd and one kube-apiserver, run as our direct children.

It is the API alone, as the operator sees it: custom resources, RBAC, admission policies, watches and service accounts'
tokens are those of any cluster, but no controller manager and no scheduler runs. So nothing makes ``default`` service
accounts or collects garbage by owner reference, a deleted namespace stays ``Terminating``, and pods stay Pending.

The API server listens on 127.0.0.1, with a certificate that it signs itself. etcd asks nobody who they are: it listens
on a Unix socket in the folder, which only its user may enter. Both take the socket's path relative to the folder they
run in, since an absolute one may have about 100 bytes at most.
"""

import base64
import contextlib
import functools
import json
import os
import re
import secrets
import ssl
import subprocess
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from leaderboard.local.process import (
    LOOPBACK,
    Child,
    LocalError,
    Log,
    end_leftover,
    free_port,
    keep,
    wait_until,
    with_death_signal,
    write_private,
)
from leaderboard.local.toolchain import KubernetesBinaries, find_or_build

__all__ = ["Cluster", "EmbeddedKubernetes", "KubectlFailed", "KubernetesBinaries", "find_or_build"]

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_STOP_API_SECONDS = 2.0  # it would wait up to a minute for the clients to end their watches
_LEAST_LEFT = timedelta(days=30)  # of the certificate's year, at a start: the API may then stay up that long
_AUDIT_MEGABYTES = 2000  # one file then: by default it would be set aside at 100
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class KubectlFailed(LocalError):
    """A kubectl command failed; the message has the command and what it printed to standard error."""


class Cluster:
    """A Kubernetes API, spoken to with kubectl and a `kubeconfig` whose user may do everything.

    Other kubeconfigs and kubectl's cache are kept in `folder`.
    """

    def __init__(self, folder: Path, *, kubectl: Path, kubeconfig: Path) -> None:
        self._folder = folder.resolve()
        self._kubectl = kubectl
        self.kubeconfig = kubeconfig.resolve()

    @property
    def url(self) -> str:
        """Where the API answers."""
        return str(self._cluster["server"])

    @property
    def ca(self) -> Path:
        """A file with the certificate that the API's is signed by. Raises LocalError where the kubeconfig has none."""
        data = self._cluster.get("certificate-authority-data")
        if data is None:
            raise LocalError(f"{self.kubeconfig} names no certificate authority")
        path = self._folder / "ca.crt"
        path.write_bytes(base64.b64decode(data))
        return path

    def kubectl(self, *args: str, input: str | None = None, kubeconfig: Path | None = None, check: bool = True) -> str:
        """Run kubectl, `input` on its standard input, as the user of `kubeconfig` (None: who may do everything).

        Returns its standard output; raises KubectlFailed where it fails. Without `check` it returns both outputs
        either way, standard error last.
        """
        # kubectl remembers an API's resources for hours by host and port, and ours come back on other clusters' ports.
        command = [str(self._kubectl), f"--cache-dir={self._folder / 'kubectl'}"]
        command.append(f"--kubeconfig={kubeconfig or self.kubeconfig}")
        # Nor has the user's ~/.kube/kuberc, with its aliases and defaults, a say here.
        env = os.environ | {"KUBERC": "off"}
        done = subprocess.run([*command, *args], input=input, capture_output=True, text=True, env=env, check=False)
        if not check:
            return done.stdout + done.stderr
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(args)} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def kubeconfig_for(self, name: str, *, token: str, namespace: str = "default") -> Path:
        """Write a kubeconfig (0600) for the bearer of `token` and return its path, whose name ends in `name`."""
        path = self._folder / f"kubeconfig-{name}"
        write_private(path, kubeconfig_text(self._cluster, token=token, namespace=namespace))
        return path

    def service_account_token(self, namespace: str, name: str, *, hours: int = 24) -> str:
        """Return a new token of a service account, by TokenRequest; KubectlFailed where there is no such account."""
        return self.kubectl("create", "token", name, f"--namespace={namespace}", f"--duration={hours}h").strip()

    @functools.cached_property
    def _cluster(self) -> dict[str, Any]:
        """The entry of the kubeconfig that says where the API is, with the contents of the files it may name."""
        view = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        cluster: dict[str, Any] = view["clusters"][0]["cluster"]
        return cluster


class EmbeddedKubernetes(Cluster):
    """One Kubernetes API with its data in `folder`, and its administrator in ``folder/kubeconfig``.

    `port` None takes a free one when the object is made and keeps it over restarts. Without `durable` nothing waits
    for the disk: a crash of the machine may lose data, one of the processes does not. `audit` writes each request's
    metadata to `audit_log`, a JSON object a line. Lines of the servers go to `log` under the names ``etcd`` and
    ``kube-api``. Not thread-safe.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binaries: KubernetesBinaries,
        log: Log,
        port: int | None = None,
        durable: bool = True,
        audit: bool = False,
    ) -> None:
        super().__init__(folder, kubectl=binaries.kubectl, kubeconfig=folder / "kubeconfig")
        self.binaries = binaries
        self._log = log
        self._durable = durable
        self._token = ""
        self.port = port or free_port()
        self.audit_log = self._folder / "audit.log" if audit else None
        self.etcd: Child | None = None
        self.api: Child | None = None

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"https://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start what does not run on what the folder holds, and return when the API answers.

        Servers left over from a supervisor that died are stopped first. Raises LocalError with the servers' own words
        when they do not come up.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        if not _alive(self.etcd):
            # An API server of before would take its time to notice that its etcd has gone.
            self._clear_leftover_api()
            self._clear_leftover("etcd", mark=self._folder / "etcd", seconds=_STOP_SECONDS)
            self.etcd = self._run("etcd", "etcd", self._etcd_command(), death_signal="TERM")
        self.start_api()

    def stop(self) -> None:
        """Shut both servers down; the data stays."""
        self.stop_api()
        if self.etcd is not None:
            self.etcd.stop(seconds=_STOP_SECONDS)
            self.etcd = None
            (self._folder / "etcd.pid").unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill both servers as a crash would, and return when they are gone, so that they can start again."""
        for child in (self.api, self.etcd):
            if child is not None:
                child.kill()
        self.api = self.etcd = None

    def start_api(self) -> None:
        """Start the API server alone, etcd running, and return when it answers."""
        if _alive(self.api):
            return
        self._clear_leftover_api()
        self._drop_old_certificate()
        self._token = keep(self._folder / "token", lambda: secrets.token_hex(24))
        write_private(self._folder / "tokens.csv", f'{self._token},admin,admin,"system:masters"\n')
        keep(self._folder / "service-accounts.key", new_signing_key)
        # It keeps nothing itself, so that it need not be asked to end, should we die.
        self.api = self._run("kube-api", "kube-apiserver", self._api_command(), death_signal="KILL")
        if not wait_until(lambda: not self._running() or self._answers(), seconds=_START_SECONDS, pause=0.05):
            ended = self.api.how_it_ended()
            self.kill()
            raise LocalError(f"the Kubernetes API did not answer within {_START_SECONDS:g} s\n{ended}")
        for child in (self.etcd, self.api):
            if child is not None and not child.alive:
                ended = child.how_it_ended()
                self.kill()
                raise LocalError(ended)
        self._write_kubeconfig()

    def stop_api(self) -> None:
        """Shut the API server down alone, and cut off the watches that outlast two seconds; the data stays."""
        if self.api is not None:
            self.api.stop(seconds=_STOP_API_SECONDS)
            self.api = None
            (self._folder / "kube-apiserver.pid").unlink(missing_ok=True)

    def _run(self, name: str, program: str, command: Sequence[str], *, death_signal: str) -> Child:
        child = Child(with_death_signal(command, death_signal), name=name, log=self._log, cwd=self._folder)
        write_private(self._folder / f"{program}.pid", f"{child.pid}\n")
        return child

    def _running(self) -> bool:
        return _alive(self.etcd) and _alive(self.api)

    def _answers(self) -> bool:
        authority = self._authority()
        if authority is None:
            return False
        # A proxy from the environment has no business with a server on this machine.
        https = urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=authority))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
        opener.addheaders = [("Authorization", f"Bearer {self._token}")]
        # The server is ready a moment before the namespace is made that everybody takes for granted.
        for path in ("/readyz", "/api/v1/namespaces/default"):
            try:
                opener.open(self.url + path, timeout=5).close()
            except OSError:
                return False
        return True

    def _authority(self) -> str | None:
        """The certificate that signed the API server's, None before its first start has made them."""
        try:
            served = (self._folder / "certificates" / "apiserver.crt").read_text()
        except FileNotFoundError:
            return None
        chain = certificates_in(served)
        return chain[-1] if chain else None

    def _drop_old_certificate(self) -> None:
        """Let the API server make its certificate anew: it does so only where there is none, and it lasts a year."""
        served = self._folder / "certificates" / "apiserver.crt"
        with contextlib.suppress(FileNotFoundError):
            ends = valid_until(served.read_text())
            if ends is None or ends - datetime.now(UTC) < _LEAST_LEFT:
                served.with_suffix(".key").unlink(missing_ok=True)
                served.unlink()

    def _write_kubeconfig(self) -> None:
        authority = self._authority()
        assert authority is not None
        data = base64.b64encode(authority.encode()).decode()
        cluster = {"server": self.url, "certificate-authority-data": data}
        write_private(self.kubeconfig, kubeconfig_text(cluster, token=self._token))

    def _etcd_command(self) -> list[str]:
        return [
            str(self.binaries.etcd),
            *("--name", "etcd", "--data-dir", str(self._folder / "etcd"), "--log-level", "warn"),
            *("--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD),
            *("--listen-peer-urls", _ETCD_PEER, "--initial-advertise-peer-urls", _ETCD_PEER),
            *("--initial-cluster", f"etcd={_ETCD_PEER}"),
            *([] if self._durable else ["--unsafe-no-fsync"]),
        ]

    def _api_command(self) -> list[str]:
        key = self._folder / "service-accounts.key"
        flags = {
            "bind-address": LOOPBACK,
            # Else that of a network interface, which a machine may be without.
            "advertise-address": LOOPBACK,
            "secure-port": str(self.port),
            "etcd-servers": _ETCD,
            "token-auth-file": str(self._folder / "tokens.csv"),
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(key),
            "service-account-signing-key-file": str(key),
            "service-cluster-ip-range": "10.96.0.0/24",
            # Nobody reaches the API through a Service here, and a Service may not lead to a loopback address.
            "endpoint-reconciler-type": "none",
            "profiling": "false",
        }
        if self.audit_log is not None:
            policy = self._folder / "audit-policy.yaml"
            policy.write_text(_AUDIT_POLICY)
            flags |= {"audit-policy-file": str(policy), "audit-log-path": str(self.audit_log)}
            flags |= {"audit-log-maxsize": str(_AUDIT_MEGABYTES)}
        command = [str(self.binaries.kube_apiserver), "--cert-dir", str(self._folder / "certificates")]
        return command + [f"--{name}={value}" for name, value in flags.items()]

    def _clear_leftover_api(self) -> None:
        self._clear_leftover("kube-apiserver", mark=self._folder / "certificates", seconds=_STOP_API_SECONDS)

    def _clear_leftover(self, program: str, *, mark: Path, seconds: float) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            end_leftover(int((self._folder / f"{program}.pid").read_text()), mark=str(mark), seconds=seconds)


_ETCD = "unix://etcd:0"  # the socket `etcd:0` in the folder that the process runs in; etcd insists on a port
_ETCD_PEER = "unix://peer:0"
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


def _alive(child: Child | None) -> bool:
    return child is not None and child.alive


def kubeconfig_text(cluster: dict[str, Any], *, token: str, namespace: str = "default") -> str:
    """Return a kubeconfig for the bearer of `token` on `cluster`, the entry of another kubeconfig."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "leaderboard", "cluster": cluster}],
        "users": [{"name": "leaderboard", "user": {"token": token}}],
        "contexts": [
            {
                "name": "leaderboard",
                "context": {"cluster": "leaderboard", "user": "leaderboard", "namespace": namespace},
            }
        ],
        "current-context": "leaderboard",
    }
    return yaml.safe_dump(config, sort_keys=False)


def new_signing_key() -> str:
    """Return a new private key for service accounts' tokens: ECDSA on P-256, in PEM (RFC 5915).

    The public half may be left out, and who reads the key computes it; so the standard library is enough.
    """
    scalar = secrets.randbelow(_P256_ORDER - 1) + 1
    # SEQUENCE { INTEGER 1, OCTET STRING (32 bytes), [0] OBJECT IDENTIFIER prime256v1 }
    der = bytes.fromhex("30310201010420") + scalar.to_bytes(32, "big") + bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.b64encode(der).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{text[:64]}\n{text[64:]}\n-----END EC PRIVATE KEY-----"


def certificates_in(text: str) -> list[str]:
    """Return the certificates in a PEM file, which may hold several."""
    return re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", text, re.DOTALL)


# A certificate's validity in DER (X.509, RFC 5280): SEQUENCE { UTCTime, UTCTime }, which years before 2050 are.
_VALIDITY = re.compile(rb"\x30\x1e\x17\x0d\d{12}Z\x17\x0d(\d{12})Z")


def valid_until(text: str) -> datetime | None:
    """Return when the first of the certificates in a PEM file ends, None where that cannot be read."""
    ends = []
    for certificate in certificates_in(text):
        found = _VALIDITY.search(ssl.PEM_cert_to_DER_cert(certificate))
        if found is None:
            return None
        ends.append(datetime.strptime(found[1].decode(), "%y%m%d%H%M%S").replace(tzinfo=UTC))
    return min(ends, default=None)
