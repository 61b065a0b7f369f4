"""How panels and dashboards are made of queries, with Grafana's own SDK: one way for each kind of panel."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, logs, loki, prometheus, stat, table, tempo, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.tempo import SearchTableType

from leaderboard_dashboards.queries import TENANTS, Language, Query, Shape

WIDTH = 24
"""Columns of Grafana's grid."""
_TENANT_LINK = "/d/leaderboard-tenant?var-tenant=${__value.raw}&${__url_time_range}"
_TRACE_LINK = "/d/leaderboard-tracing?var-trace_id=${__value.raw}&${__url_time_range}"
_OBJECTIVE = 0.01
"""Seconds: the platform's promise, a line in panels of latency."""

Panel = Builder[models.Panel]


def source(language: Language) -> models.DataSourceRef:
    """Return the data source of a language; its uid is fixed by grafana/provisioning."""
    return models.DataSourceRef(type_val=language.value, uid=language.value)


def _targets(queries: Sequence[Query], *, instant: bool = False) -> list[Builder[Dataquery]]:
    made: list[Builder[Dataquery]] = []
    for ref, query in zip("ABCDEFGH", queries, strict=False):
        if query.language is Language.LOGQL:
            lines = loki.Dataquery().expr(query.text).query_type("range").legend_format(query.legend)
            made.append(lines.ref_id(ref).datasource(source(query.language)))
        elif query.language is Language.TRACEQL:
            traces = tempo.TempoQuery().query(query.text).query_type("traceql").limit(20)
            traces = traces.table_type(SearchTableType.TRACES).filters([])
            made.append(traces.ref_id(ref).datasource(source(query.language)))
        else:
            numbers = prometheus.Dataquery().expr(query.text).legend_format(query.legend).exemplar(query.exemplars)
            numbers = numbers.instant().format(PromQueryFormat.TABLE) if instant else numbers.range()
            made.append(numbers.ref_id(ref).datasource(source(query.language)))
    return made


def _about(queries: Sequence[Query]) -> str:
    return "\n\n".join(dict.fromkeys(query.description for query in queries))


def _at(*steps: tuple[float | None, str]) -> builders.ThresholdsConfig:
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def lines(title: str, *queries: Query, width: int = 8, height: int = 8) -> Panel:
    """Series over time. Seconds get a red line at 10 ms where they are latencies with exemplars."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(_about(queries))
        .unit(queries[0].unit)
        .min(0)
        .span(width)
        .height(height)
        .datasource(source(queries[0].language))
        .targets(_targets(queries))
        .fill_opacity(8)
    )
    if any(query.exemplars for query in queries):
        panel = panel.thresholds(_at((None, "green"), (_OBJECTIVE, "red")))
        dashed = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds_style(dashed)
    return panel


def number(title: str, query: Query, *, red_at: float | None = None, width: int = 4, height: int = 4) -> Panel:
    """The newest value, red from `red_at` on."""
    steps: list[tuple[float | None, str]] = [(None, "green")]
    if red_at is not None:
        steps.append((red_at, "red"))
    return (
        stat.Panel()
        .title(title)
        .description(query.description)
        .unit(query.unit)
        .span(width)
        .height(height)
        .datasource(source(query.language))
        .targets(_targets([query]))
        .thresholds(_at(*steps))
        .no_value("nothing yet")
    )


def tenants(title: str, *queries: Query, names: Sequence[str], height: int = 9) -> Panel:
    """A row for each tenant, a column named by `names` for each query; the tenant leads to its dashboard."""
    hidden = {"Time": True}
    renamed = {"leaderboard_tenant": "tenant"}
    panel = (
        table.Panel()
        .inspect(False)
        .title(title)
        .description(_about(queries))
        .unit("short")
        .span(WIDTH)
        .height(height)
        .datasource(source(Language.PROMQL))
        .targets(_targets(queries, instant=True))
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    )
    for ref, name, query in zip("ABCDEFGH", names, queries, strict=False):
        renamed[f"Value #{ref}"] = name
        panel = panel.override_by_name(name, [models.DynamicConfigValue(id_val="unit", value=query.unit)])
    link = {"title": "Open the tenant", "url": _TENANT_LINK}
    panel = panel.override_by_name("tenant", [models.DynamicConfigValue(id_val="links", value=[link])])
    organized = {"excludeByName": hidden, "renameByName": renamed}
    return panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=organized))


def found(title: str, query: Query, *, width: int = 12, height: int = 9) -> Panel:
    """Traces that a search finds, each leading to the Tracing dashboard; or the spans of one trace."""
    if query.shape is Shape.TRACE:
        return (
            builders.Panel()
            .type("traces")
            .title(title)
            .description(query.description)
            .span(width)
            .height(height)
            .datasource(source(query.language))
            .targets(_targets([query]))
        )
    link = {"title": "Show the trace and its log lines", "url": _TRACE_LINK}
    return (
        table.Panel()
        .inspect(False)
        .title(title)
        .description(query.description)
        .span(width)
        .height(height)
        .datasource(source(query.language))
        .targets(_targets([query]))
        .override_by_name("traceID", [models.DynamicConfigValue(id_val="links", value=[link])])
    )


def written(title: str, query: Query, *, width: int = 12, height: int = 9) -> Panel:
    """Log lines."""
    return (
        logs.Panel()
        .title(title)
        .description(query.description)
        .span(width)
        .height(height)
        .datasource(source(query.language))
        .targets(_targets([query]))
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
    )


def tenant_variable() -> Builder[models.VariableModel]:
    """The tenant, by its slug."""
    return (
        builders.QueryVariable("tenant")
        .label("Tenant")
        .datasource(source(Language.PROMQL))
        .query(f"query_result({TENANTS.text})")
        .regex('/leaderboard_tenant="([^"]+)"/')
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def page(
    uid: str,
    title: str,
    description: str,
    *panels: Panel,
    variables: Sequence[Builder[models.VariableModel]] = (),
) -> models.Dashboard:
    """Return a dashboard with its panels from left to right, row after row, and links to the others."""
    made = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["leaderboard"])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            builders.DashboardLink("Leaderboard platform")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["leaderboard"])
            .keep_time(True)
        )
    )
    for variable in variables:
        made = made.with_variable(variable)
    for number_, panel in enumerate(panels, 1):
        made = made.with_panel(panel)
        assert made._internal.panels is not None
        made._internal.panels[-1].id_val = number_
    return made.build()
