"""Every query of every dashboard, apart from the panels: one list (`ALL`) that a test can run against real servers.

A counter that does not exist before its first event is ``or vector(0)`` where zero is the truth. A division has a
divisor above zero, and a percentile is asked only of series with requests: where nothing happened there is no data
rather than NaN. Workers all look at the same outbox and Redis: of what they tell the largest is taken, not the sum.
"""

from dataclasses import dataclass
from enum import StrEnum

RATE = "$__rate_interval"
"""Grafana's: four export intervals (15 s each, set in the data source) or the panel's step if that is longer."""


class Language(StrEnum):
    """What a query is written in; its value is the uid of the data source that takes it."""

    PROMQL = "prometheus"
    LOGQL = "loki"
    TRACEQL = "tempo"


class Shape(StrEnum):
    """What a query answers with."""

    VECTOR = "vector"
    """Series: each has all of the query's `labels`, perhaps some of `optional`, and no others."""
    LINES = "lines"
    TRACES = "traces"
    """Found traces, a row each."""
    TRACE = "trace"
    """All spans of one trace; the text is its id."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query. `when` names what must have happened for it to have an answer, empty where the platform runs."""

    name: str
    text: str
    unit: str
    """Grafana's name of the unit; empty for lines and traces, which have none."""
    description: str
    language: Language = Language.PROMQL
    shape: Shape = Shape.VECTOR
    labels: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    legend: str = ""
    exemplars: bool = False
    """Whether its samples lead to traces."""
    when: str = ""


SAMPLES = {
    "$__rate_interval": "1m",
    "$__interval": "1m",
    "$__range": "1h",
    "$tenant": "acme",
    "$trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
}
"""A value for each variable, for parsers. `$trace_id` is W3C's example."""


def fill(text: str, values: dict[str, str]) -> str:
    """Return `text` with its variables replaced, longer names first."""
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(name, values[name])
    return text


def _rate(metric: str, matchers: str = "", by: str = "") -> str:
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{{{matchers}}}[{RATE}]))" if matchers else f"{grouped} (rate({metric}[{RATE}]))"


def _quantile(quantile: str, metric: str, *, by: str = "", matchers: str = "") -> str:
    """The percentile of a histogram, of series with anything in them: of an empty one it would be NaN."""
    buckets = _rate(f"{metric}_bucket", matchers, f"le, {by}" if by else "le")
    some = f"{_rate(f'{metric}_count', matchers, by)} > 0"
    return f"histogram_quantile({quantile}, {buckets}) and {f'on ({by}) ' if by else ''}({some})"


