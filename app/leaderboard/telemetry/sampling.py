"""Which requests are traced: the caller's word where there is one, else a share of the traces that begin here.

Decided before anything is made: a request that is not sampled gets no span and no context. W3C Trace Context
(https://www.w3.org/TR/trace-context/): the traceparent header. OpenTelemetry's names choose the sampler:
``OTEL_TRACES_SAMPLER`` (default ``parentbased_traceidratio``) and ``OTEL_TRACES_SAMPLER_ARG`` (default 0.05).
"""

import random
import re
from collections.abc import Mapping

from opentelemetry.trace import SpanContext, TraceFlags

from leaderboard.config import ConfigError

DEFAULT_RATIO = 0.05
SAMPLED = TraceFlags(TraceFlags.SAMPLED)

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?").fullmatch
_KINDS = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}


def parse(traceparent: str) -> SpanContext | None:
    """Return the context that a traceparent names, None where it is none."""
    match = _TRACEPARENT(traceparent)
    if match is None:
        return None
    context = SpanContext(int(match[1], 16), int(match[2], 16), True, TraceFlags(int(match[3], 16)))
    return context if context.is_valid else None


class Sampler:
    """`ratio` is the share of new traces; `parent_based` says whether a caller's decision comes first."""

    def __init__(self, ratio: float, *, parent_based: bool = True) -> None:
        self._bound = round(ratio * 2**64)
        self._parent_based = parent_based

    def root(self) -> int:
        """Return the id of a new trace that is sampled, 0 for one that is not."""
        # As the SDK's TraceIdRatioBased: the low 64 bits decide, so that others who sample by ratio agree.
        low = random.getrandbits(64)
        return random.getrandbits(64) << 64 | low if low < self._bound else 0

    def continued(self, parent: SpanContext) -> bool:
        """Whether a trace that came with `parent` is sampled here."""
        if self._parent_based:
            return parent.trace_flags.sampled
        return parent.trace_id & (2**64 - 1) < self._bound


def from_environment(environ: Mapping[str, str], *, default: float = DEFAULT_RATIO) -> Sampler:
    """Return the sampler that OpenTelemetry's variables name, with the share `default`. Raises ConfigError."""
    name = environ.get("OTEL_TRACES_SAMPLER") or "parentbased_traceidratio"
    if name not in _KINDS:
        raise ConfigError(f"OTEL_TRACES_SAMPLER must be one of {', '.join(_KINDS)}, got {name!r}")
    parent_based, ratio = _KINDS[name]
    if ratio is None:
        text = environ.get("OTEL_TRACES_SAMPLER_ARG") or str(default)
        try:
            ratio = float(text)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            raise ConfigError(f"OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, got {text!r}")
    return Sampler(ratio, parent_based=parent_based)
