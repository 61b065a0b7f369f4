"""A dashboard as one page of SVG, drawn from the answers of real servers without Grafana: it says so on the page.

``python -m leaderboard_dashboards.preview DASHBOARD.json OUT.html --prometheus URL --loki URL --tempo URL
[--var tenant=acme] [--minutes 60]``. Panels lie where Grafana puts them; dots are exemplars. Of the HTTP APIs it uses
Prometheus's /api/v1/query_range, /api/v1/query and /api/v1/query_exemplars, Loki's /loki/api/v1/query_range and
Tempo's /api/search and /api/traces: https://prometheus.io/docs/prometheus/latest/querying/api/,
https://grafana.com/docs/loki/latest/reference/loki-http-api/, https://grafana.com/docs/tempo/latest/api_docs/.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from leaderboard_dashboards.queries import fill

Json = dict[str, Any]
COLUMN, ROW = 60, 34
"""Pixels of a cell of Grafana's grid."""
_COLORS = ("#3274d9", "#e0752d", "#508642", "#a352cc", "#bf1b00", "#0a939d", "#967302", "#5f6b7a")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where to ask (base URLs by data source), for which time (Unix seconds) and which values of variables."""

    urls: Mapping[str, str]
    start: float
    end: float
    variables: Mapping[str, str]

    @property
    def step(self) -> int:
        """Seconds between two points."""
        return max(1, int((self.end - self.start) / 120))

    def text(self, query: str) -> str:
        """Return a query with its variables replaced."""
        rate = max(60, self.step + 15)
        known = {
            "$__rate_interval": f"{rate}s",
            "$__interval": f"{self.step}s",
            "$__range": f"{int(self.end - self.start)}s",
            "$trace_id": "",  # as an empty field in Grafana
        }
        return fill(query, {**known, **{f"${name}": value for name, value in self.variables.items()}})

    def get(self, uid: str, path: str, **parameters: Any) -> Json:
        """Ask a server. Raises HTTPError, URLError, ValueError."""
        url = f"{self.urls[uid].rstrip('/')}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        with urlopen(url, timeout=20) as answer:  # noqa: S310 - URLs of the one who runs this
            found: Json = json.load(answer)
            return found


def shown(value: float, unit: str) -> str:
    """Return a number with its unit, as a person reads it."""
    if not math.isfinite(value):
        return str(value)
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{value:.4g} s"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    suffix = {"reqps": " req/s", "ops": "/s", "cps": "/s"}.get(unit, "")
    return f"{value:.4g}{suffix}"


def draw(dashboard: Json, source: Source) -> str:
    """Return the page. A panel whose server refuses or has nothing says so in its place."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * ROW
    parts = []
    for panel in dashboard["panels"]:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        box = (w * COLUMN - 8, h * ROW - 8)
        try:
            inside = _inside(panel, source, box)
        except HTTPError as error:
            inside = _note(f"the server says {error.code}: {error.read(120).decode(errors='replace')}")
        parts.append(
            f'<g transform="translate({x * COLUMN + 4},{y * ROW + 4})"><rect width="{box[0]}" height="{box[1]}"'
            f' fill="#fff" stroke="#d0d4da"/><text x="8" y="17" class="t">{escape(panel["title"])}</text>{inside}</g>'
        )
    told = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(source.end))
    variables = ", ".join(f"{name}={value}" for name, value in source.variables.items())
    return (
        '<!doctype html><meta charset="utf-8"><style>body{margin:8px;background:#f4f5f7;font-family:sans-serif}'
        "text{font:11px sans-serif;fill:#333}.t{font-weight:bold;font-size:12px}.n{fill:#888}</style>"
        f"<h2>{escape(dashboard['title'])}</h2><p>Preview drawn without Grafana, from the answers of running servers;"
        f" {int((source.end - source.start) / 60)} minutes to {told}. {escape(variables)}</p>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{24 * COLUMN}" height="{height}">{"".join(parts)}</svg>\n'
    )


def _note(text: str) -> str:
    return f'<text x="8" y="40" class="n">{escape(text)}</text>'


def _inside(panel: Json, source: Source, box: tuple[int, int]) -> str:
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
    targets = panel["targets"]
    uid = targets[0]["datasource"]["uid"]
    if uid == "tempo":
        return _rows(_traces(source, targets[0]["query"]), box)
    if panel["type"] == "logs":
        return _rows(_lines(source, targets[0]["expr"]), box)
    if panel["type"] == "table":
        return _rows(_table(source, targets), box)
    series = [one for target in targets for one in _series(source, uid, target)]
    if not any(points for _, points in series):
        return _note("no data")
    if panel["type"] == "stat":
        return f'<text x="8" y="70" style="font-size:28px">{escape(shown(series[0][1][-1][1], unit))}</text>'
    dots = [dot for target in targets if target.get("exemplar") for dot in _exemplars(source, target["expr"])]
    return _plot(series, dots, source, unit, box)


Point = tuple[float, float]


def _series(source: Source, uid: str, target: Json) -> list[tuple[str, list[Point]]]:
    path = "/loki/api/v1/query_range" if uid == "loki" else "/api/v1/query_range"
    query = source.text(target["expr"])
    answer = source.get(uid, path, query=query, start=source.start, end=source.end, step=source.step)
    found = []
    for one in answer["data"]["result"]:
        name = target.get("legendFormat", "")
        for label, value in one["metric"].items():
            name = name.replace(f"{{{{{label}}}}}", value)
        points = [(float(at), float(value)) for at, value in one["values"]]
        found.append((name, [point for point in points if math.isfinite(point[1])]))
    return found


