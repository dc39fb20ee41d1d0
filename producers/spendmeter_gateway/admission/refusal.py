"""The refusal: the client's message and headers, and the record for `explain`."""

import math
import unicodedata
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.decision import Why
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.domain.matching import Subject
from spendmeter.values.dimensions import Dimension
from spendmeter.values.ids import uuid7
from spendmeter.values.times import format_time
from spendmeter_gateway.admission.decide import Denied
from spendmeter_gateway.model import Caller

# A client of a blind gateway may retry this soon: blindness ends in milliseconds, or needs an operator.
BLIND_RETRY_AFTER_SECONDS = 1
HELD_RETRY_AFTER_SECONDS = 1
MAX_NAME_CHARS = 100
"""The length of each name in a message: clients choose tags, sessions and end users."""
MAX_ACCOUNT_HEADER_CHARS = 1_000
"""A longer account is left out of the headers: cut short, it would name another account."""
_HELPED_BY_NO_WAITING = (Why.UNPRICED, Why.UNBOUNDED, Why.CONTROL, Why.TAG_MISSING)
_LABELS: dict[Dimension, str] = {
    "key": "Key",
    "user": "User",
    "team": "Team",
    "organization": "Organization",
    "project": "Project",
    "end_user": "End User",
    "tag": "Tag",
    "model": "Model",
    "model_group": "Model group",
    "provider": "Provider",
    "session": "Session",
    "gateway": "Gateway",
}
"""The labels of LiteLLM's own messages, in their order."""
_OF_A_CALLER: tuple[Dimension, ...] = ("key", "user", "team", "organization", "end_user")
_TYPES = {
    Why.BLIND: "budget_unverified",
    Why.UNPRICED: "budget_unpriced",
    Why.UNBOUNDED: "budget_unpriced",
    Why.CONTROL: "invalid_request_error",
    Why.TAG_MISSING: "invalid_request_error",
}


