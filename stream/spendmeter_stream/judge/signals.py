"""How the judge builds signals, and the alerts that belong to no account. Pure."""

from datetime import datetime
from uuid import UUID

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import construct_unchecked
from spendmeter.domain.window import Window
from spendmeter.domain.writers import ForeignProducer
from spendmeter.values.account import budget_id_of, subject_in
from spendmeter_stream.judge.emission import Snapshot
from spendmeter_stream.judge.forecast import exhausted_at
from spendmeter_stream.judge.merging import Merged
from spendmeter_stream.state import AccountState


def signal_of(
    account: str,
    state: AccountState,
    snapshot: Snapshot,
    merged: Merged,
    window: Window,
    incarnation: str = "",
) -> Signal:
    """The signal for a snapshot; `incarnation`: that of the topic that the watermark's offsets belong to."""
    return construct_unchecked(
        Signal,
        {
            "budget_id": budget_id_of(account),
            "account": account,
            "subject": subject_in(account),
            "window_start": window.start,
            "window_end": window.end,
            "limit_nanousd": snapshot.limit_nanousd,
            "spent_nanousd": snapshot.spent_nanousd,
            "state": snapshot.state,
            "threshold": snapshot.threshold,
            "watermark": merged.watermark,
            "incarnation": incarnation,
            "revision": snapshot.revision,
            "version": snapshot.version,
            "cause_event_id": state.last_event_id,
            "forecast_exhausted_at": exhausted_at(
                state.burn, NanoUsd(snapshot.limit_nanousd - snapshot.spent_nanousd), window, snapshot.at
            ),
            "opening": snapshot.opening,
            "emitted_at": snapshot.at,
        },
    )


def unpriced_alert(model: str, event_id: UUID, now: datetime) -> Alert:
    """Say, once per day and model, that requests without a known price are served."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Alert(
        alert_id=alert_id(f"model={model}", day, AlertKind.UNPRICED, "day"),
        kind=AlertKind.UNPRICED,
        message=f"model {model} has no price: its requests count as 0 USD (first seen in event {event_id})",
        emitted_at=now,
    )


def doubted_alert(event: UsageEvent, now: datetime) -> Alert:
    """Say, once per day, model and reason, that LiteLLM reports costs that cannot be right."""
    model = event.model or event.model_group
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Alert(
        alert_id=alert_id(f"model={model}", day, AlertKind.DOUBTED, event.cost_doubt),
        kind=AlertKind.DOUBTED,
        message=(
            f"the costs that LiteLLM reports for model {model} are doubted ({event.cost_doubt}): tokens "
            f"times listed prices count instead (first seen in event {event.event_id})"
        ),
        emitted_at=now,
    )


def foreign_producer_alert(foreign: ForeignProducer, now: datetime) -> Alert:
    """Say, once per day and producer, that somebody else writes under its id; its own events still count."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Alert(
        alert_id=alert_id(f"producer={foreign.producer_id}", day, AlertKind.FOREIGN_PRODUCER, "day"),
        kind=AlertKind.FOREIGN_PRODUCER,
        message=f"put aside and not counted: {foreign.detail}."
        " `spendmeter letters list --reason foreign_producer` shows all of them",
        emitted_at=now,
    )
