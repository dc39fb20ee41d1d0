"""The rules for Prometheus, run by promtool: each alert fires when it should, and not when it should not."""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.promtool import NoPromtool, find_promtool

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy/prometheus/rules.yaml"
METRICS = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")
RUNBOOK = "https://github.com/spendmeter/spendmeter/blob/main/docs/runbooks.md#"


class Rises(NamedTuple):
    """A counter with these labels, and for how many minutes the alert is about a rise."""

    metric: str
    labels: str = ""
    minutes: int = 60


class Above(NamedTuple):
    """A gauge: a value that fires, the nearest that does not, and after how many minutes it fires."""

    metric: str
    fires: float
    silent: float
    minutes: int = 0
    labels: str = ""


DAY = 24 * 60
ALERTS: dict[str, list[Rises | Above]] = {
    "SpendmeterDown": [Above("up", 0, 1, 2, 'job="spendmeter-sink"')],
    "SpendmeterNotReady": [Above("spendmeter_ready", 0, 1, 2)],
    "SpendmeterInternalErrors": [Rises("spendmeter_internal_errors_total", 'where="sender"', 5)],
    "SpendmeterEventsLost": [Rises("spendmeter_outbox_lost_total", 'reason="full"', 5)],
    "SpendmeterOutboxFilling": [Above("spendmeter_outbox_fill_ratio", 0.51, 0.5, 1)],
    "SpendmeterOutboxNotSent": [Above("spendmeter_outbox_oldest_unsent_seconds", 61, 60, 1)],
    "SpendmeterOutboxDamaged": [
        Rises("spendmeter_outbox_cut_bytes_total"),
        Rises("spendmeter_outbox_unflushed_total"),
    ],
    "SpendmeterSignalsRefused": [
        Rises("spendmeter_signal_watermarks_refused_total"),
        Rises("spendmeter_signal_records_refused_total"),
    ],
    "SpendmeterUnloggedAnswers": [
        Rises("spendmeter_unlogged_answers_total"),
        Rises("spendmeter_holds_expired_total"),
    ],
    "SpendmeterBillsMissing": [Rises("spendmeter_objects_unread_total", minutes=DAY)],
    "SpendmeterRefusalsUnexplained": [Rises("spendmeter_decisions_lost_total")],
    "SpendmeterUnpricedModel": [Rises("spendmeter_unpriced_total", 'model="m"', DAY)],
    "SpendmeterDoubtedCosts": [Rises("spendmeter_doubted_costs_total", 'reason="zero"', DAY)],
    "SpendmeterLimitNotInForce": [
        Rises("spendmeter_adoption_problems_total"),
        Rises("spendmeter_price_book_refused_total"),
    ],
    "SpendmeterOpeningsWaiting": [
        Above("spendmeter_openings_waiting", 1, 0, 10),
        Above("spendmeter_stream_budgets_opening", 1, 0, 10),
    ],
    "SpendmeterAccountsCapped": [Rises("spendmeter_stream_capped_total")],
    "SpendmeterTotalsIncomplete": [Rises("spendmeter_stream_records_gone_total", minutes=5)],
    "SpendmeterHistoryIncomplete": [Rises("spendmeter_sink_records_gone_total", 'topic="spend.usage"', 5)],
    "SpendmeterSignalsLate": [
        Above("spendmeter_stream_lag_seconds", 61, 60, 1, 'topic="spend.usage",partition="0"')
    ],
    "SpendmeterHistoryLate": [Above("spendmeter_sink_lag_seconds", 61, 60, 1, 'topic="spend.usage"')],
    "SpendmeterInsertsRefused": [Rises("spendmeter_sink_refusals_total", 'table="usage"')],
    "SpendmeterDeadLetters": [
        Rises("spendmeter_dead_letters_total", 'topic="spend.usage",reason="not_json"'),
        Rises("spendmeter_sink_dead_letters_total", 'topic="spend.alerts",reason="not_json"'),
    ],
    "SpendmeterForeignProducer": [
        Rises("spendmeter_dead_letters_total", 'topic="spend.usage",reason="foreign_producer"')
    ],
    "SpendmeterLettersNotKept": [Rises("spendmeter_sink_unkept_letters_total")],
    "SpendmeterForeignRecords": [
        Rises("spendmeter_budget_records_refused_total"),
        Rises("spendmeter_object_records_refused_total"),
        Rises("spendmeter_alert_records_refused_total"),
        Rises("spendmeter_stream_changelog_records_refused_total"),
    ],
    "SpendmeterAlertsNotDelivered": [
        Above("spendmeter_alerts_oldest_unsent_seconds", 301, 300, 0, 'route="r"')
    ],
    "SpendmeterAlertsSkipped": [Rises("spendmeter_alerts_skipped_total", 'route="r"')],
    "SpendmeterNotReconciled": [Above("spendmeter_reconcile_seconds_since_equal", 172_801, 172_800)],
    "SpendmeterCheckOverdue": [Above("spendmeter_watch_overdue_seconds", 7_201, 7_200, 0, 'check="drift"')],
    "SpendmeterCanaryFails": [Above("spendmeter_canary_failing_rounds", 3, 2)],
    "SpendmeterCanaryNoRound": [Above("spendmeter_canary_since_through_seconds", 601, 600)],
    "SpendmeterCanaryRefusedLate": [Rises("spendmeter_canary_late_refusals_total")],
    "SpendmeterCanaryRefusedBelowLimit": [Rises("spendmeter_canary_refused_below_limit_total")],
}
BEFORE = 10
"""Minutes of quiet before something happens."""


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return found


