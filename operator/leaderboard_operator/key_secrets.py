"""API keys into Secrets, next to the Tenant they are of.

A Secret is ours only while the Tenant's UID is among its owners; no other is ever written to or deleted. It is read by
its name: the operator may not list Secrets.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any

from leaderboard.control.keys import KeyDelivery
from leaderboard.domain.errors import InvalidApiKey
from leaderboard.domain.keys import digest, parse_key
from leaderboard_operator.client import Api, Conflict, Forbidden, NotFound
from leaderboard_operator.resources import GROUP, VERSION, Resource
from leaderboard_operator.seals import remembered

MANAGED_BY = {"app.kubernetes.io/managed-by": "leaderboard-operator"}


class SecretAccessDenied(Exception):
    """The operator may not work with Secrets in the Tenant's namespace."""


class SecretConflict(Exception):
    """Every name the Secret could have belongs to somebody else."""


def candidate_names(tenant: str, project: str, *, uid: str) -> tuple[str, ...]:
    """Return the names a project's Secret may have, the first choice first.

    ``_`` is in no name of Kubernetes: where it had to be replaced, or the plain name is somebody else's, 8 hexadecimal
    digits of SHA-256 over ``uid/project`` keep two projects apart. A project that ends like such a name gets them too.
    """
    plain = f"{tenant}-{project.replace('_', '-')}"
    hashed = f"{plain}-{hashlib.sha256(f'{uid}/{project}'.encode()).hexdigest()[:8]}-api-key"
    return (hashed,) if "_" in project or _like_hashed(project) else (f"{plain}-api-key", hashed)


