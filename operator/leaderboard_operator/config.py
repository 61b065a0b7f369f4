"""The operator's own settings: environment variables ``LEADERBOARD_OPERATOR_*``, read once.

The servers' addresses and the pepper are the API's variables, see `leaderboard.config`.
"""

import math
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from leaderboard.config import PREFIX, ConfigError, converted, given_in

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class OperatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, with its unit and why its default. A field ``bind`` is ``LEADERBOARD_OPERATOR_BIND``."""

    namespace: str
    """Where the operator's Lease is. In a pod: its own."""
    endpoint: str = ""
    """What the Secrets tell clients to call, such as ``https://leaderboards.example.com``."""
    identity: str = ""
    """This replica's name in the Lease. Default: the host's name and a random part, so that a restart is another."""
    bind: str = "127.0.0.1:8081"
    """Where /livez, /readyz and /metrics listen: ``host:port``."""
    sweep_seconds: float = 60.0
    """Pause between two sweeps: how long what is changed behind the operator's back stays wrong at most."""
    lease_seconds: int = 15
    """After this long without a renewal another replica takes over."""
    renew_seconds: float = 10.0
    """A leader that could not renew for this long stops, before the lease has run out."""
    retry_seconds: float = 2.0
    """Pause between two looks at the Lease."""
    board_batch: int = 200
    """Leaderboards reconciled in one go: a round trip of Postgres and of Redis for all of them."""
    tenant_workers: int = 4
    """Tenants reconciled at once, each on a Postgres connection of its own."""
    api_connections: int = 32
    """Requests to the Kubernetes API under way at once."""


def load(environ: Mapping[str, str] = os.environ) -> OperatorConfig:
    """Return the configuration that `environ` describes, or raise ConfigError naming the variable."""
    prefix = f"{PREFIX}OPERATOR_"
    given = given_in(environ, prefix=prefix)
    if not given.get("namespace"):
        try:
            given["namespace"] = _NAMESPACE_FILE.read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"{prefix}NAMESPACE is not set, and this is no pod: name the namespace of the operator's Lease"
            ) from error
    if not given.get("identity"):
        given["identity"] = f"{socket.gethostname()}_{secrets.token_hex(4)}"
    config = converted(given, OperatorConfig, prefix=prefix)
    for field in config.__struct_fields__:
        value = getattr(config, field)
        if isinstance(value, int | float) and not 0 < value < math.inf:
            raise ConfigError(f"{prefix}{field.upper()} must be a number above 0, got {value}")
    if not config.bind.rpartition(":")[2].isdecimal():
        raise ConfigError(f"{prefix}BIND must be host:port, got {config.bind!r}")
    if not config.retry_seconds < config.renew_seconds < config.lease_seconds:
        raise ConfigError(
            f"{prefix}RETRY_SECONDS < {prefix}RENEW_SECONDS < {prefix}LEASE_SECONDS must hold, "
            f"got {config.retry_seconds:g}, {config.renew_seconds:g}, {config.lease_seconds}"
        )
    return config
