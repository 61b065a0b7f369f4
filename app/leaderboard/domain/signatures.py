"""Signed standings: who ended a season with what, as a short text under an Ed25519 signature (RFC 8032).

The text is the values of `Statement`, in its order, a line feed after each: the format's name first, which no other
text that this key may ever sign begins with, and a SHA-256 over all lines of the standings last. The signature depends
on text and key alone, so it is made anew whenever it is asked for, and nothing has to be kept.
"""

import re
import secrets
from datetime import UTC, datetime
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from leaderboard.domain import names
from leaderboard.domain.errors import InvalidDocument

FORMAT: Literal["leaderboard-standings-v1"] = "leaderboard-standings-v1"
KEY_CHARS = 64
"""Hexadecimal digits of a key, the private seed as well as the public half: 32 bytes."""

_key = re.compile(rf"[0-9a-fA-F]{{{KEY_CHARS}}}").fullmatch
_signature = re.compile(r"[0-9a-f]{128}").fullmatch
_checksum = re.compile(r"[0-9a-f]{64}").fullmatch


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed. `ended_at` is RFC 3339 in UTC as `moment` writes it, `checksum` SHA-256 in hexadecimal."""

    format: Literal["leaderboard-standings-v1"] = FORMAT
    tenant: str
    project: str
    leaderboard: str
    season: int
    ended_at: str
    entries: int
    checksum: str

    def text(self) -> bytes:
        """Return the text that is signed. Raises InvalidName or InvalidDocument for what no season can have.

        So no value has a line feed of its own, and two statements with the same text are the same.
        """
        names.tenant_slug(self.tenant)
        names.project_name(self.project)
        names.board_key(self.leaderboard)
        if self.season < 1 or self.entries < 0:
            raise InvalidDocument("season must be 1 or more, entries 0 or more")
        if not _is_moment(self.ended_at):
            raise InvalidDocument(f"ended_at {self.ended_at[:40]!r} must be a time in UTC like 2026-01-31T09:00:00Z")
        if _checksum(self.checksum) is None:
            raise InvalidDocument("checksum must be 64 hexadecimal digits in lower case")
        values = (getattr(self, name) for name in Statement.__struct_fields__)
        return "".join(f"{value}\n" for value in values).encode()


class Signed(Statement, frozen=True, kw_only=True):
    """A statement with its signature, 128 hexadecimal digits, and the public key; both None where no key was set.

    The public key says which of the keys that one trusts to try. It is no reason to trust.
    """

    signature: str | None
    public_key: str | None


class Signer:
    """Signs statements with a private key, given as its seed of 64 hexadecimal digits; without one it signs nothing."""

    def __init__(self, seed: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)) if seed else None
        self.public_key = None if self._key is None else self._key.public_key().public_bytes_raw().hex()

    def signed(self, statement: Statement) -> Signed:
        """Return the statement with its signature."""
        signature = None if self._key is None else self._key.sign(statement.text()).hex()
        return Signed(**msgspec.structs.asdict(statement), signature=signature, public_key=self.public_key)


def new_seed() -> str:
    """Return a new private key: 32 bytes of the system's randomness in hexadecimal."""
    return secrets.token_hex(KEY_CHARS // 2)


def is_key(text: str) -> bool:
    """Whether `text` can be a key: 64 hexadecimal digits."""
    return _key(text) is not None


def fits(signed: Signed, public_key: str) -> bool:
    """Whether the signature is that key's over this statement. Raises InvalidName, InvalidDocument."""
    text = signed.text()
    if signed.signature is None or _signature(signed.signature) is None or not is_key(public_key):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signed.signature), text)
    except (InvalidSignature, ValueError):  # ValueError: 32 bytes that are no key
        return False
    return True


def moment(time: datetime) -> str:
    """Return an aware `time` in UTC as the API writes times: with six digits of a second, or none where it is whole."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _is_moment(text: str) -> bool:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return False
    return time.tzinfo is not None and moment(time) == text
