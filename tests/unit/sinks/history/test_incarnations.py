"""Which incarnation history is of, and which goes on where another stood: every state that can be met."""

import pytest

from spendmeter_sinks.history.incarnations import (
    Lineage,
    Registered,
    UnknownIncarnation,
    UsageIncarnation,
    lineage_of,
    lineage_of_topic,
    settle,
    whole_topic,
)
from spendmeter_sinks.move.plan import CannotMove, decide

OLD, ANEW, NEW = (
    UsageIncarnation("spend.usage", "a"),
    UsageIncarnation("spend.usage", "b"),
    UsageIncarnation("v2.spend.usage", "c"),
)
UNNAMED = UsageIncarnation("spend.usage", "")
FIRST = Registered(OLD, None)


def test_an_empty_history_is_of_whoever_comes_first() -> None:
    assert settle(OLD, [], [], goes_on=False, database="spend") == FIRST
    assert settle(OLD, [FIRST], [], goes_on=False, database="spend") == FIRST


def test_rows_that_name_none_are_of_the_topic_that_their_sink_has_read() -> None:
    own = settle(OLD, [], ["spend.usage"], goes_on=True, database="spend")

    assert own == Registered(OLD, None, has_unnamed=True)
    assert lineage_of(OLD, [own]) == Lineage((OLD, UNNAMED))
    # What was planned by a version before is stored without a name.
    assert settle(OLD, [], [], goes_on=True, database="spend").has_unnamed


@pytest.mark.parametrize(
    ("of", "known", "unnamed"),
    [
        (ANEW, [FIRST], []),
        (NEW, [FIRST], []),
        (NEW, [], ["spend.usage"]),
        (OLD, [], ["spend.usage"]),
        (ANEW, [Registered(OLD, None, has_unnamed=True)], ["spend.usage"]),
    ],
)
def test_what_history_does_not_know_waits_for_a_decision(
    of: UsageIncarnation, known: list[Registered], unnamed: list[str]
) -> None:
    with pytest.raises(UnknownIncarnation, match=r"not ready.*spend\.usage.*`spendmeter move`"):
        settle(of, known, unnamed, goes_on=False, database="spend")


def test_accounts_rest_on_all_that_was_followed() -> None:
    known = [Registered(OLD, None, has_unnamed=True), Registered(ANEW, OLD), Registered(NEW, ANEW)]

    assert lineage_of(NEW, known) == Lineage((NEW,), (ANEW, OLD, UNNAMED))
    assert lineage_of(ANEW, known).earlier == (OLD, UNNAMED)
    assert lineage_of_topic("spend.usage", known) == lineage_of(ANEW, known)
    assert lineage_of(UsageIncarnation("another", "d"), known) == whole_topic("another")


def test_a_circle_of_entries_ends() -> None:
    known = [Registered(OLD, NEW), Registered(NEW, OLD)]
    assert lineage_of(NEW, known) == Lineage((NEW,), (OLD,))


def test_what_followed_rows_without_a_name_follows_their_incarnation_once_that_is_known() -> None:
    moved = Registered(NEW, UNNAMED)
    assert lineage_of(NEW, [moved]).earlier == (UNNAMED,)
    later = Registered(OLD, None, has_unnamed=True)
    assert lineage_of(NEW, [moved, later]).earlier == (OLD, UNNAMED)


def test_conditions_name_topic_and_incarnation_and_quote_both() -> None:
    assert whole_topic("t'").is_of_all == "topic = 't\\''"
    lineage = Lineage((NEW,), (OLD, UNNAMED))
    assert lineage.is_of_it == "(topic, incarnation) IN (('v2.spend.usage', 'c'))"
    assert lineage.is_earlier == "(topic, incarnation) IN (('spend.usage', 'a'), ('spend.usage', ''))"
    assert lineage.is_from == "source_topic IN ('v2.spend.usage', 'spend.usage')"
    assert Lineage((NEW,)).is_earlier == "0"


def test_a_move_follows_the_place_where_the_system_stands() -> None:
    assert decide([FIRST], [], OLD, goes_on=False, target=NEW) == (OLD, [])
    # Without entries yet, as a version before has left it.
    assert decide([], ["spend.usage"], OLD, goes_on=True, target=NEW) == (
        OLD,
        [Registered(OLD, None, has_unnamed=True)],
    )
    # The topic there was made anew: it follows the one that it has replaced.
    assert decide([FIRST], [], ANEW, goes_on=False, target=NEW) == (ANEW, [Registered(ANEW, OLD)])
    assert decide([], ["spend.usage"], ANEW, goes_on=False, target=NEW) == (
        ANEW,
        [Registered(ANEW, UNNAMED)],
    )


def test_a_move_from_a_kafka_that_is_gone_follows_what_history_ends_with() -> None:
    assert decide([FIRST], [], None, goes_on=False, target=NEW) == (OLD, [])
    assert decide([], ["spend.usage"], None, goes_on=False, target=NEW) == (UNNAMED, [])
    assert decide([FIRST, Registered(ANEW, OLD)], [], None, goes_on=False, target=NEW) == (ANEW, [])
    # Again, once it is done.
    assert decide([FIRST, Registered(NEW, OLD)], [], None, goes_on=False, target=NEW) == (OLD, [])


def test_of_several_systems_one_must_be_chosen() -> None:
    known = [FIRST, Registered(UsageIncarnation("other.spend.usage", "d"), None)]
    with pytest.raises(CannotMove, match="--from TOPIC"):
        decide(known, [], None, goes_on=False, target=NEW)
    assert decide(known, [], None, goes_on=False, target=NEW, chosen="spend.usage") == (OLD, [])


def test_from_nothing_there_is_no_move() -> None:
    with pytest.raises(CannotMove, match="nothing"):
        decide([], [], None, goes_on=False, target=NEW)
