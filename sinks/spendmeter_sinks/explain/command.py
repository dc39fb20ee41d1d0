"""`spendmeter explain`: exit 0 if history justifies the refusal, 1 if it does not."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import click

from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import clock, print_json, say_lines, usd
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.topics import Topic
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.times import format_time
from spendmeter.visible import visible
from spendmeter_sinks.explain.evidence import (
    DecisionEvidence,
    budgets_at,
    evidence_of,
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


def render(decision: Decision, evidence: DecisionEvidence | None) -> str:
    """The decision, what it rests on, and whether the events bear it out."""
    return "\n".join(map(visible, _lines(decision, evidence)))


def _lines(decision: Decision, evidence: DecisionEvidence | None) -> Iterator[str]:
    yield f"refused      {clock(decision.decided_at)} UTC at gateway {decision.gateway}, for {decision.name}"
    yield f"  message    {decision.message}"
    yield f"  decision   {decision.decision_id}"
    if decision.budget_id is not None:
        by = f" by {evidence.budget_by}" if evidence is not None and evidence.budget_by else ""
        revision = f"revision {decision.revision}{by}"
        yield f"  budget     {decision.budget_id}, {revision}, account {decision.account}"
        if evidence is not None and evidence.names:
            yield f"  whose      {', '.join(f'{d} {name}' for d, name in evidence.names.items())}"
        end = clock(decision.window_end) if decision.window_end else "never"
        yield f"  window     from {clock(decision.window_start)} to {end}"
        yield from _amounts(decision)
    if decision.why in _NO_SPEND:
        yield _NO_SPEND[decision.why]
    if evidence is not None:
        yield from _of_events(decision, evidence)


def _amounts(decision: Decision) -> Iterator[str]:
    spent, limit = decision.spent_nanousd or NanoUsd(0), decision.limit_nanousd or NanoUsd(0)
    own = NanoUsd(spent - (decision.signal_nanousd or 0))
    pending = decision.pending_nanousd or NanoUsd(0)
    watermark = ", ".join(f"{p}:{o}" for p, o in sorted(decision.watermark.items())) or "none"
    yield f"  limit      {usd(limit)}"
    yield f"  known      {usd(spent)}, {usd(own)} of it this gateway's own and in no signal yet"
    if pending:
        yield f"  pending    {usd(pending)} of that had been answered, and LiteLLM had not logged it yet"
    yield f"  watermark  {watermark} (partition:offset of spend.usage)"
    if decision.held_nanousd or decision.least_nanousd is not None:
        least = usd(decision.least_nanousd or NanoUsd(0))
        held = usd(decision.held_nanousd or NanoUsd(0))
        yield f"  strict     {held} held by others, {least} needed at least"


def _of_events(decision: Decision, evidence: DecisionEvidence) -> Iterator[str]:
    yield f"{evidence.events:,} events were known then; history adds them up to {usd(evidence.spent_nanousd)}"
    for one in evidence.largest:
        at, cost = clock(one.occurred_at), usd(one.cost_nanousd)
        yield f"  {at}  {cost:>14}  {one.model}  key {one.name}  event {one.event_id}"
    if (more := evidence.events - len(evidence.largest)) > 0:
        yield f"  … and {more:,} smaller ones"
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
@click.argument("decision", type=click.UUID, required=False)
@click.option(
    "--events", type=click.IntRange(0, 1_000), default=10, show_default=True, help="How many to list."
)
@dir_option
@json_option
def explain(decision: UUID | None, events: int, dir_: Path | None, as_json: bool) -> None:
    """Say why a request was refused, and show the events that add up to it.

    DECISION is the id that the client got as x-spendmeter-decision. Default: the latest refusal.
    """
    settings = clickhouse_settings(dir_)
    with history(settings) as client:
        found, evidence = _fetch(client, decision, settings.topic(Topic.USAGE), events)
    print_json(_data(found, evidence)) if as_json else say_lines(render(found, evidence))
    if not is_right(found, evidence):
        raise SystemExit(NOT_BORNE_OUT)


def _fetch(
    client: Client, decision_id: UUID | None, usage_topic: str, events: int
) -> tuple[Decision, DecisionEvidence | None]:
    decision = find_decision(client, decision_id)
    if decision is None and decision_id is None:
        raise click.ClickException("history has no refusal: nobody has been refused yet")
    if decision is None:
        raise click.ClickException(
            f"history has no decision {decision_id}; a refusal arrives there after about a second. For the"
            " latest refusal, use `spendmeter explain` without an id"
        )
    if decision.budget_id is None:
        return decision, None
    topic = usage_topic_of(client, decision) or usage_topic
    return decision, evidence_of(client, decision, budgets_at(client, decision), topic, events)


def _data(decision: Decision, evidence: DecisionEvidence | None) -> dict[str, object]:
    data: dict[str, object] = {
        "decision": decision.model_dump(mode="json"),
        "right": is_right(decision, evidence),
    }
    if evidence is not None:
        data["budget_by"] = evidence.budget_by
        data["events"] = evidence.events
        data["spent_nanousd"] = evidence.spent_nanousd
        data["largest"] = [
            one._asdict() | {"occurred_at": format_time(one.occurred_at), "event_id": str(one.event_id)}
            for one in evidence.largest
        ]
    return data
