"""The job that every contender is given: usage events, and what they add up to. Pure.

Five thousand keys, a few of them busy and most of them quiet, over the last three hours. The sums are
made beside the events, so that a contender's result is held against something it had no part in.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from random import Random
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.values.times import to_unix_us

KEYS, USERS, TEAMS, GATEWAYS = 5_000, 1_000, 50, 4
SPAN = timedelta(hours=3)
SEED = 7
_HOUR_US = 3_600_000_000


class _Model(NamedTuple):
    name: str
    provider: str
    input_nanousd: int
    output_nanousd: int
    prices: dict[str, str]


_MODELS = (
    _Model("gpt-4o-mini", "openai", 150, 600, {"input_token": "0.00000015", "output_token": "0.0000006"}),
    _Model(
        "claude-sonnet-4-5",
        "anthropic",
        3_000,
        15_000,
        {"input_token": "0.000003", "output_token": "0.000015"},
    ),
)


class Spent(NamedTuple):
    """One windowed total: what it is of, and when its window begins (unix microseconds)."""

    subject: str
    window_start_us: int


@dataclass
class Sums:
    """What the events add up to, in nano-USD."""

    by_key_and_hour: Counter[Spent] = field(default_factory=Counter)
    by_user_and_day: Counter[Spent] = field(default_factory=Counter)
    by_team_and_month: Counter[Spent] = field(default_factory=Counter)
    events: int = 0

    def add(self, event: UsageEvent) -> None:
        at, cost = event.occurred_at, int(event.cost_nanousd)
        hour = to_unix_us(at) // _HOUR_US * _HOUR_US
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        self.by_key_and_hour[Spent(event.key, hour)] += cost
        self.by_user_and_day[Spent(event.user or "", to_unix_us(day))] += cost
        self.by_team_and_month[Spent(event.team or "", to_unix_us(day.replace(day=1)))] += cost
        self.events += 1


def events(count: int, now: datetime, seed: int = SEED) -> Iterator[UsageEvent]:
    """`count` events in the order of their time, the last of them at `now`; the same for the same seed."""
    random = Random(seed)
    numbers = range(KEYS)
    # Zipf: the n-th key has 1/n of the first one's traffic.
    weights = list(accumulate(1 / (n + 1) for n in numbers))
    seqs = [0] * GATEWAYS
    for n in range(count):
        (key,) = random.choices(numbers, cum_weights=weights)
        gateway = random.randrange(GATEWAYS)
        seqs[gateway] += 1
        yield _event(random, key, gateway, seqs[gateway], now - SPAN * (1 - (n + 1) / count))


def _event(random: Random, key: int, gateway: int, seq: int, at: datetime) -> UsageEvent:
    model = random.choice(_MODELS)
    tokens_in, tokens_out = random.randint(50, 4000), random.randint(10, 1000)
    duration_ms = random.randint(200, 20_000)
    return UsageEvent.model_construct(
        event_id=_uuid7(random, at),
        producer_id=f"gateway-{gateway}-0190c7f2",
        seq=seq,
        occurred_at=at,
        started_at=at - timedelta(milliseconds=duration_ms),
        key=key_name(key),
        key_alias=f"service-{key}",
        user=f"user-{key % USERS}",
        team=f"team-{key % TEAMS}",
        model=model.name,
        model_group=model.name,
        provider=model.provider,
        deployment=f"{model.provider}-eu-{gateway}",
        call_type="acompletion",
        gateway=f"gateway-{gateway}",
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        total_tokens=tokens_in + tokens_out,
        cost_nanousd=NanoUsd(tokens_in * model.input_nanousd + tokens_out * model.output_nanousd),
        cost_source=CostSource.LITELLM,
        prices=model.prices,
        duration_ms=duration_ms,
        call_id=str(UUID(int=random.getrandbits(128))),
    )


def key_name(number: int) -> str:
    """A hash of an API key, as LiteLLM has it."""
    return f"{number * 2_654_435_761 % 2**32:08x}" * 8


def _uuid7(random: Random, at: datetime) -> UUID:
    milliseconds = to_unix_us(at) // 1000
    return UUID(
        int=milliseconds << 80
        | 0x7 << 76
        | random.getrandbits(12) << 64
        | 0b10 << 62
        | random.getrandbits(62)
    )
