"""As much of the Kubernetes API as the operator's decisions need, in memory: no server, no RBAC, no schemas.

What it keeps to: names and UIDs, resourceVersions and preconditions, merge patches, the status subresource, finalizers,
and what cannot be changed of a Secret.
"""

import base64
import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from leaderboard_operator.client import Api, ApiError, Conflict, NotFound, path_of
from leaderboard_operator.resources import GROUP, VERSION, Kind, Resource, resource
from support.resources import versions

_LISTS = {f"/apis/{GROUP}/{VERSION}/{kind.plural}": kind for kind in Kind}


class MemoryApi(Api):
    """Keeps `objects` by their paths. `before` is called with method and path of each request, and may raise, or change
    the objects as somebody else would in between; `asked` has those that were not GET.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, dict[str, Any]] = {}
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.asked: list[tuple[str, str]] = []
        self._numbers = itertools.count(1)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        self.before(method, path)
        if method != "GET":
            self.asked.append((method, path))
        match method:
            case "POST":
                return copy.deepcopy(self.put(f"{path}/{body['metadata']['name']}", body, new=True))
            case "PUT":
                return copy.deepcopy(self.put(path, _replaced(self._found(path, body["metadata"]), body)))
            case "PATCH":
                return copy.deepcopy(self._patch(path, body))
            case "DELETE":
                self._found(path, (body or {}).get("preconditions") or {})
                return self.objects.pop(path)
        if (kind := _LISTS.get(path)) is not None:
            paths = [found for found in self.objects if f"/{kind.plural}/" in found]
            return {"items": [copy.deepcopy(self.objects[found]) for found in paths], "metadata": {}}
        return copy.deepcopy(self._found(path, {}))

    # -- what somebody else does

    def put(self, path: str, raw: Mapping[str, Any], *, new: bool = False) -> dict[str, Any]:
        """Keep an object as it is sent; Conflict where it should be `new` and is not. Returns what is kept."""
        if new and path in self.objects:
            raise Conflict(f"{path} already exists", status=409, reason="AlreadyExists")
        kept = copy.deepcopy(dict(raw))
        for name, text in kept.pop("stringData", {}).items():
            kept.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()
        metadata = kept["metadata"]
        if new or "uid" not in metadata:
            metadata["uid"] = f"uid-{next(self._numbers)}"
        metadata["resourceVersion"] = str(next(versions))
        self.objects[path] = kept
        return kept

    def add(self, kind: Kind, raw: Mapping[str, Any]) -> Resource:
        """Keep an object of ours as it is, and return it as a value."""
        item = resource(kind, raw)
        self.objects[path_of(item.key)] = copy.deepcopy(dict(raw))
        return item

    def namespace(self, name: str, **labels: str) -> None:
        """Make a namespace, or give it other labels."""
        self.put(f"/api/v1/namespaces/{name}", {"metadata": {"name": name, "labels": labels}})

    # -- what was told

    def status(self, item: Resource) -> dict[str, Any]:
        """Return an object's status, empty where it has none."""
        found: dict[str, Any] = self.objects[path_of(item.key)].get("status") or {}
        return found

    def said(self, item: Resource) -> dict[str, tuple[str, str]]:
        """Return an object's conditions as {type: (status, reason)}."""
        return {
            found["type"]: (found["status"], found["reason"]) for found in self.status(item).get("conditions") or ()
        }

    def events(self, namespace: str = "games") -> list[tuple[str, str]]:
        """Return (type, reason) of the Events of a namespace, in their order."""
        paths = (path for path in self.objects if path.startswith(f"/api/v1/namespaces/{namespace}/events/"))
        return [(self.objects[path]["type"], self.objects[path]["reason"]) for path in paths]

    # -- inside

    def _found(self, path: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the object; `metadata` has what it must be: a uid, a resourceVersion, or neither."""
        found = self.objects.get(path)
        if found is None:
            raise NotFound(f"{path} not found", status=404, reason="NotFound")
        for name in ("uid", "resourceVersion"):
            if name in metadata and metadata[name] != found["metadata"][name]:
                raise Conflict(f"{path}: the {name} is another", status=409, reason="Conflict")
        return found

    def _patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        path, is_status, _ = path.partition("/status")
        found = self._found(path, body.get("metadata") or {})
        fields = {"status": body["status"]} if is_status else {name: body[name] for name in body if name != "status"}
        if _merged(found, fields) == found:
            return found
        changed = self.put(path, _merged(found, fields))
        if changed["metadata"].get("deletionTimestamp") and not changed["metadata"].get("finalizers"):
            del self.objects[path]
            # So the API server answers: with the version that the object had before this write, its last.
            changed["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        return changed


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(old) if isinstance(old, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _replaced(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What a PUT makes of an object."""
    if old.get("immutable") or old.get("type") != new.get("type"):
        raise ApiError("field is immutable", status=422, reason="Invalid")
    return {**new, "metadata": {**new["metadata"], "uid": old["metadata"]["uid"]}}
