"""The pages of reference say what there is, with its default, and nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from spendmeter.budgets.file import FIELDS, REQUIRED
from spendmeter.contract.alert import Alert, AlertDelivery
from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.decision import Decision
from spendmeter.contract.provider_object import ProviderObject
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import CONFIG, PARTITIONED, Topic
from spendmeter.contract.total import Opening, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import Wire
from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter_console.settings import ConsoleSettings
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_sinks.alerts.settings import AlertSettings
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.watch.settings import WatchSettings
from spendmeter_stream.settings import StreamSettings

ROOT = Path(__file__).parents[2]
SETTINGS = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
# Set by the local stack for its own processes.
OF_THE_LOCAL_STACK = {"SPENDMETER_UPSTREAM_URL", "SPENDMETER_UPSTREAM_API_BASE"}
METRICS_MADE_BY = ("Counter", "Gauge", "Histogram", "GaugeMetricFamily")
OF_THE_TESTS = {
    "SPENDMETER_RELAY_ALERTS",
    "SPENDMETER_SCHEDULES",
    "SPENDMETER_LAST_RELEASE",
    "SPENDMETER_TEST_KAFKA",
    "SPENDMETER_TEST_CLICKHOUSE",
}


def rows(heading: str) -> dict[str, str]:
    """Setting to default, as the table under the heading has them."""
    section = SETTINGS.partition(f"## {heading}")[2].partition("\n## ")[0]
    return {
        name.lower(): default for name, default in re.findall(r"(?m)^\| `([A-Z_]+)` \| (.*?) \|", section)
    }


def default(settings: type[BaseSettings], name: str) -> str:
    if name == "component":
        return "by process"
    field = settings.model_fields[name]
    if field.default_factory is not None:
        return "the host's name"
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if value is None:
        return "–"
    if value in ("", ()):
        return "empty"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@pytest.mark.parametrize(
    ("heading", "settings", "base"),
    [
        ("All processes", Settings, BaseSettings),
        ("Gateway", GatewaySettings, Settings),
        ("Stream worker", StreamSettings, Settings),
        ("ClickHouse sink", SinkSettings, Settings),
        ("Alert relay", AlertSettings, ClickHouseSettings),
        ("Watcher", WatchSettings, ClickHouseSettings),
        ("The page", ConsoleSettings, ClickHouseSettings),
    ],
)
def test_each_setting_is_told_with_its_default(
    heading: str, settings: type[BaseSettings], base: type[BaseSettings]
) -> None:
    names = set(settings.model_fields) - set(base.model_fields)

    assert rows(heading) == {name: default(settings, name) for name in names}


def test_the_settings_of_history_are_those_of_the_sink() -> None:
    assert set(ClickHouseSettings.model_fields) <= set(SinkSettings.model_fields)


def test_no_page_and_no_command_names_a_setting_that_is_not_on_the_page() -> None:
    described = {f"SPENDMETER_{name}" for name in re.findall(r"`(?:SPENDMETER_)?([A-Z][A-Z_]+)`", SETTINGS)}
    described |= OF_THE_LOCAL_STACK | OF_THE_TESTS
    read = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.yaml"), *sources()]

    named = {
        name
        for path in read
        for name in re.findall(r"SPENDMETER_[A-Z_]*[A-Z](?![A-Z_])", path.read_text("utf-8"))
    }

    assert named <= described


def test_each_metric_is_told_and_no_other() -> None:
    described = set(re.findall(r"`(spendmeter_[a-z_]+)", METRICS))

    assert described == {name for path in sources() for name in metrics_in(path)}


def test_each_metric_has_the_labels_that_the_page_gives_it() -> None:
    given = {
        name: labels.split(",") if labels else []
        for name, labels in re.findall(r"`(spendmeter_[a-z_]+)(?:\{([a-z_,]+)\})?`", METRICS)
    }
    made = {name: labels for path in sources() for name, labels in labels_in(path)}

    assert len(made) > 60
    assert {name: given.get(name) for name in made} == made


def test_the_table_of_topics_is_what_is_created() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = page.partition("### Topics as they must be\n")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (`spend\..*?) \| (.*?) \| `(.*?)` \| (.*?) ?\|$", section)
    described = {topic: row for row in rows for topic in re.findall(r"`(spend\.[a-z-]+)`", row[0])}

    assert set(described) == set(Topic)
    for topic, (_, partitions, policy, further) in described.items():
        assert policy == CONFIG[Topic(topic)].get("cleanup.policy", "delete"), topic
        assert partitions == ("`SPENDMETER_PARTITIONS`" if topic in PARTITIONED else "1"), topic
        assert further == further_of(Topic(topic)), topic


def further_of(topic: Topic) -> str:
    """The last column of a topic, from its configuration."""
    config, said = CONFIG[topic], []
    if config.get("message.timestamp.type") == "LogAppendTime":
        said.append("`message.timestamp.type=LogAppendTime`")
    if (kept := config.get("retention.ms")) == "-1":
        mib = int(config["max.message.bytes"]) // 2**20
        said.append(f"`retention.ms=-1`, `max.message.bytes` {mib} MiB or more (else a warning)")
    elif kept is not None:
        said.append(f"`retention.ms` {int(kept) // 86_400_000} days or more (shorter: a warning)")
    return "; ".join(said)


def test_what_operations_wakes_people_by_exists() -> None:
    operations = (ROOT / "docs/operations.md").read_text(encoding="utf-8")

    named = set(re.findall(r"spendmeter_(?!gateway\b|sinks\b|stream\b|local\b)[a-z_]+", operations))

    assert named <= set(re.findall(r"`(spendmeter_[a-z_]+)", METRICS))


def test_each_field_of_a_budget_file_is_told_with_its_default() -> None:
    page = (ROOT / "docs/budgets.md").read_text(encoding="utf-8")
    section = page.partition("## The fields of a budget\n")[2].partition("\n## ")[0]

    described = dict(re.findall(r"(?m)^\| `([a-z_]+)` \| (.*?) \|", section))

    assert set(described) == set(FIELDS)
    assert {name for name, default in described.items() if default == "required"} == set(REQUIRED)
    quoted = {name: default.strip("`") for name, default in described.items() if default.startswith("`")}
    assert quoted == {name: in_a_file(Budget.model_fields[name].default) for name in quoted}


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Usage event", UsageEvent),
        ("Budget", Budget),
        ("Total", Total),
        ("Opening", Opening),
        ("Signal", Signal),
        ("Alert", Alert),
        ("Decision", Decision),
        ("Dead letter", DeadLetter),
        ("Object", ProviderObject),
        ("Delivery", AlertDelivery),
    ],
)
def test_each_field_of_a_record_is_told_and_no_other(heading: str, model: type[Wire]) -> None:
    page = (ROOT / "docs/reference/contract.md").read_text(encoding="utf-8")
    section = page.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    first_columns = re.findall(r"(?m)^\| (`.*?) \|", section)

    described = [name for column in first_columns for name in re.findall(r"`([a-z_]+)`", column)]

    assert sorted(described) == sorted(model.model_fields)


def in_a_file(value: object) -> str:
    """A default as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def sources() -> Iterator[Path]:
    for package in ("spendmeter", "producers", "stream", "sinks", "console"):
        yield from (ROOT / package).glob("**/*.py")


def labels_in(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Metrics whose labels stand in the code as a list of texts."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in METRICS_MADE_BY:
            positional = [
                ast.literal_eval(one) for one in node.args if isinstance(one, ast.Constant | ast.List)
            ]
            named = [
                ast.literal_eval(one.value) for one in node.keywords if one.arg in ("labels", "labelnames")
            ]
            if len(positional) == len(node.args) >= 2:
                yield str(positional[0]), next(iter([*positional[2:3], *named]), [])


def metrics_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            name = node.args[0]
            if node.func.id in METRICS_MADE_BY and isinstance(name, ast.Constant):
                yield str(name.value)