_PERCENTILES = (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99"))
_HTTP = "http_server_request_duration_seconds"
_TENANT = "leaderboard_tenant_request_duration_seconds"
_OPERATION = "db_client_operation_duration_seconds"
_STATUS_5XX = 'http_response_status_code=~"5.."'
_STATUS_429 = 'http_response_status_code="429"'
_WITHIN_10_MS = 'le="0.01"'
_FAILED = 'outcome="failed"'
_LIMITED = 'outcome="limited"'
_UNAVAILABLE = 'decision="unavailable"'


# Platform: requests.

REQUESTS = Query(
    name="requests",
    text=_rate(f"{_HTTP}_count"),
    unit="reqps",
    description="Requests answered a second, by all API processes.",
    legend="requests",
)
REQUESTS_BY_ROUTE = Query(
    name="requests_by_route",
    text=_rate(f"{_HTTP}_count", 'http_route!=""', "http_request_method, http_route"),
    unit="reqps",
    description="Requests a second by route template.",
    labels=("http_request_method", "http_route"),
    legend="{{http_request_method}} {{http_route}}",
)
REQUESTS_BY_STATUS = Query(
    name="requests_by_status",
    text=_rate(f"{_HTTP}_count", by="http_response_status_code"),
    unit="reqps",
    description="Requests a second by status code.",
    labels=("http_response_status_code",),
    legend="{{http_response_status_code}}",
)
ERRORS_SHARE = Query(
    name="errors_share",
    text=f"({_rate(f'{_HTTP}_count', _STATUS_5XX)} or vector(0)) / ({_rate(f'{_HTTP}_count')} > 0)",
    unit="percentunit",
    description="Share of requests answered with 5xx. The objective is below 0.1%.",
    legend="5xx",
)
LIMITED_SHARE = Query(
    name="limited_share",
    text=f"({_rate(f'{_HTTP}_count', _STATUS_429)} or vector(0)) / ({_rate(f'{_HTTP}_count')} > 0)",
    unit="percentunit",
    description="Share of requests refused with 429, for want of tokens in the tenant's plan.",
    legend="429",
)
FAST_SHARE = Query(
    name="fast_share",
    text=f"{_rate(f'{_HTTP}_bucket', _WITHIN_10_MS)} / ({_rate(f'{_HTTP}_count')} > 0)",
    unit="percentunit",
    description="Share of requests answered within 10 ms. The objective is 99%.",
    legend="within 10 ms",
)
LATENCY = tuple(
    Query(
        name=f"latency_{short}",
        text=_quantile(quantile, _HTTP),
        unit="s",
        description=f"{short} of the time to answer, over all routes. Dots are sampled requests: open one's trace.",
        legend=short,
        exemplars=True,
    )
    for short, quantile in _PERCENTILES
)
LATENCY_BY_ROUTE = tuple(
    Query(
        name=f"latency_by_route_{short}",
        text=_quantile(quantile, _HTTP, by="http_request_method, http_route", matchers='http_route!=""'),
        unit="s",
        description=f"{short} of the time to answer by route template. Dots are sampled requests: open one's trace.",
        labels=("http_request_method", "http_route"),
        legend=f"{short} {{{{http_request_method}}}} {{{{http_route}}}}",
        exemplars=True,
    )
    for short, quantile in _PERCENTILES
)
PROCESSES = Query(
    name="processes",
    text="count by (service_name)"
    " (count by (service_name, service_instance_id) (leaderboard_telemetry_exported_total))",
    unit="short",
    description="Processes that report, by role. An API pod has one for each of its workers.",
    labels=("service_name",),
    legend="{{service_name}}",
)
STREAMS = Query(
    name="streams",
    text="sum (leaderboard_streams_open)",
    unit="short",
    description="Live streams that are open, all API processes together. One process takes 5,000 at most, then 503.",
    legend="streams",
)
TELEMETRY_DROPPED = Query(
    name="telemetry_dropped",
    text=f"{_rate('leaderboard_telemetry_dropped_total')} or vector(0)",
    unit="cps",
    description="Spans, log records and metric points that did not get out: then these pages show less than there is.",
    legend="dropped",
)
TELEMETRY_EXPORTED = Query(
    name="telemetry_exported",
    text=_rate("leaderboard_telemetry_exported_total", by="signal"),
    unit="cps",
    description="Spans and log records that the collector took, a second.",
    labels=("signal",),
    legend="{{signal}}",
)

# Tenants, capped: only metrics named leaderboard_tenant_* have the label.

TOP_TENANTS = Query(
    name="top_tenants",
    text=f"topk(10, {_rate('leaderboard_tenant_requests_total', by='leaderboard_tenant')})",
    unit="reqps",
    description="The ten tenants with most requests a second; `other` are those beyond the cap together.",
    labels=("leaderboard_tenant",),
    legend="{{leaderboard_tenant}}",
)
TENANTS_FAILED = Query(
    name="tenants_failed",
    text=f"{_rate('leaderboard_tenant_requests_total', _FAILED, 'leaderboard_tenant')}"
    f" / ({_rate('leaderboard_tenant_requests_total', by='leaderboard_tenant')} > 0)",
    unit="percentunit",
    description="Share of each tenant's requests answered with 5xx.",
    labels=("leaderboard_tenant",),
    legend="{{leaderboard_tenant}}",
)
TENANTS_LIMITED = Query(
    name="tenants_limited",
    text=f"{_rate('leaderboard_tenant_requests_total', _LIMITED, 'leaderboard_tenant')}"
    f" / ({_rate('leaderboard_tenant_requests_total', by='leaderboard_tenant')} > 0)",
    unit="percentunit",
    description="Share of each tenant's requests refused with 429.",
    labels=("leaderboard_tenant",),
    legend="{{leaderboard_tenant}}",
)
TENANTS_P99 = Query(
    name="tenants_p99",
    text=_quantile("0.99", _TENANT, by="leaderboard_tenant"),
    unit="s",
    description="p99 of each tenant's requests.",
    labels=("leaderboard_tenant",),
    legend="{{leaderboard_tenant}}",
)
_ONE = 'leaderboard_tenant="$tenant"'
TENANT_OUTCOMES = Query(
    name="tenant_outcomes",
    text=_rate("leaderboard_tenant_requests_total", _ONE, "outcome"),
    unit="reqps",
    description="The tenant's requests a second: ok, refused (4xx), limited (429), failed (5xx).",
    labels=("outcome",),
    legend="{{outcome}}",
)
TENANT_REQUESTS = Query(
    name="tenant_requests",
    text=_rate("leaderboard_tenant_requests_total", _ONE),
    unit="reqps",
    description="The tenant's requests a second.",
    legend="requests",
)
TENANT_SHARE = Query(
    name="tenant_share",
    text=f"{_rate('leaderboard_tenant_requests_total', _ONE)} / ({_rate('leaderboard_tenant_requests_total')} > 0)",
    unit="percentunit",
    description="Share of the platform's requests that are this tenant's.",
    legend="of the platform",
)
TENANT_FAILED = Query(
    name="tenant_failed",
    text=f"{_rate('leaderboard_tenant_requests_total', f'{_ONE}, {_FAILED}')}"
    f" / ({_rate('leaderboard_tenant_requests_total', _ONE)} > 0)",
    unit="percentunit",
    description="Share of the tenant's requests answered with 5xx.",
    legend="5xx",
)
TENANT_LIMITED = Query(
    name="tenant_limited",
    text=f"{_rate('leaderboard_tenant_requests_total', f'{_ONE}, {_LIMITED}')}"
    f" / ({_rate('leaderboard_tenant_requests_total', _ONE)} > 0)",
    unit="percentunit",
    description="Share of the tenant's requests refused with 429: its plan allows no more.",
    legend="429",
)
TENANT_LATENCY = tuple(
    Query(
        name=f"tenant_latency_{short}",
        text=_quantile(quantile, _TENANT, matchers=_ONE),
        unit="s",
        description=f"{short} of the tenant's requests. Dots are sampled requests: open one's trace.",
        legend=short,
        exemplars=True,
    )
    for short, quantile in _PERCENTILES
)
TENANT_TRACES = Query(
    name="tenant_traces",
    text='{ span.leaderboard.tenant = "$tenant" && duration > 10ms }',
    unit="",
    description="The tenant's sampled requests that took more than 10 ms.",
    language=Language.TRACEQL,
    shape=Shape.TRACES,
    when="a sampled request of the tenant took more than 10 ms",
)

# Redis, the limiter, the ledger, Postgres.

REDIS_P50 = Query(
    name="redis_p50",
    text=_quantile(
        "0.5",
        _OPERATION,
        by="db_stored_procedure_name",
        matchers=('db_system_name="redis", db_stored_procedure_name!=""'),
    ),
    unit="s",
    description="Median of a script's round trip to Redis, from the write that carried it to the read of its answer.",
    labels=("db_stored_procedure_name",),
    legend="p50 {{db_stored_procedure_name}}",
)
REDIS_P99 = Query(
    name="redis_p99",
    text=_quantile(
        "0.99",
        _OPERATION,
        by="db_stored_procedure_name",
        matchers=('db_system_name="redis", db_stored_procedure_name!=""'),
    ),
    unit="s",
    description="p99 of a script's round trip to Redis.",
    labels=("db_stored_procedure_name",),
    legend="p99 {{db_stored_procedure_name}}",
)
REDIS_CALLS = Query(
    name="redis_calls",
    text=_rate(f"{_OPERATION}_count", 'db_system_name="redis"', "db_operation_name, db_stored_procedure_name"),
    unit="ops",
    description="Calls of Redis a second by command and script.",
    labels=("db_operation_name",),
    optional=("db_stored_procedure_name",),
    legend="{{db_operation_name}} {{db_stored_procedure_name}}",
)
REDIS_IN_FLIGHT = Query(
    name="redis_in_flight",
    text="sum (leaderboard_redis_in_flight)",
    unit="short",
    description="Calls on the hot connections that wait for their answer, all API processes together.",
    legend="in flight",
)
REDIS_LOST = Query(
    name="redis_lost",
    text=f"{_rate('leaderboard_redis_lost_calls_total')} or vector(0)",
    unit="ops",
    description="Calls whose answer a broken connection never brought. Each was a 503 and may have been applied.",
    legend="lost",
)
REDIS_DISCONNECTED = Query(
    name="redis_disconnected",
    text="count (leaderboard_redis_connected == 0) or vector(0)",
    unit="short",
    description="API processes whose hot connection is down.",
    legend="disconnected",
)
REDIS_USED = Query(
    name="redis_used",
    text="max (redis_memory_used_bytes)",
    unit="bytes",
    description="Memory that Redis has allocated.",
    legend="used",
)
REDIS_RSS = Query(
    name="redis_rss",
    text="max (redis_memory_rss_bytes)",
    unit="bytes",
    description="Memory of the Redis process as the system sees it.",
    legend="resident",
)
REDIS_LIMIT = Query(
    name="redis_limit",
    text="max (redis_memory_limit_bytes) > 0",
    unit="bytes",
    description="Redis's maxmemory; without one there is no line.",
    legend="maxmemory",
    when="Redis has a maxmemory",
)
REDIS_FULL = Query(
    name="redis_full",
    text="max (redis_memory_used_bytes) / (max (redis_memory_limit_bytes) > 0)",
    unit="percentunit",
    description="Redis's memory against maxmemory: at 100% writes are refused.",
    legend="of maxmemory",
    when="Redis has a maxmemory",
)
REDIS_CLIENTS = Query(
    name="redis_clients",
    text="max (redis_clients_connected)",
    unit="short",
    description="Connections to Redis.",
    legend="connections",
)
LIMITER_TOKENS = Query(
    name="limiter_tokens",
    text=_rate("leaderboard_limiter_tokens_total"),
    unit="ops",
    description="Tokens that Redis gave to the API processes, one a request.",
    legend="tokens",
)
LIMITER_DECISIONS = Query(
    name="limiter_decisions",
    text=_rate("leaderboard_limiter_decisions_total", by="decision"),
    unit="ops",
    description="Requests refused for want of tokens, and calls of Redis that did not say (those are 503).",
    labels=("decision",),
    legend="{{decision}}",
)
LIMITER_UNAVAILABLE = Query(
    name="limiter_unavailable",
    text=f"{_rate('leaderboard_limiter_decisions_total', _UNAVAILABLE)} or vector(0)",
    unit="ops",
    description="Times a second that the limiter could not ask Redis: requests without a leased token got 503.",
    legend="unavailable",
)
OUTBOX_LENGTH = Query(
    name="outbox_length",
    text="max (leaderboard_outbox_length)",
    unit="short",
    description="Events that wait to be written to Postgres.",
    legend="waiting",
)
OUTBOX_LIMIT = Query(
    name="outbox_limit",
    text="max (leaderboard_outbox_limit)",
    unit="short",
    description="Events in the outbox at which writes are refused with 503.",
    legend="limit",
)
OUTBOX_LAG = Query(
    name="outbox_lag",
    text="max (leaderboard_outbox_lag_seconds)",
    unit="s",
    description="Age of the oldest event that waits to be written to Postgres.",
    legend="lag",
)
LEDGER_EVENTS = Query(
    name="ledger_events",
    text=_rate("leaderboard_ledger_events_total"),
    unit="ops",
    description="Score events written to Postgres a second.",
    legend="events",
)
LEDGER_BATCHES = Query(
    name="ledger_batches",
    text=_rate("leaderboard_ledger_batches_total"),
    unit="ops",
    description="Statements a second that wrote them.",
    legend="batches",
)
LEDGER_DEAD = Query(
    name="ledger_dead",
    text="sum (increase(leaderboard_ledger_dead_total[$__range])) or vector(0)",
    unit="short",
    description="Entries set aside in the shown time because they cannot be stored. Any is worth a look.",
    legend="dead",
)
QUARANTINE_HELD = Query(
    name="quarantine_held",
    text="sum by (bound) (increase(leaderboard_quarantine_held_total[1h]))",
    unit="short",
    description="Updates held in the hour before, by the bound of their board that they broke. They wait for a person.",
    labels=("bound",),
    legend="{{bound}}",
)
SEASONS_ARCHIVED = Query(
    name="seasons_archived",
    text="sum (increase(leaderboard_seasons_archived_total[1h]))",
    unit="short",
    description="Seasons whose final standings were moved to Postgres in the hour before.",
    legend="seasons archived",
)
SEASONS_LAG = Query(
    name="seasons_lag",
    text="max (leaderboard_seasons_lag_seconds)",
    unit="s",
    description="Time for which the oldest season has waited that could be archived; 0 where none waits.",
    legend="oldest season",
)
ERASURES_DONE = Query(
    name="erasures_done",
    text="sum (increase(leaderboard_erasures_done_total[1h]))",
    unit="short",
    description="Erasures of users that got their receipt in the hour before.",
    legend="erasures done",
)
ERASURES_LAG = Query(
    name="erasures_lag",
    text="max (leaderboard_erasures_lag_seconds)",
    unit="s",
    description="Time since the oldest erasure was asked for that is pending; 0 where none is.",
    legend="oldest erasure",
)
POSTGRES_LATENCY = Query(
    name="postgres_latency",
    text=_quantile(
        "0.99", _OPERATION, by="db_operation_name, db_collection_name", matchers='db_system_name="postgresql"'
    ),
    unit="s",
    description="p99 of statements of the ledger.",
    labels=("db_operation_name",),
    optional=("db_collection_name",),
    legend="p99 {{db_operation_name}} {{db_collection_name}}",
)
POOL_USED = Query(
    name="pool_used",
    text='sum by (service_name) (db_client_connection_count{db_client_connection_state="used"})',
    unit="short",
    description="Postgres connections at work, by role.",
    labels=("service_name",),
    legend="used {{service_name}}",
)
POOL_MAX = Query(
    name="pool_max",
    text="sum by (service_name) (db_client_connection_max)",
    unit="short",
    description="Postgres connections that the pools may make.",
    labels=("service_name",),
    legend="most {{service_name}}",
)
POOL_PENDING = Query(
    name="pool_pending",
    text="sum by (service_name) (db_client_connection_pending_requests)",
    unit="short",
    description="Callers that wait for a connection to Postgres.",
    labels=("service_name",),
    legend="waiting {{service_name}}",
)

# The operator.

RECONCILES = Query(
    name="reconciles",
    text=_rate("controller_runtime_reconcile_total", by="controller, result"),
    unit="ops",
    description="Reconciliations a second by their result: success, error (tried again), requeue_after.",
    labels=("controller", "result"),
    legend="{{controller}} {{result}}",
)
RECONCILE_ERRORS = Query(
    name="reconcile_errors",
    text=f"{_rate('controller_runtime_reconcile_errors_total')} or vector(0)",
    unit="ops",
    description="Reconciliations a second that failed and are tried again.",
    legend="errors",
)
RECONCILE_P99 = Query(
    name="reconcile_p99",
    text=_quantile("0.99", "controller_runtime_reconcile_time_seconds", by="controller"),
    unit="s",
    description="p99 of one reconciliation; of a Leaderboard its share of the batch it was in.",
    labels=("controller",),
    legend="p99 {{controller}}",
)
QUEUE_DEPTH = Query(
    name="queue_depth",
    text="sum by (name) (workqueue_depth)",
    unit="short",
    description="Objects that wait for a reconciliation.",
    labels=("name",),
    legend="{{name}}",
)
QUEUE_WAIT = Query(
    name="queue_wait",
    text=_quantile("0.99", "workqueue_queue_duration_seconds", by="name"),
    unit="s",
    description="p99 of the time that an object waited for its reconciliation.",
    labels=("name",),
    legend="p99 {{name}}",
)
QUEUE_RETRIES = Query(
    name="queue_retries",
    text=f"{_rate('workqueue_retries_total')} or vector(0)",
    unit="ops",
    description="Objects put back after a failure, a second.",
    legend="retries",
)
READY = Query(
    name="ready",
    text="max by (kind, ready) (leaderboard_operator_resources)",
    unit="short",
    description="Tenants and Leaderboards by what their Ready condition says, as of the last sweep.",
    labels=("kind", "ready"),
    legend="{{kind}} Ready={{ready}}",
)
NOT_READY = Query(
    name="not_ready",
    text='sum (max by (kind, ready) (leaderboard_operator_resources{ready!="True"})) or vector(0)',
    unit="short",
    description="Tenants and Leaderboards that are not Ready.",
    legend="not Ready",
)
SWEEP_AGE = Query(
    name="sweep_age",
    text="time() - max (leaderboard_operator_sweep_last_success_timestamp_seconds > 0)",
    unit="s",
    description="Time since the last whole sweep ended. One begins every minute.",
    legend="ago",
)
SWEEP_P99 = Query(
    name="sweep_p99",
    text=_quantile("0.99", "leaderboard_operator_sweep_seconds"),
    unit="s",
    description="p99 of the time of one sweep.",
    legend="p99",
)
REPAIRS = Query(
    name="repairs",
    text="sum (increase(leaderboard_operator_repairs_total[$__range])) or vector(0)",
    unit="short",
    description="What was changed behind the operator's back and put right in the shown time.",
    legend="repairs",
)
ORPHANS = Query(
    name="orphans",
    text="sum (max by (kind) (leaderboard_operator_orphans)) or vector(0)",
    unit="short",
    description="Tenants and boards whose resource is gone, its finalizer removed by hand.",
    legend="orphans",
)
LEADERS = Query(
    name="leaders",
    text="sum (leader_election_master_status) or vector(0)",
    unit="short",
    description="Replicas that lead. It is one but for a moment while another takes over.",
    legend="leaders",
)
EPOCH = Query(
    name="epoch",
    text="max (leaderboard_operator_epoch)",
    unit="short",
    description="The leader's fencing epoch: one more with each leader.",
    legend="epoch",
)
API_REQUESTS = Query(
    name="api_requests",
    text=_rate("rest_client_requests_total", by="method, code"),
    unit="reqps",
    description="Requests to the Kubernetes API a second by status.",
    labels=("method", "code"),
    legend="{{method}} {{code}}",
)
OPERATOR_TRACES = Query(
    name="operator_traces",
    text='{ resource.service.name = "leaderboard-operator" }',
    unit="",
    description="Reconciliations and sweeps, the newest.",
    language=Language.TRACEQL,
    shape=Shape.TRACES,
)

# Traces and log lines.

SLOW_TRACES = Query(
    name="slow_traces",
    text='{ resource.service.name = "leaderboard-api" && span.http.route =~ "/.*" && duration > 10ms }',
    unit="",
    description="Sampled requests that took more than 10 ms. The collector keeps all of them.",
    language=Language.TRACEQL,
    shape=Shape.TRACES,
    when="a sampled request took more than 10 ms",
)
ERROR_TRACES = Query(
    name="error_traces",
    text='{ resource.service.namespace = "leaderboard" && status = error }',
    unit="",
    description="Traces with a span that failed: its event has the stack. The collector keeps all of them.",
    language=Language.TRACEQL,
    shape=Shape.TRACES,
    when="a sampled request failed with 5xx",
)
SLOW_REDIS_TRACES = Query(
    name="slow_redis_traces",
    text='{ span.db.system.name = "redis" && duration > 5ms }',
    unit="",
    description="Traces with a call of Redis that took more than 5 ms.",
    language=Language.TRACEQL,
    shape=Shape.TRACES,
    when="a sampled call of Redis took more than 5 ms",
)
LEDGER_TRACES = Query(
    name="ledger_traces",
    text='{ resource.service.name = "leaderboard-worker" && span.leaderboard.traced_writes > 0 }',
    unit="",
    description="The worker's batches with links to the sampled writes in them.",
    language=Language.TRACEQL,
    shape=Shape.TRACES,
    when="the worker wrote a sampled write",
)
TRACE = Query(
    name="trace",
    text="$trace_id",
    unit="",
    description="All spans of the trace whose id is in the field above.",
    language=Language.TRACEQL,
    shape=Shape.TRACE,
    when="the trace was kept by the collector",
)
TRACE_LINES = Query(
    name="trace_lines",
    text='{service_namespace="leaderboard"} | trace_id != "" | trace_id =~ "$trace_id.*"',
    unit="",
    description="Log lines of the trace whose id is in the field above; without one, of all that have a trace.",
    language=Language.LOGQL,
    shape=Shape.LINES,
    when="a line was logged during a request",
)
WARNINGS = Query(
    name="warnings",
    text='{service_namespace="leaderboard"} | severity_text =~ "WARNING|ERROR|CRITICAL"',
    unit="",
    description="Warnings and errors of API, worker and operator, the newest first.",
    language=Language.LOGQL,
    shape=Shape.LINES,
    when="a warning was logged",
)
LINES_BY_LEVEL = Query(
    name="lines_by_level",
    text='sum by (service_name, severity_text) (count_over_time({service_namespace="leaderboard"} [$__interval]))',
    unit="short",
    description="Log lines by role and level.",
    language=Language.LOGQL,
    labels=("service_name", "severity_text"),
    legend="{{service_name}} {{severity_text}}",
)

# Values of a variable.

TENANTS = Query(
    name="tenants",
    text="group by (leaderboard_tenant) (leaderboard_tenant_requests_total)",
    unit="short",
    description="Slugs of the tenants with metrics of their own, and `other`.",
    labels=("leaderboard_tenant",),
    legend="{{leaderboard_tenant}}",
)


def _all() -> tuple[Query, ...]:
    found: list[Query] = []
    for value in list(globals().values()):
        found.extend([value] if isinstance(value, Query) else [])
        if isinstance(value, tuple):
            found.extend(one for one in value if isinstance(one, Query))
    return tuple(found)


ALL: tuple[Query, ...] = _all()
