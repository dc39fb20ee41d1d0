"""The law: for every owner, what the upstream billed is what was charged. Pure.

The left-hand side is the upstream's log, where a nonce in the prompt says who sent a request; the
right-hand side is what lies in `spend.usage`. Neither passes through the product's own readers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.adversary.owners import Owner
from tests.adversary.prices import NOTHING, Bill, bill

Call = Mapping[str, Any]
Event = Mapping[str, Any]

LESS, MORE = "charged less than billed", "charged more than billed"
OTHER = "somebody else was charged"
UNMARKED = "an estimate is not marked as one"
MIXED = "an event names two owners"
PAST = "served past a spent budget"
OVER = "a strict budget was overspent"
HELD = "a hold is left"
PENDING = "an answer is pending for ever"
RUNNING = "a request does not end"
ERRORS = "an error of ours"


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach, and whose."""

    kind: str
    owner: str
    detail: str
    nonce: int | None = None
    """Of the request, where one is known to be it."""


@dataclass
class Account:
    """What one owner's requests cost in a batch."""

    owner: Owner
    calls: list[Call] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    unsent_most: int = 0
    """What requests that their client left may be estimated at although nothing reached the upstream: the
    gateway had begun to send, and cannot know how far that came."""

    @property
    def billed(self) -> Bill:
        return sum(map(bill, self.calls), NOTHING)

    @property
    def charged(self) -> int:
        return sum(int(event["cost_nanousd"]) for event in self.events)

    @property
    def most(self) -> int:
        """What may be charged."""
        is_estimate = any(event.get("estimated") for event in self.events)
        return self.billed.most + (self.unsent_most if is_estimate else 0)

    @property
    def is_even(self) -> bool:
        return self.billed.least <= self.charged <= self.most


def accounts(
    owners: Iterable[Owner], senders: Mapping[int, Owner], calls: Sequence[Call], events: Sequence[Event]
) -> tuple[dict[str, Account], list[Violation]]:
    """Everything that happened, by owner; and what is nobody's."""
    found = {owner.key_hash: Account(owner) for owner in owners}
    strays: list[Violation] = []
    for call in calls:
        sender = senders.get(call["nonce"])
        if sender is None:
            strays.append(Violation(OTHER, "nobody", f"a call that no request asked for: {call}"))
        else:
            found[sender.key_hash].calls.append(call)
    for event in events:
        account = found.get(event.get("key") or "")
        if account is not None:
            account.events.append(event)
        elif int(event["cost_nanousd"]) or event.get("status") == "success":
            strays.append(Violation(OTHER, "nobody", f"an event of nobody: {_short(event)}"))
    return found, strays


def violations(account: Account) -> list[Violation]:
    """What is wrong with one owner's account."""
    owner, billed, charged = account.owner, account.billed, account.charged
    found: list[tuple[str, str, int | None]] = []
    figures = (
        f"billed {billed.least}..{billed.most}, charged {charged} nano-USD by {len(account.calls)} calls,"
        f" {len(account.events)} events"
    )
    if charged < billed.least:
        found.append((LESS, figures, None))
    elif charged > account.most:
        found.append((OTHER if owner.is_victim else MORE, figures, None))
    if (
        charged
        and account.is_even
        and not _is_known(account)
        and not any(event.get("estimated") for event in account.events)
    ):
        found.append((UNMARKED, figures, None))
    for event in account.events:
        # A request that LiteLLM refuses while it reads it is nobody's but the key's, and costs nothing.
        is_more = int(event["cost_nanousd"]) or event.get("status") == "success"
        if is_more and (event.get("user"), event.get("team")) != (owner.user, owner.team):
            found.append((MIXED, _short(event), None))
    for call in account.calls:
        if bill(call).least and owner.forbids(call):
            found.append((PAST, f"{call['path']} {call['model']}", call["nonce"]))
    if (
        owner.strict_limit_nanousd is not None
        and owner.spent_nanousd + billed.least > owner.strict_limit_nanousd
    ):
        found.append((OVER, f"limit {owner.strict_limit_nanousd}, {figures}", None))
    return [Violation(kind, owner.name, detail, nonce) for kind, detail, nonce in found]


def by_route(calls: Iterable[tuple[str, Call]]) -> Mapping[str, Bill]:
    """The sums of a report."""
    sums: dict[str, Bill] = defaultdict(lambda: NOTHING)
    for route, call in calls:
        sums[route] += bill(call)
    return sums


def _is_known(account: Account) -> bool:
    """Whether what was charged is what the upstream served: then nothing needs to be marked."""
    said = [bill({**call, "is_unread": False, "usage_given": True}) for call in account.calls]
    return account.charged == sum(one.least for one in said if one.is_exact)


def _short(event: Event) -> str:
    names = (
        "key",
        "user",
        "team",
        "model",
        "call_type",
        "cost_nanousd",
        "status",
        "estimated",
        "response_id",
    )
    return ", ".join(f"{name}={event.get(name)}" for name in names)
