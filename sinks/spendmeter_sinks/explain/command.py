"""`spendmeter explain`: exit 0 if history justifies the refusal or alert, 1 if it does not."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import click

from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import clock, cut, print_json, say_lines, terminal_width, usd
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.topics import Topic
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.times import format_time
from spendmeter.visible import one_line, visible
from spendmeter_sinks.explain.evidence import (
    DecisionEvidence,
    ExplainedAlert,
    budgets_at,
    evidence_of,
    find_alert,
    find_decision,
    usage_topic_of,
)

_NO_SPEND = {
    Why.BLIND: "The gateway could not verify what had been spent, and `on_stale` is `block`.",
    Why.UNPRICED: "Nobody knows the model's price, and the budget's `unpriced` is `block`.",
    Why.UNBOUNDED: "Nothing bounds what the request may cost, and the budget's `unpriced` is `block`.",
    Why.CONTROL: "The request's body had a control of LiteLLM's under which it could not be metered.",
    Why.TAG_MISSING: "The request did not name what every request under the budget must name.",
}


def is_right(decision: Decision, evidence: DecisionEvidence | None) -> bool:
    """Whether the events that were known reach what the refusal claims."""
    if evidence is None or decision.why in _NO_SPEND:
        return True
    limit = decision.limit_nanousd or 0
    if decision.why is Why.NO_ROOM:
        return evidence.spent_nanousd + (decision.held_nanousd or 0) + (decision.least_nanousd or 0) > limit
    return evidence.spent_nanousd >= limit


def render(decision: Decision, evidence: DecisionEvidence | None, width: int | None = None) -> str:
    """The decision, what it rests on, and whether the events bear it out.

    Args:
        width: of the terminal, if it is one.
    """
    return "\n".join(map(visible, _lines(decision, evidence, width)))


def render_alert(alert: ExplainedAlert, evidence: DecisionEvidence | None, width: int | None = None) -> str:
    """The same for an alert."""
    return "\n".join(map(visible, _lines_of_alert(alert, evidence, width)))


def _lines_of_alert(
    alert: ExplainedAlert, evidence: DecisionEvidence | None, width: int | None
) -> Iterator[str]:
    yield f"alert        {clock(alert.emitted_at)} UTC, {alert.kind}"
    yield f"  message    {one_line(alert.message)}"
    yield f"  alert      {alert.alert_id}"
    signal = alert.signal
    if signal is not None:
        yield from _of_budget(signal, evidence)
        yield f"  limit      {usd(signal.limit_nanousd or NanoUsd(0))}"
        yield f"  spent      {usd(signal.spent_nanousd or NanoUsd(0))}"
        yield f"  watermark  {_watermark(signal)}"
    if alert.cause_event_id is not None:
        yield f"  caused by  event {alert.cause_event_id}"
    if signal is None:
        yield "no account is concerned, or history does not have its signal yet"
    if signal is not None and evidence is not None:
        yield from _largest(evidence, width)
        yield _verdict_on_alert(signal, evidence)


def _verdict_on_alert(signal: Decision, evidence: DecisionEvidence) -> str:
    if bears_out(signal, evidence):
        return "so the alert was right"
    difference = usd(NanoUsd(abs((signal.spent_nanousd or 0) - evidence.spent_nanousd)))
    return (
        f"history does not justify this: it differs by {difference}. An event may not be stored yet (try"
        " again in a second); `spendmeter reconcile` names what is missing"
    )


def bears_out(signal: Decision, evidence: DecisionEvidence | None) -> bool:
    """Whether the events under the signal's watermark add up to what it says."""
    return evidence is None or evidence.spent_nanousd == signal.spent_nanousd


def _lines(decision: Decision, evidence: DecisionEvidence | None, width: int | None) -> Iterator[str]:
    yield f"refused      {clock(decision.decided_at)} UTC at gateway {decision.gateway}, for {decision.name}"
    yield f"  message    {decision.message}"
    yield f"  decision   {decision.decision_id}"
    if decision.budget_id is not None:
        yield from _of_budget(decision, evidence)
        yield from _amounts(decision)
    if decision.why in _NO_SPEND:
        yield _NO_SPEND[decision.why]
    if evidence is not None:
        yield from _of_events(decision, evidence, width)


def _of_budget(decision: Decision, evidence: DecisionEvidence | None) -> Iterator[str]:
    by = f" by {evidence.budget_by}" if evidence is not None and evidence.budget_by else ""
    revision = f"revision {decision.revision}{by}"
    yield f"  budget     {decision.budget_id}, {revision}, account {decision.account}"
    if evidence is not None and evidence.names:
        yield f"  whose      {', '.join(f'{d} {name}' for d, name in evidence.names.items())}"
    end = clock(decision.window_end) if decision.window_end else "never"
    yield f"  window     from {clock(decision.window_start)} to {end}"


def _watermark(decision: Decision) -> str:
    offsets = ", ".join(f"{p}:{o}" for p, o in sorted(decision.watermark.items())) or "none"
    return f"{offsets} (partition:offset of spend.usage)"


