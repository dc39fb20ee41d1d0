"""Gauges of budgets: which accounts they are of, what they say, and what they cost."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from spendmeter.contract.signal import Signal
from spendmeter.contract.wire import construct_unchecked
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.window import Window
from spendmeter.values.account import account_name
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter_stream import budget_gauges
from spendmeter_stream.budget_gauges import MAX_DROPPED, BudgetGauges, ClosestAccounts, RankedAccount
from tests.builders import NOON, budget, signal

MIDNIGHT = NOON.replace(hour=0)
TOMORROW = MIDNIGHT + timedelta(days=1)
ACCOUNTS = 100_000
SHOWN = 100


def spent(share: float, of: str = "per-key", **fields: Any) -> Signal:
    """A signal of today, with that share of $1 spent."""
    subject = fields.pop("subject", {"key": "k1"})
    defaults = {
        "budget_id": of,
        "account": account_name(of, subject.items()),
        "subject": subject,
        "window_start": MIDNIGHT,
        "window_end": TOMORROW,
        "limit_nanousd": 10**9,
        "spent_nanousd": round(share * 10**9),
    }
    return signal(**{**defaults, **fields})


def of_keys(shares: Iterable[float]) -> list[Signal]:
    """A signal for each of the keys k0, k1, …"""
    template = dict(spent(0))
    return [
        construct_unchecked(
            Signal, {**template, "account": f"per-key|key=k{n}", "spent_nanousd": round(share * 10**9)}
        )
        for n, share in enumerate(shares)
    ]


def names(closest: list[tuple[RankedAccount, Window]] | None) -> list[str]:
    assert closest is not None
    return [ranked.account.partition("=")[2] for ranked, _ in closest]


def ranked(*signals: Signal, at_most: int = SHOWN, dimensions: Iterable[str] = DIMENSIONS) -> ClosestAccounts:
    accounts = ClosestAccounts(at_most, list(dimensions))
    accounts.apply(signals)
    return accounts


BOOK = BudgetBook([budget()])


def test_the_accounts_closest_to_their_limit_are_first_and_no_more_than_wanted() -> None:
    accounts = ranked(*of_keys([0.2, 1.3, 0.9, -0.1, 0.5]), at_most=3)

    assert names(accounts.closest(BOOK, NOON)) == ["k1", "k2", "k4"]
    assert names(accounts.closest(BOOK, NOON)) == ["k1", "k2", "k4"], "asking changes nothing"


def test_the_latest_signal_of_an_account_is_the_one_that_counts() -> None:
    accounts = ranked(*of_keys([0.2, 0.9]))
    accounts.apply(of_keys([0.95, 0.1]))

    assert names(accounts.closest(BOOK, NOON)) == ["k0", "k1"]
    accounts.apply(of_keys([0.05]))
    assert names(accounts.closest(BOOK, NOON)) == ["k1", "k0"]


def test_an_account_is_there_once_though_it_comes_back_to_what_it_was() -> None:
    accounts = ranked(*of_keys([0.5]))
    for share in (0.7, 0.5, 0.5):
        accounts.apply(of_keys([share]))

    assert names(accounts.closest(BOOK, NOON)) == ["k0"]


def test_nothing_is_shown_of_a_window_that_has_ended_a_reset_or_a_removed_budget() -> None:
    at_the_end = TOMORROW - timedelta(microseconds=1)
    assert names(ranked(*of_keys([0.5])).closest(BOOK, at_the_end)) == ["k0"]
    assert names(ranked(*of_keys([0.5])).closest(BOOK, TOMORROW)) == []

    reset = BudgetBook([budget(reset_at=NOON)])
    assert names(ranked(*of_keys([0.5])).closest(reset, NOON)) == []

    assert names(ranked(*of_keys([0.5])).closest(BudgetBook(), NOON)) == []

    accounts = ranked(*of_keys([0.5, 0.6]))
    accounts.apply([], ["per-key|key=k1"])
    assert names(accounts.closest(BOOK, NOON)) == ["k0"]


def test_an_account_comes_back_with_what_it_spends_in_the_window_that_follows() -> None:
    accounts = ranked(*of_keys([0.5]))
    assert names(accounts.closest(BOOK, TOMORROW)) == []

    accounts.apply([spent(0.1, window_start=TOMORROW, window_end=TOMORROW + timedelta(days=1))])
    assert names(accounts.closest(BOOK, TOMORROW)) == ["k1"]


def test_an_account_that_names_a_dimension_which_is_no_label_is_left_out() -> None:
    book = BudgetBook(
        [budget(), budget(id="all", match={}), budget(id="per-session", match={"session": "*"})]
    )
    signals = [spent(0.1), spent(0.2, "all", subject={}), spent(0.9, "per-session", subject={"session": "s"})]

    def shown(*dimensions: str) -> list[str]:
        closest = ranked(*signals, dimensions=dimensions).closest(book, NOON)
        return [] if closest is None else [one.account for one, _ in closest]

    assert shown("key") == ["all|", "per-key|key=k1"]
    assert shown("key", "session") == ["per-session|session=s", "all|", "per-key|key=k1"]
    assert shown() == ["all|"]


def test_what_adds_up_the_values_without_an_account_is_left_out() -> None:
    """Its limit is for one value, and it holds many."""
    book = BudgetBook([budget(id="per-session", match={"session": "*"})])

    assert names(ranked(spent(7.0, "per-session", subject={})).closest(book, NOON)) == []


def test_none_are_kept_where_none_are_wanted() -> None:
    accounts = ranked(*of_keys([0.5, 0.6]), at_most=0)

    assert len(accounts) == 0
    assert accounts.closest(BOOK, NOON) == []


# What it costs.


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The steps on the heap, as they are made."""
    steps: list[str] = []
    for name in ("heappop", "heappush", "heapify"):
        original = getattr(budget_gauges, name)

        def counted(heap: Any, *entry: Any, name: str = name, original: Any = original) -> Any:
            steps.extend([name] * (len(heap) if name == "heapify" else 1))
            return original(heap, *entry)

        monkeypatch.setattr(budget_gauges, name, counted)
    yield steps


