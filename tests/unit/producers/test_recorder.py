"""Recording: into the outbox, and into what is known to be spent."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from producers import recorder as recording
from producers.charges import charges_of
from producers.mapping import Origin, UsageDraft
from producers.outbox import LOST, Outbox
from producers.recorder import Recorder
from producers.settings import GatewaySettings
from producers.views import Views
from spendmeter.contract.budget import Budget
from spendmeter.contract.ids import uuid7
from spendmeter.contract.matching import BudgetBook
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource


def draft(**changes: Any) -> UsageDraft:
    now = datetime.now(UTC)
    given = {
        "event_id": uuid7(0),
        "occurred_at": now,
        "started_at": now,
        "key": "k",
        "cost_nanousd": 10,
        "cost_source": CostSource.LITELLM,
    }
    return UsageDraft(given | changes)


def budget(**changes: Any) -> Budget:
    given = {
        "id": "b",
        "match": {"key": "*"},
        "limit_nanousd": 100,
        "period": "lifetime",
        "updated_at": datetime.now(UTC),
    }
    return Budget.model_validate(given | changes)


class Fixture:
    def __init__(self, root: Path, **given: Any) -> None:
        settings = GatewaySettings(data_dir=root, gateway="g1")
        self.views = Views(settings)
        self.views.budgets.book.put(budget(**given))
        self.wakes = 0
        self.recorder = Recorder(settings, self.views, self.wake)
        self.recorder.outbox = Outbox.open(root, max_bytes=1_000_000)

    def wake(self) -> None:
        self.wakes += 1

    @property
    def spent(self) -> int:
        return self.views.spent("b|key=k") or 0


@pytest.fixture
def fixture(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


def test_an_event_is_recorded_counted_and_the_sender_woken(fixture: Fixture) -> None:
    first, second = fixture.recorder.record(draft()), fixture.recorder.record(draft())

    assert first is not None
    assert second is not None
    assert (first.seq, second.seq) == (1, 2)
    assert first.gateway == "g1"
    assert fixture.spent == 20
    assert fixture.wakes == 2


def test_an_event_that_litellm_repeats_is_recorded_once(fixture: Fixture) -> None:
    repeated = draft()
    fixture.recorder.record(repeated)

    assert fixture.recorder.record(repeated) is None
    assert fixture.spent == 10


def test_events_are_remembered_up_to_a_bound(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_EVENTS_REMEMBERED", 1)
    repeated = draft()
    for one in (repeated, draft(), repeated):
        assert fixture.recorder.record(one) is not None


def test_without_an_outbox_the_loss_is_counted_and_the_money_too(fixture: Fixture) -> None:
    fixture.recorder.outbox = None
    before = LOST.labels("unwritable")._value.get()
    fixture.recorder.record(draft())

    assert LOST.labels("unwritable")._value.get() == before + 1
    assert fixture.spent == 10


def test_a_full_outbox_loses_the_event_and_knows_its_cost(fixture: Fixture, tmp_path: Path) -> None:
    fixture.recorder.outbox = Outbox.open(tmp_path / "small", max_bytes=1)
    fixture.recorder.record(draft())

    assert fixture.spent == 10


def test_an_unpriced_model_is_said_once_and_counted_each_time(
    fixture: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            fixture.recorder.record(draft(model="house-7b", cost_nanousd=0, cost_source=CostSource.UNPRICED))

    assert [r.message for r in caplog.records] == [
        "no price is known for model house-7b: its requests count as unpriced, not free"
    ]
    assert recording.UNPRICED.labels("house-7b")._value.get() == 3


def test_metrics_tell_a_bounded_number_of_models_apart(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_MODELS_TOLD_APART", 1)
    before = recording.UNPRICED.labels("other")._value.get()
    for model in ("m1", "m2", "m3"):
        fixture.recorder.record(draft(model=model, cost_nanousd=0, cost_source=CostSource.UNPRICED))

    assert recording.UNPRICED.labels("other")._value.get() == before + 2


def test_an_unpriced_request_counts_for_the_budgets_flat_amount(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, unpriced="0.00000005")
    fixture.recorder.record(draft(cost_nanousd=0, cost_source=CostSource.UNPRICED))

    assert fixture.spent == 50


def test_an_event_of_an_ended_window_is_charged_to_nobody_here() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    before = now - timedelta(microseconds=1)
    book = BudgetBook([budget(id="day", period="day"), budget()])
    event = draft(occurred_at=before, started_at=before).finish(Origin("p", "g"), 1)

    charged = [(c.account, c.cost_nanousd) for c in charges_of(book, event, now)]
    assert charged == [("b|key=k", NanoUsd(10))]
    assert len(charges_of(book, event, before)) == 2
