"""A dashboard's SQL as ClickHouse gets it: variables replaced as by Grafana, macros as by its data source.

In that order, from their sources: `$__conditionalAll`, variables, macros
(grafana/clickhouse-datasource 4.20: `applyConditionalAll` in CHDatasource.ts, macros.go).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

DASHBOARDS = Path(__file__).parents[3] / "deploy/grafana/dashboards"
ALL = "$__all"
PIXELS = 75
"""Of a column of a dashboard, on a wide screen."""
_CONDITIONAL = "$__conditionalAll("


class PanelView(NamedTuple):
    """How somebody looks at a dashboard."""

    start: datetime
    end: datetime
    interval_seconds: int
    zone: str = "UTC"
    chosen: Mapping[str, Sequence[str]] = {}
    """Variable to its values; all of one that is not here."""


class PanelSql(NamedTuple):
    """A query of a panel, or of a variable: its name in place of a title."""

    dashboard: str
    title: str
    sql: str
    points: int
    """How many pieces a chart has at the most; Grafana's default is its width in pixels."""


def panels() -> Iterator[PanelSql]:
    """Every query to ClickHouse of every dashboard that is checked in."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        made = json.loads(path.read_text(encoding="utf-8"))
        for variable in made["templating"]["list"]:
            if variable["type"] == "query":
                yield PanelSql(made["uid"], f"${variable['name']}", variable["query"]["rawSql"], PIXELS)
        for panel in made["panels"]:
            points = panel.get("maxDataPoints", panel["gridPos"]["w"] * PIXELS)
            for target in panel.get("targets", []):
                if "rawSql" in target:
                    yield PanelSql(made["uid"], panel["title"], target["rawSql"], points)


def expand(sql: str, view: PanelView) -> str:
    """What ClickHouse is asked."""
    return _expand_macros(_replace_variables(_apply_conditional_all(sql, view), view), view)


def _apply_conditional_all(sql: str, view: PanelView) -> str:
    while (at := sql.rfind(_CONDITIONAL)) != -1:
        arguments = _arguments(sql, at + len(_CONDITIONAL) - 1)
        assert len(arguments) == 2, sql
        condition, reference = arguments
        name = re.search(r"(?<=\$\{)\w+(?=\})|(?<=\$)\w+", reference)
        assert name is not None, reference
        phrase = "1=1" if _chosen(name[0], view) == [ALL] else condition
        sql = sql.replace(f"{_CONDITIONAL}{condition},{reference})", phrase, 1)
    return sql


def _arguments(text: str, bracket: int) -> list[str]:
    """What stands between a bracket and its end, cut at the commas of its depth; brackets in texts count."""
    found, depth, begin = list[str](), 0, bracket + 1
    for at in range(bracket, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if (text[at] == "," and depth == 1) or depth == 0:
            found.append(text[begin:at])
            begin = at + 1
        if depth == 0:
            return found
    raise ValueError(f"a bracket is not closed: {text[bracket:]}")


def _replace_variables(sql: str, view: PanelView) -> str:
    def replaced(match: re.Match[str]) -> str:
        name, form = match[1], match[2]
        values = [view.zone] if name == "zone" else _chosen(name, view)
        match form:
            case "queryparam":
                return "&".join(f"var-{name}={quote(value, safe='-_.~')}" for value in values)
            case "singlequote":
                return ",".join("'" + value.replace("'", r"\'") + "'" for value in values)
        raise ValueError(f"no such format here: {match[0]}")

    return re.sub(r"\$\{(\w+):(\w+)\}", replaced, sql)


def _chosen(variable: str, view: PanelView) -> list[str]:
    return list(view.chosen.get(variable, [ALL]))


def _expand_macros(sql: str, view: PanelView) -> str:
    start, end, seconds = (
        int(view.start.timestamp()),
        int(view.end.timestamp()),
        max(view.interval_seconds, 1),
    )
    plain: dict[str, Any] = {
        "fromTime": f"toDateTime({start})",
        "toTime": f"toDateTime({end})",
        "interval_s": seconds,
    }

    def called(match: re.Match[str]) -> str:
        match match[1]:
            case "timeFilter":
                return f"{match[2]} >= {plain['fromTime']} AND {match[2]} <= {plain['toTime']}"
            case "timeInterval":
                return f"toStartOfInterval(toDateTime({match[2]}), INTERVAL {seconds} second)"
        raise ValueError(f"no such macro here: {match[0]}")

    sql = re.sub(r"\$__(\w+)\(([\w.]+)\)", called, sql)
    return re.sub(r"\$__(\w+)", lambda match: str(plain[match[1]]), sql)
