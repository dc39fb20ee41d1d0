"""What all dashboards have: a uid that stays, links to the others that keep the range, variables.

uids, titles and names of variables stay: people have them in bookmarks and links.
"""

from collections.abc import Iterable, Mapping
from itertools import count

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from spendmeter_grafana.panels import CLICKHOUSE, Panel
from spendmeter_grafana.source import Variables, spend
from spendmeter_grafana.sql import choice, name

TAG = "spendmeter"
Variable = builders.DatasourceVariable | builders.QueryVariable | builders.CustomVariable
Rows = Mapping[str, Iterable[Panel]]
"""Title of a row to its panels, from left to right."""

ZONES = (
    "UTC",
    *("America/Los_Angeles", "America/Denver", "America/Chicago", "America/New_York", "America/Toronto"),
    *("America/Mexico_City", "America/Bogota", "America/Sao_Paulo"),
    *("Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Madrid", "Europe/Paris", "Europe/Amsterdam"),
    *("Europe/Berlin", "Europe/Zurich", "Europe/Rome", "Europe/Stockholm", "Europe/Warsaw"),
    *("Europe/Helsinki", "Europe/Athens", "Europe/Istanbul"),
    *("Africa/Lagos", "Africa/Cairo", "Africa/Johannesburg", "Africa/Nairobi"),
    *("Asia/Jerusalem", "Asia/Riyadh", "Asia/Dubai", "Asia/Karachi", "Asia/Bangkok", "Asia/Jakarta"),
    *("Asia/Singapore", "Asia/Hong_Kong", "Asia/Shanghai", "Asia/Taipei", "Asia/Seoul", "Asia/Tokyo"),
    *("Australia/Perth", "Australia/Sydney", "Pacific/Auckland"),
)
_MAX_CHOICES = 1_000
_ALL = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
_LINKED = "${__url_time_range}&${datasource:queryparam}&${zone:queryparam}"


def framed(
    uid: str,
    title: str,
    description: str,
    variables: Iterable[Variable],
    rows: Rows,
    *,
    since: str = "now-7d",
    refresh: str = "1m",
) -> builders.Dashboard:
    """A dashboard of these rows."""
    made = (
        builders.Dashboard(title)
        .uid(f"spendmeter-{uid}")
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .time(since, "now")
        .refresh(refresh)
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(_links())
        .variables(list(variables))
    )
    numbers = count(1)
    for row, panels in rows.items():
        made.with_row(builders.Row(row).id(next(numbers)))
        for panel in panels:
            made.with_panel(panel.id(next(numbers)))
    return made


def to_team(column: str = "team_id") -> str:
    """The address of one team's requests."""
    return f"/d/spendmeter-team-key?var-team=${{__data.fields.{column}:percentencode}}&{_LINKED}"


def to_key() -> str:
    """The address of one key's requests."""
    return f"/d/spendmeter-team-key?var-key=${{__data.fields.key:percentencode}}&{_LINKED}"


def to_refusals() -> str:
    """The address of what one budget refused."""
    return (
        "/d/spendmeter-refusals?var-budget=${__data.fields.budget:percentencode}"
        "&${__url_time_range}&${datasource:queryparam}"
    )


def clickhouse() -> builders.DatasourceVariable:
    """Which data source: no dashboard names one."""
    return builders.DatasourceVariable("datasource").label("ClickHouse").type("grafana-clickhouse-datasource")


def prometheus() -> builders.DatasourceVariable:
    """Which Prometheus."""
    return builders.DatasourceVariable("prometheus").label("Prometheus").type("prometheus")


def team() -> builders.QueryVariable:
    """Teams that spent in the range, the dearest first."""
    return _chosen("team", "Team", _spenders("team", "team"))


def key() -> builders.QueryVariable:
    """Keys of the chosen teams that spent in the range, the dearest first."""
    return _chosen("key", "Key", _spenders("key", "key", ["team"]))


def model() -> builders.QueryVariable:
    """Models that were called in the range."""
    return _chosen("model", "Model", _spenders("model", None))


def budget() -> builders.QueryVariable:
    """Budgets in force."""
    return _chosen("budget", "Budget", "SELECT id FROM budgets_now ORDER BY id")


def zone() -> builders.CustomVariable:
    """Whose midnights begin days and months."""
    utc = dashboard.VariableOption(selected=True, text="UTC", value="UTC")
    return (
        builders.CustomVariable("zone")
        .label("Days and months of")
        .description("Type any other whose midnights are whole hours of UTC: history's sums are by hour.")
        .values(", ".join(ZONES))
        .current(utc)
        .options([utc])
        .allow_custom_value(True)
    )


def _spenders(of: str, named: str | None, variables: Variables = ()) -> str:
    shown = f",\n    {name(named)} AS label" if named else ""
    columns = f"hour, {of}, {of}_alias, spent_usd" if named else f"{of}, spent_usd"
    return (
        f"SELECT {choice(of)} AS value{shown}\nFROM\n{spend(columns, variables)}\n"
        f"GROUP BY {of}\nORDER BY sum(spent_usd) DESC, {of}\nLIMIT {_MAX_CHOICES}"
    )


def _chosen(variable: str, label: str, sql: str) -> builders.QueryVariable:
    """Any of what a query answers: a value and, where there are two columns, what it is called."""
    return (
        builders.QueryVariable(variable)
        .label(label)
        .datasource(CLICKHOUSE)
        .query({"editorType": "sql", "rawSql": sql, "refId": variable})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.DISABLED)
        .multi(True)
        .include_all(True)
        .current(_ALL)
    )


def _links() -> builders.DashboardLink:
    return (
        builders.DashboardLink("spendmeter")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
    )