def _amounts(decision: Decision) -> Iterator[str]:
    spent, limit = decision.spent_nanousd or NanoUsd(0), decision.limit_nanousd or NanoUsd(0)
    own = NanoUsd(spent - (decision.signal_nanousd or 0))
    pending = decision.pending_nanousd or NanoUsd(0)
    yield f"  limit      {usd(limit)}"
    yield f"  known      {usd(spent)}, {usd(own)} of it this gateway's own and in no signal yet"
    if pending:
        yield f"  pending    {usd(pending)} of that had been answered, and LiteLLM had not logged it yet"
    yield f"  watermark  {_watermark(decision)}"
    if decision.held_nanousd or decision.least_nanousd is not None:
        least = usd(decision.least_nanousd or NanoUsd(0))
        held = usd(decision.held_nanousd or NanoUsd(0))
        yield f"  strict     {held} held by others, {least} needed at least"


def _largest(evidence: DecisionEvidence, width: int | None) -> Iterator[str]:
    yield f"{evidence.events:,} events were known then; history adds them up to {usd(evidence.spent_nanousd)}"
    for one in evidence.largest:
        at, cost = clock(one.occurred_at), usd(one.cost_nanousd)
        line, event = f"  {at}  {cost:>14}  {one.model}  key {one.name}", f"event {one.event_id}"
        if width is not None and len(line) + len(event) + 2 > width:
            yield cut(visible(line), width)
            yield f"    {event}"
        else:
            yield f"{line}  {event}"
    if (more := evidence.events - len(evidence.largest)) > 0:
        yield f"  … and {more:,} smaller ones"


def _of_events(decision: Decision, evidence: DecisionEvidence, width: int | None) -> Iterator[str]:
    yield from _largest(evidence, width)
    if decision.why in _NO_SPEND:
        return
    if is_right(decision, evidence):
        yield "so the refusal was right"
    else:
        missing = usd(NanoUsd((decision.spent_nanousd or 0) - evidence.spent_nanousd))
        yield (
            f"history does not justify this: {missing} is missing. An event may not be stored yet (try again"
            " in a second), or was lost before it was recorded; `spendmeter reconcile` names what is missing"
        )
        if decision.pending_nanousd:
            yield "pending events may have been logged at another cost, or never; the gateway's log says it"


NOT_BORNE_OUT = 1


@click.command()
@click.argument("decision", type=click.UUID, required=False, metavar="[ID]")
@click.option(
    "--events", type=click.IntRange(0, 1_000), default=10, show_default=True, help="How many to list."
)
@dir_option
@json_option
def explain(decision: UUID | None, events: int, dir_: Path | None, as_json: bool) -> None:
    """Say why a request was refused or an alert sent, and show the events that add up to it.

    ID is what the client got as x-spendmeter-decision, or what `spendmeter refusals` and `spendmeter alerts
    list` show. Default: the latest refusal.
    """
    settings = clickhouse_settings(dir_)
    with history(settings) as client:
        found = find_decision(client, decision)
        alert = find_alert(client, decision) if found is None and decision is not None else None
        if found is not None:
            topic = settings.topic(Topic.USAGE)
            evidence = _evidence(client, found, usage_topic_of(client, found) or topic, events)
        elif alert is not None and alert.signal is not None:
            evidence = _evidence(client, alert.signal, alert.usage_topic, events)
        else:
            evidence = None
    if found is None and alert is None:
        raise click.ClickException(_not_there(decision))
    if found is not None:
        shown, is_borne_out = render(found, evidence, terminal_width()), is_right(found, evidence)
        data = _data(found, evidence)
    else:
        assert alert is not None, "one of them was found"
        shown = render_alert(alert, evidence, terminal_width())
        is_borne_out = alert.signal is None or bears_out(alert.signal, evidence)
        data = _data_of_alert(alert, evidence, is_borne_out=is_borne_out)
    print_json(data) if as_json else say_lines(shown)
    if not is_borne_out:
        raise SystemExit(NOT_BORNE_OUT)


def _not_there(decision_id: UUID | None) -> str:
    if decision_id is None:
        return "history has no refusal: nobody has been refused yet"
    return (
        f"history has no decision and no alert {decision_id}; they arrive there after about a second."
        " `spendmeter refusals` and `spendmeter alerts list` show those there are"
    )


def _evidence(client: Client, decision: Decision, topic: str, events: int) -> DecisionEvidence | None:
    if decision.budget_id is None:
        return None
    return evidence_of(client, decision, budgets_at(client, decision), topic, events)


def _data_of_alert(
    alert: ExplainedAlert, evidence: DecisionEvidence | None, *, is_borne_out: bool
) -> dict[str, object]:
    signal = alert.signal
    data: dict[str, object] = {
        "alert": {
            "alert_id": str(alert.alert_id),
            "kind": alert.kind,
            "message": alert.message,
            "emitted_at": format_time(alert.emitted_at),
            "cause_event_id": str(alert.cause_event_id) if alert.cause_event_id else None,
            "account": signal.account if signal else None,
            "limit_nanousd": signal.limit_nanousd if signal else None,
            "spent_nanousd": signal.spent_nanousd if signal else None,
        },
        "right": is_borne_out,
    }
    return data | _data_of_events(evidence)


def _data(decision: Decision, evidence: DecisionEvidence | None) -> dict[str, object]:
    data: dict[str, object] = {
        "decision": decision.model_dump(mode="json"),
        "right": is_right(decision, evidence),
    }
    return data | _data_of_events(evidence)


def _data_of_events(evidence: DecisionEvidence | None) -> dict[str, object]:
    if evidence is None:
        return {}
    return {
        "budget_by": evidence.budget_by,
        "events": evidence.events,
        "spent_nanousd": evidence.spent_nanousd,
        "largest": [
            one._asdict() | {"occurred_at": format_time(one.occurred_at), "event_id": str(one.event_id)}
            for one in evidence.largest
        ],
    }
