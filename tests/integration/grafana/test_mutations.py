"""The oracle notices what goes wrong with SQL about money: each mutation makes a panel show other numbers."""

from typing import NamedTuple

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.integration.grafana.conftest import StoredHistory
from tests.integration.grafana.plugin import PanelSql
from tests.integration.grafana.test_panels import (
    CUT_AT_ITS_END,
    MONTH_END,
    OF_KEYS,
    QUERIES,
    VIEWS,
    differences,
)

ALL, SOME, HALF_AN_HOUR = VIEWS
OVERVIEW, OF_TEAM, BUDGETS, REFUSALS = (
    f"spendmeter-{name}" for name in ("overview", "team-key", "budgets", "refusals")
)
_DAILY = "toDate(occurred_at) AS day, ifNull(team, '') AS team, model, cost_usd AS spent_usd"
_EVENTLY = "toStartOfHour(occurred_at) AS hour, key, ifNull(team, '') AS team, model, cost_usd AS spent_usd"
_DAYS = "by_team_model_day"


class SqlMutation(NamedTuple):
    """What somebody may write by mistake, and in which view of the panel it shows."""

    what: str
    dashboard: str
    panel: str
    old: str
    new: str
    view: str = ALL


MUTATIONS = (
    SqlMutation(
        "rows in place of the view, without FINAL",
        OVERVIEW,
        "Spent",
        _DAYS,
        f"(SELECT {_DAILY} FROM usage)",
    ),
    SqlMutation(
        "rows with FINAL, but no corrections",
        *(OVERVIEW, "Spent", _DAYS, f"(SELECT {_DAILY} FROM usage FINAL WHERE kind = 'usage')"),
    ),
    SqlMutation(
        "sums that no longer count",
        OVERVIEW,
        "Spent",
        _DAYS,
        "(SELECT *, toDate(start) AS day FROM usage_days)",
    ),
    SqlMutation(
        "rows of all that was ever recounted beside sums",
        *(
            OVERVIEW,
            "Spent",
            _DAYS,
            "(SELECT * FROM by_team_model_day UNION ALL SELECT * FROM by_team_model_day)",
        ),
    ),
    SqlMutation(
        "the range forgotten", OVERVIEW, "Spent", "hour >= toStartOfHour($__fromTime, 'UTC')", "1", SOME
    ),
    SqlMutation("its end forgotten", OVERVIEW, "Spent", "hour < $__toTime", "1", SOME),
    SqlMutation(
        "an hour that has begun before the range is left out",
        *(OVERVIEW, "Spent", "toStartOfHour($__fromTime, 'UTC')", "$__fromTime", HALF_AN_HOUR),
    ),
    SqlMutation("a filter by team forgotten", OVERVIEW, "Spent", "$team)", "$team) OR 1", SOME),
    SqlMutation(
        "requests without a team are not those of (none)",
        *(OVERVIEW, "Spent", "['', one]", "[one]", SOME),
    ),
    SqlMutation("single precision", OVERVIEW, "Spent", "sum(spent_usd)", "sum(toFloat32(spent_usd))"),
    SqlMutation(
        "doubles added up", OVERVIEW, "Teams", "sum(spent_usd) AS usd", "sum(toFloat64(spent_usd)) AS usd"
    ),
    SqlMutation("an average", OVERVIEW, "Spent", "sum(spent_usd)", "avg(spent_usd)"),
    SqlMutation(
        "days of UTC",
        OVERVIEW,
        "Spent by day",
        "toStartOfDay(hour, ${zone:singlequote})",
        "toStartOfDay(hour)",
    ),
    SqlMutation("months of UTC", OVERVIEW, "This month", "${zone:singlequote}", "'UTC'", SOME),
    SqlMutation(
        "a month that is over is not the next",
        OVERVIEW,
        "Last month",
        "$__toTime - 1",
        "$__toTime",
        MONTH_END,
    ),
    SqlMutation(
        "those without a series are left out",
        *(OVERVIEW, "Spent by team", "LEFT JOIN", "INNER JOIN"),
    ),
    SqlMutation(
        "joined by name: of teams of one name each counts for both",
        *(
            OVERVIEW,
            "Spent by team",
            "SELECT team, coalesce",
            "SELECT DISTINCT arrayJoin([team, 't-ads']) AS team, coalesce",
        ),
    ),
    SqlMutation("the dearest of all time", OVERVIEW, "Spent by team", "LIMIT 10", "LIMIT 9"),
    SqlMutation("the cheapest first", OVERVIEW, "Spent by team", "sum(spent_usd) DESC", "sum(spent_usd)"),
    SqlMutation(
        "teams of one name are one", OVERVIEW, "Teams", "GROUP BY team\n", "GROUP BY team_alias, team\n"
    ),
    SqlMutation(
        "the first name, not the latest", OF_TEAM, "Keys", "argMaxIf(key_alias", "argMinIf(key_alias"
    ),
    SqlMutation("input tokens alone", OVERVIEW, "Models", "/ (input + output)", "/ input"),
    SqlMutation(
        "LiteLLM's prefix kept",
        OF_TEAM,
        "Models",
        _DAYS,
        "(SELECT *, toDate(occurred_at) AS day, cost_usd AS spent_usd, 1 AS requests FROM usage FINAL)",
    ),
    SqlMutation("a tag that stands twice counts twice", OF_TEAM, "Tags", "arrayDistinct(tags)", "tags"),
    SqlMutation(
        "requests without tags are left out",
        OF_TEAM,
        "Tags",
        "if(empty(tags), ['(none)'], arrayDistinct(tags))",
        "arrayDistinct(tags)",
    ),
    SqlMutation(
        "all tags of a request together",
        OF_TEAM,
        "Tags",
        "arrayJoin(if(empty(tags), ['(none)'], arrayDistinct(tags)))",
        "if(empty(tags), '(none)', tags[1])",
    ),
    SqlMutation(
        "what was recorded, before corrections", OF_TEAM, "Customers", "sum(spent_usd)", "sum(recorded_usd)"
    ),
    SqlMutation(
        "a range by the hour where it is exact",
        OF_TEAM,
        "Customers",
        "$__timeFilter(occurred_at)",
        "toStartOfHour(occurred_at) >= $__fromTime",
        SOME,
    ),
    SqlMutation(
        "by what was recorded", OF_TEAM, "Dearest requests", "ORDER BY usd DESC", "ORDER BY recorded DESC"
    ),
    SqlMutation("every signal, not the latest", BUDGETS, "Accounts", "accounts_now", "signals"),
    SqlMutation(
        "budgets that were removed, windows that are over", BUDGETS, "Accounts", "accounts_now", "signals_now"
    ),
    SqlMutation("every revision of a budget", BUDGETS, "Budgets in force", "budgets_now", "budgets"),
    SqlMutation(
        "accounts without a name are left out",
        BUDGETS,
        "Accounts closest to their limits",
        "LEFT JOIN",
        "INNER JOIN",
    ),
    SqlMutation(
        "names of keys by the budget",
        BUDGETS,
        "Accounts closest to their limits",
        "keys.key = account.subject['key']",
        "keys.key = account.budget_id",
    ),
    SqlMutation("a piece in place of an hour", BUDGETS, "Burn rate by team", " * 3600 / if(", " / if("),
    SqlMutation("an hour too few", BUDGETS, "Burn rate", "$__toTime - 1", "$__toTime - 3601"),
    SqlMutation("every copy of a refusal", REFUSALS, "Refused requests", "FROM refusals", "FROM decisions"),
    SqlMutation("every copy of an alert", REFUSALS, "Alerts by kind", "FROM alerts_once", "FROM alerts"),
    SqlMutation(
        "when it was stored, not decided",
        REFUSALS,
        "Refused by why",
        "$__timeInterval(decided_at)",
        "$__timeInterval(window_start)",
    ),
    SqlMutation(
        "accounts counted with their copies",
        REFUSALS,
        "Refused by which budget",
        "uniqExact(account)",
        "count(account)",
    ),
    SqlMutation(
        "days counted by the day and by the hour",
        *(OVERVIEW, "Spent", "NOT (toDate(hour)", "NOT (0 AND toDate(hour)"),
    ),
    SqlMutation(
        "hours of days that are cut left out",
        *(OVERVIEW, "Spent", "NOT (toDate(hour)", "NOT (1 OR toDate(hour)", SOME),
    ),
    SqlMutation("the first day left out", OVERVIEW, "Spent", "day >= toDate(", "day > toDate("),
    SqlMutation("the last day left out", OVERVIEW, "Spent", "day < toDate(", "day + 1 < toDate("),
    SqlMutation(
        "the day that the range begins in counted whole",
        *(OVERVIEW, "Spent", "'UTC') - 1, 'UTC') + 1", "'UTC'), 'UTC')", SOME),
    ),
    SqlMutation(
        "the day that the range ends in counted whole",
        *(OVERVIEW, "Spent", "$__toTime + 3599", "$__toTime + 86399", SOME),
    ),
    SqlMutation(
        "a day in a piece that is shorter",
        *(
            OVERVIEW,
            "Spent by team",
            "if($__interval_s = 43200, 86400, $__interval_s) % 86400 = 0",
            "1",
            SOME,
        ),
    ),
    SqlMutation(
        "an hour in the day of UTC and in the zone's",
        *(OVERVIEW, "Spent by day", ", -1)])", ", 0)])"),
    ),
    SqlMutation(
        "hours that the zone has in another day left in theirs",
        *(OVERVIEW, "Spent by day", ") OR toStartOfDay(", ") OR 1 != 1 AND toStartOfDay("),
    ),
    SqlMutation(
        "the days of keys left out where models are chosen",
        *(OVERVIEW, "Keys", "NOT $__conditionalAll(1 = 0, $model)", "0", SOME),
    ),
    SqlMutation(
        "keys of all models beside those of the chosen",
        *(OVERVIEW, "Keys", "WHERE $__conditionalAll(1 = 0, $model)", "WHERE 1", SOME),
    ),
    SqlMutation(
        "the day of keys that the range ends in counted whole",
        *(OVERVIEW, "Keys", "days_end = toDate(", "days_end = 1 + toDate(", CUT_AT_ITS_END),
    ),
    SqlMutation(
        "all keys beside the chosen",
        *(OF_TEAM, "Spent", "WHERE $__conditionalAll(1 = 0, $key)", "WHERE 1", HALF_AN_HOUR),
    ),
    SqlMutation("events beside their sums", OF_TEAM, "Spent", "NOT $__conditionalAll(1 = 0, $key)", "1"),
    SqlMutation(
        "copies of the chosen keys' events",
        *(OF_TEAM, "Spent", "entries", f"(SELECT {_EVENTLY} FROM usage)", OF_KEYS),
    ),
    SqlMutation(
        "the others with those that have a series",
        *(OF_TEAM, "Spent by key", "('all others', -1)", "('all others', 0)"),
    ),
    SqlMutation(
        "others of whom there are none", OF_TEAM, "Spent by key", "HAVING sum(spend.events) > 0", "", SOME
    ),
)


def broken(mutation: SqlMutation) -> PanelSql:
    [panel] = [q for q in QUERIES if (q.dashboard, q.title) == (mutation.dashboard, mutation.panel)]
    assert mutation.old in panel.sql, f"{mutation.what}: this panel has no longer {mutation.old}"
    return panel._replace(sql=panel.sql.replace(mutation.old, mutation.new))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_the_oracle_notices(stored: StoredHistory, mutation: SqlMutation) -> None:
    try:
        assert differences(stored, broken(mutation), [mutation.view]), "the same numbers"
    except DatabaseError as error:
        pytest.fail(f"ClickHouse refuses it, so it shows nothing: {error}")