def _exemplars(source: Source, query: str) -> list[Point]:
    answer = source.get(
        "prometheus", "/api/v1/query_exemplars", query=source.text(query), start=source.start, end=source.end
    )
    return [(float(one["timestamp"]), float(one["value"])) for series in answer["data"] for one in series["exemplars"]]


def _plot(
    series: list[tuple[str, list[Point]]], dots: list[Point], source: Source, unit: str, box: tuple[int, int]
) -> str:
    legend = min(len(series), 6)
    left, top, width, height = 58, 26, box[0] - 68, box[1] - 44 - 13 * legend
    values = [value for _, points in series for _, value in points]
    highest = max(values) * 1.1 or 1.0

    def at(point: Point) -> tuple[float, float]:
        x = left + (point[0] - source.start) / (source.end - source.start) * width
        return round(x, 1), round(top + height * (1 - min(point[1] / highest, 1.0)), 1)

    parts = []
    for part in (0.0, 0.5, 1.0):
        y = top + height * (1 - part)
        parts.append(f'<path d="M{left} {y}h{width}" stroke="#e5e7ea"/>')
        parts.append(f'<text x="4" y="{y + 4}" class="n">{escape(shown(highest * part, unit))}</text>')
    for number, (name, points) in enumerate(series):
        color = _COLORS[number % len(_COLORS)]
        path = " ".join(f"{x},{y}" for x, y in map(at, points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        if number < legend and points:
            y = top + height + 20 + 13 * number
            told = f"{name}: {shown(points[-1][1], unit)}"
            told += f" (and {len(series) - legend} more)" if number == legend - 1 and len(series) > legend else ""
            parts.append(f'<text x="8" y="{y}" style="fill:{color}">{escape(told)}</text>')
    parts.extend('<circle cx="{}" cy="{}" r="2.5" fill="#bf1b00"/>'.format(*at(dot)) for dot in dots)
    return "".join(parts)


def _table(source: Source, targets: list[Json]) -> list[list[str]]:
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    labels: tuple[str, ...] = ()
    for column, target in enumerate(targets):
        answer = source.get("prometheus", "/api/v1/query", query=source.text(target["expr"]), time=source.end)
        for one in answer["data"]["result"]:
            labels = tuple(sorted(one["metric"]))
            rows.setdefault(tuple(one["metric"][label] for label in labels), {})[column] = (
                f"{float(one['value'][1]):.4g}"
            )
    heads = [*labels, *(target["refId"] for target in targets)]
    return [heads, *([*key, *(cells.get(n, "") for n in range(len(targets)))] for key, cells in rows.items())]


def _traces(source: Source, query: str) -> list[list[str]]:
    text = source.text(query)
    if query == "$trace_id":
        if not text:
            return []
        batches = source.get("tempo", f"/api/traces/{text}")["batches"]
        spans = [span for batch in batches for scope in batch.get("scopeSpans", []) for span in scope.get("spans", [])]
        spans.sort(key=lambda span: int(span["startTimeUnixNano"]))
        taken = [(int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e6 for span in spans]
        return [["span", "ms"], *([span["name"], f"{ms:.2f}"] for span, ms in zip(spans, taken, strict=True))]
    answer = source.get("tempo", "/api/search", q=text, start=int(source.start), end=int(source.end), limit=20)
    return [
        ["trace", "root", "ms"],
        *(
            [one["traceID"], one.get("rootTraceName", ""), str(one.get("durationMs", 0))]
            for one in answer.get("traces") or []
        ),
    ]


def _lines(source: Source, query: str) -> list[list[str]]:
    start, end = int(source.start * 1e9), int(source.end * 1e9)
    answer = source.get("loki", "/loki/api/v1/query_range", query=source.text(query), start=start, end=end, limit=50)
    found = [
        (at, one["stream"].get("severity_text", ""), line)
        for one in answer["data"]["result"]
        for at, line in one["values"]
    ]
    found.sort(reverse=True)
    told = [[time.strftime("%H:%M:%S", time.gmtime(int(at) // 10**9)), level, line] for at, level, line in found]
    return [["time", "level", "line"], *told]


def _rows(rows: list[list[str]], box: tuple[int, int]) -> str:
    if len(rows) < 2:
        return _note("no data")
    wide = [min(60, max(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    parts = []
    for number, row in enumerate(rows[: (box[1] - 30) // 15]):
        x = 8
        for cell, chars in zip(row, wide, strict=True):
            kind = ' class="n"' if number == 0 else ""
            parts.append(f'<text x="{x}" y="{38 + 15 * number}"{kind}>{escape(cell[:chars])}</text>')
            x += 14 + chars * 7
    return "".join(parts)


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description="Draw a dashboard from running servers, without Grafana.")
    parser.add_argument("dashboard", type=Path)
    parser.add_argument("page", type=Path)
    for name in ("prometheus", "loki", "tempo"):
        parser.add_argument(f"--{name}", required=True, metavar="URL")
    parser.add_argument("--var", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--minutes", type=float, default=60)
    asked = parser.parse_args()
    now = time.time()
    source = Source(
        urls={"prometheus": asked.prometheus, "loki": asked.loki, "tempo": asked.tempo},
        start=now - asked.minutes * 60,
        end=now,
        variables=dict(one.split("=", 1) for one in asked.var),
    )
    asked.page.write_text(draw(json.loads(asked.dashboard.read_text()), source))


if __name__ == "__main__":
    main()