class SecretSink:
    """Where the keys of one Tenant go: control's `KeySink`, for one reconciliation.

    Each Secret is read once, by `look` before control does anything, and written only over what was read then. So a
    leader that was stopped in between, and wakes up when another has delivered another key, gets a Conflict.

    `endpoint` is what the Secret tells clients to call; `pepper` is control's. After a reconciliation `names` has the
    Secret of each project that was asked about, and `repaired` those whose other fields had to be put right.
    """

    keeps = True

    def __init__(self, api: Api, tenant: Resource, *, endpoint: str, pepper: bytes) -> None:
        self._api = api
        self._tenant = tenant
        self._endpoint = endpoint
        self._pepper = pepper
        self._path = f"/api/v1/namespaces/{tenant.key.namespace}/secrets"
        self._read: dict[str, dict[str, Any] | None] = {}
        self.names: dict[str, str] = {}
        self.repaired: list[str] = []

    async def look(self, project: str) -> dict[str, Any] | None:
        """Return the project's Secret as it was when it was first looked at, None where there is none of ours."""
        if project not in self._read:
            self._read[project] = await self._find(project)
        return self._read[project]

    async def holds(self, project: str, key_id: str, hmac: bytes) -> bool:
        """Whether the project's Secret is ours and has this key. Its other fields are put right on the way."""
        found = await self.look(project)
        if found is None:
            return False
        data = {name: _decoded(value) for name, value in (found.get("data") or {}).items()}
        if not _is_key(data.get("api-key", b""), key_id=key_id, hmac_=hmac, pepper=self._pepper):
            return False
        # Not what the status says by itself: its people may write that.
        tenant_id = remembered(self._tenant, "tenantID", pepper=self._pepper)
        wanted = self._fields(project, key_id, tenant_id=data.get("tenant-id", b"").decode(errors="replace"))
        if tenant_id is not None:
            wanted["tenant-id"] = str(tenant_id)
        if any(data.get(name) != text.encode() for name, text in wanted.items()):
            self._read[project] = await self._write(found, {**wanted, "api-key": data["api-key"].decode()})
            self.repaired.append(found["metadata"]["name"])
        return True

    async def deliver(self, delivery: KeyDelivery) -> None:
        """Write the key into the project's Secret. Raises SecretAccessDenied, SecretConflict, ApiError.

        Conflict: the Secret is another than the one that was looked at; reconcile again.
        """
        fields = self._fields(delivery.project, delivery.key.id, tenant_id=str(delivery.tenant_id))
        fields["api-key"] = delivery.key.text
        found = await self.look(delivery.project)
        if found is not None:
            await self._write(found, fields)
            return
        for name in candidate_names(self._tenant.key.name, delivery.project, uid=self._tenant.uid):
            try:
                await self._call("POST", self._path, body=self._manifest(name, fields))
            except Conflict:
                if await self._find(delivery.project) is not None:
                    raise  # ours, and made since we looked
                continue  # somebody else's
            self.names[delivery.project] = name
            return
        raise SecretConflict(
            f"Secret {name!r} is not this Tenant's and is in the way of the API key of project {delivery.project!r}: "
            "delete or rename it"
        )

    async def delete(self, projects: Iterable[str]) -> None:
        """Delete the Secrets of `projects`, those that are ours."""
        for project in projects:
            found = await self._find(project)
            if found is not None:
                only = {"preconditions": {"uid": found["metadata"]["uid"]}}
                with contextlib.suppress(NotFound, Conflict):  # gone, or another by now
                    await self._call("DELETE", f"{self._path}/{found['metadata']['name']}", body=only)

    async def _find(self, project: str) -> dict[str, Any] | None:
        for name in candidate_names(self._tenant.key.name, project, uid=self._tenant.uid):
            try:
                found = await self._call("GET", f"{self._path}/{name}")
            except NotFound:
                continue
            owners = found["metadata"].get("ownerReferences") or ()
            if any(owner.get("uid") == self._tenant.uid for owner in owners):
                self.names[project] = name
                return found
        return None

    async def _write(self, found: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
        """Write over the Secret that was read, and return it as it is then; Conflict if it changed since."""
        name = found["metadata"]["name"]
        manifest = self._manifest(name, fields)
        if found.get("immutable") or found.get("type") != manifest["type"]:
            # Neither can be written over.
            only = {"preconditions": {"uid": found["metadata"]["uid"]}}
            await self._call("DELETE", f"{self._path}/{name}", body=only)
            return await self._call("POST", self._path, body=manifest)
        manifest["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        for kept in ("labels", "annotations"):
            manifest["metadata"][kept] = {
                **(found["metadata"].get(kept) or {}),
                **(manifest["metadata"].get(kept) or {}),
            }
        return await self._call("PUT", f"{self._path}/{name}", body=manifest)

    async def _call(self, method: str, path: str, *, body: Any = None) -> dict[str, Any]:
        try:
            return await self._api.call(method, path, body=body)
        except Forbidden as error:
            raise SecretAccessDenied(
                f"the operator may not use this Secret: add namespace {self._tenant.key.namespace!r} to the chart's "
                f"operator.tenantNamespaces, or see why not ({error})"
            ) from error

    def _fields(self, project: str, key_id: str, *, tenant_id: str) -> dict[str, str]:
        return {"api-key-id": key_id, "tenant-id": tenant_id, "project": project, "endpoint": self._endpoint}

    def _manifest(self, name: str, fields: Mapping[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": name,
                "labels": MANAGED_BY,
                "ownerReferences": [
                    {
                        "apiVersion": f"{GROUP}/{VERSION}",
                        "kind": "Tenant",
                        "name": self._tenant.key.name,
                        "uid": self._tenant.uid,
                        "controller": True,
                    }
                ],
            },
            "stringData": dict(fields),
        }


_like_hashed = re.compile(r".*-[0-9a-f]{8}").fullmatch


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _is_key(text: bytes, *, key_id: str, hmac_: bytes, pepper: bytes) -> bool:
    try:
        key = parse_key(text.decode())
    except (InvalidApiKey, UnicodeDecodeError):
        return False
    return key.id == key_id and hmac.compare_digest(digest(key, pepper=pepper), hmac_)
