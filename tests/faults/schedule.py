"""Which fault strikes what, when: decided by a seed alone, so that a run can be repeated. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from tests.faults.access import ACCESS
from tests.faults.stack import ALERT_CONSUMER, KAFKA_LINKS, LINKS, SPARES


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
    nodes: tuple[float, float]
    """How long nodes of Kafka stay down where that is the fault."""


FULL = Pace(pause=(0.1, 2.0), frozen=(30.0, 30.0), link=(1.0, 6.0), away=(60.0, 60.0), nodes=(5.0, 25.0))
FAST = Pace(pause=(0.1, 0.4), frozen=(3.0, 3.0), link=(0.5, 1.5), away=(5.0, 5.0), nodes=(1.0, 2.0))

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
    *(Kind("join and leave", target) for target in SPARES),
    Kind("kill", ALERT_CONSUMER),
    Kind("garbage", "every topic"),
)

CLUSTER_KINDS = (
    *(Kind("kill", target) for target in ("leader", "controller")),
    *(Kind("down", nodes) for nodes in ("one kafka", "two kafka", "every kafka")),
    Kind("freeze", "two kafka"),
    Kind("restart", "every kafka in turn"),
    Kind("leaders", "elected"),
    Kind("leaders", "dealt anew"),
    Kind("copies", "too few"),
    Kind("full disk", "kafka"),
    *(Kind("rotate password", client) for client, access in ACCESS.items() if access.mechanism),
    # Of one of the nodes: the others answer.
    *(Kind(mode, f"{link} of one") for link in KAFKA_LINKS for mode in ("refuse", "stall", "mute")),
)
"""What only several nodes can suffer."""


def kinds_for(nodes: int) -> tuple[Kind, ...]:
    """Every way to fail of a stack with so many nodes of Kafka."""
    return EVERY_KIND if nodes == 1 else EVERY_KIND + CLUSTER_KINDS


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
        case "down" | "copies" | "full disk":
            return pace.nodes
        case "kill both":
            return (0.0, 2.0)
        case _:
            return pace.link
