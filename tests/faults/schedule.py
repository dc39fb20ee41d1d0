"""Which fault strikes what, when: decided by a seed alone, so that a run can be repeated. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from tests.faults.stack import LINKS


class Kind(NamedTuple):
    """A way to fail, and what fails."""

    verb: str
    target: str

    @property
    def loses(self) -> bool:
        """Whether a gateway cannot record, and must say so."""
        return self.verb == "disk"

    def __str__(self) -> str:
        return f"{self.verb} {self.target}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a run. What `seconds` and `fraction` mean is the verb's."""

    number: int
    kind: Kind
    pause_seconds: float
    """How long everything runs undisturbed before it."""
    seconds: float
    fraction: float

    def __str__(self) -> str:
        return (
            f"{self.number:>4}  after {self.pause_seconds:.2f} s  {self.kind!s:<34}"
            f" {self.seconds:5.2f} s  {self.fraction:.3f}"
        )


class Pace(NamedTuple):
    """How long things last, in seconds."""

    pause: tuple[float, float]
    frozen: tuple[float, float]
    link: tuple[float, float]
    away: tuple[float, float]


FULL = Pace(pause=(0.1, 2.0), frozen=(30.0, 30.0), link=(1.0, 6.0), away=(60.0, 60.0))
FAST = Pace(pause=(0.1, 0.4), frozen=(3.0, 3.0), link=(0.5, 1.5), away=(5.0, 5.0))

COMPONENTS = ("proxy", "gateway", "stream", "clickhouse-sink", "clickhouse", "kafka")
PAIRS = ("kafka+stream", "kafka+clickhouse-sink", "clickhouse+clickhouse-sink", "kafka+gateway")
# What they sent arrives, what they are answered does not; then they are killed and send it again.
MUTED = {"gateway": "gateway-kafka", "stream": "stream-kafka", "clickhouse-sink": "sink-clickhouse"}
LINK_MODES = ("refuse", "stall", "mute", "delay", "trickle", "tear")
TOPICS = ("usage", "totals", "budgets", "signals", "alerts", "dead-letters")

EVERY_KIND = (
    *(Kind("kill", target) for target in COMPONENTS),
    *(Kind("kill twice", target) for target in COMPONENTS),
    *(Kind("kill recovering", target) for target in COMPONENTS),
    *(Kind("kill both", target) for target in PAIRS),
    *(Kind("kill muted", target) for target in MUTED),
    *(Kind("freeze", target) for target in COMPONENTS),
    Kind("restart", "kafka"),
    *(Kind(mode, link) for link in LINKS for mode in LINK_MODES),
    Kind("resend", "chunk"),
    Kind("interleave", "producers"),
    *(Kind("poison", topic) for topic in TOPICS),
    *(Kind("clock", jump) for jump in ("back", "ahead", "far ahead")),
    Kind("disk", "unwritable"),
    Kind("disk", "bound"),
    *(Kind("clickhouse", refusal) for refusal in ("too many parts", "no table")),
    Kind("away", "sink-clickhouse"),
)


def schedule(seed: int, count: int, pace: Pace, kinds: Sequence[Kind] = EVERY_KIND) -> list[Fault]:
    """`count` faults in which each kind comes equally often, give or take one.

    Those under which events are really lost, and told, come last: before them everything must be equal.
    """
    chance = random.Random(seed)
    dealt = sorted(islice(_deal(chance, kinds), count), key=lambda kind: kind.loses)
    return [
        Fault(
            number,
            kind,
            chance.uniform(*pace.pause),
            chance.uniform(*_span(kind, pace)),
            chance.random(),
        )
        for number, kind in enumerate(dealt, start=1)
    ]


def _deal(chance: random.Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    while True:
        deck = list(kinds)
        chance.shuffle(deck)
        yield from deck


def _span(kind: Kind, pace: Pace) -> tuple[float, float]:
    match kind.verb:
        case "freeze":
            return pace.frozen
        case "away":
            return pace.away
        case "kill both":
            return (0.0, 2.0)
        case _:
            return pace.link
