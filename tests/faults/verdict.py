"""The oracle's judgement: what was asked for against what totals and history hold. Pure.

The rule for events that a gateway was told to record:

- The append returned: exactly once in history and in the totals, at its cost.
- The gateway was killed before it answered: once or not at all, and history and totals agree which.
- The gateway said that it was lost, or its clock was too far ahead: in neither.

The rule for requests to the LiteLLM proxy, whose costs are the upstream's token counts at known prices:

- Served by the upstream: exactly once in history and in the totals, at its cost, unless the proxy was
  killed while the request was in flight. In flight is from the client's sending it until
  `HOOK_SECONDS` after its answer, because LiteLLM runs its log hooks after it has answered.
- In flight at a kill: once or not at all, and history and totals agree which.
- Not served: in neither.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.ledger import Ledger, Requests
from tests.integration.garbage.generate import NOBODY

PROXY = "proxy"
HOOK_SECONDS = 1.0
HOUR_US = 3_600_000_000
# USD per million tokens, in and out, as published, times 1000: nano-USD per token.
PRICES_NANOUSD = {
    "gpt-4o-mini": (150, 600),
    "gpt-4o": (2_500, 10_000),
}


class Row(NamedTuple):
    """One row of history, duplicates merged."""

    event_id: str
    request_id: str
    gateway: str
    key: str
    cost_nanousd: int
    occurred_us: int

    @property
    def is_garbage(self) -> bool:
        """Of the right shape, about nobody, and free: it is an event, and none of ours."""
        return self.cost_nanousd == 0 and (self.gateway == "" or self.gateway.startswith(NOBODY))


class Call(NamedTuple):
    """One call that the upstream says it has served whole."""

    request_id: str
    model: str
    input_tokens: int
    output_tokens: int

    @property
    def cost_nanousd(self) -> int:
        price_in, price_out = PRICES_NANOUSD[self.model]
        return self.input_tokens * price_in + self.output_tokens * price_out


class Finding(NamedTuple):
    """Something that is not as it should be, and when what it is about was asked for."""

    what: str
    at: float


@dataclass
class Verdict:
    """What was found. Nothing may be."""

    lost: list[Finding] = field(default_factory=list)
    doubled: list[Finding] = field(default_factory=list)
    wrong: list[Finding] = field(default_factory=list)
    """At another cost or subject, or where nothing should be."""
    expected: dict[tuple[str, int], int] = field(default_factory=dict)
    """What the totals must say: (account, start of window in µs or 0 for lifetime): nano-USD."""
    events: int = 0
    """That must be in history."""
    in_flight_recorded: int = 0
    in_flight_unrecorded: int = 0
    answered_unrecorded: int = 0
    """Of those, the ones whose clients had an answer."""
    hook_late_ms: int = 0
    """The longest from such an answer to the kill: LiteLLM's log hook had not run by then."""

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


def judge(ledger: Ledger, requests: Requests, calls: Iterable[Call], rows: Iterable[Row]) -> Verdict:
    """Compare history with what was asked for; what the totals must be comes with it."""
    verdict = Verdict(expected=defaultdict(int))
    of_events: dict[str, list[Row]] = defaultdict(list)
    of_requests: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.gateway == PROXY:
            of_requests[row.request_id].append(row)
        else:
            of_events[row.event_id].append(row)
    _judge_events(ledger, of_events, verdict)
    _judge_requests(requests, calls, of_requests, verdict)
    return verdict


