"""`spendmeter explain`: exit 0 when history bears the refusal out, 1 when it does not."""

from pathlib import Path
from uuid import UUID

import click

from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import print_json, say_lines
from spendmeter.contract.decision import Decision
from spendmeter.contract.topics import Topic
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.times import format_time
from spendmeter_sinks.explain.evidence import (
    DecisionEvidence,
    budgets_at,
    evidence_of,
    find_decision,
    usage_topic_of,
)
from spendmeter_sinks.explain.render import is_right, render

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

    DECISION is what the client got as x-spendmeter-decision; without it, the latest refusal is told.
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
        raise click.ClickException("history has no refusal: nobody was refused yet")
    if decision is None:
        raise click.ClickException(
            f"history has no decision {decision_id}; a refusal is there about a second after it was made,"
            " and `spendmeter explain` without an id tells the latest"
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
