"""Sends refusals to spend.decisions. If one is lost, the client still gets its answer."""

from collections.abc import Mapping
from heapq import nlargest
from operator import itemgetter
from uuid import UUID

from prometheus_client import Counter

from spendmeter.contract.decision import MAX_NAMED, Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_decision
from spendmeter.contract.topics import Topic
from spendmeter.settings import Settings
from spendmeter_gateway.admission.decide import Denied
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.outbox.side_queue import RecordQueue
from spendmeter_gateway.spend.window_balance import KnownSpend

LOST = Counter("spendmeter_decisions_lost_total", "Refusals that `spendmeter explain` will not know.")


def decision_of(
    refusal: Refusal, gateway: str, producer_id: str | None, seq: int, pending: Mapping[UUID, int]
) -> Decision:
    """The refusal as a wire record.

    `producer_id` and `seq` belong to the latest own event recorded. `pending` is the cost of events not
    recorded yet, read before `seq`: an event recorded in between is covered by its `seq`.
    """
    refuse = refusal.refuse
    decision = Decision(
        decision_id=refusal.id,
        decided_at=refusal.at,
        gateway=gateway,
        why=refuse.why,
        name=refusal.caller.name,
        message=refusal.message,
        producer_id=producer_id,
        seq=seq,
    )
    if refuse.account is None or refuse.window is None or refuse.known is None:
        return decision
    return decision.model_copy(
        update={
            "budget_id": refuse.account.budget.id,
            "revision": refuse.account.budget.revision,
            "account": refuse.account.name,
            "window_start": refuse.window.start,
            "window_end": refuse.window.end,
            "limit_nanousd": refuse.limit_nanousd,
            "spent_nanousd": refuse.spent_nanousd,
            "signal_nanousd": refuse.known.signal_nanousd,
            "held_nanousd": refuse.held_nanousd,
            "least_nanousd": refuse.least_nanousd,
            "watermark": refuse.known.watermark,
            "pending_nanousd": NanoUsd(refuse.known.pending_nanousd),
            "pending": _named(pending, _missing_nanousd(refuse, refuse.known)),
        }
    )


def _missing_nanousd(refuse: Denied, known: KnownSpend) -> int:
    """The amount by which the refusal depends on pending events."""
    reached = refuse.spent_nanousd - known.pending_nanousd
    if refuse.why is Why.NO_ROOM:
        reached += refuse.held_nanousd + (refuse.least_nanousd or 0) - 1
    return refuse.limit_nanousd - reached


def _named(pending: Mapping[UUID, int], missing_nanousd: int) -> tuple[UUID, ...]:
    """The costliest of them, as many as add up to the missing amount."""
    named: list[UUID] = []
    for event_id, cost_nanousd in nlargest(MAX_NAMED, pending.items(), key=itemgetter(1)):
        if missing_nanousd <= 0:
            break
        named.append(event_id)
        missing_nanousd -= cost_nanousd
    return tuple(named)


class DecisionLog(RecordQueue[Decision]):
    """The queue of refusals to send."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Topic.DECISIONS, encode_decision, LOST)
