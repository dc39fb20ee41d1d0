"""A refusal and its evidence as people read them. Pure."""

from collections.abc import Iterator

from spendmeter.cli.printing import clock, usd
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter.visible import visible
from spendmeter_sinks.explain.evidence import DecisionEvidence

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
    yield f"  told       {decision.message}"
    yield f"  decision   {decision.decision_id}"
    if decision.budget_id is not None:
        by = f" by {evidence.budget_by}" if evidence is not None and evidence.budget_by else ""
        revision = f"revision {decision.revision}{by}"
        yield f"  budget     {decision.budget_id}, {revision}, account {decision.account}"
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
            f"history does not bear this out: {missing} is missing. An event may not be stored yet (ask again"
            " in a second), or was lost before it was recorded; `spendmeter reconcile` names what is missing"
        )
        if decision.pending_nanousd:
            yield "what was pending may have been logged at another cost, or never; the gateway says which"
