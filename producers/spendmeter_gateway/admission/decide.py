"""Admission: may this request go ahead? A pure function of the budgets, the known spend and the time.

`settled` budgets refuse once finished requests have reached the limit. Limit and window
come from the budget alone, so a raise, a reset or the end of a window needs no signal. In
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
    """Whether every budget that existed at the start is known. Until then none may be enforced."""
    views_are_current: bool
    """Whether all budgets and signals are known, and Kafka has answered within `stale_after_seconds`."""
    model_is_unpriced: bool = False
    """Whether the model is known to have no price (`UnpricedModels`); never a guess."""


class Admit(NamedTuple):
    """Let the request through."""


class Denied(NamedTuple):
    """Refuse the request, with the facts behind it."""

    why: Why
    account: Account | None
    """None if the gateway is blind and has not read the budgets yet."""
    window: Window | None
    spent_nanousd: NanoUsd
    limit_nanousd: NanoUsd
    known: KnownSpend | None
    held_nanousd: NanoUsd = NanoUsd(0)
    """The part of the limit that other running requests hold."""
    least_nanousd: NanoUsd | None = None
    """The least that the request needed, if that is the reason."""
    named: str | None = None
    """The control or dimension that is the reason, exactly as a client sent it."""


class Reserve(NamedTuple):
    """Admit the request once its possible cost is held on these `strict` accounts."""

    accounts: tuple[Account, ...]


class WaitForAcknowledgement(NamedTuple):
    """Decide again after more acknowledgements or signals: events may be counted twice."""

    account: Account
    strict: tuple[Account, ...] = ()
    """The accounts on which its possible cost must be held if nothing arrives."""


Decision = Admit | Denied | Reserve | WaitForAcknowledgement
ADMIT = Admit()
BLIND_AT_START = Denied(Why.BLIND, None, None, NanoUsd(0), NanoUsd(0), None)


def lacks(name: str) -> Denied:
    """A request that lacks a required dimension."""
    return Denied(Why.TAG_MISSING, None, None, NanoUsd(0), NanoUsd(0), None, named=name)


def cannot_be_metered(control: str) -> Denied:
    """A request with a control of LiteLLM's that hides what will answer, and at which price."""
    return Denied(Why.CONTROL, None, None, NanoUsd(0), NanoUsd(0), None, named=control)


def decide(
    book: BudgetBook, accounts: Iterable[Account], spend: SpendTracker, at: DecisionContext, policy: Policy
) -> Decision:
    """Judge a request that falls under these accounts.

    A refusal is final if it holds whatever the doubtful events turn out to be. Of several refusals, the
    client gets the one that lasts longest: after a shorter wait it would be refused again.
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
            # First, because waiting would not help.
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
    """Whether the doubt will soon end: neither Kafka nor the stream has been silent for long."""
    return any(
        since is not None and at.seconds - since < policy.ack_wait_seconds
        for since in (spend.oldest_recorded_seconds(), known.uncovered_since_seconds)
    )


def _is_blind(known: KnownSpend, spend: SpendTracker, at: DecisionContext, policy: Policy) -> bool:
    """Whether Kafka has delivered or acknowledged nothing, or the stream has counted nothing, for
    too long.
    """
    return not at.views_are_current or any(
        since is not None and at.seconds - since >= policy.stale_after_seconds
        for since in (spend.oldest_recorded_seconds(), known.uncovered_since_seconds)
    )
