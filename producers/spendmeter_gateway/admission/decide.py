"""Admission: may this request go ahead? A pure function of the budgets, the known spend and the time.

`settled` budgets refuse once what finished requests cost has reached the limit. Limit and window
come from the budget alone, so a raise, a reset or the end of a window needs no signal. When in
doubt, a request is admitted.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.budget import Enforcement
from spendmeter.contract.decision import Why
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import Account, BudgetBook
from spendmeter.domain.window import Window
from spendmeter_gateway.model import Policy
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import KnownSpend


class DecisionContext(NamedTuple):
    """When a decision is made: the wall clock for windows, a monotonic one for ages."""

    now: datetime
    seconds: float
    budgets_are_read: bool
    """Whether every budget that there was at the start is known. Until then none may be enforced."""
    views_are_current: bool
    """Whether all budgets and signals are known, and Kafka has answered within `stale_after_seconds`."""
    model_is_unpriced: bool = False
    """Whether the model is known to have no price (unpriced_models.py); never a guess."""


class Admit(NamedTuple):
    """Let the request through."""


class Denied(NamedTuple):
    """Turn the request away, and what that rests on."""

    why: Why
    account: Account | None
    """None when blind before the budgets were read."""
    window: Window | None
    spent_nanousd: NanoUsd
    limit_nanousd: NanoUsd
    known: KnownSpend | None
    held_nanousd: NanoUsd = NanoUsd(0)
    """What other running requests hold of the limit."""
    least_nanousd: NanoUsd | None = None
    """What the request needed at the least, where that is why."""
    named: str | None = None
    """The control or dimension that is why; where it came from a client, as it came."""


class Reserve(NamedTuple):
    """Let the request through once what it may cost is held on these accounts, which are `strict`."""

    accounts: tuple[Account, ...]


class WaitForAcknowledgement(NamedTuple):
    """Decide again once more acknowledgements or signals are there: events may be counted twice."""

    account: Account
    strict: tuple[Account, ...] = ()
    """Where what it may cost must be held, should nothing come."""


Decision = Admit | Denied | Reserve | WaitForAcknowledgement
ADMIT = Admit()
BLIND_AT_START = Denied(Why.BLIND, None, None, NanoUsd(0), NanoUsd(0), None)


def lacks(name: str) -> Denied:
    """A request that does not name what every request must."""
    return Denied(Why.TAG_MISSING, None, None, NanoUsd(0), NanoUsd(0), None, named=name)


def cannot_be_metered(control: str) -> Denied:
    """A request with a control of LiteLLM's under which nobody can tell what answers, and at which price."""
    return Denied(Why.CONTROL, None, None, NanoUsd(0), NanoUsd(0), None, named=control)


def decide(
    book: BudgetBook, accounts: Iterable[Account], spend: SpendTracker, at: DecisionContext, policy: Policy
) -> Decision:
    """Judge a request that falls under these accounts.

    A refusal that stands whatever the doubtful events turn out to be is final. Of several, the
    one that lasts longest is told: a client that waits for a shorter one is refused again.
    """
    refusal: Denied | None = None
    blind: Denied | None = None
    wait: WaitForAcknowledgement | None = None
    strict: list[Account] | None = None
    for account in accounts:
        if not account.budget.refuses:
            continue
        window = book.present_window(account.budget, at.now)
        if window is None:
            continue
        known = spend.known(account.name, window.start)
        limit = account.budget.limit_at(at.now)
        if at.model_is_unpriced and account.budget.unpriced == "block":
            # First, because waiting does not help here.
            return _refuse(Why.UNPRICED, account, window, limit, known)
        if known.certain_nanousd >= limit:
            if refusal is None or _ends_later(window, refusal.window):
                refusal = _refuse(Why.LIMIT_REACHED, account, window, limit, known)
        elif (
            account.budget.enforcement is not Enforcement.STRICT
            and known.certain_nanousd + known.doubtful_nanousd >= limit
            and _notification_is_due(known, spend, at, policy)
        ):
            wait = WaitForAcknowledgement(account)
        elif policy.on_stale == "block" and _is_blind(known, spend, at, policy):
            blind = _refuse(Why.BLIND, account, window, limit, known)
        elif account.budget.enforcement is Enforcement.STRICT:
            strict = [account] if strict is None else [*strict, account]
    if policy.on_stale == "block" and not at.budgets_are_read:
        blind = BLIND_AT_START
    if strict is not None and refusal is None:
        if wait is not None:
            return wait._replace(strict=tuple(strict))
        if blind is None:
            return Reserve(tuple(strict))
    return refusal or wait or blind or ADMIT


def _refuse(why: Why, account: Account, window: Window, limit: NanoUsd, known: KnownSpend) -> Denied:
    return Denied(why, account, window, NanoUsd(known.certain_nanousd), limit, known)


def _ends_later(window: Window, than: Window | None) -> bool:
    if than is None or than.end is None:
        return False
    return window.end is None or window.end > than.end


def _notification_is_due(known: KnownSpend, spend: SpendTracker, at: DecisionContext, policy: Policy) -> bool:
    """Whether what is doubtful can soon be told: neither Kafka nor the stream has been silent for long."""
    return any(
        since is not None and at.seconds - since < policy.ack_wait_seconds
        for since in (spend.oldest_recorded_seconds(), known.uncovered_since_seconds)
    )


def _is_blind(known: KnownSpend, spend: SpendTracker, at: DecisionContext, policy: Policy) -> bool:
    """Whether Kafka has told or acknowledged nothing, or the stream has counted nothing, for too long."""
    return not at.views_are_current or any(
        since is not None and at.seconds - since >= policy.stale_after_seconds
        for since in (spend.oldest_recorded_seconds(), known.uncovered_since_seconds)
    )
