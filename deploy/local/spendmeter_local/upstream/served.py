"""The fake upstream's own count of what it served, with which every meter is compared."""

from collections import Counter, deque
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

from spendmeter_local.upstream.plan import AnswerPlan
from spendmeter_local.upstream.quirks import Fault

MAX_CALLS_KEPT = 200_000
MAX_CALLS_PER_ANSWER = 20_000
"""Of the log per call; the sums are complete as long as the process lives."""

Outcome = Literal["served", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class ServedCall:
    """One finished call. `served`: the whole answer was written; `cancelled`: the client left before that."""

    number: int
    id: str
    path: str
    model: str
    user: str | None
    streamed: bool
    outcome: Outcome
    status: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    chunks_written: int
    nonce: int | None = None
    """From the request's directive: it identifies the sender without the proxy."""
    input_word_count: int = 0
    """Of the request's texts: the basis of an estimate without counts."""
    units: int = 0
    """Billed units that are not tokens: searches, characters."""
    usage_given: bool = True
    """Whether the answer reported all usage in numbers."""
    fault: Fault = "none"


class ServedLog:
    """Counts since the process started."""

    def __init__(self) -> None:
        self._by_outcome: dict[Outcome, dict[str, Counter[str]]] = {
            "served": {},
            "cancelled": {},
            "failed": {},
        }
        self._calls: deque[ServedCall] = deque(maxlen=MAX_CALLS_KEPT)
        self._last = 0

    def record(
        self,
        plan: AnswerPlan,
        outcome: Outcome,
        *,
        id: str,  # noqa: A002
        path: str,
        model: str,
        user: str | None,
        streamed: bool,
        chunks_written: int,
        units: int = 0,
        usage_given: bool = True,
    ) -> None:
        """Count one call. A cancelled call counts with what it would have cost if completed."""
        self._last += 1
        call = ServedCall(
            self._last,
            id,
            path,
            model,
            user,
            streamed,
            outcome,
            plan.status,
            plan.input_tokens,
            plan.output_tokens,
            plan.cached_tokens,
            plan.cache_write_tokens,
            plan.reasoning_tokens,
            chunks_written,
            plan.nonce,
            plan.input_word_count,
            units,
            usage_given,
            plan.fault,
        )
        self._calls.append(call)
        sums = self._by_outcome[outcome].setdefault(model, Counter())
        sums["requests"] += 1
        if outcome != "failed":
            for name in _TOKENS:
                sums[name] += getattr(call, name)

    def summary(self) -> dict[str, Any]:
        """Sums over everything served, by model; cancelled and failed calls are separate."""
        by_model = {
            outcome: {m: dict(c) for m, c in models.items()} for outcome, models in self._by_outcome.items()
        }
        return {
            **_sum(by_model["served"]),
            "by_model": by_model["served"],
            "cancelled": {**_sum(by_model["cancelled"]), "by_model": by_model["cancelled"]},
            "failed": {"requests": _sum(by_model["failed"])["requests"], "by_model": by_model["failed"]},
        }

    def calls(self, since: int) -> dict[str, Any]:
        """The calls numbered above `since`, oldest first: at most `MAX_CALLS_PER_ANSWER`, of those kept.

        Repeat with the last one's number until it is `last`. A `kept_from` above `since` + 1 means that
        some are gone.
        """
        kept_from = self._calls[0].number if self._calls else self._last + 1
        skipped = max(0, since + 1 - kept_from)
        newer = islice(self._calls, skipped, skipped + MAX_CALLS_PER_ANSWER)
        return {"calls": [asdict(call) for call in newer], "last": self._last, "kept_from": kept_from}


_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


def _sum(by_model: dict[str, dict[str, int]]) -> dict[str, int]:
    return {name: sum(sums.get(name, 0) for sums in by_model.values()) for name in ("requests", *_TOKENS)}