def alerts() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return find_promtool()
    except NoPromtool as none:
        pytest.skip(str(none))


def failures(
    promtool: Path, directory: Path, rules: list[dict[str, Any]], tests: list[dict[str, Any]]
) -> str:
    """What promtool says of the tests; empty where all pass."""
    (directory / "rules.yaml").write_text(yaml.safe_dump({"groups": rules}), encoding="utf-8")
    files = []
    for number, test in enumerate(tests):
        files.append(f"{number}.yaml")
        written = {"rule_files": ["rules.yaml"], "evaluation_interval": test["interval"], "tests": [test]}
        (directory / files[-1]).write_text(yaml.safe_dump(written), encoding="utf-8")
    ended = subprocess.run(
        [promtool, "test", "rules", *files], cwd=directory, check=False, capture_output=True, text=True
    )
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def firing(alert: str, at: int, instances: Iterable[str]) -> dict[str, Any]:
    """Which instances' alerts fire at that minute, and nobody else's."""
    return {
        "expr": f'count by (instance) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": f"{at}m",
        "exp_samples": [{"labels": f'{{instance="{one}"}}', "value": 1} for one in instances],
    }


class Scenario:
    """What happens to counters, or to gauges, whose alerts are about the same time."""

    def __init__(self, minutes: int) -> None:
        # A series is looked for in the five minutes before.
        self._step = 4 if minutes >= 60 else 1
        self._minutes = minutes
        self._series: list[dict[str, str]] = []
        self._asked: list[dict[str, Any]] = []

    def add(self, alert: str, cases: Iterable[Rises | Above]) -> None:
        ills: list[str] = []
        for case in cases:
            if isinstance(case, Above):
                ills += self._above(case)
            else:
                ills += self._rises(case)
        begins = BEFORE if isinstance(case, Above) else self._minutes + BEFORE
        takes = self._minutes if isinstance(case, Above) else self._step
        lasts = 5 if isinstance(case, Above) else self._minutes
        self._asked += [
            firing(alert, begins + takes - 2 * self._step, []),
            firing(alert, begins + takes, ills),
            firing(alert, begins + takes + lasts + 2 * self._step, []),
        ]

    def _rises(self, case: Rises) -> list[str]:
        before, after = (self._minutes + BEFORE) // self._step, (self._minutes + 2 * BEFORE) // self._step
        self._put(case, "unused", f"0x{before + after}")
        self._put(case, "steady", f"7x{before + after}")
        self._put(case, "restarted", f"7x{before - 1} 0x{after}")
        return [
            self._put(case, "again", f"7x{before - 1} 8x{after}"),
            self._put(case, "first", f"_x{before} 1x{after}"),
        ]

    def _above(self, case: Above) -> list[str]:
        silent, fires = case.silent, case.fires
        self._put(case, "well", f"{silent}x{BEFORE + case.minutes + 20}")
        if case.minutes:
            self._put(case, "short", f"{silent}x{BEFORE - 1} {fires}x{case.minutes - 1} {silent}x20")
        return [self._put(case, "ill", f"{silent}x{BEFORE - 1} {fires}x{case.minutes + 5} {silent}x20")]

    def _put(self, case: Rises | Above, what: str, values: str) -> str:
        instance = f"{what} {case.metric}"
        labels = ",".join(filter(None, [case.labels, f'instance="{instance}"']))
        self._series.append({"series": f"{case.metric}{{{labels}}}", "values": values})
        return instance

    def test(self) -> dict[str, Any]:
        """As promtool reads it."""
        return {
            "interval": f"{self._step}m",
            "input_series": self._series,
            "promql_expr_test": self._asked,
        }


