"""Who is said to be unused: by the day of the last use, the largest first, and never more than a bound."""

from datetime import UTC, date, datetime

import pytest

from spendmeter.contract.money import NanoUsd
from spendmeter_sinks.watch.unused import MAX_ALERTS_A_DAY, LastUse, unused_alerts, unused_by_day

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
FIRST, SECOND = date(2026, 10, 29), date(2026, 10, 30)


def use(id_: str, day: date = FIRST, spent: int = 1, name: str = "", team: str = "") -> LastUse:
    return LastUse(id_, name, team, day, NanoUsd(spent))


@pytest.mark.parametrize(("count", "more"), [(MAX_ALERTS_A_DAY, 0), (MAX_ALERTS_A_DAY + 1, 1)])
def test_of_each_day_the_largest_are_said_by_name(count: int, more: int) -> None:
    many = [use(f"k{n:03}", spent=n) for n in range(count)]

    days = unused_by_day([*many, use("other", SECOND)])

    assert [(one.day, len(one.said), one.more) for one in days] == [
        (FIRST, MAX_ALERTS_A_DAY, more),
        (SECOND, 1, 0),
    ]
    assert [one.spent_nanousd for one in days[0].said[:2]] == [count - 1, count - 2]
    assert len(unused_alerts(days[0], "key", 30, NOW)) == MAX_ALERTS_A_DAY + (1 if more else 0)


def test_whom_it_concerns_is_by_id_and_the_message_by_name() -> None:
    [day] = unused_by_day([use("k1", name="ann's\nnotebook", team="t1")])
    [alert] = unused_alerts(day, "key", 30, NOW)

    assert alert.subject == {"key": "k1", "team": "t1"}
    assert alert.message.startswith(
        "key ann's notebook has made no request for 30 days, since Thu 29 Oct 2026"
    )


def test_one_last_use_is_one_alert_whatever_is_known_of_it_later() -> None:
    def id_of(one: LastUse, of: str = "key", days: int = 30) -> object:
        [day] = unused_by_day([one])
        return unused_alerts(day, of, days, NOW)[0].alert_id  # type: ignore[arg-type]

    assert id_of(use("k1")) == id_of(use("k1", spent=9, name="x", team="t")) == id_of(use("k1"), days=31)
    assert len({id_of(use("k1")), id_of(use("k2")), id_of(use("k1", SECOND)), id_of(use("k1"), "user")}) == 4
