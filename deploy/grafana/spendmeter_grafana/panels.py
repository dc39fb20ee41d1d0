"""How our panels look: what a stat, a chart and a table of ours have in common."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

USD = "currencyUSD"
COUNT = "short"
SHARE = "percentunit"
SECONDS = "s"
BYTES = "bytes"
RATE = "cps"
TIME = "dateTimeAsIso"

CLICKHOUSE = dashboard.DataSourceRef(type_val="grafana-clickhouse-datasource", uid="${datasource}")
PROMETHEUS = dashboard.DataSourceRef(type_val="prometheus", uid="${prometheus}")

Panel = stat.Panel | table.Panel | timeseries.Panel
Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour; None: from the lowest."""
Links = Mapping[str, str]
"""Of a table: column to the address that its cells lead to."""

PLAIN: Steps = ((None, "blue"),)
NONE_IS_GOOD: Steps = ((None, "green"), (1, "orange"))
NONE_IS_VITAL: Steps = ((None, "green"), (1, "red"))

_SERIES_FORMAT, _TABLE_FORMAT = 0, 1
_NAME_OF_SERIES = "${__field.labels.name}"


class SqlQuery(Dataquery, Builder[Dataquery]):
    """A query as the official data source for ClickHouse has it in its editor for SQL."""

    def __init__(self, sql: str, *, is_series: bool = False) -> None:
        self._sql = sql
        self._format = _SERIES_FORMAT if is_series else _TABLE_FORMAT

    def build(self) -> Dataquery:
        """Itself: it has no parts."""
        return self

    def to_json(self) -> dict[str, Any]:
        """As it stands in a dashboard."""
        return {
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "format": self._format,
            "queryType": "table" if self._format else "timeseries",
            "rawSql": self._sql,
            "refId": "A",
        }


def figure(title: str, description: str, sql: str, unit: str = USD, steps: Steps = PLAIN) -> stat.Panel:
    """One number, four columns wide."""
    return (
        _big(title, description, unit, steps)
        .datasource(CLICKHOUSE)
        .with_target(SqlQuery(sql))
        .no_value("0")
        .span(4)
        .height(4)
    )


def chart(
    title: str,
    description: str,
    sql: str,
    unit: str = USD,
    interval: str = "1h",
    width: int = 12,
    bars: int | None = None,
) -> timeseries.Panel:
    """Stacked bars over time, a series for each name; about so many bars, else as many as have room."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .with_target(SqlQuery(sql, is_series=True))
        .interval(interval)
        .unit(unit)
        .display_name(_NAME_OF_SERIES)
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .line_width(0)
        .stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
        .legend(_legend())
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .span(width)
        .height(9)
    )
    return panel if bars is None else panel.max_data_points(bars)


def rows(
    title: str,
    description: str,
    sql: str,
    units: Mapping[str, str],
    links: Links = MappingProxyType({}),
    width: int = 12,
    steps: Mapping[str, Steps] = MappingProxyType({}),
) -> table.Panel:
    """A table.

    Args:
        units: column to its unit.
        steps: column to the colours of its values, which are drawn as gauges from 0 to 1.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .with_target(SqlQuery(sql))
        .filterable(True)
        .span(width)
        .height(9)
    )
    for column, unit in units.items():
        panel.override_by_name(column, _properties(unit, steps.get(column)))
    for column, address in links.items():
        link = {"title": "Open ${__value.text}", "url": address}
        panel.override_by_name(column, [dashboard.DynamicConfigValue("links", [link])])
    return panel


def gauge(
    title: str, description: str, expression: str, unit: str = COUNT, steps: Steps = PLAIN
) -> stat.Panel:
    """One number from Prometheus, as it is now, four columns wide."""
    target = prometheus.Dataquery().expr(expression).instant().legend_format("__auto").ref_id("A")
    return (
        _big(title, description, unit, steps)
        .datasource(PROMETHEUS)
        .with_target(target.datasource(PROMETHEUS))
        .span(4)
        .height(4)
    )


def lines(
    title: str, description: str, expressions: Mapping[str, str], unit: str = COUNT, width: int = 8
) -> timeseries.Panel:
    """Lines from Prometheus. `expressions`: what a line is called to what it is."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .line_width(1)
        .fill_opacity(10)
        .legend(_legend())
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .span(width)
        .height(8)
    )
    for letter, (legend, expression) in zip("ABCDEF", expressions.items(), strict=False):
        target = prometheus.Dataquery().expr(expression).range().legend_format(legend).ref_id(letter)
        panel.with_target(target.format(PromQueryFormat.TIME_SERIES).datasource(PROMETHEUS))
    return panel


def _big(title: str, description: str, unit: str, steps: Steps) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .thresholds(_thresholds(steps))
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    made = [dashboard.Threshold(value=value, color=color) for value, color in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(made)


def _properties(unit: str, steps: Steps | None) -> list[dashboard.DynamicConfigValue]:
    properties = [dashboard.DynamicConfigValue("unit", unit)]
    if steps is not None:
        properties += [
            dashboard.DynamicConfigValue("min", 0),
            dashboard.DynamicConfigValue("max", 1),
            dashboard.DynamicConfigValue("thresholds", _thresholds(steps).build().to_json()),
            dashboard.DynamicConfigValue("custom.cellOptions", {"type": "gauge", "mode": "basic"}),
        ]
    return properties
