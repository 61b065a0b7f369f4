"""A small HTTP/1.1 client for load in tests: keep-alive connections, and retries as the API's documentation tells."""

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """One answer: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One keep-alive connection; opened at need and again after it broke."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(
        self, method: str, path: str, *, key: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer. Raises OSError or EOFError when the connection broke meanwhile."""
        try:
            async with asyncio.timeout(30):
                return await self._request(method, path, key=key, body=body, headers=headers or {})
        except BaseException:
            await self.close()
            raise

    async def _request(self, method: str, path: str, *, key: str | None, body: Any, headers: dict[str, str]) -> Answer:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(data)}"]
        if body is not None:
            lines.append("Content-Type: application/json")
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        got = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        answer = Answer(
            int(head[0].split(" ", 2)[1]), got, await self._reader.readexactly(int(got.get("content-length", 0)))
        )
        if got.get("connection") == "close":
            await self.close()
        return answer

    async def close(self) -> None:
        """Close the connection."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            # Broken connections may say so once more; there is nobody left to tell.
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def write_until_taken(connection: Connection, key: str, body: Any, *, idempotency_key: str) -> tuple[Answer, int]:
    """Send one update until it is acknowledged, with the same Idempotency-Key; return the answer and the tries."""
    tries = 0
    while True:
        tries += 1
        try:
            answer = await connection.request(
                "POST", "/v1/scores/update", key=key, body=body, headers={"Idempotency-Key": idempotency_key}
            )
        except (OSError, EOFError):
            await asyncio.sleep(0.05)
            continue
        if answer.status == 200:
            return answer, tries
        assert answer.status == 503, answer
        await asyncio.sleep(0.1)
