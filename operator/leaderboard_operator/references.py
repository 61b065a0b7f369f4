"""Which namespaces may refer to a Tenant, and when a Tenant can have boards. Nothing here does I/O."""

from collections.abc import Mapping
from typing import Any

from leaderboard_operator.resources import Resource, fields_of

NOT_YET = "it has not been reconciled yet"


def permits(tenant: Resource, *, namespace: str, labels: Mapping[str, str] | None) -> bool:
    """Whether a Leaderboard in `namespace` may name `tenant`. `labels` are the namespace's, None if it is unknown."""
    if namespace == tenant.key.namespace:
        return True
    allowed = fields_of(tenant.spec, "allowedNamespaces")
    if allowed.get("from") == "All":
        return True
    selector = allowed.get("selector")
    if allowed.get("from") != "Selector" or selector is None or labels is None:
        return False
    return selects(selector, labels)


def needs_labels(tenant: Resource) -> bool:
    """Whether the answer of `permits` depends on a namespace's labels."""
    return bool(fields_of(tenant.spec, "allowedNamespaces").get("from") == "Selector")


def selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Whether a label selector of the Kubernetes API matches. An empty one matches everything, as everywhere there.

    One that an older schema let through in another form matches nothing.
    """
    if not isinstance(selector, dict):
        return False
    wanted, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not isinstance(wanted, dict) or not isinstance(expressions, list):
        return False
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    return all(_matches(expression, labels) for expression in expressions)


def _matches(expression: Any, labels: Mapping[str, str]) -> bool:
    if not isinstance(expression, dict):
        return False
    name, values = expression.get("key", ""), expression.get("values") or []
    if not isinstance(name, str) or not isinstance(values, list):
        return False
    match expression.get("operator"):
        case "In":
            return labels.get(name) in values
        case "NotIn":
            return labels.get(name) not in values
        case "Exists":
            return name in labels
        case "DoesNotExist":
            return name not in labels
    return False  # an operator we do not know grants nothing


def not_ready(tenant: Resource) -> str | None:
    """Return why the Tenant can have no board now, None where it can."""
    if tenant.deleting:
        return "it is being deleted"
    accepted = tenant.condition("Accepted")
    if not accepted:
        return NOT_YET
    if accepted.get("status") != "True":
        return f"it is not accepted ({accepted.get('reason')})"
    if not tenant.status.get("tenantID"):
        return f"it is not complete ({tenant.condition('Synced').get('reason')})"
    return None


def suspended(tenant: Resource) -> bool:
    """Whether the Tenant's boards are refused with it. Of one that is paused, what it was when that began holds on."""
    if tenant.paused:
        return tenant.condition("Ready").get("reason") == "Suspended"
    return bool(tenant.spec.get("suspend"))