@pytest.fixture(scope="module")
def many() -> list[Signal]:
    return of_keys((n % 997) / 1_000 for n in range(ACCOUNTS))


def test_of_100_000_accounts_neither_a_signal_nor_a_page_meets_them_all(
    many: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts, gauges = ranked(*many), BudgetGauges(lambda: NOON)
    with counting(monkeypatch) as steps:
        closest = accounts.closest(BOOK, NOON)
        assert len(steps) == 2 * SHOWN, "as many come off the heap as are shown, and go back"
        assert closest is not None
        gauges.show(closest)

        steps.clear()
        for n in range(1_000):
            accounts.apply([many[n].model_copy(update={"spent_nanousd": 10**9 + n})])
        assert steps == ["heappush"] * 1_000, "a signal is one entry"

        steps.clear()
        again = accounts.closest(BOOK, NOON)
        assert names(again) == [f"k{n}" for n in range(999, 999 - SHOWN, -1)]
        assert len(steps) == 2 * SHOWN

        steps.clear()
        assert len(samples(gauges)) == 5 * SHOWN
        assert steps == [], "the page shows what was found before"


def test_rebuilding_costs_no_more_than_the_signals_that_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = ranked(*of_keys([0.1] * 2_000))
    with counting(monkeypatch) as steps:
        rounds = 20_000
        for n in range(rounds):
            accounts.apply(of_keys([n / rounds]))
        assert names(accounts.closest(BOOK, NOON))[0] == "k0"

    assert len(steps) < 3 * rounds
    assert len(accounts) == 2_000


def test_when_all_windows_end_at_once_they_are_dropped_a_part_at_a_time(
    many: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monthly = budget(id="monthly", match={"team": "*"}, period="month")
    book = BudgetBook([budget(), monthly])
    of_the_month = spent(
        0.05,
        "monthly",
        subject={"team": "red"},
        window_start=MIDNIGHT.replace(day=1),
        window_end=MIDNIGHT.replace(month=12, day=1),
    )
    accounts = ranked(*many, of_the_month)
    with counting(monkeypatch) as steps:
        calls = 0
        while (closest := accounts.closest(book, TOMORROW)) is None:
            calls += 1
            assert len(steps) <= MAX_DROPPED + 2 * SHOWN
            steps.clear()

    assert names(closest) == ["red"]
    assert calls >= ACCOUNTS * 0.9 / MAX_DROPPED
    assert len(accounts) < ACCOUNTS * 0.1


# What they say.


def samples(gauges: BudgetGauges) -> dict[tuple[str, str], float]:
    """By metric and account, as Prometheus reads the page."""
    registry = CollectorRegistry()
    registry.register(gauges)
    families: Iterable[Metric] = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, account_name(sample.labels.pop("budget"), sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def page(*signals: Signal, book: BudgetBook = BOOK, now: datetime = NOON) -> dict[tuple[str, str], float]:
    """The samples of these signals."""
    gauges = BudgetGauges(lambda: now)
    closest = ranked(*signals).closest(book, NOON)
    assert closest is not None
    gauges.show(closest)
    return samples(gauges)


def test_an_account_has_limit_spent_remaining_reset_and_state() -> None:
    found = page(spent(1.25, state="exceeded", limit_nanousd=1_000_000_001))

    assert found == {
        ("spendmeter_budget_limit_usd", "per-key|key=k1"): 1.000000001,
        ("spendmeter_budget_spent_usd", "per-key|key=k1"): 1.25,
        ("spendmeter_budget_remaining_usd", "per-key|key=k1"): -0.249999999,
        ("spendmeter_budget_state", "per-key|key=k1"): 2,
        ("spendmeter_budget_reset_seconds", "per-key|key=k1"): 12 * 3_600,
    }


def test_a_lifetime_resets_never_and_so_has_no_such_gauge() -> None:
    lifetime = budget(period="lifetime", starts_at=MIDNIGHT)
    found = page(spent(0.5, window_end=None), book=BudgetBook([lifetime]))

    assert {name for name, _ in found} == {
        f"spendmeter_budget_{what}" for what in ("limit_usd", "spent_usd", "remaining_usd", "state")
    }


def test_every_value_is_finite_and_every_label_is_read_back() -> None:
    odd = ['a"b\\c\nd', "☃ \u202e|&=%", "\x00\x1b[31m", "x" * 500]
    most = 10**18 - 1
    signals = [
        spent(0, subject={"key": value, "user": "u"}, of="per-user", limit_nanousd=limit, spent_nanousd=spend)
        for value, (limit, spend) in zip(odd, [(1, most), (most, 1), (1, -most), (most, most)], strict=True)
    ]
    book = BudgetBook([budget(id="per-user", match={"key": "*", "user": "*"})])
    found = page(*signals, book=book)

    assert {account for _, account in found} == {one.account for one in signals}
    assert len(found) == 5 * len(signals)
    assert all(isfinite(value) for value in found.values())


def test_an_account_goes_when_its_window_ends_though_the_worker_does_nothing() -> None:
    assert page(spent(0.5), now=TOMORROW - timedelta(seconds=1))
    assert page(spent(0.5), now=TOMORROW) == {}
