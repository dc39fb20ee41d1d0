"""A month of a small company, as records: what the pages must show is recounted from these alone."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from spendmeter.contract.alert import Alert, AlertDelivery, AlertKind, DeliveryOutcome, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd, format_usd, from_usd
from spendmeter.contract.records import (
    Record,
    encode_alert,
    encode_budget,
    encode_decision,
    encode_delivery,
    encode_signal,
    encode_usage,
)
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource, Doubt, UsageEvent, UsageKind
from spendmeter.domain.matching import BudgetBook, subject_of
from spendmeter.values.ids import derived_uuid7
from tests.alerts import alert_about
from tests.builders import budget, usage

HOSTILE = '<img src=x onerror="window.owned=1">\x1b[2J\u202egnp.exe\u2066 שלום 👩‍👩‍👧 {{7*7}} \'"&'
KEYS = {
    "laptop": ("ann", "red"),
    "ci-runner": ("bob", "red"),
    "batch-nightly": ("eve", "blue"),
    "notebook": ("dan", "blue"),
    "support-bot": ("sue", "growth & ops"),
    "agents": ("tim", "growth & ops"),
}
MODELS = (
    ("gpt-4o", "openai", 40_000_000),
    ("gpt-4o-mini", "openai", 3_000_000),
    ("claude-sonnet-4-5", "anthropic", 60_000_000),
    ("text-embedding-3-small", "openai", 90_000),
)
DAYS = 40
PRODUCER = "world"


def secret_of(alias: str) -> str:
    """The key itself, as its holder has it."""
    return f"sk-{alias}-0123456789"


def hash_of(alias: str) -> str:
    return hashlib.sha256(secret_of(alias).encode()).hexdigest()


class World:
    """Everything that is on the topics."""

    def __init__(self, now: datetime, requests: int = 1_500) -> None:
        self.now = now
        self._random = random.Random(7)
        self._seq = 0
        self.budgets = list(self._budgets())
        self.events = list(self._events(requests))
        self.book = BudgetBook(self.budgets)
        self.signals = list(self._signals())
        self.decisions = [self._decision(n) for n in range(6)]
        self.alerts = list(self._alerts())
        self.deliveries = [step for number, one in enumerate(self.alerts) for step in _steps(number, one)]

    def records(self) -> Iterator[tuple[Topic, Record]]:
        """In an order in which they may be sent; some events twice, as a gateway resends."""
        for one in self.budgets:
            yield Topic.BUDGETS, encode_budget(one)
        for number, event in enumerate(self.events):
            yield Topic.USAGE, encode_usage(event)
            if number % 50 == 0:
                yield Topic.USAGE, encode_usage(event)
        for signal in self.signals:
            yield Topic.SIGNALS, encode_signal(signal)
        for decision in self.decisions:
            yield Topic.DECISIONS, encode_decision(decision)
        for alert in self.alerts:
            yield Topic.ALERTS, encode_alert(alert)
        for delivery in self.deliveries:
            yield Topic.DELIVERIES, encode_delivery(delivery)

    def spend(self, alias: str, cost_nanousd: int) -> UsageEvent:
        """One more request of a key, now; it still has to be stored."""
        event = self._event(datetime.now(UTC), alias, cost_nanousd=cost_nanousd)
        self.events.append(event)
        return event

    def spent(self, which: Callable[[UsageEvent], Any] = lambda event: True) -> NanoUsd:
        """What the provider billed in the end, of these events."""
        return NanoUsd(sum(event.cost_nanousd for event in self.events if which(event)))

    def spent_by(
        self, value: Callable[[UsageEvent], Iterable[str]], which: Callable[[UsageEvent], Any]
    ) -> dict[str, NanoUsd]:
        """The same by value; an event may have several."""
        found: dict[str, int] = defaultdict(int)
        for event in filter(which, self.events):
            for one in set(value(event)):
                found[one] += event.cost_nanousd
        return {one: NanoUsd(amount) for one, amount in found.items()}

    def signal_of(self, account: str) -> Signal:
        return next(signal for signal in reversed(self.signals) if signal.account == account)

    def _budgets(self) -> Iterator[Budget]:
        yield budget(
            id="team-month",
            match={"team": "*"},
            limit_nanousd=from_usd("14"),
            period="month",
            warn_at=(0.5, 0.8),
            updated_at=self.now - timedelta(days=39),
            updated_by="ann",
        )
        yield budget(
            id="key-day",
            limit_nanousd=from_usd("2"),
            timezone="Europe/Berlin",
            updated_at=self.now,
            updated_by="ann",
        )
        yield budget(
            id="company-year",
            match={},
            period="year",
            limit_nanousd=from_usd("5000"),
            action="warn",
            updated_at=self.now,
        )
        yield budget(
            id="litellm:team:red",
            match={"team": "red"},
            limit_nanousd=from_usd("40"),
            period="month",
            enforcement="strict",
            updated_at=self.now,
            updated_by="litellm",
        )
        yield budget(
            id="hostile",
            match={"team": HOSTILE},
            limit_nanousd=from_usd("1"),
            period="lifetime",
            updated_at=self.now,
        )

    def _events(self, requests: int) -> Iterator[UsageEvent]:
        aliases = [*KEYS]
        for number in range(requests):
            # The last tenth is of the last hour, so that there is a today at every time of the day.
            share = number / requests
            back = (
                timedelta(days=DAYS * (1 - share / 0.9))
                if share < 0.9
                else timedelta(seconds=3_000 * (1 - share) * 10)
            )
            alias = aliases[int(self._random.random() ** 1.6 * len(aliases))]
            model, provider, price = self._random.choice(MODELS)
            tags = self._random.sample(["prod", "nightly", "eval", "rag"], self._random.randint(0, 2))
            unpriced = number % 97 == 5
            yield self._event(
                occurred_at=self.now - back - timedelta(seconds=2),
                alias=alias,
                model=model,
                model_group=model,
                provider=provider,
                tags=(*tags, HOSTILE) if number % 211 == 0 else tuple(tags),
                cost_nanousd=0 if unpriced else int(price * self._random.lognormvariate(0, 0.7)),
                cost_source=CostSource.UNPRICED if unpriced else CostSource.LITELLM,
                cost_doubt=Doubt.BELOW_TOKENS if number % 131 == 7 else Doubt.NONE,
                input_tokens=self._random.randint(100, 9_000),
                output_tokens=self._random.randint(10, 2_000),
                prices={"input_token": "0.0000025", "output_token": "0.00001", "version": "1"},
            )
        yield self._event(
            occurred_at=self.now - timedelta(minutes=3),
            alias="agents",
            team=HOSTILE,
            user=HOSTILE,
            cost_nanousd=900_000_000,
        )
        for _ in range(10):
            corrected = self._random.choice(self._made)
            yield self._event(
                occurred_at=corrected.occurred_at,
                kind=UsageKind.CORRECTION,
                corrects=corrected.event_id,
                cost_nanousd=-(corrected.cost_nanousd // 2),
                reason="credit note",
                recorded_by="ann",
                **corrected.model_dump(
                    include={"key", "key_alias", "user", "team", "tags", "model", "model_group", "provider"}
                ),
            )

    _made: list[UsageEvent]

    def _event(self, occurred_at: datetime, alias: str | None = None, **fields: Any) -> UsageEvent:
        self._seq += 1
        if alias is not None:
            user, team = KEYS[alias]
            fields = {"key": hash_of(alias), "key_alias": alias, "user": user, "team": team} | fields
        event = usage(
            seq=self._seq,
            producer_id=PRODUCER,
            event_id=derived_uuid7(int(occurred_at.timestamp() * 1000), PRODUCER, str(self._seq)),
            occurred_at=occurred_at,
            started_at=occurred_at,
            **({"gateway": "gw-1"} | fields),
        )
        if self._seq == 1:
            self._made = []
        self._made.append(event)
        return event

    def _signals(self) -> Iterator[Signal]:
        """As a judge would have emitted them: one after each few events of an account."""
        spent: dict[tuple[str, datetime], int] = defaultdict(int)
        counted: dict[tuple[str, datetime], int] = defaultdict(int)
        for event in sorted(self.events, key=lambda one: one.occurred_at):
            for account in self.book.accounts_of(subject_of(event)):
                window = self.book.window_of(account.budget, event.occurred_at)
                assert window is not None
                at = (account.name, window.start)
                spent[at] += event.cost_nanousd
                counted[at] += 1
                yield self.signal(
                    account.budget,
                    dict(account.subject),
                    account.name,
                    window,
                    spent[at],
                    counted[at],
                    event.occurred_at,
                )

    def signal(
        self,
        of: Budget,
        subject: Mapping[Any, str],
        account: str,
        window: Any,
        spent: int,
        version: int,
        at: datetime,
    ) -> Signal:
        share = spent / of.limit_nanousd
        state = State.EXCEEDED if share >= 1 else State.WARNING if share >= min(of.warn_at) else State.OK
        soon = at + timedelta(hours=3) if state is State.WARNING else None
        return Signal(
            budget_id=of.id,
            account=account,
            subject={str(name): value for name, value in subject.items()},
            window_start=window.start,
            window_end=window.end,
            limit_nanousd=of.limit_nanousd,
            spent_nanousd=NanoUsd(spent),
            state=state,
            watermark={0: self._seq},
            revision=of.revision,
            version=version,
            forecast_exhausted_at=soon if window.end is None or soon is None or soon < window.end else None,
            emitted_at=at,
        )

    def _decision(self, number: int) -> Decision:
        alias = [*KEYS][number % len(KEYS)]
        _, team = KEYS[alias]
        of = self.budgets[0]
        account = next(a for a in self.book.accounts_of(subject_of(self._latest(team))) if a.budget is of)
        signal = self.signal_of(account.name)
        at = self.now - timedelta(minutes=5 * number)
        return Decision(
            decision_id=derived_uuid7(int(at.timestamp() * 1000), "decision", str(number)),
            decided_at=at,
            gateway="gw-1",
            why=Why.LIMIT_REACHED if number else Why.UNPRICED,
            name=alias if number != 3 else HOSTILE,
            message=f"Budget has been exceeded! Team={team} Current cost: {format_usd(signal.spent_nanousd)}",
            budget_id=of.id,
            revision=of.revision,
            account=account.name,
            window_start=signal.window_start,
            window_end=signal.window_end,
            limit_nanousd=of.limit_nanousd,
            spent_nanousd=signal.spent_nanousd,
            signal_nanousd=signal.spent_nanousd,
            held_nanousd=NanoUsd(0),
            watermark={0: 10**6, 1: 10**6},
            producer_id=PRODUCER,
            seq=self._seq,
        )

    def _latest(self, team: str) -> UsageEvent:
        return next(event for event in reversed(self.events) if event.team == team)

    def _alerts(self) -> Iterator[Alert]:
        for signal in self.signals[-400::40]:
            kind = AlertKind.EXCEEDED if signal.state is State.EXCEEDED else AlertKind.THRESHOLD
            yield Alert(
                alert_id=alert_id(signal.account, signal.window_start, kind, str(signal.version)),
                kind=kind,
                signal=signal,
                message=f"{signal.account} has spent {format_usd(signal.spent_nanousd)} USD",
                emitted_at=signal.emitted_at,
            )
        yield alert_about(AlertKind.DIGEST, "digest of red\n3 requests", at=self.now, team="red")
        yield alert_about(AlertKind.DIGEST, "digest of blue\n3 requests", at=self.now, team="blue")
        yield alert_about(AlertKind.DIGEST, "digest of everything\n3 requests", at=self.now)

    def decision_ids(self, team: str) -> set[UUID]:
        """The refusals of one team."""
        return {
            one.decision_id
            for one, alias in zip(self.decisions, KEYS, strict=False)
            if KEYS[alias][1] == team
        }


def _steps(number: int, alert: Alert) -> Iterator[AlertDelivery]:
    """What a relay writes of an alert: held and then sent, said again, refused, of no route, or nothing."""
    at = alert.emitted_at + timedelta(seconds=1)

    def step(outcome: DeliveryOutcome, route: str = "chat", **fields: Any) -> AlertDelivery:
        return AlertDelivery.model_validate(
            {"route": route, "alert_id": alert.alert_id, "outcome": outcome, "at": at, "alert": alert}
            | fields
        )

    later = at + timedelta(minutes=5)
    match number % 5:
        case 0:
            yield step(DeliveryOutcome.HELD, reason="waits for the digest of 5m", due_at=later)
            yield step(DeliveryOutcome.SENT, at=later, attempts=3, due_at=later + timedelta(hours=4))
            yield step(DeliveryOutcome.SENT, at=later + timedelta(hours=4), attempts=1, reminders=1)
            yield step(DeliveryOutcome.SKIPPED, HOSTILE, attempts=3, reason=f"refused: {HOSTILE}")
        case 1:
            due = alert.emitted_at + timedelta(days=3)
            yield step(DeliveryOutcome.HELD, "night", reason="quiet hours until 07:00 UTC", due_at=due)
        case 2:
            yield step(DeliveryOutcome.SKIPPED, "", reason="no route matches")
        case 3:
            for route in ("one", "two", "three", "four"):
                yield step(DeliveryOutcome.SENT, route, attempts=1)
