"""What the observability stack says, asked as Grafana asks: Prometheus, Loki and Tempo over their HTTP APIs."""

import json
import time
import urllib.parse
import urllib.request
from typing import Any

from leaderboard.local.observe import Observability
from leaderboard.local.process import opener


class Answers:
    """Of one stack. Times are now, or the last hour where a range is asked for."""

    def __init__(self, stack: Observability) -> None:
        self._stack = stack

    def vector(self, promql: str) -> list[dict[str, Any]]:
        """Return the series of an instant query: {"metric": labels, "value": [time, text]}."""
        found = self._get(self._stack.prometheus_url, "/api/v1/query", query=promql)["data"]
        return found["result"] if found["resultType"] == "vector" else [{"metric": {}, "value": found["result"]}]

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule that Prometheus has loaded, with its health."""
        groups = self._get(self._stack.prometheus_url, "/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def exemplars(self, promql: str) -> list[str]:
        """Return the trace ids that a query's samples lead to."""
        now = time.time()
        found = self._get(
            self._stack.prometheus_url, "/api/v1/query_exemplars", query=promql, start=now - 3600, end=now
        )
        return [exemplar["labels"]["trace_id"] for series in found["data"] for exemplar in series["exemplars"]]

    def loki(self, logql: str) -> list[dict[str, Any]]:
        """Return the streams, or the series of a metric query, of the last hour."""
        now = time.time_ns()
        start = now - 3600 * 10**9
        found = self._get(self._stack.loki_url, "/loki/api/v1/query_range", query=logql, start=start, end=now, step=60)
        return found["data"]["result"]

    def traces(self, traceql: str) -> list[dict[str, Any]]:
        """Return the traces that a search finds, with what it says of each."""
        now = int(time.time())
        found = self._get(self._stack.tempo_url, "/api/search", q=traceql, start=now - 3600, end=now + 60, limit=20)
        return found.get("traces", [])

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the spans of one trace, each with its process's `service`; none where Tempo does not have it."""
        try:
            found = self._get(self._stack.tempo_url, f"/api/traces/{trace_id}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return []
        spans = []
        for batch in found["batches"]:
            service = attributes(batch["resource"])["service.name"]
            for scope in batch.get("scopeSpans") or batch.get("instrumentationLibrarySpans") or []:
                spans += [span | {"service": service} for span in scope["spans"]]
        return spans

    def _get(self, url: str, path: str, **params: str | int | float) -> Any:
        with opener.open(f"{url}{path}?{urllib.parse.urlencode(params)}", timeout=20) as answer:
            return json.load(answer)


def attributes(of: Any) -> dict[str, Any]:
    """Return the attributes of a span or resource in Tempo's JSON."""
    return {each["key"]: next(iter(each["value"].values())) for each in of.get("attributes", [])}
