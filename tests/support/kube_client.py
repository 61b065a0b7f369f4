"""HTTP straight to a Kubernetes API, for tests that ask too often for a kubectl each time (0.1 s)."""

import http.client
import json
import ssl
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from leaderboard.local.kubernetes import Cluster
from leaderboard.local.process import wait_until
from support.custom_resources import API_VERSION, PLURALS, Json

ACCOUNT = "api-client"


class Cause(NamedTuple):
    """One reason of a refusal: which field, and what the server says of it."""

    field: str
    message: str


class Answer(NamedTuple):
    """What the API server answered: the object that it took, or its Status."""

    status: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def causes(self) -> list[Cause]:
        """Why it was refused; the server's note that it stopped looking is left out."""
        told = self.body.get("details", {}).get("causes", ())
        causes = [Cause(cause.get("field", ""), cause["message"]) for cause in told]
        return [cause for cause in causes if "some validation rules were not checked" not in cause.message]


class KubeClient:
    """One connection, as a service account that may create our resources in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.namespace = namespace
        account = f"--serviceaccount={namespace}:{ACCOUNT}"
        cluster.kubectl("create", "serviceaccount", ACCOUNT, f"--namespace={namespace}")
        resources = ",".join(f"{plural}.leaderboard.saas" for plural in PLURALS.values())
        own = (ACCOUNT, f"--namespace={namespace}")
        cluster.kubectl("create", "role", *own, "--verb=create,list", f"--resource={resources}")
        cluster.kubectl("create", "rolebinding", *own, f"--role={ACCOUNT}", account)
        self._token = cluster.service_account_token(namespace, ACCOUNT)
        where = urlsplit(cluster.url)
        self._connection = http.client.HTTPSConnection(
            where.hostname or "", where.port, timeout=30, context=ssl.create_default_context(cafile=str(cluster.ca))
        )
        # RBAC works from a watch, so a grant takes a moment.
        assert wait_until(lambda: self._send("GET", self._path("Tenant")).status != 403, seconds=90)

    def close(self) -> None:
        self._connection.close()

    def create(self, document: Json, *, dry_run: bool = False) -> Answer:
        """Create an object as kubectl does: unknown fields are refused."""
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self._send("POST", f"{self._path(document['kind'])}?{urlencode(query)}", document)

    def _path(self, kind: str) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/{PLURALS[kind]}"

    def _send(self, method: str, path: str, body: Json = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        with self._connection.getresponse() as response:
            return Answer(response.status, json.loads(response.read()))
