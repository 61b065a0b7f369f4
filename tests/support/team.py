"""A team that uses the platform: kubectl in its namespace, and the API with the keys from its Secrets."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from leaderboard.local.up import opener
from support.client import Answer
from support.operator import Kube, eventually

READY_SECONDS = 120.0


class Rest:
    """The API, as a backend with one key calls it."""

    def __init__(self, url: str, key: str) -> None:
        self.key = key
        self._url = url

    def __call__(self, method: str, path: str, body: Any = None, **more: str) -> Answer:
        """Send one request, with `more` headers, and return the answer, whatever its status."""
        headers = more | {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=headers)
        try:
            with opener.open(request, timeout=10) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    @property
    def status(self) -> int:
        """What the key gets for the simplest question: 200, or why not."""
        return self("GET", "/v1/leaderboards").status

    def add(self, board: str, user: str, increment: float) -> Answer:
        """Update a score."""
        body = {"leaderboard": board, "user": user, "increment": increment}
        return self("POST", "/v1/scores/update", body)

    def top(self, board: str) -> list[tuple[str, float]] | int:
        """Return (user, score), the best first; the status of a refusal."""
        answer = self("GET", f"/v1/leaderboards/{board}/top")
        if answer.status != 200:
            return answer.status
        return [(entry["user"], entry["score"]) for entry in answer.json()["entries"]]


class Team:
    """Works in the namespace of `kube`, and calls the API at `url` with the keys from there."""

    def __init__(self, kube: Kube, url: str) -> None:
        self.kube = kube
        self.url = url

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects and wait until all of them are Ready."""
        self.kube.apply(*objects)
        self.wait(*objects)

    def wait(self, *objects: Mapping[str, Any]) -> None:
        """Wait until the objects are Ready, as they are now."""
        names = [f"{found['kind'].lower()}/{found['metadata']['name']}" for found in objects]
        self.kube("wait", "--for=condition=Ready", f"--timeout={READY_SECONDS}s", *names)

    def delete(self, *objects: Mapping[str, Any]) -> None:
        """Delete the objects and wait until they are gone."""
        for found in objects:
            self.kube("delete", found["kind"], found["metadata"]["name"], f"--timeout={READY_SECONDS}s")

    def spec(self, found: Mapping[str, Any], **change: Any) -> None:
        """Change the spec of an object."""
        self.kube.patch(found["kind"], found["metadata"]["name"], {"spec": change})

    def annotate(self, found: Mapping[str, Any], **annotations: str | None) -> None:
        """Set annotations of ours (``paused="true"``); None takes one away."""
        change = {f"leaderboard.saas/{name}": value for name, value in annotations.items()}
        self.kube.patch(found["kind"], found["metadata"]["name"], {"metadata": {"annotations": change}})

    def now(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return an object as it is now."""
        return self.kube.get(found["kind"], found["metadata"]["name"])

    def status(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return an object's status."""
        status: dict[str, Any] = self.now(found).get("status") or {}
        return status

    def says(self, found: Mapping[str, Any], type: str, status: str, reason: str) -> str:
        """Wait until an object's condition says so of its present spec, and return the message."""
        name = found["metadata"]["name"]
        message = self.kube.wait_for(found["kind"], name, type, status, reason)

        def current() -> bool:
            now = self.now(found)
            told = {each["type"]: each for each in now["status"]["conditions"]}
            return bool(told[type]["observedGeneration"] == now["metadata"]["generation"])

        eventually(current, f"{name} {type} speaks of its present spec")
        return message

    def outlive(self, found: Mapping[str, Any]) -> None:
        """Wait until a new object would be younger, in the whole seconds in which the API server writes times."""
        created = self.now(found)["metadata"]["creationTimestamp"]

        def later() -> bool:
            clock = self.kube("create", "configmap", "clock", "--dry-run=server", "-o", "json")
            return bool(json.loads(clock)["metadata"]["creationTimestamp"] > created)

        eventually(later, "the API server's clock moved on")

    def gone(self, found: Mapping[str, Any]) -> bool:
        """Whether there is no such object any more."""
        return self.kube.find(found["kind"], found["metadata"]["name"]) is None

    def events(self, found: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (reason, message) of the Events about an object, oldest first."""
        told = self.kube.events(found["metadata"]["name"], kind=found["kind"])
        return [(reason, message) for _, reason, message in told]

    def reasons(self, found: Mapping[str, Any]) -> list[str]:
        """Return the reasons of the Events about an object, oldest first."""
        return [reason for reason, _ in self.events(found)]

    # -- keys

    def key_status(self, tenant: Mapping[str, Any], project: str = "default") -> dict[str, Any]:
        """Return what a Tenant's status says of a project's key; empty where it says nothing."""
        for told in self.status(tenant).get("apiKeys") or ():
            if told["project"] == project:
                found: dict[str, Any] = told
                return found
        return {}

    def secret(self, tenant: Mapping[str, Any], project: str = "default") -> dict[str, str]:
        """Return what is in the Secret that a Tenant's status names for a project; empty where there is none."""
        name = self.key_status(tenant, project).get("secretName")
        return (name and self.kube.secret(name)) or {}

    def rest(self, tenant: Mapping[str, Any], project: str = "default") -> Rest:
        """Return the API with the key that is in the project's Secret now."""
        return Rest(self.url, self.secret(tenant, project)["api-key"])
