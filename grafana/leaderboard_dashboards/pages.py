"""The five dashboards: which panels, where."""

from grafana_foundation_sdk.builders.dashboard import TextBoxVariable
from grafana_foundation_sdk.models.dashboard import Dashboard

from leaderboard_dashboards import queries as q
from leaderboard_dashboards.panels import found, lines, number, page, tenant_variable, tenants, written


def overview() -> Dashboard:
    """Is the platform well?"""
    return page(
        "leaderboard-overview",
        "Platform overview",
        "Is the platform well? Traffic, errors and latency in total, by route and by tenant.",
        number("Requests", q.REQUESTS),
        number("Errors (5xx)", q.ERRORS_SHARE, red_at=0.001),
        number("Within 10 ms", q.FAST_SHARE),
        number("p99", q.LATENCY[2], red_at=0.01),
        number("Outbox lag", q.OUTBOX_LAG, red_at=30),
        number("Telemetry dropped", q.TELEMETRY_DROPPED, red_at=0.001),
        lines("Latency", *q.LATENCY),
        lines("p50 by route", q.LATENCY_BY_ROUTE[0]),
        lines("p95 and p99 by route", *q.LATENCY_BY_ROUTE[1:]),
        lines("Requests by route", q.REQUESTS_BY_ROUTE),
        lines("Requests by status", q.REQUESTS_BY_STATUS),
        lines("Errors and refusals for rate", q.ERRORS_SHARE, q.LIMITED_SHARE),
        lines("Processes that report", q.PROCESSES, width=6),
        lines("Telemetry sent", q.TELEMETRY_EXPORTED, width=6),
        lines("Live streams", q.STREAMS, width=6),
        lines("Busiest tenants", q.TOP_TENANTS, width=6),
        tenants(
            "Tenants",
            q.TOP_TENANTS,
            q.TENANTS_P99,
            q.TENANTS_FAILED,
            q.TENANTS_LIMITED,
            names=("requests/s", "p99", "failed", "limited"),
        ),
    )


def tenant() -> Dashboard:
    """What does one tenant see?"""
    return page(
        "leaderboard-tenant",
        "Tenant",
        "What does one tenant see, and how much of the platform is it? Tenants beyond the cap are one: all others.",
        number("Requests", q.TENANT_REQUESTS, width=6),
        number("Share of the platform", q.TENANT_SHARE, width=6),
        number("Failed (5xx)", q.TENANT_FAILED, red_at=0.001, width=6),
        number("Limited (429)", q.TENANT_LIMITED, width=6),
        lines("Requests by outcome", q.TENANT_OUTCOMES, width=12),
        lines("Latency", *q.TENANT_LATENCY, width=12),
        found("Slow requests", q.TENANT_TRACES, width=24),
        variables=[tenant_variable()],
    )


def stores() -> Dashboard:
    """Do Redis, the limiter, the ledger and Postgres keep up?"""
    return page(
        "leaderboard-stores",
        "Redis & ledger",
        "Do Redis, the rate limiter, the ledger and Postgres keep up?",
        number("Redis memory", q.REDIS_FULL, red_at=0.85),
        number("Disconnected", q.REDIS_DISCONNECTED, red_at=1),
        number("Limiter unavailable", q.LIMITER_UNAVAILABLE, red_at=0.001),
        number("Outbox lag", q.OUTBOX_LAG, red_at=30),
        number("Ledger", q.LEDGER_EVENTS),
        number("Dead entries", q.LEDGER_DEAD, red_at=1),
        lines("Redis round trip, p50 by script", q.REDIS_P50),
        lines("Redis round trip, p99 by script", q.REDIS_P99),
        lines("Redis calls", q.REDIS_CALLS),
        lines("Redis memory", q.REDIS_USED, q.REDIS_RSS, q.REDIS_LIMIT),
        lines("Calls in flight, connections", q.REDIS_IN_FLIGHT, q.REDIS_CLIENTS),
        lines("Lost calls", q.REDIS_LOST),
        lines("Limiter: tokens", q.LIMITER_TOKENS),
        lines("Limiter: refused, unavailable", q.LIMITER_DECISIONS),
        lines("Outbox", q.OUTBOX_LENGTH, q.OUTBOX_LIMIT),
        lines("Outbox lag", q.OUTBOX_LAG),
        lines("Ledger: events and batches", q.LEDGER_EVENTS, q.LEDGER_BATCHES),
        lines("Postgres statements", q.POSTGRES_LATENCY),
        lines("Held updates", q.QUARANTINE_HELD, width=6),
        lines("Seasons archived, erasures done", q.SEASONS_ARCHIVED, q.ERASURES_DONE, width=6),
        lines("Season that waits to be archived", q.SEASONS_LAG, width=6),
        lines("Erasure that is pending", q.ERASURES_LAG, width=6),
        lines("Postgres pools", q.POOL_USED, q.POOL_MAX, width=12),
        lines("Waiting for a connection", q.POOL_PENDING, width=12),
    )


def operator() -> Dashboard:
    """Does the operator converge?"""
    return page(
        "leaderboard-operator",
        "Operator",
        "Does the operator converge? Reconciliations, the queue, the sweep, what is not Ready.",
        number("Not Ready", q.NOT_READY, red_at=1),
        number("Last sweep", q.SWEEP_AGE, red_at=180),
        number("Leaders", q.LEADERS),
        number("Repairs", q.REPAIRS),
        number("Orphans", q.ORPHANS, red_at=1),
        number("Epoch", q.EPOCH),
        lines("Reconciliations by result", q.RECONCILES),
        lines("Time of a reconciliation", q.RECONCILE_P99),
        lines("Failures and retries", q.RECONCILE_ERRORS, q.QUEUE_RETRIES),
        lines("Queue", q.QUEUE_DEPTH),
        lines("Wait in the queue", q.QUEUE_WAIT),
        lines("Sweep", q.SWEEP_P99),
        lines("Resources by Ready", q.READY, width=12),
        lines("Requests to the Kubernetes API", q.API_REQUESTS, width=12),
        found("Reconciliations and sweeps", q.OPERATOR_TRACES, width=24),
    )


def tracing() -> Dashboard:
    """What happened in this request?"""
    return page(
        "leaderboard-tracing",
        "Tracing",
        "What happened in this request? From a dot in a latency panel or a row below to its spans and log lines.",
        lines("Latency", *q.LATENCY, width=12),
        lines("Log lines", q.LINES_BY_LEVEL, width=12),
        found("Slow requests", q.SLOW_TRACES),
        found("Failures", q.ERROR_TRACES),
        found("Slow calls of Redis", q.SLOW_REDIS_TRACES),
        found("Ledger batches", q.LEDGER_TRACES),
        found("The trace", q.TRACE, width=24),
        written("Its log lines", q.TRACE_LINES),
        written("Warnings and errors", q.WARNINGS),
        variables=[TextBoxVariable("trace_id").label("Trace id").default_value("")],
    )


ALL = {
    "platform_overview": overview,
    "tenant": tenant,
    "redis_ledger": stores,
    "operator": operator,
    "tracing": tracing,
}
"""Makers by the name of the file, without its ending."""
