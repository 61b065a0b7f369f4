"""Configuration: environment variables ``LEADERBOARD_*``, read once into one typed frozen object.

Nothing else in the package reads the environment, but for `local.redis`, which looks for a redis-server where
``LEADERBOARD_REDIS_SERVER`` says, and `telemetry`, which has OpenTelemetry's own variables (``OTEL_*``). A wrong value
stops the process with the variable's name and what it should be.
"""

import os
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from redis.connection import parse_url

from leaderboard.domain.keys import is_env
from leaderboard.domain.signatures import KEY_CHARS, is_key

PREFIX = "LEADERBOARD_"
_Settings = TypeVar("_Settings", bound=msgspec.Struct)


class ConfigError(ValueError):
    """A `LEADERBOARD_*` variable is missing or wrong; the message names it and the fix."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, with its unit and why its default.

    A field ``redis_url`` is the variable ``LEADERBOARD_REDIS_URL``. The three without a default have to be given.
    """

    redis_url: str
    """``redis://`` or ``rediss://`` (TLS), with user and password where the server asks."""
    database_url: str
    """A libpq URL or DSN of the primary."""
    pepper: str
    """The server-side secret of key hashing, at least 32 characters. Changing it invalidates every API key."""
    signing_key: str = ""
    """The Ed25519 seed that signs final standings, 64 hexadecimal digits, of `leaderboard signing-key`. Empty: none."""

    bind: str = "127.0.0.1:8080"
    """Where the API listens: ``host:port``."""
    workers: int = 1
    """API processes. One saturates a core; use the number of cores."""
    log_level: str = "info"
    """The least level that is logged: debug, info, warning, error or critical."""
    region: str = ""
    """This region's name; tenants at home in another get 421. Empty: every tenant is served."""
    key_env: str = "live"
    """The ``<env>`` part of new API keys: 2-8 lower-case letters."""

    redis_timeout: float = 2.0
    """Seconds one Redis call may take before its connection is given up."""
    redis_max_in_flight: int = 8192
    """Calls under way at once per process; more get 503. At 50 us each that is 0.4 s of work."""
    database_pool: int = 4
    """Postgres connections per process. No request of the hot path uses one."""
    database_timeout: float = 5.0
    """Seconds to wait for a Postgres connection before answering 503."""

    outbox_max: int = 1_000_000
    """Events in the outbox stream at which writes are refused with 503 (about 200 bytes of Redis memory each)."""
    idempotency_ttl: int = 3600
    """Seconds an Idempotency-Key is remembered (about 250 bytes of Redis memory a record)."""
    body_limit: int = 262_144
    """Largest request body in bytes. A batch of 1,000 updates with ids of 64 characters has about 150,000."""
    ledger_batch: int = 2000
    """Events the worker moves to Postgres in one transaction."""
    ledger_retention_days: int = 0
    """Days of score events kept; older partitions are dropped behind a checkpoint. 0 keeps all."""
    telemetry: bool = False
    """OpenTelemetry spans, metrics and logs over OTLP. Off costs nothing; see docs/performance.md for what on costs."""
    telemetry_tenants: int = 100
    """Tenants that have metrics of their own in a process, 21 series each; all others together are `other`."""

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field}={'***' if field in _SECRET else repr(getattr(self, field))}" for field in self.__struct_fields__
        )
        return f"Config({shown})"


_LEAST: dict[str, int | float] = {
    "workers": 1,
    "redis_timeout": 0.05,
    "redis_max_in_flight": 1,
    "database_pool": 1,
    "database_timeout": 0.05,
    "outbox_max": 1,
    "idempotency_ttl": 1,
    "body_limit": 1_024,
    "ledger_batch": 1,
    "ledger_retention_days": 0,
    "telemetry_tenants": 0,
}
_LEVELS = ("debug", "info", "warning", "error", "critical")
_SECRET = frozenset({"redis_url", "database_url", "pepper", "signing_key"})  # the URLs carry passwords


def given_in(environ: Mapping[str, str], *, prefix: str) -> dict[str, str]:
    """Return the variables that begin with `prefix`, by the names of their fields."""
    return {name.removeprefix(prefix).lower(): value for name, value in environ.items() if name.startswith(prefix)}


def converted(given: Mapping[str, str], kind: type[_Settings], *, prefix: str) -> _Settings:
    """Return what is `given` as the settings `kind`, which need not have all of it. Raises ConfigError."""
    known = {name: value for name, value in given.items() if name in kind.__struct_fields__}
    try:
        return msgspec.convert(known, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{prefix}*: {error}") from error


def load(environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that `environ` describes, or raise ConfigError naming the variable."""
    given = given_in(environ, prefix=PREFIX)
    required = [field.name for field in msgspec.structs.fields(Config) if field.required]
    for field in required:
        if not given.get(field):
            raise ConfigError(f"{PREFIX}{field.upper()} is not set; `leaderboard up` sets it for a local run")
    config = converted(given, Config, prefix=PREFIX)
    if len(config.pepper) < 32:
        raise ConfigError(f"{PREFIX}PEPPER must be at least 32 characters; make one with: openssl rand -hex 32")
    if config.log_level.lower() not in _LEVELS:
        raise ConfigError(f"{PREFIX}LOG_LEVEL must be one of {', '.join(_LEVELS)}, got {config.log_level!r}")
    if not is_env(config.key_env):
        raise ConfigError(f"{PREFIX}KEY_ENV must be 2 to 8 lower-case letters, got {config.key_env!r}")
    check_redis_url(config.redis_url, name=f"{PREFIX}REDIS_URL")
    signing_key({f"{PREFIX}SIGNING_KEY": config.signing_key})
    for field, value in ((name, getattr(config, name)) for name in config.__struct_fields__):
        least = _LEAST.get(field)
        if least is not None and not value >= least:  # false for NaN too
            raise ConfigError(f"{PREFIX}{field.upper()} must be {least} or more, got {value}")
    return config


def check_redis_url(url: str, *, name: str) -> None:
    """Raise ConfigError for what is no URL of a Redis, or would be read as that of another database.

    The message calls the URL `name` and shows nothing of it, which may be part of a password.
    """
    try:
        parts = urlsplit(url)
        unix, database = parts.scheme == "unix", parts.path.strip("/")
        fits = parts.scheme in ("redis", "rediss") and (not database or database.isdecimal()) and parts.port != 0
        # Of the options redis-py takes, `db` would count before the path.
        fits = (unix or (fits and "db" not in parse_qs(parts.query))) and not parts.fragment
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:  # a port that is no number, mostly the rest of a password, or options
        fits = False
    if not fits:
        raise ConfigError(
            f"{name} must be redis://[[user]:password@]host[:port][/database], with rediss:// for TLS; in a password "
            "/ ? # [ ] and % are written as % and two hexadecimal digits, as %2F for /"
        )


def signing_key(environ: Mapping[str, str] = os.environ) -> str:
    """Return the private key that signs final standings, "" where none is set. Raises ConfigError for what is none."""
    seed = environ.get(f"{PREFIX}SIGNING_KEY", "")
    if seed and not is_key(seed):
        raise ConfigError(
            f"{PREFIX}SIGNING_KEY must be {KEY_CHARS} hexadecimal digits; make one with: leaderboard signing-key"
        )
    return seed


def api_key(environ: Mapping[str, str] = os.environ) -> str:
    """Return the API key of a command that reads from a platform, or raise ConfigError."""
    key = environ.get(f"{PREFIX}KEY", "")
    if not key:
        raise ConfigError(f"{PREFIX}KEY is not set: set it to an API key of the project, scope read is enough")
    return key
