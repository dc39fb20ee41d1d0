"""Recording: into the outbox, and into what is known to be spent."""

import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.provider_object import object_event_id
from spendmeter.contract.usage import CostSource
from spendmeter.domain.matching import BudgetBook, Subject
from spendmeter.values.ids import uuid7
from spendmeter.values.times import EPOCH
from spendmeter_gateway import recorder as recording
from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.admission.state import GatewayState
from spendmeter_gateway.model import Origin, UsageDraft
from spendmeter_gateway.outbox.writer import LOST, Outbox
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_NANO
from spendmeter_gateway.recorder import Recorder
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_gateway.spend.charges import charges_of
from spendmeter_gateway.spend.pending import MISJUDGED, UNLOGGED


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
    def __init__(self, root: Path, settings: GatewaySettings | None = None, **given: Any) -> None:
        settings = settings or GatewaySettings(data_dir=root, gateway="g1")
        self.views = GatewayState(settings)
        self.views.budgets.book.put(budget(**given))
        self.wakes = 0
        self.recorder = Recorder(settings, self.views, self.wake)
        self.recorder.outbox = Outbox.open(root, max_bytes=1_000_000)

    def wake(self, is_urgent: bool) -> None:
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


@pytest.mark.parametrize(("said", "recorded"), [("record", "ann@example.com"), ("leave_out", None)])
def test_an_e_mail_address_is_recorded_unless_the_setting_leaves_it_out(
    tmp_path: Path, said: Literal["record", "leave_out"], recorded: str | None
) -> None:
    fixture = Fixture(tmp_path, GatewaySettings(data_dir=tmp_path, gateway="g1", user_email=said))
    event = fixture.recorder.record(draft(user_email="ann@example.com", team_alias="Search"))

    assert event is not None
    assert (event.user_email, event.team_alias) == (recorded, "Search")


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


def test_a_stop_lets_the_event_that_is_being_recorded_come_first(fixture: Fixture, tmp_path: Path) -> None:
    outbox = fixture.recorder.outbox
    assert outbox is not None
    stop = threading.Thread(target=fixture.recorder.close)
    append = outbox._append

    def append_while_it_stops(frame: bytes) -> None:
        stop.start()
        # It has to wait, so that this runs into its bound; without a lock it is over at once.
        stop.join(timeout=0.2)
        append(frame)

    outbox._append = append_while_it_stops  # type: ignore[method-assign]
    fixture.recorder.record(draft())
    stop.join()

    (left,) = Outbox.predecessors(tmp_path)
    assert [frame.seq for frame in left.unsent.read(10)] == [1]
    left.release()


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
    monkeypatch.setattr(recording, "MAX_MODELS_DISTINGUISHED", 1)
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


def answered(fixture: Fixture, request: UUID, **changes: Any) -> None:
    fixture.recorder.answered(request, draft(**changes), datetime.now(UTC))


def test_an_answer_counts_at_once_and_its_event_takes_its_place_and_its_id(fixture: Fixture) -> None:
    request = uuid7(0)
    answered(fixture, request)
    assert fixture.spent == 10

    event = fixture.recorder.record(draft(), ends=request)
    assert event is not None
    assert event.event_id == request
    assert fixture.spent == 10
    assert fixture.views.spend.pending_count == 0


def test_an_answer_that_was_logged_first_does_not_count_again(fixture: Fixture) -> None:
    request = uuid7(0)
    fixture.recorder.record(draft(), ends=request)
    answered(fixture, request)

    assert fixture.spent == 10


def test_a_repeated_event_of_an_answer_is_recorded_once(fixture: Fixture) -> None:
    request, repeated = uuid7(0), draft()
    answered(fixture, request)
    fixture.recorder.record(repeated, ends=request)

    assert fixture.recorder.record(repeated, ends=request) is None
    assert fixture.spent == 10


def test_further_events_of_a_request_have_ids_of_their_own(fixture: Fixture) -> None:
    request, further = uuid7(0), draft()
    answered(fixture, request)
    events = [fixture.recorder.record(one, ends=request) for one in (draft(), further)]

    assert [event.event_id for event in events if event] == [request, further.fields["event_id"]]
    assert fixture.spent == 20


def test_a_failed_attempt_leaves_the_answer_of_the_next_one(fixture: Fixture) -> None:
    request = uuid7(0)
    answered(fixture, request)
    fixture.recorder.record(draft(cost_nanousd=1))

    assert fixture.spent == 11


