"""Topics: their names are for ever, and what decides about losing data is said."""

from datetime import timedelta

from spendmeter.contract.provider_object import BILLED_WITHIN
from spendmeter.contract.topics import CONFIG, PARTITIONED, Topic


def test_the_topics_are_these() -> None:
    assert [topic.value for topic in Topic] == [
        "spend.usage",
        "spend.totals",
        "spend.openings",
        "spend.budgets",
        "spend.signals",
        "spend.alerts",
        "spend.decisions",
        "spend.dead-letters",
        "spend.objects",
        "spend.deliveries",
    ]
    assert Topic.USAGE.named("eu.") == "eu.spend.usage"


def test_every_topic_says_when_its_records_may_go() -> None:
    for topic in Topic:
        compacted = CONFIG[topic].get("cleanup.policy") == "compact"
        assert compacted != ("retention.ms" in CONFIG[topic]), topic


def test_who_made_an_object_is_kept_for_longer_than_it_can_be_billed() -> None:
    assert CONFIG[Topic.OBJECTS]["cleanup.policy"] == "compact,delete"
    assert timedelta(milliseconds=int(CONFIG[Topic.OBJECTS]["retention.ms"])) > BILLED_WITHIN


def test_what_became_of_an_alert_is_kept_for_longer_than_the_alert() -> None:
    assert CONFIG[Topic.DELIVERIES]["cleanup.policy"] == "compact,delete"
    assert int(CONFIG[Topic.DELIVERIES]["retention.ms"]) > int(CONFIG[Topic.ALERTS]["retention.ms"])


def test_what_is_the_latest_of_something_is_compacted_and_what_happened_is_not() -> None:
    compacted = {topic for topic in Topic if CONFIG[topic].get("cleanup.policy") == "compact"}

    assert compacted == {Topic.TOTALS, Topic.OPENINGS, Topic.BUDGETS, Topic.SIGNALS}


def test_usage_is_stamped_by_the_broker() -> None:
    assert CONFIG[Topic.USAGE]["message.timestamp.type"] == "LogAppendTime"


def test_dead_letters_are_never_dropped() -> None:
    assert CONFIG[Topic.DEAD_LETTERS]["retention.ms"] == "-1"
    assert CONFIG[Topic.DEAD_LETTERS]["retention.bytes"] == "-1"


def test_totals_and_signals_are_placed_alike() -> None:
    assert set(PARTITIONED) == {Topic.USAGE, Topic.TOTALS, Topic.SIGNALS}
