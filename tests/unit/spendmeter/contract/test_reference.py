"""docs/reference/contract.md names everything that is on the wire."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

from spendmeter.contract.alert import Alert, AlertDelivery, AlertKind, DeliveryOutcome
from spendmeter.contract.budget import Action, Budget, Enforcement, Raise
from spendmeter.contract.dead_letter import DeadLetter, Reason
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.provider_object import ProviderObject
from spendmeter.contract.records import TYPES, encode_usage
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import PARTITIONED, Topic
from spendmeter.contract.total import Opening, Total
from spendmeter.contract.usage import CostSource, Doubt, Status, UsageEvent, UsageKind
from spendmeter.contract.wire import Wire
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter.values.period import NAMED_PERIODS
from tests.builders import usage

PAGE = (Path(__file__).parents[4] / "docs/reference/contract.md").read_text(encoding="utf-8")
SECTIONS: dict[type[Wire], str] = {
    UsageEvent: "Usage event",
    Budget: "Budget",
    Raise: "Budget",
    Total: "Total",
    Opening: "Opening",
    Signal: "Signal",
    Alert: "Alert",
    Decision: "Decision",
    DeadLetter: "Dead letter",
    ProviderObject: "Object",
    AlertDelivery: "Delivery",
}


def section(title: str) -> str:
    [found] = re.findall(rf"^### {title}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def named(text: str) -> set[str]:
    """What the text shows as code."""
    return set(re.findall(r"`([^`]+)`", text))


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_every_field_is_in_the_section_of_its_value(model: type[Wire]) -> None:
    assert set(model.model_fields) - named(section(SECTIONS[model])) == set()


@pytest.mark.parametrize("title", sorted(set(SECTIONS.values())))
def test_no_section_names_a_field_that_is_gone(title: str) -> None:
    fields = {name for model, where in SECTIONS.items() if where == title for name in model.model_fields}
    rows = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)

    assert {name for row in rows for name in named(row)} <= fields


def test_every_model_of_the_wire_has_a_section() -> None:
    assert set(TYPES) <= set(SECTIONS)


@pytest.mark.parametrize(
    ("kinds", "title"),
    [
        (UsageKind, "Usage event"),
        (CostSource, "Usage event"),
        (Doubt, "Usage event"),
        (Status, "Usage event"),
        (Action, "Budget"),
        (Enforcement, "Budget"),
        (State, "Signal"),
        (AlertKind, "Alert"),
        (Why, "Decision"),
        (Reason, "Dead letter"),
        (DeliveryOutcome, "Delivery"),
    ],
)
def test_every_word_that_a_field_can_have_is_told(kinds: type[StrEnum], title: str) -> None:
    assert {kind.value for kind in kinds if kind.value} - named(section(title)) == set()


def test_periods_and_dimensions_are_told() -> None:
    assert {*NAMED_PERIODS, *DIMENSIONS} - named(section("Budget")) == set()


@pytest.mark.parametrize("topic", Topic)
def test_each_topic_has_its_row_with_its_partitions(topic: Topic) -> None:
    [row] = re.findall(rf"^\| `{re.escape(topic)}` \|.*$", PAGE, re.MULTILINE)

    assert ("| many |" in row) == (topic in PARTITIONED)


def test_every_header_and_type_is_told() -> None:
    types = {"." + text.decode().removeprefix("dev.spendmeter.") for text in TYPES.values()}

    assert {name for name, _ in encode_usage(usage()).headers} <= named(PAGE)
    assert types - {name.removeprefix("dev.spendmeter") for name in named(PAGE)} == set()


def test_every_link_leads_to_a_file() -> None:
    here = Path(__file__).parents[4] / "docs/reference"
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)

    assert links
    assert [link for link in links if not (here / link).exists()] == []
