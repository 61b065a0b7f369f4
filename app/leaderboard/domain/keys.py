"""API keys: ``lb_<env>_<id>_<secret><checksum>``.

The id (16 characters) is public and finds the row; the secret carries 256 random bits (43 characters of base 62); the
checksum (6 characters) is the CRC-32 of everything before it, so that a mistyped key, or a scanner's false hit, is
refused before any look-up (the scheme GitHub described for its tokens in 2021). Only an HMAC-SHA-256 under a
server-side pepper is ever stored.
"""

import hashlib
import hmac
import re
import zlib
from enum import StrEnum

import msgspec

from leaderboard.domain.errors import InvalidApiKey

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS = 16
_SECRET_CHARS = 43  # ceil(256 / log2(62))
_CHECKSUM_CHARS = 6  # ceil(32 / log2(62))
_ENV = "[a-z]{2,8}"
_SHAPE = re.compile(rf"lb_({_ENV})_([0-9A-Za-z]{{16}})_([0-9A-Za-z]{{49}})").fullmatch
is_env = re.compile(_ENV).fullmatch
"""Whether a text can be the ``<env>`` of a key."""

ID_ENTROPY_BYTES = 12
SECRET_ENTROPY_BYTES = 32


class Scope(StrEnum):
    """What a key may do; each scope includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def included(self) -> tuple["Scope", ...]:
        """The scopes a key of this scope covers, as a tuple: looking one up compares identities, which is fast."""
        scopes = tuple(Scope)
        return scopes[: scopes.index(self) + 1]

    def allows(self, needed: "Scope") -> bool:
        """Whether a key of this scope may do what `needed` covers."""
        return needed in self.included


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key's public id with its whole text. The text is shown once and never logged: repr masks it."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"ApiKey(id={self.id!r}, text='***')"


def _base62(number: int, *, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), width=_CHECKSUM_CHARS)


def make_key(entropy: bytes, *, env: str = "live") -> ApiKey:
    """Return a new key from `entropy`: 12 bytes for the id, then 32 for the secret, from a CSPRNG."""
    if len(entropy) != ID_ENTROPY_BYTES + SECRET_ENTROPY_BYTES:
        raise ValueError(f"an API key takes {ID_ENTROPY_BYTES + SECRET_ENTROPY_BYTES} bytes of entropy")
    # 62^16 < 2^96: the id keeps 95 of its 96 bits, which is plenty for a name that is not a secret.
    key_id = _base62(int.from_bytes(entropy[:ID_ENTROPY_BYTES]), width=_ID_CHARS)
    secret = _base62(int.from_bytes(entropy[ID_ENTROPY_BYTES:]), width=_SECRET_CHARS)
    body = f"lb_{env}_{key_id}_{secret}"
    return ApiKey(id=key_id, text=body + _checksum(body))


def parse_key(text: str) -> ApiKey:
    """Return the key that `text` is, or raise InvalidApiKey. Says nothing of whether the key exists."""
    match = _SHAPE(text)
    if match is None or _checksum(text[:-_CHECKSUM_CHARS]) != text[-_CHECKSUM_CHARS:]:
        raise InvalidApiKey("this is not an API key of this platform: copy it whole, as lb_<env>_<id>_<secret>")
    return ApiKey(id=match[2], text=text)


def digest(key: ApiKey, *, pepper: bytes) -> bytes:
    """Return the 32 bytes that Postgres keeps of `key`: HMAC-SHA-256 under `pepper` (RFC 2104)."""
    return hmac.new(pepper, key.text.encode(), hashlib.sha256).digest()
