"""Eight days of a company as records: over a change of summer time and of month, with names of every kind."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from spendmeter.contract.alert import Alert, AlertDelivery, AlertKind, DeliveryOutcome
from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter.history.correction import CorrectedEvent, correct
from tests.builders import budget, signal, usage

FIRST = datetime(2026, 10, 25, tzinfo=UTC)
DAYS = 8
LAST = FIRST + timedelta(days=DAYS)
RENAMED = FIRST + timedelta(days=4)
"""Some keys and teams have another name from then on."""
REPLAYED_DAY = FIRST + timedelta(days=1)
LATE = FIRST + timedelta(days=3)
"""Requests from then on are corrected once more, late."""
REQUESTS, CORRECTIONS = 900, 500
FAR = datetime(2100, 1, 1, tzinfo=UTC)
HOSTILE = "corp\\eve's \\' OR 1=1 -- (<b>,&=%2C $__toTime שלום"
TEAMS: dict[str | None, str | None] = {
    "t-search": "Search",
    "t-ads": "Ads",
    "t-ads-2": "Ads",
    "t-nameless": None,
    HOSTILE: HOSTILE,
    None: None,
    **{f"t-{number}": f"Team {number}" for number in range(9)},
}
MODELS = ("gpt-4o", "openai/gpt-4o", "o3", "claude-sonnet")
TAGS = ("nightly", "eval", "rag")


class Content:
    """What stands on the topics, in order."""

    def __init__(self) -> None:
        self._random = Random(16)
        self._keys = [f"{number:02d}{'ab' * 31}" for number in range(14)]
        self.requests = [self._request(number) for number in range(REQUESTS)]
        self.copies = [
            # A later copy never counts, whatever it says.
            event.model_copy(update={"cost_nanousd": event.cost_nanousd + 1}) if number % 3 == 0 else event
            for number, event in enumerate(self._random.sample(self.requests, 200))
        ]
        self._corrected: dict[UUID, list[UsageEvent]] = {}
        self.corrections = list(self._corrections(self.requests))
        self.late_corrections = list(
            self._corrections([event for event in self.requests if event.occurred_at >= LATE])
        )
        self.replayed = [
            event
            for event in (*self.requests, *self.corrections)
            if REPLAYED_DAY <= event.occurred_at < REPLAYED_DAY + timedelta(days=1)
        ]
        self.budgets = [
            *(self._budget("per-team", {"team": "*"}, "100", revision) for revision in (1, 2)),
            self._budget("per-key", {"key": "*"}, "20", 1),
            self._budget("company", {}, "5000", 1),
            self._budget("nothing", {"team": "t-ads"}, "0.000000001", 1),
        ]
        self.signals = list(self._signals())
        self.decisions = [self._decision(number) for number in range(260)]
        self.alerts = [self._alert(number) for number in range(220)]
        self.deliveries = list(self._deliveries())

    def _request(self, number: int) -> UsageEvent:
        random = self._random
        key = random.choice(self._keys)
        team = (
            list(TEAMS)[self._keys.index(key) % len(TEAMS)]
            if random.random() < 0.8
            else random.choice(list(TEAMS))
        )
        user = f"u{self._keys.index(key) % 5}" if key != self._keys[0] else None
        at = FIRST + timedelta(microseconds=random.randrange(DAYS * 86_400 * 10**6))
        unpriced = random.random() < 0.05
        model = random.choice(MODELS)
        return usage(
            number + 1,
            0 if unpriced else int(random.lognormvariate(20, 3)) + 1,
            event_id=UUID(int=random.getrandbits(128), version=4),
            occurred_at=at,
            started_at=at,
            key=key,
            key_alias=self._alias(self._keys.index(key), at),
            user=user,
            user_alias=user and f"Person {user}",
            team=team,
            team_alias=TEAMS[team]
            and (TEAMS[team] if team != "t-search" or at < RENAMED else "Search & Find"),
            model=model,
            model_group="default",
            provider="anthropic" if model.startswith("claude") else "openai",
            tags=random.sample(TAGS, random.randrange(3)) + ["eval"] * (number % 40 == 0),
            end_user=random.choice((None, None, "acme", "globex")),
            status=Status.FAILURE if random.random() < 0.1 else Status.SUCCESS,
            cost_source=CostSource.UNPRICED if unpriced else CostSource.LITELLM,
            input_tokens=random.randrange(5_000),
            output_tokens=random.randrange(1_000),
        )

    def _alias(self, number: int, at: datetime) -> str | None:
        if number % 4 == 3:
            return None
        return f"key {number}" if number or at < RENAMED else "laptop"

    def _corrections(self, requests: Sequence[UsageEvent]) -> Iterator[UsageEvent]:
        for number in range(CORRECTIONS):
            event = self._random.choice(requests)
            kind = UsageKind.VOID if number % 5 == 0 else UsageKind.CORRECTION
            cost = NanoUsd(0 if kind is UsageKind.VOID else self._random.randrange(10**10))
            before = self._corrected.setdefault(event.event_id, [])
            correction = correct(
                CorrectedEvent(event, before), cost, kind=kind, reason="a credit note", recorded_by="ann"
            )
            if correction is not None:
                before.append(correction)
                yield correction

    def _budget(self, budget_id: str, match: dict[str, str], usd: str, revision: int) -> Budget:
        return budget(
            id=budget_id,
            match=match,
            limit_nanousd=from_usd(usd) * revision,
            period="month",
            timezone="Europe/Berlin",
            revision=revision,
            updated_at=FIRST + timedelta(days=revision),
            updated_by="carol",
        )

    def _signals(self) -> Iterator[Signal]:
        random = self._random
        subjects: list[tuple[str, dict[str, str]]] = [
            *(("per-team", {"team": team}) for team in TEAMS if team),
            *(("per-key", {"key": key}) for key in self._keys),
            ("per-key", {"key": "never-used"}),
            ("company", {}),
            ("removed", {"team": "t-search"}),
        ]
        for budget_id, subject in subjects:
            limit = random.randrange(1, 10**12)
            for version in (1, 2, 3):
                spent = limit * version * random.randrange(1, 60) // 100
                yield self._signal(budget_id, subject, limit, spent, version)
        yield self._signal("nothing", {"team": "t-ads"}, 0, 7, 1)
        yield self._signal("per-team", {"team": "over"}, 10, 9, 1, window_end=LAST)

    def _signal(
        self, budget_id: str, subject: dict[str, str], limit: int, spent: int, version: int, **fields: Any
    ) -> Signal:
        share = spent / limit if limit else 1
        state = State.EXCEEDED if share >= 1 else State.WARNING if share >= 0.8 else State.OK
        values = "".join(f"|{dimension}={value}" for dimension, value in subject.items())
        warned = state is State.WARNING
        return signal(
            **{
                "budget_id": budget_id,
                "account": budget_id + values,
                "subject": subject,
                "window_start": FIRST,
                "window_end": FAR if budget_id != "company" else None,
                "limit_nanousd": limit,
                "spent_nanousd": spent,
                "state": state,
                "version": version,
                "forecast_exhausted_at": FAR - timedelta(days=spent % 1_000) if warned else None,
                "emitted_at": FIRST + timedelta(hours=version),
                **fields,
            }
        )

    def _decision(self, number: int) -> Decision:
        blind = number % 9 == 0
        at = FIRST + timedelta(days=1, seconds=number * 2_011, microseconds=number)
        of = self.signals[number * 7 % len(self.signals)]
        rest: dict[str, Any] = (
            {}
            if blind
            else {
                "budget_id": of.budget_id,
                "revision": 1,
                "account": of.account,
                "window_start": FIRST,
                "limit_nanousd": of.limit_nanousd,
                "spent_nanousd": of.spent_nanousd,
            }
        )
        return Decision(
            decision_id=UUID(int=self._random.getrandbits(128), version=4),
            decided_at=at,
            gateway="g1",
            why=Why.BLIND if blind else (Why.LIMIT_REACHED, Why.NO_ROOM)[number % 2],
            name=HOSTILE if number % 17 == 0 else f"key {number % 6}",
            message=f"Budget has been exceeded! {number}",
            **rest,
        )

    def _alert(self, number: int) -> Alert:
        of = self.signals[number * 5 % len(self.signals)] if number % 8 else None
        return Alert(
            alert_id=UUID(int=self._random.getrandbits(128), version=4),
            kind=AlertKind.UNPRICED if of is None else (AlertKind.EXCEEDED, AlertKind.THRESHOLD)[number % 2],
            signal=of,
            message=f"alert {number}",
            emitted_at=FIRST + timedelta(days=1, seconds=number * 2_411, microseconds=number),
        )

    def _deliveries(self) -> Iterator[AlertDelivery]:
        """Each step of each, as a relay writes them."""
        for number, alert in enumerate(self.alerts):
            at = alert.emitted_at + timedelta(seconds=1)
            of: dict[str, Any] = {"alert_id": alert.alert_id, "alert": alert}
            if number % 5 == 0:
                why = "no route matches"
                yield AlertDelivery(route="", outcome=DeliveryOutcome.SKIPPED, at=at, reason=why, **of)
                continue
            due = at + timedelta(hours=1)
            held = AlertDelivery(
                route="chat", outcome=DeliveryOutcome.HELD, at=at, reason="a digest", due_at=due, **of
            )
            yield held
            if number % 3 == 0:
                continue
            sent = AlertDelivery(
                route="chat", outcome=DeliveryOutcome.SENT, at=due, attempts=1 + number % 3, **of
            )
            yield sent
            if number % 7 == 0:
                yield sent.model_copy(update={"at": due + timedelta(hours=4), "reminders": 1})
            refused = {"attempts": 3, "reason": HOSTILE}
            yield AlertDelivery(route="pager", outcome=DeliveryOutcome.SKIPPED, at=at, **refused, **of)
