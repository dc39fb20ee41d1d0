"""One account's calls at several gateways, and what the formula of docs/guarantees.md says of them. Pure."""

import math
from collections import defaultdict
from dataclasses import dataclass, field

RATE_OVER_SECONDS = 1.0


@dataclass(slots=True)
class Call:
    """One call that was admitted: when, where, and when its cost was recorded."""

    gateway: int
    admitted_at: float
    recorded_at: float = math.inf
    cost_nanousd: int = 0
    seq: int = 0


@dataclass
class Round:
    """What happened to one account, whose calls all come to one partition."""

    key: str
    limit_nanousd: int
    gateways: int
    calls: list[Call] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    offsets: dict[tuple[int, int], int] = field(default_factory=dict)
    """Gateway and seq: where the event was stored."""
    acknowledged_at: dict[tuple[int, int], float] = field(default_factory=dict)
    told: dict[int, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    """Gateway: when which offset was told to be in the account's signal."""

    @property
    def recorded(self) -> list[Call]:
        return sorted((call for call in self.calls if call.seq), key=lambda call: call.recorded_at)

    def reached_at(self) -> float | None:
        """When the recorded calls had cost as much as the limit; None if they never did."""
        spent = 0
        for call in self.recorded:
            spent += call.cost_nanousd
            if spent >= self.limit_nanousd:
                return call.recorded_at
        return None

    def overspend_nanousd(self) -> int:
        return max(0, sum(call.cost_nanousd for call in self.recorded) - self.limit_nanousd)

    def false_refusals(self) -> int:
        """Refusals at a time when the recorded calls cost less than the limit."""
        reached = self.reached_at()
        return sum(reached is None or at < reached for at in self.refused_at)

    def latency_seconds(self, ack_wait_seconds: float = math.inf) -> float:
        """The longest time from a recording to every gateway's knowing of it, near the limit.

        The others know by a signal. The gateway itself knows at once, save where a signal came before
        the acknowledgement: then the event may be in it, requests wait that long, and are let in after.
        """
        reached, worst = self.reached_at(), 0.0
        for call in self.recorded:
            if reached is None or abs(call.recorded_at - reached) > RATE_OVER_SECONDS:
                continue
            event = call.gateway, call.seq
            if not math.isinf(ack_wait_seconds):
                acknowledged = self.acknowledged_at.get(event, math.inf)
                worst = max(worst, acknowledged - call.recorded_at - ack_wait_seconds)
            for gateway in range(self.gateways):
                if gateway != call.gateway:
                    worst = max(worst, self._heard(gateway, event) - call.recorded_at)
        return worst

    def _heard(self, gateway: int, event: tuple[int, int]) -> float:
        offset = self.offsets.get(event, math.inf)
        return next((at for at, last in self.told[gateway] if last >= offset), math.inf)

    def in_flight(self) -> int:
        """Calls admitted and not recorded at the moment the limit was reached, over all gateways."""
        reached = self.reached_at()
        return sum(call.admitted_at <= reached < call.recorded_at for call in self.calls) if reached else 0

    def admitted_within(self, seconds: float) -> int:
        """How many calls all gateways together admit within that time, at the rate of before the limit."""
        reached = self.reached_at()
        if reached is None:
            return 0
        first = reached - RATE_OVER_SECONDS
        counts = [0] * self.gateways
        for call in self.calls:
            counts[call.gateway] += first < call.admitted_at <= reached
        return sum(math.ceil(count / RATE_OVER_SECONDS * seconds) for count in counts)

    def bound_nanousd(self, mode: str, most_nanousd: int, ack_wait_seconds: float) -> float:
        """The formula for this round, where a call costs `most_nanousd` at the most."""
        if mode == "strict" and self.gateways == 1:
            return 0
        # Under `strict`, what may be counted twice counts.
        latency = self.latency_seconds(math.inf if mode == "strict" else ack_wait_seconds)
        if math.isinf(latency):
            return math.inf
        return (self.in_flight() + self.admitted_within(latency)) * most_nanousd
