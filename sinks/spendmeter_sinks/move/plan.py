"""The plan of a move: what goes on where, and what has to be done for it. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from spendmeter_sinks.history.incarnations import Registered, UsageIncarnation, latest

TO_BE_MADE = "to be made"
"""Stands for the id of a topic that there is not yet."""


class CannotMove(Exception):
    """Nothing can be planned; the message names the reason and what to give."""


@dataclass(frozen=True, slots=True)
class Site:
    """A system's topics, as people name them."""

    bootstrap: str
    prefix: str
    usage: UsageIncarnation
    partitions: int

    def __str__(self) -> str:
        return f"{self.usage} on {self.bootstrap}, {self.partitions} partitions"


@dataclass(frozen=True, slots=True)
class MovePlan:
    """Everything that `--apply` does, and what is left to the operator."""

    database: str
    target: Site
    source: Site | None
    """None where Kafka there cannot be asked any more."""
    follows: UsageIncarnation
    entries: tuple[Registered, ...]
    """To be written into the table `incarnations`, but for the target's own."""
    is_registered: bool
    """The target has its entry already."""
    topics: tuple[str, ...] = ()
    """To be made."""
    budgets: tuple[str, ...] = ()
    """To be copied."""
    budgets_from: str = "history"
    objects: int | None = None
    """Makers of objects to be copied; None where they cannot be read."""
    behind: int | None = None
    """Records of the source that history does not have yet; None where Kafka there cannot be asked."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def is_done(self) -> bool:
        """Nothing is left to do."""
        return self.is_registered and not (self.topics or self.budgets or self.objects or self.entries)


def decide(
    known: Sequence[Registered],
    unnamed: Collection[str],
    source: UsageIncarnation | None,
    goes_on: bool,
    target: UsageIncarnation,
    chosen: str | None = None,
) -> tuple[UsageIncarnation, list[Registered]]:
    """Which incarnation the target follows, and what else has to be registered first.

    `source`: the topic that stands where the system is now, if that can be asked. `goes_on`: a sink of a
    version before offsets carried an incarnation has read that very topic. `chosen`: a topic that is to be
    followed.

    Raises:
        CannotMove: history holds nothing, or several systems, and none is chosen.
    """
    for one in known:
        if one.of == target and one.follows is not None:
            return one.follows, []
    if source is not None and source != target and chosen is None:
        entry = _entry_of(source, known, unnamed, goes_on)
        if entry is not None:
            return source, [] if entry in known else [entry]
    ends = [
        of
        for of in latest(known) or [UsageIncarnation(topic, "") for topic in sorted(unnamed)]
        if of != target
    ]
    if chosen is not None:
        ends = [of for of in ends if of.topic == chosen]
    if len(ends) == 1:
        return ends[0], []
    if not ends:
        which = f"of {chosen}" if chosen else "of any other system"
        raise CannotMove(f"history holds nothing {which}: there is nothing to go on with")
    names = ", ".join(map(str, ends))
    raise CannotMove(
        f"history is of several systems ({names}): say with --from TOPIC which one to go on with"
    )


def _entry_of(
    source: UsageIncarnation, known: Sequence[Registered], unnamed: Collection[str], goes_on: bool
) -> Registered | None:
    """The source's entry: there already, or to be made; None where history does not know its topic."""
    for one in known:
        if one.of == source:
            return one
    is_claimed = any(one.of.topic == source.topic and one.has_unnamed for one in known)
    if goes_on and source.topic in unnamed and not is_claimed:
        return Registered(source, None, has_unnamed=True)
    # A namesake: the topic was made anew, and what came since then goes on with what was before.
    before = [of for of in latest(known) if of.topic == source.topic]
    if not before and source.topic in unnamed:
        before = [UsageIncarnation(source.topic, "")]
    return Registered(source, before[-1]) if before else None