def all_tests() -> list[dict[str, Any]]:
    scenarios: dict[tuple[type, int], Scenario] = {}
    for alert, cases in ALERTS.items():
        ((kind, minutes),) = {(type(case), case.minutes) for case in cases}
        scenarios.setdefault((kind, minutes), Scenario(minutes)).add(alert, cases)
    return [scenario.test() for scenario in scenarios.values()]


def test_each_alert_fires_when_it_should_and_not_when_it_should_not(promtool: Path, tmp_path: Path) -> None:
    assert {rule["alert"] for rule in alerts()} == set(ALERTS)
    assert failures(promtool, tmp_path, groups(), all_tests()) == ""


@pytest.mark.parametrize("condition", ["< 0", ">= 0"])
def test_an_alert_that_never_or_always_fires_is_noticed(
    promtool: Path, tmp_path: Path, condition: str
) -> None:
    rules = [{"alert": alert, "expr": f"{cases[0].metric} {condition}"} for alert, cases in ALERTS.items()]

    said = failures(promtool, tmp_path, [{"name": "broken", "rules": rules}], all_tests())

    assert set(re.findall(r"Spendmeter\w+", said)) == set(ALERTS)


def test_other_jobs_and_other_reasons_are_other_peoples_alerts(promtool: Path, tmp_path: Path) -> None:
    foreign = Rises("spendmeter_dead_letters_total", 'topic="spend.usage",reason="foreign_producer"')
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": 'up{job="somebody-elses",instance="i"}', "values": "0x20"}],
            "promql_expr_test": [firing("SpendmeterDown", 20, [])],
        },
        {
            "interval": "1m",
            "input_series": [
                {"series": f'{foreign.metric}{{{foreign.labels},instance="i"}}', "values": "_x9 1x20"}
            ],
            "promql_expr_test": [
                firing("SpendmeterDeadLetters", 12, []),
                firing("SpendmeterForeignProducer", 12, ["i"]),
            ],
        },
    ]
    assert failures(promtool, tmp_path, groups(), tests) == ""