class Refusal(NamedTuple):
    """A refusal for the client, and the facts that it rests on."""

    id: UUID
    at: datetime
    caller: Caller
    refuse: Denied
    page: str = ""
    """Where the page is; empty: the client is not sent there."""

    @property
    def type(self) -> str:
        """LiteLLM's name for this kind of error, or ours if it has none."""
        return _TYPES.get(self.refuse.why, "budget_exceeded")

    @property
    def param(self) -> str | None:
        """The control or dimension that the request must leave out or name."""
        return None if self.refuse.named is None else plain(self.refuse.named)

    @property
    def message(self) -> str:
        """LiteLLM's own form first, so that existing parsers work; then budget and window; then the page."""
        why = f"Why: {self.url}" if self.url else ""
        return " ".join(part for part in (self._reason, self._budget, why) if part)

    @property
    def url(self) -> str:
        """The page that explains it; empty where none is named."""
        return f"{self.page}/refusals/{self.id}" if self.page else ""

    @property
    def headers(self) -> dict[str, str]:
        """ASCII only. `retry-after` is in whole seconds, at least 1, and absent if waiting does not help."""
        headers = {"x-should-retry": "false", "x-spendmeter-decision": str(self.id)}
        if self.url:
            headers["x-spendmeter-decision-url"] = self.url
        account, window = self.refuse.account, self.refuse.window
        if account is not None:
            headers["x-spendmeter-budget"] = account.budget.id
            if len(account.name) <= MAX_ACCOUNT_HEADER_CHARS:
                headers["x-spendmeter-account"] = account.name
            headers["x-spendmeter-budget-limit-usd"] = format_usd(self.refuse.limit_nanousd)
        if window is not None and window.end is not None:
            headers["x-spendmeter-budget-resets-at"] = format_time(window.end)
        seconds = self._retry_after_seconds()
        if seconds is not None:
            headers["retry-after"] = str(seconds)
        return headers

    @property
    def whose(self) -> str:
        """`Team=red`, `User=ann Team=red`; the caller if no account is known; empty for a budget of
        everything.
        """
        if self.refuse.account is None:
            return _caller_label(self.caller)
        values = dict(self.refuse.account.subject)
        of_caller = self.caller.subject.key
        return " ".join(
            f"{label}={plain(self.caller.name if dimension == 'key' and value == of_caller else value)}"
            for dimension, label in _LABELS.items()
            if (value := values.get(dimension))
        )

    @property
    def _reason(self) -> str:
        why, whose, refuse = self.refuse.why, self.whose, self.refuse
        of_whom = f" {whose}" if whose else ""
        if why is Why.BLIND:
            return f"Budget cannot be verified at the moment.{of_whom}"
        if why is Why.UNPRICED:
            return f"Budget allows no model whose price is not known, and this one's is not.{of_whom}"
        if why is Why.UNBOUNDED:
            return f"Budget allows no request whose cost nothing bounds, and nothing does.{of_whom}"
        if why is Why.CONTROL:
            return (
                f"Budget allows no request that cannot be metered, and with"
                f" `{plain(refuse.named or '?')}` in its body this one cannot. Send it without.{of_whom}"
            )
        if why is Why.TAG_MISSING:
            return (
                f"Budget requires that a request names `{plain(refuse.named or '?')}`,"
                f" and this one does not.{of_whom}"
            )
        if why is Why.NO_ROOM:
            return (
                f"Budget would be exceeded!{of_whom}"
                f" Current cost: {format_usd(refuse.spent_nanousd)},"
                f" held for running requests: {format_usd(refuse.held_nanousd)},"
                f" needed at least: {format_usd(refuse.least_nanousd or NanoUsd(0))},"
                f" Max budget: {format_usd(refuse.limit_nanousd)}"
            )
        return (
            f"Budget has been exceeded!{of_whom}"
            f" Current cost: {format_usd(refuse.spent_nanousd)},"
            f" Max budget: {format_usd(refuse.limit_nanousd)}"
        )

    @property
    def _budget(self) -> str:
        """`(budget red-day, period day, until 2026-11-23T00:00:00+01:00)`, in the budget's zone."""
        if self.refuse.account is None:
            return ""
        budget, window = self.refuse.account.budget, self.refuse.window
        parts = [f"budget {budget.id}", f"period {budget.period}"]
        if window is not None and window.end is not None:
            parts.append(f"until {window.end.astimezone(budget.zone).isoformat(timespec='seconds')}")
        return f"({', '.join(parts)})"

    @property
    def facts(self) -> str:
        """One line with the facts behind it, and the offsets up to which the signal had counted."""
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
            # Holds are settled when the running requests end.
            return HELD_RETRY_AFTER_SECONDS
        if self.refuse.why in _HELPED_BY_NO_WAITING:
            return None
        if self.refuse.window is None or self.refuse.window.end is None:
            return None
        return max(1, math.ceil((self.refuse.window.end - self.at).total_seconds()))


def _of_holds(refuse: Denied) -> str:
    doubtful = refuse.known.doubtful_nanousd if refuse.known else 0
    return (
        f" doubtful_nanousd={doubtful} held_nanousd={refuse.held_nanousd}"
        f" least_nanousd={refuse.least_nanousd}"
    )


def refusal_of(refuse: Denied, caller: Caller, at: datetime, page: str = "") -> Refusal:
    """Give a decision its id, a UUIDv7 of that moment. `page`: its address, if clients shall have it."""
    return Refusal(uuid7(int(at.timestamp() * 1000)), at, caller, refuse, page)


def plain(name: str) -> str:
    """A name fit for a message: on one line, without control characters, at most MAX_NAME_CHARS."""
    if len(name) > MAX_NAME_CHARS:
        name = name[: MAX_NAME_CHARS - 1] + "…"
    if name.isascii() and name.isprintable():
        return name
    # Also separators other than the space, format characters (bidirectional ones) and lone surrogates.
    return "".join("�" if _is_hidden(character) else character for character in name)


def _is_hidden(character: str) -> bool:
    return character != " " and unicodedata.category(character)[0] in "CZ"


def _caller_label(caller: Caller) -> str:
    subject: Subject = caller.subject
    for dimension in _OF_A_CALLER:
        if value := getattr(subject, dimension):
            return f"{_LABELS[dimension]}={plain(caller.name if dimension == 'key' else value)}"
    return ""
