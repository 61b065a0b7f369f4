"""Dashboard sessions: what the cookie holds, sealed so that nobody can make or change one.

``<key id>.<expires>.<nonce>.<mac>``: the id of the API key it was opened with, the end in seconds of the Unix epoch, 72
random bits, and an HMAC-SHA-256 (RFC 2104) of all that under a key derived from the pepper. Nothing of the API key's
secret is in it, and nothing of it is stored: a session ends with its key, at its end, or when the browser drops it.
"""

import base64
import hmac
import re

import msgspec

LIFETIME_SECONDS = 12 * 3600
"""A working day: who comes back tomorrow signs in again."""
NONCE_BYTES = 9

_SHAPE = re.compile(r"([0-9A-Za-z]{16})\.([0-9]{1,12})\.([0-9A-Za-z_-]{12})\.([0-9A-Za-z_-]{43})").fullmatch


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session. `expires_at` in seconds of the Unix epoch; `csrf_token` is what its unsafe requests must repeat."""

    key_id: str
    expires_at: int
    csrf_token: str


class Sealer:
    """Seals and opens sessions under one `pepper`; every process that has it opens what another sealed."""

    def __init__(self, pepper: bytes) -> None:
        self._seal_key = hmac.digest(pepper, b"leaderboard dashboard session", "sha256")
        self._csrf_key = hmac.digest(pepper, b"leaderboard dashboard csrf", "sha256")

    def seal(self, key_id: str, *, nonce: bytes, now: float) -> str:
        """Return a new session of that key; `nonce` is `NONCE_BYTES` from a CSPRNG."""
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a session takes {NONCE_BYTES} bytes of entropy")
        body = f"{key_id}.{int(now) + LIFETIME_SECONDS}.{_text(nonce)}"
        return f"{body}.{self._mac(body)}"

    def open(self, sealed: str, *, now: float) -> Session | None:
        """Return the session, None for what was not sealed here or has ended."""
        match = _SHAPE(sealed)
        if match is None:
            return None
        body, _, mac = sealed.rpartition(".")
        if not hmac.compare_digest(mac, self._mac(body)) or now >= int(match[2]):
            return None
        csrf_token = _text(hmac.digest(self._csrf_key, body.encode(), "sha256"))
        return Session(key_id=match[1], expires_at=int(match[2]), csrf_token=csrf_token)

    def _mac(self, body: str) -> str:
        return _text(hmac.digest(self._seal_key, body.encode(), "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