def test_an_answer_ends_with_its_request(fixture: Fixture) -> None:
    request = uuid7(0)
    answered(fixture, request)
    fixture.recorder.end(request)
    answered(fixture, request)

    assert fixture.spent == 0


def test_what_is_logged_holds_and_a_difference_is_told(
    fixture: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    request, before = uuid7(0), MISJUDGED._value.get()
    answered(fixture, request, cost_nanousd=12)
    fixture.recorder.record(draft(), ends=request)

    assert fixture.spent == 10
    assert MISJUDGED._value.get() == before + 1
    assert "was answered at 12 nano-USD" in caplog.text


def test_a_subject_that_is_logged_otherwise_is_told(fixture: Fixture) -> None:
    request, before = uuid7(0), MISJUDGED._value.get()
    answered(fixture, request)
    fixture.recorder.record(draft(tags=("a",)), ends=request)

    assert MISJUDGED._value.get() == before + 1


@pytest.mark.parametrize(("begun", "spent"), [(0, 10), (-1, 0)])
def test_an_answer_whose_window_began_under_way_waits_for_its_event(
    tmp_path: Path, begun: int, spent: int
) -> None:
    """LiteLLM may log it as of an instant before: into the window that has ended."""
    reset = datetime.now(UTC)
    fixture = Fixture(tmp_path, reset_at=reset)
    fixture.recorder.answered(uuid7(0), draft(), reset + timedelta(microseconds=begun))

    assert fixture.spent == spent


def test_an_answer_that_is_not_logged_in_time_is_named_and_counted(
    fixture: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    request, before = uuid7(0), UNLOGGED._value.get()
    answered(fixture, request)
    fixture.views.pending.expire(time.monotonic() + 60)

    assert fixture.spent == 0
    assert UNLOGGED._value.get() == before + 1
    assert str(request) in caplog.text


def test_an_answer_of_an_unpriced_model_counts_the_budgets_flat_amount(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, unpriced="0.00000005")
    answered(fixture, uuid7(0), cost_nanousd=0, cost_source=CostSource.UNPRICED)

    assert fixture.spent == 50


def test_what_is_held_for_a_request_becomes_its_cost_when_it_is_answered(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, enforcement="strict")
    request, strict = uuid7(0), fixture.views.strict
    book, bound = fixture.views.budgets.book, Bound(90 * FEMTO_PER_NANO, 0, 1, 1, 1, True)
    strict.reserve(request, bound, book, book.accounts_of(Subject(key="k")), 1, False)
    held = ("b|key=k", EPOCH)
    assert strict.holds.held(held) == 90

    answered(fixture, request)
    assert (strict.holds.held(held), fixture.spent) == (0, 10)


def bill(**changes: Any) -> UsageDraft:
    """Of one object, as each read of it makes it."""
    return draft(event_id=object_event_id("openai/resp_1"), object_id="openai/resp_1", **changes)


def test_an_objects_bill_keeps_its_id_though_a_request_ends_with_it(fixture: Fixture) -> None:
    request = uuid7(0)

    event = fixture.recorder.record(bill(), request)

    assert event is not None
    assert event.event_id == object_event_id("openai/resp_1")
    assert fixture.recorder.has_recorded(event.event_id)
    assert fixture.recorder.record(bill(), uuid7(1)) is None, "read again"


def test_an_objects_bill_is_doubtful_until_a_signal_has_it(fixture: Fixture) -> None:
    """Another gateway may have sent it: it refuses nobody, and `strict` holds against it."""
    event = fixture.recorder.record(bill())

    assert event is not None
    charge = charges_of(fixture.views.budgets.book, event, datetime.now(UTC))[0]
    known = fixture.views.spend.known(charge.account, charge.window_start)
    assert (known.certain_nanousd, known.doubtful_nanousd) == (0, 10)


def test_an_objects_bill_that_is_lost_comes_again_with_the_next_read(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = fixture.recorder.outbox
    assert outbox is not None
    monkeypatch.setattr(fixture.recorder, "outbox", None)
    fixture.recorder.record(bill())
    monkeypatch.setattr(fixture.recorder, "outbox", outbox)

    assert fixture.recorder.record(bill()) is not None
    assert outbox.last_seq == 1
    assert fixture.spent == 0, "doubtful, and counted once"
