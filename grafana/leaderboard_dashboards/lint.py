"""What a dashboard must keep to, looked for in its JSON: so that what Grafana reads is checked, not what was meant."""

import re
from collections.abc import Collection, Iterator
from itertools import combinations
from typing import Any

from leaderboard_dashboards.queries import ALL, Language

Json = dict[str, Any]
WIDTH = 24
"""Columns of Grafana's grid."""
_BUILT_IN = {"__rate_interval", "__interval", "__range"}
_UIDS = {language.value for language in Language}
_VARIABLE = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")
_KNOWN = frozenset(query.text for query in ALL)
_WITHOUT_UNIT = {"logs", "traces"}


def problems(dashboard: Json, known: Collection[str] = _KNOWN) -> list[str]:
    """Return what is wrong with a dashboard, a sentence each; `known` are the texts of queries that it may ask."""
    panels = dashboard.get("panels") or []
    return [
        *_variables(dashboard, panels),
        *_places(panels),
        *(f"{panel.get('title')}: {what}" for panel in panels for what in _panel(panel, known)),
    ]


def _texts(panel: Json) -> list[str]:
    return [target.get("expr") or target.get("query") or "" for target in panel.get("targets") or []]


def _variables(dashboard: Json, panels: list[Json]) -> Iterator[str]:
    used = {a or b for panel in panels for text in _texts(panel) for a, b in _VARIABLE.findall(text)} - _BUILT_IN
    defined = {variable["name"] for variable in (dashboard.get("templating") or {}).get("list") or []}
    yield from (f"the variable {name} is used and not defined" for name in sorted(used - defined))
    yield from (f"the variable {name} is defined and not used" for name in sorted(defined - used))


def _places(panels: list[Json]) -> Iterator[str]:
    ids = [panel.get("id") for panel in panels]
    if None in ids or len(set(ids)) != len(ids):
        yield "panels have no id or the same one"
    boxes = [(panel.get("title"), *(panel["gridPos"][side] for side in "xywh")) for panel in panels]
    for title, x, _y, width, height in boxes:
        if width < 1 or height < 1 or x < 0 or x + width > WIDTH:
            yield f"{title}: not on the grid"
    for (one, x, y, w, h), (other, left, top, width, height) in combinations(boxes, 2):
        if x < left + width and left < x + w and y < top + height and top < y + h:
            yield f"{one} and {other} lie on each other"


def _panel(panel: Json, known: Collection[str]) -> Iterator[str]:
    kind = panel.get("type")
    targets = panel.get("targets") or []
    uids = {(target.get("datasource") or {}).get("uid") for target in targets}
    if not targets:
        yield "no query"
    if not panel.get("description"):
        yield "no description"
    if "tempo" not in uids and kind not in _WITHOUT_UNIT and not _unit(panel):
        yield "no unit"
    for where in (panel, *targets):
        if (where.get("datasource") or {}).get("uid") not in _UIDS:
            yield "a data source that is not named by the uid of one that is provisioned"
    refs = [target.get("refId") for target in targets]
    if len(set(refs)) != len(refs):
        yield "two queries of one refId"
    for target, text in zip(targets, _texts(panel), strict=True):
        if text not in known:
            yield "a query that is not in queries.py"
        if kind == "timeseries" and not target.get("legendFormat"):
            yield "no legend"
        yield from _promql(text)


def _unit(panel: Json) -> str:
    return ((panel.get("fieldConfig") or {}).get("defaults") or {}).get("unit") or ""


def _promql(text: str) -> Iterator[str]:
    if "leaderboard_tenant" in re.sub(r"leaderboard_tenant_\w+", "", text):
        # The label: whatever is asked must be of the metrics that have it capped.
        others = set(re.findall(r"\b([a-z]\w*_(?:total|bucket|count|sum|seconds|bytes))\b", text))
        if any(not name.startswith("leaderboard_tenant_") for name in others):
            yield "a tenant label on a metric that has none"
    for inner in re.findall(r"histogram_quantile\([^,]+, (.*)", text):
        if not re.match(r"sum by \(le\b[^)]*\) \(rate\(", inner):
            yield "histogram_quantile over something else than a rate by le"
    for divisor in re.findall(r" / (\(.*)", text):
        if not re.match(r"\(.*> 0\)", divisor):
            yield "a division by what may be zero"
