"""The Kubernetes API, as far as the operator calls it.

Credentials come from Kopf's own log-in helpers, so that its watches and these calls are one identity. Not one of the
client libraries: the operator makes two calls for a new Leaderboard and needs no models of their answers; aiohttp,
which Kopf brings, is enough (docs/adr/0008-operator.md).

    ApiError            the API server refused; `status`, `reason` and the message are its own
    ├── NotFound        404
    ├── Conflict        409: the object changed meanwhile, or is there already
    ├── Forbidden       403: RBAC or an admission policy says no
    └── ApiUnavailable  not reached, overloaded, or an error of its own: try again
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import kopf
import msgspec

from leaderboard_operator.metrics import REST_REQUESTS
from leaderboard_operator.resources import GROUP, VERSION, Key, Kind

# Not `total`: that would count the wait for a connection, behind hundreds of other requests.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=20)
_PAGE = 500  # objects a page of a list: about 1 MB of ours
_MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """There is no such object."""


class Conflict(ApiError):
    """The object changed meanwhile, or one of that name is there already."""


class Forbidden(ApiError):
    """The operator may not do that."""


class ApiUnavailable(ApiError):
    """The API server cannot be asked now."""


class NoCredentials(Exception):
    """There is neither a service account nor a kubeconfig to log in with."""


_KINDS: dict[int, type[ApiError]] = {403: Forbidden, 404: NotFound, 409: Conflict}


def connection_info() -> kopf.ConnectionInfo:
    """Return how to reach the API server: what KUBECONFIG names, else the pod's service account. Raises NoCredentials.

    Never by accident: neither the user's default cluster, nor the one that a test happens to run in.
    """
    settings = kopf.OperatorSettings()
    if os.environ.get("KUBECONFIG"):
        info = kopf.login_with_kubeconfig(settings=settings)
    else:
        info = kopf.login_with_service_account(settings=settings)
    if info is None:
        raise NoCredentials("this is no pod with a service account, and KUBECONFIG names no file")
    return info


class Api:
    """Calls the API server; use it as a context manager. `connect` is asked again when the credentials have expired."""

    def __init__(self, *, connect: Callable[[], kopf.ConnectionInfo] = connection_info, connections: int = 32) -> None:
        self._connect = connect
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._server = ""
        self._headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        info = self._connect()
        self._server = info.server.rstrip("/")
        self._headers = dict(info.as_http_headers())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=info.as_ssl_context()),
            timeout=_TIMEOUT,
            headers={"User-Agent": "leaderboard-operator", "Accept": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Return the decoded answer of one request. Raises the kinds of ApiError."""
        data = None if body is None else msgspec.json.encode(body)
        status, answer = await self._send(method, path, data, params, content_type)
        if status == 401:  # a service account's token is replaced every hour or so
            self._headers = dict(self._connect().as_http_headers())
            status, answer = await self._send(method, path, data, params, content_type)
        if status < 300:
            try:
                decoded: dict[str, Any] = msgspec.json.decode(answer)
            except msgspec.DecodeError as error:
                raise ApiUnavailable(f"{method} {path}: the answer is no JSON") from error
            return decoded
        raise _error(f"{method} {path}", status, answer)

    async def _send(
        self, method: str, path: str, data: bytes | None, params: Mapping[str, str] | None, content_type: str
    ) -> tuple[int, bytes]:
        assert self._session is not None, "use the client as a context manager"
        headers = self._headers if data is None else self._headers | {"Content-Type": content_type}
        try:
            async with self._session.request(
                method, self._server + path, data=data, params=params, headers=headers
            ) as response:
                answer = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            REST_REQUESTS.labels(code="<error>", method=method).inc()
            raise ApiUnavailable(f"the Kubernetes API did not answer: {str(error) or type(error).__name__}") from error
        REST_REQUESTS.labels(code=str(response.status), method=method).inc()
        return response.status, answer

    # -- our resources

    async def read(self, key: Key) -> dict[str, Any]:
        """Return the object. Raises NotFound."""
        return await self.call("GET", path_of(key))

    async def list_all(self, kind: Kind) -> AsyncIterator[dict[str, Any]]:
        """Yield every object of the kind, in pages, as of one moment."""
        async for item in self.list_path(f"/apis/{GROUP}/{VERSION}/{kind.plural}"):
            yield item

    async def list_path(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """Yield every object of a collection."""
        token = ""
        while True:
            page = await self.call("GET", path, params={"limit": str(_PAGE), **({"continue": token} if token else {})})
            for item in page["items"]:
                yield item
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def patch(self, key: Key, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge `body` into the object; with a resourceVersion in its metadata, only into that version."""
        return await self.call("PATCH", path_of(key), body=body, content_type=_MERGE_PATCH)

    async def patch_status(self, key: Key, status: Mapping[str, Any], *, uid: str) -> dict[str, Any]:
        """Merge `status` into the object's status; Conflict where the object of that name is another by now."""
        body = {"metadata": {"uid": uid}, "status": status}
        return await self.call("PATCH", f"{path_of(key)}/status", body=body, content_type=_MERGE_PATCH)


def path_of(key: Key) -> str:
    """Return the path of an object of ours."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{key.namespace}/{key.kind.plural}/{key.name}"


def _error(what: str, status: int, answer: bytes) -> ApiError:
    message, reason = answer.decode(errors="replace")[:500], ""
    try:
        told = msgspec.json.decode(answer)
        message, reason = str(told["message"]), str(told.get("reason", ""))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        pass  # a proxy's page rather than the API server's Status
    kind = _KINDS.get(status) or (ApiUnavailable if status >= 500 or status in (401, 429) else ApiError)
    return kind(f"{what}: {message}", status=status, reason=reason)