def test_what_is_recorded_is_what_its_name_says(promtool: Path, tmp_path: Path) -> None:
    account = 'budget="b",team="red"'

    def sampled(expr: str, **values: float) -> dict[str, Any]:
        samples = [{"labels": labels.replace("'", '"'), "value": value} for labels, value in values.items()]
        return {"expr": expr, "eval_time": "10m", "exp_samples": samples}

    given = [
        (f'spendmeter_budget_spent_usd{{{account},instance="1",job="j"}}', "3x10"),
        (f'spendmeter_budget_limit_usd{{{account},instance="1",job="j"}}', "4x10"),
        ('spendmeter_stream_events_total{outcome="counted",instance="1"}', "0+60x10"),
        ('spendmeter_stream_events_total{outcome="counted",instance="2"}', "0+120x10"),
        ('spendmeter_refused_total{why="spent",instance="1"}', "0+6x10"),
        ('spendmeter_stream_lag_seconds{topic="t",partition="0"}', "5x10"),
        ('spendmeter_stream_lag_seconds{topic="t",partition="1"}', "6x10"),
        ('spendmeter_sink_lag_seconds{topic="t",instance="1"}', "7x10"),
        ('spendmeter_sink_lag_seconds{topic="t",instance="2"}', "8x10"),
        ('spendmeter_sink_lag_records{topic="t",partition="0"}', "5x10"),
        ('spendmeter_sink_lag_records{topic="t",partition="1"}', "6x10"),
        ('spendmeter_alerts_seconds_bucket{route="r",le="1"}', "0+60x10"),
        ('spendmeter_alerts_seconds_bucket{route="r",le="+Inf"}', "0+60x10"),
    ]
    asked = [
        sampled(
            "spendmeter:budget_spent:ratio",
            **{"spendmeter:budget_spent:ratio{budget='b', team='red'}": 0.75},
        ),
        sampled("spendmeter:usage_events:rate5m", **{"spendmeter:usage_events:rate5m{outcome='counted'}": 3}),
        sampled("spendmeter:refusals:rate5m", **{"spendmeter:refusals:rate5m{why='spent'}": 0.1}),
        sampled("spendmeter:stream_lag:seconds", **{"spendmeter:stream_lag:seconds{topic='t'}": 6}),
        sampled("spendmeter:history_lag:seconds", **{"spendmeter:history_lag:seconds{topic='t'}": 8}),
        sampled("spendmeter:history_lag:records", **{"spendmeter:history_lag:records{topic='t'}": 11}),
        sampled("round(spendmeter:alerts_seconds:p99_1h, 0.01)", **{"{route='r'}": 0.99}),
    ]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given],
        "promql_expr_test": asked,
    }
    records = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}

    assert {re.search(r"spendmeter:\w+:\w+", one["expr"])[0] for one in asked} == records  # type: ignore[index]
    assert failures(promtool, tmp_path, groups(), [test]) == ""


def test_prometheus_accepts_the_example(promtool: Path) -> None:
    ended = subprocess.run(
        [promtool, "check", "config", RULES.with_name("prometheus.yaml")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


# What a person reads.


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_each_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(rule: dict[str, Any]) -> None:
    said = rule["annotations"]

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(said) == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == RUNBOOK + rule["alert"].lower()
    assert f"\n## {rule['alert']}\n" in RUNBOOKS


def labels_of(metric: str) -> set[str]:
    """The labels that the page of metrics gives it."""
    found = re.search(rf"`{metric}(?:\{{([^}}]*)\}})?`", METRICS)
    assert found or metric == "up", f"{metric} is not in docs/reference/metrics.md"
    return set((found[1] or "").split(",")) if found else set()


def metrics_in(expr: str) -> Iterator[str]:
    yield from re.findall(r"\b(?:spendmeter_\w+|up)\b", expr)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_each_label_that_an_alert_names_is_one_of_its_metrics(rule: dict[str, Any]) -> None:
    known = {"job", "instance"}.union(*map(labels_of, metrics_in(rule["expr"])))

    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= known


def test_each_runbook_is_of_an_alert_and_says_what_to_do() -> None:
    sections = re.split(r"(?m)^## ", RUNBOOKS)[1:]
    named = [section.partition("\n")[0] for section in sections]

    assert named == [rule["alert"] for rule in alerts()], "in the order of the rules"
    for section in sections:
        for part in ("**Means.**", "**See.**", "**Do.**", "**Wake somebody**"):
            assert part in section, f"{section.partition(chr(10))[0]} lacks {part}"
