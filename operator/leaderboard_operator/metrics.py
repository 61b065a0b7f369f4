"""What the operator counts, under controller-runtime's names, so that dashboards made for other operators fit.

Names and labels: https://book.kubebuilder.io/reference/metrics-reference (controller-runtime's reference).
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

RECONCILES = Counter(
    "controller_runtime_reconcile",
    "Reconciliations by their result: success, error (tried again), requeue_after.",
    ["controller", "result"],
    registry=REGISTRY,
)
RECONCILE_ERRORS = Counter(
    "controller_runtime_reconcile_errors", "Reconciliations that failed.", ["controller"], registry=REGISTRY
)
RECONCILE_SECONDS = Histogram(
    "controller_runtime_reconcile_time_seconds",
    "Time of one reconciliation; of a Leaderboard, its share of the batch it was in.",
    ["controller"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
ACTIVE = Gauge("controller_runtime_active_workers", "Reconciliations under way.", ["controller"], registry=REGISTRY)
QUEUE_DEPTH = Gauge("workqueue_depth", "Objects that wait for a reconciliation.", ["name"], registry=REGISTRY)
QUEUE_ADDS = Counter("workqueue_adds", "Objects added to the queue.", ["name"], registry=REGISTRY)
QUEUE_RETRIES = Counter("workqueue_retries", "Objects put back after a failure.", ["name"], registry=REGISTRY)
QUEUE_SECONDS = Histogram(
    "workqueue_queue_duration_seconds",
    "Time from being added to being taken.",
    ["name"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
LEADING = Gauge("leader_election_master_status", "1 while this replica leads.", ["name"], registry=REGISTRY)
REST_REQUESTS = Counter(
    "rest_client_requests",
    "Requests to the Kubernetes API by status; those of Kopf's watches are not among them.",
    ["code", "method"],
    registry=REGISTRY,
)

RESOURCES = Gauge(
    "leaderboard_operator_resources",
    "Objects by what their Ready condition says.",
    ["kind", "ready"],
    registry=REGISTRY,
)
REPAIRS = Counter(
    "leaderboard_operator_repairs",
    "What was changed behind the operator's back and put right.",
    ["kind"],
    registry=REGISTRY,
)
SWEEP_SECONDS = Histogram(
    "leaderboard_operator_sweep_seconds", "Time of one sweep.", buckets=_SECONDS, registry=REGISTRY
)
SWEEP_LAST = Gauge(
    "leaderboard_operator_sweep_last_success_timestamp_seconds",
    "When the last whole sweep ended, in Unix time.",
    registry=REGISTRY,
)
ORPHANS = Gauge(
    "leaderboard_operator_orphans",
    "Tenants and boards that belong to a resource that is gone (its finalizer was removed by hand).",
    ["kind"],
    registry=REGISTRY,
)
EPOCH = Gauge("leaderboard_operator_epoch", "This leader's fencing epoch, 0 on a standby.", registry=REGISTRY)
