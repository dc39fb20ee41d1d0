"""`spendmeter correct` and `void`: change the cost of a recorded request."""

from pathlib import Path
from time import monotonic, sleep
from uuid import UUID

import click

from spendmeter.cli.connection import cluster_settings, history, run
from spendmeter.cli.options import CostOption, dir_option, json_option, wait_option
from spendmeter.cli.printing import print_json, say, usd
from spendmeter.client import who
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent, UsageKind
from spendmeter.history.correction import MAX_REASON_CHARACTERS, CorrectedEvent, NotCorrectable
from spendmeter.history.correction import correct as correction_of
from spendmeter.history.usage import find_event, find_recorded
from spendmeter.kafka.client import producer, queue_signed
from spendmeter.runtime.clickhouse import Client
from spendmeter.settings import ClickHouseSettings

POLL_SECONDS = 0.25

event_argument = click.argument("event_id", metavar="EVENT_ID", type=click.UUID)
_wait_option = wait_option(
    "Seconds to wait until history shows the correction, and with it that no other one came first."
)


def _reason(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    reason = value.strip()
    if not 0 < len(reason) <= MAX_REASON_CHARACTERS:
        raise click.BadParameter(
            f"say why, in at most {MAX_REASON_CHARACTERS} characters; it is kept for ever"
        )
    return reason


reason_option = click.option(
    "--reason", metavar="TEXT", required=True, callback=_reason, help="Why; it is kept."
)


@click.command()
@event_argument
@click.option("--cost-usd", type=CostOption(), required=True, help="The final cost of the request.")
@reason_option
@_wait_option
@dir_option
@json_option
def correct(
    event_id: UUID, cost_usd: NanoUsd, reason: str, wait_seconds: float, dir_: Path | None, as_json: bool
) -> None:
    """Correct the cost of the request recorded as EVENT_ID, in its own window."""
    _change(event_id, UsageKind.CORRECTION, cost_usd, reason, wait_seconds, dir_, as_json)


@click.command()
@event_argument
@reason_option
@_wait_option
@dir_option
@json_option
def void(event_id: UUID, reason: str, wait_seconds: float, dir_: Path | None, as_json: bool) -> None:
    """Set the cost of the request recorded as EVENT_ID to zero."""
    _change(event_id, UsageKind.VOID, NanoUsd(0), reason, wait_seconds, dir_, as_json)


def _change(
    event_id: UUID,
    kind: UsageKind,
    cost: NanoUsd,
    reason: str,
    wait_seconds: float,
    dir_: Path | None,
    as_json: bool,
) -> None:
    settings = cluster_settings(dir_)
    topic = settings.topic(Topic.USAGE)
    with history(settings) as client:
        before = find_recorded(client, topic, event_id)
        if before is None:
            raise click.ClickException(
                f"history has no event {event_id}. A new one arrives within seconds; if it does not,"
                " `spendmeter status` says whether history is being written"
            )
        event = _planned(before, cost, kind, reason)
        if event is None:
            return _render_nothing(before, as_json)
        _send(settings, event)
        stored = _wait(client, topic, event, wait_seconds)
    if stored is not None and not _is_same(stored, event):
        raise click.ClickException(
            f"{stored.recorded_by or 'somebody'} corrected {event_id} at the same moment, and that counts;"
            " this correction does not. Check the result, and correct it again if necessary"
        )
    return _render(before, event, stored is not None, as_json)


def _planned(before: CorrectedEvent, cost: NanoUsd, kind: UsageKind, reason: str) -> UsageEvent | None:
    try:
        return correction_of(before, cost, kind=kind, reason=reason, recorded_by=who())
    except NotCorrectable as error:
        raise click.ClickException(str(error)) from None


def _is_same(stored: UsageEvent, sent: UsageEvent) -> bool:
    """Whether history has what was sent; two people who send the same mean the same."""
    return (stored.cost_nanousd, stored.kind) == (sent.cost_nanousd, sent.kind)


def _send(settings: ClickHouseSettings, event: UsageEvent) -> None:
    """Return once every in-sync replica has it."""
    record = encode_usage(event)

    async def work() -> None:
        kafka = producer(settings)
        try:
            await kafka.start()
            await (
                await queue_signed(kafka, settings.read_signing_keys(), settings.topic(Topic.USAGE), *record)
            )
        finally:
            await kafka.stop()

    run(
        work,
        settings,
        failed="Kafka did not acknowledge the correction",
        then="it may be stored all the same, and the same command again is safe",
    )


def _wait(client: Client, topic: str, sent: UsageEvent, wait_seconds: float) -> UsageEvent | None:
    """The correction in history; None if it does not arrive in time."""
    deadline = monotonic() + wait_seconds

    while True:
        found = find_event(client, topic, sent.event_id)
        if found is not None or monotonic() >= deadline:
            return found
        sleep(POLL_SECONDS)


def _render_nothing(before: CorrectedEvent, as_json: bool) -> None:
    if as_json:
        return print_json({"sent": None, **_as_data(before, before.cost_nanousd)})
    return say(f"nothing to do: {before.original.event_id} costs {usd(before.cost_nanousd)} already")


def _render(before: CorrectedEvent, event: UsageEvent, is_in_history: bool, as_json: bool) -> None:
    cost = NanoUsd(before.cost_nanousd + event.cost_nanousd)
    if as_json:
        found = {"sent": event.model_dump(mode="json"), "in_history": is_in_history}
        return print_json({**found, **_as_data(before, cost)})
    say(
        f"{event.corrects} cost {usd(before.cost_nanousd)} and costs {usd(cost)} now"
        f" ({event.kind} {event.event_id}, {usd(event.cost_nanousd)})"
    )
    if not is_in_history:
        say("Kafka has it; history does not show it yet. Until it does, do not correct it again", err=True)
    return None


def _as_data(before: CorrectedEvent, cost: NanoUsd) -> dict[str, object]:
    return {
        "event_id": str(before.original.event_id),
        "cost_before_usd": format_usd(before.cost_nanousd),
        "cost_usd": format_usd(cost),
    }
