"""The refusal: what a client is told, in LiteLLM's own shape, and what is kept for `explain`."""

import math
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from producers.admission import Refuse
from spendmeter.contract.decision import Why
from spendmeter.contract.ids import uuid7
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.times import format_time

# A client that finds the gateway blind may try again this soon: it is milliseconds or an operator.
BLIND_RETRY_AFTER_SECONDS = 1
HELD_RETRY_AFTER_SECONDS = 1
_HELPED_BY_NO_WAITING = (Why.UNPRICED, Why.UNBOUNDED)


class Refusal(NamedTuple):
    """A refusal as it was told, and the facts that it rests on."""

    id: UUID
    at: datetime
    key: str
    """Alias or hash, as told."""
    refuse: Refuse

    @property
    def message(self) -> str:
        """LiteLLM's own words, so that whoever parses those parses these."""
        if self.refuse.why is Why.BLIND:
            return f"Budget cannot be verified at the moment. Key={self.key}"
        if self.refuse.why is Why.UNPRICED:
            return f"Budget allows no model whose price is not known, and this one's is not. Key={self.key}"
        if self.refuse.why is Why.UNBOUNDED:
            return f"Budget allows no request whose cost nothing bounds, and nothing does. Key={self.key}"
        if self.refuse.why is Why.NO_ROOM:
            return (
                f"Budget would be exceeded! Key={self.key}"
                f" Current cost: {format_usd(self.refuse.spent_nanousd)},"
                f" held for running requests: {format_usd(self.refuse.held_nanousd)},"
                f" needed at least: {format_usd(self.refuse.least_nanousd or NanoUsd(0))},"
                f" Max budget: {format_usd(self.refuse.limit_nanousd)}"
            )
        return (
            f"Budget has been exceeded! Key={self.key}"
            f" Current cost: {format_usd(self.refuse.spent_nanousd)},"
            f" Max budget: {format_usd(self.refuse.limit_nanousd)}"
        )

    @property
    def headers(self) -> dict[str, str]:
        """`retry-after` in whole seconds, at least 1, absent where waiting does not help."""
        headers = {"x-should-retry": "false", "x-spendmeter-decision": str(self.id)}
        if self.refuse.account is not None:
            headers["x-spendmeter-budget"] = self.refuse.account.budget.id
        seconds = self._retry_after_seconds()
        if seconds is not None:
            headers["retry-after"] = str(seconds)
        return headers

    @property
    def facts(self) -> str:
        """One line: what it rests on, with the offsets up to which the signal had counted."""
        refuse = self.refuse
        if refuse.account is None or refuse.window is None or refuse.known is None:
            return f"decision={self.id} why={refuse.why}"
        end = format_time(refuse.window.end) if refuse.window.end else "never"
        watermark = ",".join(f"{p}:{o}" for p, o in sorted(refuse.known.watermark.items())) or "none"
        return (
            f"decision={self.id} why={refuse.why} budget={refuse.account.budget.id}"
            f" revision={refuse.account.budget.revision} account={refuse.account.name}"
            f" window_start={format_time(refuse.window.start)} window_end={end}"
            f" spent_nanousd={refuse.spent_nanousd} limit_nanousd={refuse.limit_nanousd}"
            f" signal_nanousd={refuse.known.signal_nanousd} watermark={watermark}"
            + ("" if refuse.least_nanousd is None else _of_holds(refuse))
        )

    def _retry_after_seconds(self) -> int | None:
        if self.refuse.why is Why.BLIND:
            return BLIND_RETRY_AFTER_SECONDS
        if self.refuse.why is Why.NO_ROOM and self.refuse.held_nanousd:
            # What is held is settled when the requests end that run now.
            return HELD_RETRY_AFTER_SECONDS
        if self.refuse.why in _HELPED_BY_NO_WAITING:
            return None
        if self.refuse.window is None or self.refuse.window.end is None:
            return None
        return max(1, math.ceil((self.refuse.window.end - self.at).total_seconds()))


def _of_holds(refuse: Refuse) -> str:
    doubtful = refuse.known.doubtful_nanousd if refuse.known else 0
    return (
        f" doubtful_nanousd={doubtful} held_nanousd={refuse.held_nanousd}"
        f" least_nanousd={refuse.least_nanousd}"
    )


def refusal_of(refuse: Refuse, key: str, at: datetime) -> Refusal:
    """Give a decision its id, a UUIDv7 of that moment."""
    return Refusal(uuid7(int(at.timestamp() * 1000)), at, key, refuse)