def _judge_events(ledger: Ledger, rows: Mapping[str, Sequence[Row]], verdict: Verdict) -> None:
    for entry in ledger:
        found = rows.get(entry.id, ())
        name = f"event {entry.id} of {entry.source}"
        if entry.outcome in ("told lost", "from the future", "asked"):
            if found:
                verdict.wrong.append(Finding(f"{name}, {entry.outcome}, is in history", entry.asked_at))
            continue
        if not found:
            if entry.outcome == "recorded":
                verdict.lost.append(Finding(name, entry.asked_at))
            continue
        if len(found) > 1:
            verdict.doubled.append(Finding(f"{name}: {len(found)} rows", entry.asked_at))
        row = found[0]
        if (row.cost_nanousd, row.key, row.gateway) != (entry.cost_nanousd, entry.key, entry.source) or (
            entry.occurred_us not in (None, row.occurred_us)
        ):
            verdict.wrong.append(Finding(f"{name}: asked {entry}, found {row}", entry.asked_at))
        _expect(verdict, entry.source, entry.key, row.occurred_us, entry.cost_nanousd)
    for event_id in rows.keys() - ledger.entries.keys():
        if all(row.is_garbage for row in rows[event_id]):
            continue
        verdict.wrong.append(Finding(f"event {event_id} is in history and nobody asked for it", 0.0))


def _judge_requests(
    requests: Requests, calls: Iterable[Call], rows: Mapping[str, Sequence[Row]], verdict: Verdict
) -> None:
    served: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        served[call.request_id].append(call)
    for request_id, of_request in served.items():
        request, found = requests.by_id[request_id], rows.get(request_id, ())
        name = f"request {request_id}"
        in_flight = requests.in_flight_at_a_kill(request, HOOK_SECONDS)
        missing = len(of_request) - len(found)
        if missing > 0 and not in_flight:
            verdict.lost += [Finding(name, request.sent_at)] * missing
        elif missing > 0:
            verdict.in_flight_unrecorded += missing
            if request.answered:
                verdict.answered_unrecorded += 1
                verdict.hook_late_ms = max(verdict.hook_late_ms, requests.answer_to_kill_ms(request))
        elif in_flight:
            verdict.in_flight_recorded += len(found)
        costs = Counter(call.cost_nanousd for call in of_request)
        if missing < 0:
            verdict.doubled.append(Finding(f"{name}: {-missing} rows too many", request.sent_at))
        elif Counter(row.cost_nanousd for row in found) - costs:
            verdict.wrong.append(Finding(f"{name}: served {of_request}, found {found}", request.sent_at))
        for row, cost in zip(found, costs.elements(), strict=False):
            _expect(verdict, PROXY, row.key, row.occurred_us, cost)
    for request_id in rows.keys() - served.keys():
        verdict.wrong.append(Finding(f"request {request_id!r} is in history and was not served", 0.0))


def _expect(verdict: Verdict, gateway: str, key: str, occurred_us: int, cost_nanousd: int) -> None:
    """Add an event to every account of the run's four budgets."""
    verdict.events += 1
    verdict.expected["everything|", 0] += cost_nanousd
    verdict.expected["alerting|", 0] += cost_nanousd
    verdict.expected[f"per-key|key={key}", 0] += cost_nanousd
    hour = occurred_us - occurred_us % HOUR_US
    verdict.expected[f"by-gateway|gateway={gateway}", hour] += cost_nanousd


def compare_totals(
    expected: Mapping[tuple[str, int], int], totals: Mapping[tuple[str, int], int]
) -> list[str]:
    """Every account and window in which the totals are not exactly what was expected, in words."""
    return [
        f"{account} window {window}: totals {totals.get((account, window), 0)},"
        f" expected {expected.get((account, window), 0)} nano-USD"
        for account, window in sorted(expected.keys() | totals.keys())
        if totals.get((account, window), 0) != expected.get((account, window), 0)
    ]


def may_know(ledger: Ledger, gateway: str, key: str | None, spent_nanousd: int) -> set[int]:
    """What a gateway may take for spent from a key's account, or from everything's, at the end: what was.

    Where it could not record an event, or its clock was ahead, the event is in no total and cost money
    all the same: the gateway goes on counting it, until a signal of the account tells of later events.
    """
    known, allowed = spent_nanousd, {spent_nanousd}
    for entry in reversed(list(ledger)):
        is_in_no_total = entry.outcome in ("told lost", "from the future")
        if is_in_no_total and entry.source == gateway and key in (None, entry.key):
            known += entry.cost_nanousd
            allowed.add(known)
    return allowed
